//go:build linux

package machine

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/rhizome-dev/rhizome/internal/k3s"
)

// agentConfig is what an agent reads of config.yaml.
type agentConfig struct {
	Name   string   `json:"node-name"`
	IP     string   `json:"node-ip"`
	Labels []string `json:"node-label"`
	Taints []string `json:"node-taint"`
	Token  string   `json:"token"`
	Server string   `json:"server"`
}

func (m *Machine) readConfig() (c agentConfig, err error) {
	content, err := os.ReadFile(m.path(k3s.ConfigPath))
	if err != nil {
		return c, err
	}
	return c, yaml.Unmarshal(content, &c)
}

// credentials are what the join gives an agent.
type credentials struct {
	serverCA, key, kubelet, controller []byte
}

// The files of an agent's credentials, as k3s names them.
var credentialFiles = []struct {
	name string
	of   func(*credentials) *[]byte
}{
	{"server-ca.crt", func(c *credentials) *[]byte { return &c.serverCA }},
	{"client-kubelet.key", func(c *credentials) *[]byte { return &c.key }},
	{"client-k3s-controller.crt", func(c *credentials) *[]byte { return &c.controller }},
	{"client-kubelet.crt", func(c *credentials) *[]byte { return &c.kubelet }}, // last: it says that all are there
}

func (m *Machine) agentFile(name string) string { return m.path("/var/lib/rancher/k3s/agent/" + name) }

// enrol makes the machine a node of its cluster, as an agent does: it holds the CA
// that the server shows against the token's hash, sends the token and the node
// password, and keeps the certificates that it gets for them. A machine that has
// them needs no token any more: k3s, too, joins again by its kubelet's
// certificate.
func (m *Machine) enrol(ctx context.Context, server, token string, c agentConfig) (credentials, error) {
	var out credentials
	if _, err := os.Stat(m.agentFile("client-kubelet.crt")); err == nil {
		for _, f := range credentialFiles {
			if *f.of(&out), err = os.ReadFile(m.agentFile(f.name)); err != nil {
				return out, err
			}
		}
		return out, nil
	}
	bundle, err := Call(ctx, m.unverified(), http.MethodGet, server+"/cacerts", "", nil)
	if err != nil {
		return out, fmt.Errorf("cannot fetch the CA of %s: %w", server, err)
	}
	full, ok := strings.CutPrefix(strings.TrimSpace(token), "K10")
	hash, secret, found := strings.Cut(full, "::")
	if !ok || !found {
		return out, errors.New("the token is not of the form K10HASH::CREDENTIALS")
	}
	switch got, err := k3s.CAHash(bundle); {
	case err != nil:
		return out, fmt.Errorf("the CA of %s: %w", server, err)
	case got != hash:
		return out, fmt.Errorf("the CA of %s is not the token's", server)
	}
	if out, err = m.request(ctx, server, bundle, secret, c); err != nil {
		return out, err
	}
	if err := os.MkdirAll(m.agentFile(""), 0o755); err != nil {
		return out, err
	}
	for _, f := range credentialFiles {
		if err := os.WriteFile(m.agentFile(f.name), *f.of(&out), 0o600); err != nil {
			return out, err
		}
	}
	return out, nil
}

// request is the stand-in's own message (test/k3s/internal/join), for k3s does not
// document its.
func (m *Machine) request(ctx context.Context, server string, bundle []byte, secret string, c agentConfig) (credentials, error) {
	out := credentials{serverCA: bundle}
	password, err := m.nodePassword()
	if err != nil {
		return out, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return out, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return out, err
	}
	out.key = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if der, err = x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key); err != nil {
		return out, err
	}
	wanted := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	body, err := json.Marshal(map[string]any{"Name": c.Name, "Password": password, "IPs": []string{c.IP},
		"Kubelet": wanted, "Serving": wanted, "KubeProxy": wanted, "Controller": wanted})
	if err != nil {
		return out, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, server+"/v1-k3s/standin/node", bytes.NewReader(body))
	if err != nil {
		return out, err
	}
	request.Header.Set("Content-Type", "application/json")
	if user, password, basic := strings.Cut(secret, ":"); basic {
		request.SetBasicAuth(user, password)
	} else {
		request.Header.Set("Authorization", "Bearer "+secret)
	}
	answer, err := m.Client(string(bundle)).Do(request)
	if err != nil {
		return out, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		var said bytes.Buffer
		_, err := said.ReadFrom(answer.Body)
		return out, errors.Join(fmt.Errorf("%s: %s", answer.Status, strings.TrimSpace(said.String())), err)
	}
	var given struct{ Kubelet, Controller []byte }
	if err := json.NewDecoder(answer.Body).Decode(&given); err != nil {
		return out, err
	}
	out.kubelet, out.controller = given.Kubelet, given.Controller
	return out, nil
}

// unverified reaches a server whose CA is not known yet: the token's hash is what
// verifies it.
func (m *Machine) unverified() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: m.Host.DialContext, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}}
}

// nodePassword reads the node's password, or makes one that stays with the disk,
// as k3s does.
func (m *Machine) nodePassword() (string, error) {
	path := m.path(k3s.NodePasswordPath)
	content, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(content)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return "", err
	}
	password := hex.EncodeToString(random)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	return password, os.WriteFile(path, []byte(password+"\n"), 0o600)
}

// restConfig reaches the API through the machine's own service proxy.
func (m *Machine) restConfig(c credentials, certificate []byte) *rest.Config {
	return &rest.Config{
		Host: "https://" + serviceAddress + ":443", Dial: m.Host.DialContext, QPS: 50, Burst: 100, Timeout: 0,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.serverCA, CertData: certificate, KeyData: c.key},
	}
}
