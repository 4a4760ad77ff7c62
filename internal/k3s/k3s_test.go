package k3s

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"
)

var update = flag.Bool("update", false, "write the golden files anew")

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func shared() Shared {
	return Shared{
		PodCIDR: netip.MustParsePrefix("10.42.0.0/16"), ServiceCIDR: netip.MustParsePrefix("10.43.0.0/16"),
		Disable: []string{"traefik", "servicelb"}, TLSSANs: []string{"192.168.1.5", "k8s.example.org", "192.168.1.5"},
		AgentToken: "agent-secret",
	}
}

func member(name, ip string) Member {
	return Member{
		Name: name, IP: netip.MustParseAddr(ip),
		Labels: map[string]string{"rack": "1", "disk": "fast"},
		Taints: []Taint{{Key: "dedicated", Value: "control", Effect: "NoSchedule"}, {Key: "noisy", Effect: "PreferNoSchedule"}},
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (- golden, + rendered; go test -update writes it anew):\n%s", name, diff)
	}
}

func TestConfigs(t *testing.T) {
	for name, render := range map[string]func() (File, error){
		"first-server.yaml": ServerConfig{Shared: shared(), Member: member("alpha", "192.168.1.10"), Token: "server-secret", ClusterInit: true}.File,
		"server.yaml":       ServerConfig{Shared: shared(), Member: member("beta", "192.168.1.11"), Token: "server-secret", Server: "https://192.168.1.10:6443"}.File,
		"agent.yaml":        AgentConfig{Member: Member{Name: "gamma", IP: netip.MustParseAddr("192.168.1.12")}, Token: "bootstrap", Server: "https://192.168.1.10:6443"}.File,
	} {
		f, err := render()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if f.Path != "/etc/rancher/k3s/config.yaml" || f.Mode != 0o600 {
			t.Errorf("%s: %s with mode %o", name, f.Path, f.Mode)
		}
		golden(t, name, f.Content)
	}
	pod, err := VirtualIPPod(netip.MustParseAddr("192.168.1.5"), "ghcr.io/kube-vip/kube-vip:v0.9.2")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "kube-vip.yaml", pod.Content)
	golden(t, "k3s.service", []byte(ServerUnit()))
	golden(t, "k3s-agent.service", []byte(AgentUnit()))
}

// What differs between servers is what is a machine's own; the rest is refused by
// k3s if it differs.
func TestServersDifferOnlyInWhatIsTheirOwn(t *testing.T) {
	lines := func(c ServerConfig) map[string]bool {
		f, err := c.File()
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]bool{}
		for _, l := range strings.Split(string(f.Content), "\n") {
			out[l] = true
		}
		return out
	}
	other := shared()
	other.Disable = []string{"servicelb", "traefik"}
	other.TLSSANs = []string{"k8s.example.org", "192.168.1.5"}
	first := lines(ServerConfig{Shared: shared(), Member: member("alpha", "192.168.1.10"), Token: "t", ClusterInit: true})
	second := lines(ServerConfig{Shared: other, Member: member("beta", "192.168.1.11"), Token: "t", Server: "https://192.168.1.10:6443"})
	own := regexp.MustCompile(`^(node-name|node-ip|cluster-init|server): `)
	for l := range first {
		if !second[l] && !own.MatchString(l) {
			t.Errorf("only the first server has %q", l)
		}
	}
	for l := range second {
		if !first[l] && !own.MatchString(l) {
			t.Errorf("only the second server has %q", l)
		}
	}
	if second["cluster-init: true"] || !first["cluster-init: true"] {
		t.Error("cluster-init is not with the first server alone")
	}
}

func TestAConfigThatWouldDoHarmIsRefused(t *testing.T) {
	good := ServerConfig{Shared: shared(), Member: member("alpha", "192.168.1.10"), Token: "t", ClusterInit: true}
	with := func(change func(*ServerConfig)) func() (File, error) {
		c := good
		change(&c)
		return c.File
	}
	for name, render := range map[string]func() (File, error){
		"to found and to join":      with(func(c *ServerConfig) { c.Server = "https://x:6443" }),
		"neither found nor join":    with(func(c *ServerConfig) { c.ClusterInit = false }),
		"no token":                  with(func(c *ServerConfig) { c.Token = "" }),
		"no name":                   with(func(c *ServerConfig) { c.Member.Name = "" }),
		"no address":                with(func(c *ServerConfig) { c.Member.IP = netip.Addr{} }),
		"no pod network":            with(func(c *ServerConfig) { c.Shared.PodCIDR = netip.Prefix{} }),
		"service network too small": with(func(c *ServerConfig) { c.Shared.ServiceCIDR = netip.MustParsePrefix("10.43.0.0/30") }),
		"an agent without a server": AgentConfig{Member: good.Member, Token: "t"}.File,
		"an agent without a token":  AgentConfig{Member: good.Member, Server: "https://x:6443"}.File,
	} {
		if f, err := render(); err == nil || len(f.Content) > 0 {
			t.Errorf("%s was rendered:\n%s", name, f.Content)
		}
	}
}

func TestAuthoritiesVouchForWhatK3sNeeds(t *testing.T) {
	a, err := NewAuthorities(now)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Check(now); err != nil {
		t.Error(err)
	}
	kept, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var again Authorities
	if err := json.Unmarshal(kept, &again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a, again); diff != "" {
		t.Errorf("kept as JSON they differ:\n%s", diff)
	}

	var paths []string
	certificates := map[string]*x509.Certificate{}
	for _, f := range a.Files() {
		paths = append(paths, strings.TrimPrefix(f.Path, "/var/lib/rancher/k3s/server/tls/"))
		block, rest := pem.Decode(f.Content)
		if block == nil || len(rest) != 0 {
			t.Fatalf("%s is not one PEM block", f.Path)
		}
		if strings.HasSuffix(f.Path, ".key") {
			if _, err := x509.ParseECPrivateKey(block.Bytes); err != nil || f.Mode != 0o600 {
				t.Errorf("%s: %v, mode %o", f.Path, err, f.Mode)
			}
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		certificates[f.Path] = cert
		if _, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok || !cert.IsCA || cert.CheckSignatureFrom(cert) != nil {
			t.Errorf("%s is no self-signed authority", f.Path)
		}
		if cert.NotBefore.Year() > 2010 || cert.NotAfter.Before(now.AddDate(20, 0, 0)) {
			t.Errorf("%s is good from %s to %s only", f.Path, cert.NotBefore, cert.NotAfter)
		}
	}
	want := []string{
		"server-ca.crt", "server-ca.key", "client-ca.crt", "client-ca.key", "request-header-ca.crt", "request-header-ca.key",
		"etcd/server-ca.crt", "etcd/server-ca.key", "etcd/peer-ca.crt", "etcd/peer-ca.key", "service.key",
	}
	if diff := cmp.Diff(want, paths); diff != "" {
		t.Errorf("files (- want, + got):\n%s", diff)
	}
	names := map[string]bool{}
	for _, c := range certificates {
		names[c.Subject.CommonName] = true
	}
	if len(names) != 5 {
		t.Errorf("the authorities share names: %v", names)
	}

	broken := a
	broken.EtcdPeer.Key = a.Server.Key
	if err := broken.Check(now); err == nil || !strings.Contains(err.Error(), "etcd-peer authority: the key is not the certificate's") {
		t.Errorf("a key of another certificate: %v", err)
	}
	if err := a.Check(now.AddDate(31, 0, 0)); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("in 31 years: %v", err)
	}
	if err := (Authorities{}).Check(now); err == nil {
		t.Error("no authorities at all are found good")
	}
}

func TestAnAdministratorsKubeconfigIsKnownBeforehand(t *testing.T) {
	a, err := NewAuthorities(now)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key, err := a.AdminCertificate("you", now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	text, err := Kubeconfig("home", "https://192.168.1.10:6443", a.Server.Certificate, certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	if config.Host != "https://192.168.1.10:6443" || !bytes.Equal(config.CAData, a.Server.Certificate) {
		t.Errorf("%s", config.Host)
	}
	block, _ := pem.Decode(config.CertData)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.Client.Certificate)
	for at, good := range map[time.Time]bool{
		now: true, now.Add(time.Hour): true, now.Add(time.Hour + time.Second): false,
		time.Date(2012, 1, 1, 0, 0, 0, 0, time.UTC): true, // a machine with an empty CMOS battery
	} {
		_, err := cert.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if (err == nil) != good {
			t.Errorf("at %s: %v", at, err)
		}
	}
	if diff := cmp.Diff([]string{"system:masters"}, cert.Subject.Organization); diff != "" {
		t.Error(diff)
	}
}

func TestTheHashOfAnAuthorityIsK3s(t *testing.T) {
	one, err := NewAuthority("one", now)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(one.Certificate)
	if got, err := CAHash(one.Certificate); err != nil || got != hex.EncodeToString(sum[:]) {
		t.Errorf("one certificate: %s, %v, want the hash of its PEM bytes", got, err)
	}
	padded := append([]byte("\n"), one.Certificate...)
	if got, _ := CAHash(padded); got == hex.EncodeToString(sum[:]) {
		t.Error("the bytes as served do not count")
	}

	// A chain: the root's DER, wherever the root stands.
	root, intermediate := chain(t)
	block, _ := pem.Decode(root)
	sum = sha256.Sum256(block.Bytes)
	bundle := append(bytes.Clone(intermediate), root...)
	if got, err := CAHash(bundle); err != nil || got != hex.EncodeToString(sum[:]) {
		t.Errorf("a chain: %s, %v, want the hash of the root", got, err)
	}
	if _, err := CAHash(append(bytes.Clone(intermediate), intermediate...)); err == nil {
		t.Error("a chain without a root has a hash")
	}
	for _, bad := range []string{"", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"} {
		if got, err := CAHash([]byte(bad)); err == nil {
			t.Errorf("%q has the hash %s", bad, got)
		}
	}
}

func TestTokensHaveTheFormsOfK3s(t *testing.T) {
	a, err := NewAuthority("server", now)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := CAHash(a.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ServerToken(a.Certificate, "pw")
	if err != nil || server != "K10"+hash+"::server:pw" {
		t.Errorf("%s, %v", server, err)
	}
	agent, err := AgentToken(a.Certificate, "pw")
	if err != nil || agent != "K10"+hash+"::node:pw" {
		t.Errorf("%s, %v", agent, err)
	}
	b := NewBootstrapToken(now.Add(10*time.Minute), "beta, attempt 1")
	token, err := b.Token(a.Certificate)
	if err != nil || !regexp.MustCompile(`^K10`+hash+`::[a-z0-9]{6}\.[a-z0-9]{16}$`).MatchString(token) {
		t.Errorf("%s, %v", token, err)
	}
	secret := b.SecretObject()
	if secret.Name != "bootstrap-token-"+b.ID || secret.Namespace != "kube-system" || secret.Type != "bootstrap.kubernetes.io/token" {
		t.Errorf("%s/%s of type %s", secret.Namespace, secret.Name, secret.Type)
	}
	for key, want := range map[string]string{
		"token-id": b.ID, "token-secret": b.Secret, "expiration": "2026-01-02T03:14:05Z",
		"usage-bootstrap-authentication": "true", "auth-extra-groups": "system:bootstrappers:k3s:default-node-token",
	} {
		if got := string(secret.Data[key]); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if other := NewBootstrapToken(now, ""); other.ID == b.ID || other.Secret == b.Secret {
		t.Error("two tokens are the same")
	}
	if p := NewPassword(); len(p) != 64 || p == NewPassword() {
		t.Errorf("password %q", p)
	}
}

func TestANodePasswordIsTheSameForTheSameMachineOnly(t *testing.T) {
	key := []byte("0123456789abcdef")
	first, err := NodePassword(key, "alpha", "52:54:00:00:00:01")
	if err != nil {
		t.Fatal(err)
	}
	if first.Path != "/etc/rancher/node/password" || first.Mode != 0o600 || !regexp.MustCompile(`^[0-9a-f]{32}\n$`).Match(first.Content) {
		t.Errorf("%+v", first)
	}
	seen := map[string]bool{}
	for _, c := range [][3]string{
		{string(key), "alpha", "52:54:00:00:00:01"},
		{string(key), "beta", "52:54:00:00:00:01"},
		{string(key), "alpha", "52:54:00:00:00:02"},
		{"another key of 16", "alpha", "52:54:00:00:00:01"},
	} {
		f, err := NodePassword([]byte(c[0]), c[1], c[2])
		if err != nil || seen[string(f.Content)] {
			t.Errorf("%v: %v, or as another machine's", c, err)
		}
		seen[string(f.Content)] = true
	}
	if !seen[string(first.Content)] {
		t.Error("the same machine has another password the second time")
	}
	if _, err := NodePassword([]byte("short"), "alpha", "x"); err == nil {
		t.Error("a short key was taken")
	}
}

func TestReleaseFiles(t *testing.T) {
	const version = "v1.33.5+k3s1"
	for got, want := range map[string]string{
		ReleaseURL(version, BinaryName("amd64")): "https://github.com/k3s-io/k3s/releases/download/v1.33.5%2Bk3s1/k3s",
		ReleaseURL(version, BinaryName("arm64")): "https://github.com/k3s-io/k3s/releases/download/v1.33.5%2Bk3s1/k3s-arm64",
		ReleaseURL(version, SumsName("arm64")):   "https://github.com/k3s-io/k3s/releases/download/v1.33.5%2Bk3s1/sha256sum-arm64.txt",
		ReleaseURL(version, AirgapName("amd64")): "https://github.com/k3s-io/k3s/releases/download/v1.33.5%2Bk3s1/k3s-airgap-images-amd64.tar.zst",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestChecksumFiles(t *testing.T) {
	a, b := strings.Repeat("a", 64), strings.Repeat("b", 64)
	for _, c := range []struct {
		reason, text string
		want         Sums
		err          string
	}{
		{"as published", a + "  k3s\n" + b + "  k3s-airgap-images-amd64.tar.zst\n", Sums{"k3s": a, "k3s-airgap-images-amd64.tar.zst": b}, ""},
		{"binary mode, upper case, line ends of Windows", strings.ToUpper(a) + " *k3s\r\n\r\n", Sums{"k3s": a}, ""},
		{"the same twice", a + "  k3s\n" + a + "  k3s\n", Sums{"k3s": a}, ""},
		{"a file with two digests", a + "  k3s\n" + b + "  k3s\n", nil, "line 2 gives"},
		{"a web page", "<!DOCTYPE html>\n", nil, "line 1 is not of the form"},
		{"a digest of another length", a[1:] + "  k3s\n", nil, "line 1"},
		{"no name", a + "  \n", nil, "line 1"},
		{"nothing", "\n", nil, "empty"},
	} {
		got, err := ParseSums([]byte(c.text))
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (- want, + got):\n%s", c.reason, diff)
		}
		if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", c.reason, err, c.err)
		}
	}
	_, err := Sums{"k3s": a, "a": b}.Digest("k3s-arm64")
	if err == nil || err.Error() != `the release has no file "k3s-arm64"; it has a, k3s` {
		t.Errorf("%v", err)
	}
}

func FuzzParseSums(f *testing.F) {
	f.Add([]byte(strings.Repeat("a", 64) + "  k3s\n"))
	f.Add([]byte(strings.Repeat("A", 64) + " *k3s \r\n\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		sums, err := ParseSums(data)
		if (err == nil) != (len(sums) > 0) {
			t.Fatalf("%d sums and %v", len(sums), err)
		}
		for name, digest := range sums {
			if name == "" || len(digest) != 64 || strings.Trim(digest, "0123456789abcdef") != "" {
				t.Fatalf("%q: %q", name, digest)
			}
			if !bytes.Contains(bytes.ToLower(data), []byte(digest)) || !bytes.Contains(data, []byte(name)) {
				t.Fatalf("%q: %q is not in the file", name, digest)
			}
		}
	})
}

func TestImageArchivesLieWhereK3sImportsThem(t *testing.T) {
	for name, want := range map[string]string{
		"operator.tar": "/var/lib/rancher/k3s/agent/images/operator.tar",
		"a.tar.zst":    "/var/lib/rancher/k3s/agent/images/a.tar.zst",
		"a.tgz":        "/var/lib/rancher/k3s/agent/images/a.tgz",
		"a.zip":        "", "../a.tar": "", "": "", ".a.tar": "", "a": "",
	} {
		got, err := ImagePath(name)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", name, got, err, want)
		}
	}
}

func TestAnArchiveThatWouldLeaveItsPlaceIsRefused(t *testing.T) {
	for _, files := range [][]File{
		{{Path: "etc/x"}}, {{Path: "/etc/../x"}}, {{Path: "/"}}, {{Path: "/etc/"}}, {{Path: "/a"}, {Path: "/a"}},
	} {
		if _, err := Tar(files); err == nil {
			t.Errorf("%v was packed", files)
		}
	}
}
