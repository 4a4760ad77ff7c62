package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func load(t *testing.T, isServer bool, file string, env map[string]string, args ...string) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(isServer, append([]string{"--config", path}, args...), func(k string) string { return env[k] })
}

func TestConfigFileKeysAreTheFlags(t *testing.T) {
	c, err := load(t, true, `
cluster-init: true
token: secret
node-name: one
node-ip: 10.0.0.5
node-label: [a=b, c=d]
node-taint:
  - k=v:NoSchedule
tls-san: vip.example,10.0.0.2
disable: [traefik, servicelb]
write-kubeconfig-mode: "0644"
https-listen-port: 7443
secrets-encryption: true
etcd-expose-metrics: true
kubelet-arg: ["max-pods=42"]
service-cidr: 10.96.0.0/16
`, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := []any{
		c.ClusterInit, c.Token, c.NodeName, c.NodeIP, c.NodeLabels, c.NodeTaints, c.TLSSANs, c.Disable,
		c.KubeconfigMode, c.HTTPSPort, c.EncryptSecrets, c.EtcdMetrics, c.KubeletArgs, c.ServiceCIDR, c.ClusterDNS,
	}
	want := []any{
		true, "secret", "one", []string{"10.0.0.5"}, []string{"a=b", "c=d"}, []string{"k=v:NoSchedule"},
		[]string{"vip.example", "10.0.0.2"}, []string{"traefik", "servicelb"}, os.FileMode(0o644), 7443, true, true,
		[]string{"max-pods=42"}, []string{"10.96.0.0/16"}, []string{"10.96.0.10"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestDefaultsAreTheDocumentedOnes(t *testing.T) {
	c, err := load(t, true, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	got := []string{c.DataDir, c.Kubeconfig, c.ClusterCIDR[0], c.ServiceCIDR[0], c.ClusterDNS[0], c.ClusterDomain, c.FlannelBackend, c.PauseImage, c.KubeconfigMode.String()}
	want := []string{"/var/lib/rancher/k3s", "/etc/rancher/k3s/k3s.yaml", "10.42.0.0/16", "10.43.0.0/16", "10.43.0.10", "cluster.local", "vxlan", "rancher/mirrored-pause:3.6", "-rw-------"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		agent bool
		file  string
		args  []string
		want  string
	}{
		"unknown key":              {file: "cluster-innit: true", want: `key "cluster-innit": k3s has no such flag`},
		"unknown flag":             {args: []string{"--nonsense"}, want: "unknown flag: --nonsense"},
		"server's key on an agent": {agent: true, file: "server: https://a:6443\ntoken: x\ncluster-init: true", want: `key "cluster-init": k3s agent has no such flag`},
		"not imitated":             {file: "datastore-endpoint: mysql://x", want: "datastore-endpoint: k3s has it"},
		"twice the same key":       {file: "token: a\ntoken: b", want: "token"},
		"map for a scalar":         {file: "token: {a: b}", want: `key "token"`},
		"no boolean":               {file: "cluster-init: perhaps", want: `key "cluster-init"`},
		"no CIDR":                  {file: "cluster-cidr: 10.0.0.1", want: "cluster-cidr:"},
		"no address":               {file: "node-ip: host", want: "node-ip:"},
		"no mode":                  {file: "write-kubeconfig-mode: rw", want: "write-kubeconfig-mode:"},
		"plain HTTP":               {file: "server: http://a:6443\ntoken: x", want: "https://"},
		"join without a token":     {file: "server: https://a:6443", want: "token: needed"},
		"agent without a server":   {agent: true, file: "token: x", want: "server: k3s agent needs"},
		"agent without a token":    {agent: true, file: "server: https://a:6443", want: "token: k3s agent needs"},
		"no such component":        {file: "disable: [treafik]", want: `no packaged component "treafik"`},
		"no such backend":          {file: "flannel-backend: ipsec", want: "flannel-backend:"},
		"relative data-dir":        {file: "data-dir: var/lib", want: "data-dir:"},
		"stray argument":           {args: []string{"stray"}, want: `unexpected argument "stray"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := load(t, !c.agent, c.file, nil, c.args...)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestArgumentsWinOverTheFileAndTheFileOverTheEnvironment(t *testing.T) {
	env := map[string]string{"K3S_TOKEN": "env", "K3S_NODE_NAME": "env", "K3S_URL": "https://env:6443"}
	c, err := load(t, true, "token: file\nnode-name: file\nnode-label: [a=file, b=file]", env, "--token=arg", "--node-label=c=arg")
	if err != nil {
		t.Fatal(err)
	}
	got := []any{c.Token, c.NodeName, c.ServerURL, c.NodeLabels}
	if d := cmp.Diff([]any{"arg", "file", "https://env:6443", []string{"c=arg"}}, got); d != "" {
		t.Error(d)
	}
}

func TestDropInsReplaceOrAppend(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.yaml")
	for name, text := range map[string]string{
		"config.yaml":               "token: a\nnode-label: [x=1]\ntls-san: [one]",
		"config.yaml.d/10-one.yaml": "token: b\nnode-label+: [y=2]\ntls-san: [two]",
	} {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := Load(true, []string{"-c", path}, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]any{"b", []string{"x=1", "y=2"}, []string{"two"}}, []any{c.Token, c.NodeLabels, c.TLSSANs}); d != "" {
		t.Error(d)
	}
}

func TestANamedConfigFileMustExist(t *testing.T) {
	if _, err := Load(true, []string{"--config", "/nonexistent/config.yaml"}, func(string) string { return "" }); err == nil {
		t.Error("no error")
	}
}

func TestTokenFileIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("K10x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := load(t, true, "token-file: "+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Token != "K10x" {
		t.Errorf("token %q", c.Token)
	}
}

func TestInertFlagsAreReported(t *testing.T) {
	c, err := load(t, true, "etcd-s3: true\ndisable-network-policy: true\ndisable-cloud-controller: false", nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"etcd-s3", "disable-network-policy"}, c.Inert, cmp.Transformer("set", func(s []string) map[string]bool {
		m := map[string]bool{}
		for _, e := range s {
			m[e] = true
		}
		return m
	})); d != "" {
		t.Error(d)
	}
}

func TestTheOrderOfDisabledComponentsIsNotCritical(t *testing.T) {
	a, err := load(t, true, "disable: [traefik, servicelb]", nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := load(t, true, "disable: [servicelb, traefik]", nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(a.Critical, b.Critical); d != "" {
		t.Error(d)
	}
}

func FuzzConfigFile(f *testing.F) {
	f.Add("cluster-init: true\ntoken: x")
	f.Add("node-label+: [a=b]")
	f.Add("disable: [[]]")
	f.Fuzz(func(t *testing.T, text string) {
		s := settings{}
		if err := s.add("file", []byte(text)); err == nil {
			_ = s.check(server, "server")
		}
	})
}
