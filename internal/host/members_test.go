package host

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rhizome-dev/rhizome/test/kube"
)

// etcdServer runs the real etcd, with the certificates that k3s makes for it, and
// returns their directory and its URL.
func etcdServer(t *testing.T, name string) (dir, endpoint string) {
	t.Helper()
	dir = t.TempDir()
	certificates(t, dir)
	file := func(name string) string { return filepath.Join(dir, name) }
	endpoint, peer := "https://"+freePort(t), "https://"+freePort(t)
	ctx, cancel := context.WithCancel(context.Background())
	etcd := exec.CommandContext(ctx, kube.Standin(t), "etcd", "--name="+name, "--data-dir="+file("data"),
		"--listen-client-urls="+endpoint, "--advertise-client-urls="+endpoint, "--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer,
		"--initial-cluster="+name+"="+peer, "--client-cert-auth=true", "--trusted-ca-file="+file("server-ca.crt"), "--cert-file="+file("client.crt"), "--key-file="+file("client.key"),
		"--peer-client-cert-auth=true", "--peer-trusted-ca-file="+file("server-ca.crt"), "--peer-cert-file="+file("client.crt"), "--peer-key-file="+file("client.key"),
		"--log-level=error")
	var said bytes.Buffer
	etcd.Stdout, etcd.Stderr = &said, &said
	if err := etcd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = etcd.Wait() // it was killed
		if t.Failed() {
			t.Logf("etcd: %s", said.String())
		}
	})
	return dir, endpoint
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// certificates makes an authority and one certificate of it.
func certificates(t *testing.T, dir string) {
	t.Helper()
	write := func(name, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "etcd-server-ca"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	must(err)
	write("server-ca.crt", "CERTIFICATE", der)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	der, err = x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "etcd"},
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}, ca, &key.PublicKey, caKey)
	must(err)
	write("client.crt", "CERTIFICATE", der)
	der, err = x509.MarshalPKCS8PrivateKey(key)
	must(err)
	write("client.key", "PRIVATE KEY", der)
}

func runMembers(t *testing.T, dir, endpoint string, args ...string) ([]Member, error) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "list")
	cmd := EtcdMembersCommand()
	cmd.SetArgs(append([]string{"--tls=" + dir, "--endpoint=" + endpoint, "--timeout=60s", "--out=" + out}, args...))
	cmd.SetOut(new(bytes.Buffer))
	cmd.SetErr(new(bytes.Buffer))
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var members []Member
	if err := json.Unmarshal(text, &members); err != nil {
		t.Fatal(err)
	}
	return members, nil
}

// The members are those that the real etcd has, and one of them is removed by the
// Node that it belongs to.
func TestEtcdsMembers(t *testing.T) {
	dir, endpoint := etcdServer(t, "s1-0123abcd")
	own := Member{Name: "s1-0123abcd", Addresses: []string{"127.0.0.1"}}
	want := func(what string, members []Member, err error, want ...Member) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if diff := cmp.Diff(want, members, cmp.AllowUnexported(Member{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	members, err := runMembers(t, dir, endpoint)
	want("alone", members, err, own)
	if _, err := runMembers(t, dir, endpoint, "--remove=s1", "--address=127.0.0.1"); err == nil || !strings.Contains(err.Error(), "only member") {
		t.Errorf("the only member is removed: %v", err)
	}
	client, err := dialEtcd(dir, endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.MemberAddAsLearner(t.Context(), []string{"https://192.0.2.7:2380"}); err != nil {
		t.Fatal(err)
	}
	learner := Member{Addresses: []string{"192.0.2.7"}, Learner: true}
	members, err = runMembers(t, dir, endpoint, "--remove=s2", "--address=192.0.2.8")
	if len(members) == 2 && members[0].Learner {
		members[0], members[1] = members[1], members[0]
	}
	want("another one's is asked to be removed", members, err, own, learner)
	members, err = runMembers(t, dir, endpoint, "--remove=s2", "--address=192.0.2.7")
	want("it is removed, by its address since it has no name", members, err, own)
	members, err = runMembers(t, dir, endpoint, "--remove=s2", "--address=192.0.2.7")
	want("and again", members, err, own)

	if _, err := runMembers(t, t.TempDir(), endpoint); err == nil || !strings.Contains(err.Error(), "no k3s server") {
		t.Errorf("without certificates: %v", err)
	}
	if _, err := runMembers(t, dir, "https://"+freePort(t), "--timeout=2s"); err == nil || !strings.Contains(err.Error(), "cannot list") {
		t.Errorf("nobody answers: %v", err)
	}
}

func TestWhoseMemberItIs(t *testing.T) {
	for _, c := range []struct {
		member        Member
		node, address string
		want          bool
	}{
		{Member{Name: "s1-0123abcd", Addresses: []string{"192.0.2.1"}}, "s1", "192.0.2.1", true},
		{Member{Name: "s1-0123abcd", Addresses: []string{"192.0.2.1"}}, "s1", "192.0.2.9", true},
		{Member{Name: "s1-0123abcd", Addresses: []string{"192.0.2.1"}}, "s2", "192.0.2.1", false},
		{Member{Name: "s1-a-0123abcd"}, "s1", "", false},
		{Member{Name: "s1-a-0123abcd"}, "s1-a", "", true},
		{Member{Name: "s1"}, "s1", "", false},
		{Member{Name: "-0123abcd"}, "", "", false},
		{Member{Addresses: []string{"192.0.2.1"}}, "s1", "192.0.2.1", true},
		{Member{Addresses: []string{"192.0.2.1"}}, "s1", "192.0.2.2", false},
		{Member{}, "s1", "", false},
	} {
		if got := c.member.Is(c.node, c.address); got != c.want {
			t.Errorf("%+v is that of %s (%s): %v, want %v", c.member, c.node, c.address, got, c.want)
		}
	}
}
