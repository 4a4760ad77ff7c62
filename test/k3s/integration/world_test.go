package integration

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"k8s.io/client-go/rest"
)

const (
	inside   = "K3S_STANDIN_TEST_INSIDE"
	address  = "10.77.0.1"
	api      = "https://" + address + ":6443"
	password = "integration-password"
	bridge   = "standin0"
)

// TestMain runs the tests in a network namespace of their own: the ports of
// k3s are fixed, and nothing may reach the machine's network.
func TestMain(m *testing.M) {
	if os.Getenv(inside) == "" {
		os.Exit(outside())
	}
	if err := network(); err != nil {
		fmt.Fprintln(os.Stderr, "cannot set up the network namespace:", err)
		os.Exit(1)
	}
	code := m.Run()
	if first.stop != nil {
		first.stop()
	}
	os.Exit(code)
}

func outside() int {
	build := exec.Command("../build.sh")
	build.Stderr = os.Stderr
	out, err := build.Output()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot build the stand-in (../build.sh):", err)
		return 1
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	again := exec.Command("/proc/self/exe", os.Args[1:]...)
	again.Stdin, again.Stdout, again.Stderr = os.Stdin, os.Stdout, os.Stderr
	again.Env = append(os.Environ(), inside+"="+lines[len(lines)-1])
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err = again.Run()
	if again.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "these tests need root, for a network namespace:", err)
		return 1
	}
	return again.ProcessState.ExitCode()
}

func network() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridge}}
	if err := netlink.LinkAdd(br); err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(address + "/24")
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(br, addr); err != nil {
		return err
	}
	return netlink.LinkSetUp(br)
}

// authority is made here, not by the code under test: it stands for whoever
// prepares a machine before its first boot.
type authority struct {
	pem  []byte
	cert *x509.Certificate
	key  crypto.Signer
}

func newAuthority(name string) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return authority{}, err
	}
	cert, err := x509.ParseCertificate(der)
	return authority{pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), cert: cert, key: key}, err
}

func keyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

// client mints a client certificate.
func (a authority) client(t *testing.T, user string, groups ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: user, Organization: groups},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature,
	}, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// world is one server and what was prepared for it.
type world struct {
	dir, kubeconfig    string
	serverCA, clientCA authority
	token              string
	stop               func()
	log                *bytes.Buffer
}

var first world

var startFirst = sync.OnceValue(func() error {
	dir, err := os.MkdirTemp("", "standin-")
	if err != nil {
		return err
	}
	first.dir, first.kubeconfig = filepath.Join(dir, "data"), filepath.Join(dir, "k3s.yaml")
	for _, name := range []string{"server-ca", "client-ca", "request-header-ca", "etcd/server-ca", "etcd/peer-ca"} {
		a, err := newAuthority(name)
		if err != nil {
			return err
		}
		switch name {
		case "server-ca":
			// What is served must be these bytes, comment and all.
			a.pem = append([]byte("# made by the test\n"), a.pem...)
			first.serverCA = a
		case "client-ca":
			first.clientCA = a
		}
		key, err := keyPEM(a.key)
		if err != nil {
			return err
		}
		base := filepath.Join(first.dir, "server", "tls", name)
		if err := os.MkdirAll(filepath.Dir(base), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(base+".crt", a.pem, 0o600); err != nil {
			return err
		}
		if err := os.WriteFile(base+".key", key, 0o600); err != nil {
			return err
		}
	}
	sum := sha256.Sum256(first.serverCA.pem)
	first.token = "K10" + hex.EncodeToString(sum[:]) + "::server:" + password
	first.log, first.stop, err = start(first.dir, first.kubeconfig, "one", address, first.token, "cluster-init: true\n")
	if err != nil {
		return err
	}
	return waitFor(first.log)
})

// server starts the first server once for all tests.
func server(t *testing.T) *world {
	t.Helper()
	if err := startFirst(); err != nil {
		t.Fatalf("%v\n%s", err, tail(first.log))
	}
	return &first
}

// start runs `k3s server --disable-agent` in the current network namespace.
func start(dir, kubeconfig, name, ip, token, more string, wrap ...string) (*bytes.Buffer, func(), error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, err
	}
	conf := filepath.Join(filepath.Dir(dir), "config.yaml")
	text := fmt.Sprintf("disable-agent: true\ndata-dir: %s\nwrite-kubeconfig: %s\nnode-name: %s\nnode-ip: %s\ntoken: %s\nsecrets-encryption: true\n%s", dir, kubeconfig, name, ip, token, more)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return nil, nil, err
	}
	args := append(append([]string(nil), wrap...), os.Getenv(inside), "server", "--config", conf)
	cmd := exec.Command(args[0], args[1:]...)
	out := &bytes.Buffer{}
	locked := &lockedWriter{to: out}
	cmd.Stdout, cmd.Stderr = locked, locked
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if len(wrap) > 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	processes.Store(out, cmd.Process.Pid)
	stop := func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		_ = os.RemoveAll(filepath.Dir(dir))
	}
	return out, stop, nil
}

var (
	processes sync.Map // log buffer -> process
	logs      sync.Mutex
)

type lockedWriter struct{ to *bytes.Buffer }

func (l *lockedWriter) Write(p []byte) (int, error) {
	logs.Lock()
	defer logs.Unlock()
	return l.to.Write(p)
}

func text(b *bytes.Buffer) string {
	logs.Lock()
	defer logs.Unlock()
	return b.String()
}

func tail(b *bytes.Buffer) string {
	if b == nil {
		return ""
	}
	lines := strings.Split(text(b), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// waitFor returns when the server says that it is up, or that it ends.
func waitFor(log *bytes.Buffer) error {
	for range 2400 {
		s := text(log)
		if strings.Contains(s, " is up\n") {
			return nil
		}
		if strings.Contains(s, "k3s (stand-in): ") {
			return fmt.Errorf("the server ended")
		}
		time.Sleep(250 * time.Millisecond)
	}
	return fmt.Errorf("the server does not come up")
}

// config reaches the API through the front with a certificate.
func (w *world) config(t *testing.T, cert tls.Certificate) *rest.Config {
	t.Helper()
	key, err := keyPEM(cert.PrivateKey.(crypto.Signer))
	if err != nil {
		t.Fatal(err)
	}
	return &rest.Config{Host: api, TLSClientConfig: rest.TLSClientConfig{
		CAData:   w.serverCA.pem,
		CertData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}),
		KeyData:  key,
	}}
}

// plug gives a process in a network namespace of its own an address on the
// bridge.
func plug(pid int, ip string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "v" + strings.ReplaceAll(ip, ".", "")
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "uplink"}); err != nil {
		return err
	}
	ours, err := netlink.LinkByName(attrs.Name)
	if err != nil {
		return err
	}
	br, err := netlink.LinkByName(bridge)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMaster(ours, br); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(ours); err != nil {
		return err
	}
	theirs, err := netlink.LinkByName("uplink")
	if err != nil {
		return err
	}
	return netlink.LinkSetNsPid(theirs, pid)
}
