// Package agent is what makes a machine a node: containerd, the pod network,
// kubelet and kube-proxy, with certificates that a server gives for a token.
package agent

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/rhizome-dev/rhizome/test/k3s/internal/config"
	"github.com/rhizome-dev/rhizome/test/k3s/internal/join"
	"github.com/rhizome-dev/rhizome/test/k3s/internal/pki"
	"github.com/rhizome-dev/rhizome/test/k3s/internal/process"
	"github.com/rhizome-dev/rhizome/test/k3s/internal/token"
)

// passwordFile is where k3s keeps the node password, data-dir or not.
const passwordFile = "/etc/rancher/node/password"

// Agent is one node.
type Agent struct {
	Config   *config.Config
	NodeName string
	NodeIP   string
	Children *process.Group

	// ServerURL and Token are where and by what it joins.
	ServerURL string
	Token     string

	dir   string
	reply join.NodeReply
	kube  kubernetes.Interface // as system:k3s-controller
}

// Start joins the cluster and returns when the Node object exists. The
// children run on in the group.
func (a *Agent) Start(ctx context.Context) error {
	a.dir = filepath.Join(a.Config.DataDir, "agent")
	for _, sub := range []string{"etc/cni/net.d", "images", "pod-manifests", "containerd"} {
		if err := os.MkdirAll(filepath.Join(a.dir, sub), 0o755); err != nil {
			return err
		}
	}
	runtimeReady := make(chan error, 1)
	go func() { runtimeReady <- a.startRuntime(ctx) }()
	api := a.ServerURL
	if !a.Config.Server {
		var err error
		if api, err = a.startBalancer(ctx); err != nil {
			return err
		}
	}
	if err := a.join(ctx, api); err != nil {
		return err
	}
	if err := <-runtimeReady; err != nil {
		return err
	}
	if err := a.startKubelet(); err != nil {
		return err
	}
	if err := a.waitForNode(ctx); err != nil {
		return err
	}
	// Not earlier: without a Node to find, kube-proxy settles for loopback.
	if !a.reply.DisableProxy {
		a.startProxy()
	}
	if a.reply.FlannelBackend != "none" {
		go a.keepNetwork(ctx)
	}
	return nil
}

func (a *Agent) join(ctx context.Context, api string) error {
	password, err := nodePassword()
	if err != nil {
		return err
	}
	request := join.NodeRequest{Name: a.NodeName, Password: password, IPs: []string{a.NodeIP}}
	for file, to := range map[string]*[]byte{
		"client-kubelet": &request.Kubelet, "serving-kubelet": &request.Serving,
		"client-kube-proxy": &request.KubeProxy, "client-k3s-controller": &request.Controller,
	} {
		if *to, err = certificateRequest(a.path(file + ".key")); err != nil {
			return err
		}
	}
	err = a.retry(ctx, "join "+a.ServerURL, func() error {
		client, err := join.Dial(ctx, a.ServerURL, a.Token, token.Node)
		if err != nil {
			return err
		}
		a.reply, err = client.Node(ctx, request)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot join as a node: %w", err)
	}
	for file, b := range map[string][]byte{
		"server-ca.crt": a.reply.ServerCA, "client-ca.crt": a.reply.ClientCA,
		"client-kubelet.crt": a.reply.Kubelet, "serving-kubelet.crt": a.reply.Serving,
		"client-kube-proxy.crt": a.reply.KubeProxy, "client-k3s-controller.crt": a.reply.Controller,
	} {
		if err := os.WriteFile(a.path(file), b, 0o600); err != nil {
			return err
		}
	}
	for file, pair := range map[string]string{"kubelet": "client-kubelet", "kubeproxy": "client-kube-proxy", "k3scontroller": "client-k3s-controller"} {
		if err := pki.WriteKubeconfig(a.path(file+".kubeconfig"), 0o600, api, a.reply.ServerCA, a.path(pair)); err != nil {
			return err
		}
	}
	rc, err := clientcmd.BuildConfigFromFlags("", a.path("k3scontroller.kubeconfig"))
	if err != nil {
		return err
	}
	a.kube, err = kubernetes.NewForConfig(rc)
	return err
}

// nodePassword reads the node's password, or makes one that stays with the
// machine.
func nodePassword() (string, error) {
	b, err := os.ReadFile(passwordFile)
	if err == nil {
		if p := strings.TrimSpace(string(b)); p != "" {
			return p, nil
		}
		return "", fmt.Errorf("%s is empty", passwordFile)
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		return "", err
	}
	p := hex.EncodeToString(random)
	if err := os.MkdirAll(filepath.Dir(passwordFile), 0o755); err != nil {
		return "", err
	}
	return p, os.WriteFile(passwordFile, []byte(p+"\n"), 0o600)
}

func certificateRequest(keyFile string) ([]byte, error) {
	key, err := pki.NewKey(keyFile)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "node"}}, key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

func (a *Agent) waitForNode(ctx context.Context) error {
	return a.retry(ctx, "the Node "+a.NodeName+" to be registered", func() error {
		_, err := a.kube.CoreV1().Nodes().Get(ctx, a.NodeName, metav1.GetOptions{})
		return err
	})
}

func (a *Agent) retry(ctx context.Context, what string, do func() error) error {
	var logged time.Time
	for {
		err := do()
		if err == nil || errors.Is(err, join.ErrRefused) {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if time.Since(logged) > 30*time.Second && !apierrors.IsNotFound(err) {
			logged = time.Now()
			log.Printf("waiting for: %s: %.200v", what, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (a *Agent) path(name string) string { return filepath.Join(a.dir, name) }

// host is the host and port of a server's URL.
func host(server string) (string, error) {
	u, err := url.Parse(server)
	if err != nil {
		return "", err
	}
	if u.Port() == "" {
		return u.Host + ":443", nil
	}
	return u.Host, nil
}
