package pki

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	certutil "k8s.io/client-go/util/cert"
)

func TestEnsureMakesWhatIsMissingAndKeepsWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	if err := Ensure(dir); err != nil {
		t.Fatal(err)
	}
	before := map[string][]byte{}
	for _, name := range Files() {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		before[name] = b
	}
	for _, name := range []string{"client-ca.crt", "client-ca.key"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := Ensure(dir); err != nil {
		t.Fatal(err)
	}
	for name, old := range before {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if same, removed := bytes.Equal(b, old), strings.HasPrefix(name, "client-ca"); same == removed {
			t.Errorf("%s: same as before: %v", name, same)
		}
	}
}

func TestHalfAPairIsAnError(t *testing.T) {
	for _, gone := range []string{"server-ca.crt", "etcd/peer-ca.key"} {
		dir := t.TempDir()
		if err := Ensure(dir); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, gone)); err != nil {
			t.Fatal(err)
		}
		if err := Ensure(dir); err == nil || !strings.Contains(err.Error(), strings.TrimSuffix(strings.TrimSuffix(gone, ".crt"), ".key")) {
			t.Errorf("without %s: %v", gone, err)
		}
	}
}

func TestOpenRefusesAKeyThatDoesNotFitAndALeaf(t *testing.T) {
	dir := t.TempDir()
	if err := Ensure(dir); err != nil {
		t.Fatal(err)
	}
	a, err := Open(dir, ServerCA)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(filepath.Join(dir, "client-ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "server-ca.key"), other, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, ServerCA); err == nil {
		t.Error("another authority's key was accepted")
	}
	if err := a.Issue(filepath.Join(dir, "leaf"), Subject{Name: "leaf", Client: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, "leaf"); err == nil {
		t.Error("a leaf was accepted as an authority")
	}
}

func TestIssuedCertificatesVerifyForTheirUse(t *testing.T) {
	dir := t.TempDir()
	if err := Ensure(dir); err != nil {
		t.Fatal(err)
	}
	a, err := Open(dir, ServerCA)
	if err != nil {
		t.Fatal(err)
	}
	pair := filepath.Join(dir, "leaf")
	if err := a.Issue(pair, Subject{Name: "api", Groups: []string{"g"}, Server: true, DNS: []string{"name"}, IPs: []net.IP{net.IPv4(10, 0, 0, 1)}}); err != nil {
		t.Fatal(err)
	}
	loaded, err := tls.LoadX509KeyPair(pair+".crt", pair+".key")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(loaded.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots, err := certutil.NewPoolFromBytes(a.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"name", "10.0.0.1"} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err == nil {
		t.Error("a server's certificate identifies a client")
	}

	path := filepath.Join(dir, "sub", "kubeconfig")
	if err := WriteKubeconfig(path, 0o640, "https://10.0.0.1:6443", a.Bundle, pair); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o640 {
		t.Errorf("kubeconfig mode %v", info.Mode())
	}
	conf, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	if conf.Host != "https://10.0.0.1:6443" || !bytes.Equal(conf.CAData, a.Bundle) || len(conf.KeyData) == 0 {
		t.Errorf("kubeconfig: host %s", conf.Host)
	}
}
