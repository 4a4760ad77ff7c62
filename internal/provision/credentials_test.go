package provision

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/k3s"
)

func TestJoiningMembersAreToldWhatTheyNeedAndNoMore(t *testing.T) {
	founding, err := NewFounding(func() time.Time { return t0 })
	if err != nil {
		t.Fatal(err)
	}
	secrets, err := founding.JoinSecrets()
	if err != nil {
		t.Fatal(err)
	}
	if err := secrets.Check(); err != nil {
		t.Fatal(err)
	}
	inv := homelab()
	vip := v1alpha1.Address("192.168.1.5")
	inv.Clusters[0].Spec.ControlPlane.VirtualIP = &vip
	via := netip.MustParseAddr("192.168.1.12")
	contents := func(files []k3s.File) map[string]string {
		m := map[string]string{}
		for _, f := range files {
			m[f.Path] = string(f.Content)
		}
		return m
	}
	first, err := founding.FirstServer(inv, &inv.Nodes[0])
	if err != nil {
		t.Fatal(err)
	}
	server, err := JoinServer(inv, &inv.Nodes[0], secrets, via)
	if err != nil {
		t.Fatal(err)
	}
	founds, joins := contents(first), contents(server)

	// But for how it begins, a server that joins is configured as the first one.
	want := strings.Replace(founds[k3s.ConfigPath], "cluster-init: true\n", "", 1)
	got := strings.Replace(joins[k3s.ConfigPath], "server: https://192.168.1.12:6443\n", "", 1)
	if want == founds[k3s.ConfigPath] || got == joins[k3s.ConfigPath] || got != want {
		t.Errorf("the first server's config:\n%s\na further one's:\n%s", founds[k3s.ConfigPath], joins[k3s.ConfigPath])
	}
	for _, path := range []string{k3s.NodePasswordPath, k3s.PodManifestsDir + "/kube-vip.yaml"} {
		if joins[path] == "" || joins[path] != founds[path] {
			t.Errorf("%s differs from the first server's, or is not there", path)
		}
	}
	if len(server) != 3 {
		t.Errorf("a further server gets %d files, want 3: authorities come from the server that it joins", len(server))
	}

	token := k3s.NewBootstrapToken(t0.Add(time.Minute), "test")
	agent, err := JoinAgent(inv, &inv.Nodes[1], secrets, token, via)
	if err != nil {
		t.Fatal(err)
	}
	config := contents(agent)[k3s.ConfigPath]
	for _, line := range []string{"node-name: beta\n", "server: https://192.168.1.12:6443\n", "::" + token.ID + "." + token.Secret + "\n"} {
		if !strings.Contains(config, line) {
			t.Errorf("the worker's config lacks %q:\n%s", line, config)
		}
	}
	for _, secret := range []string{founding.ServerPassword, founding.AgentPassword, "cluster-init"} {
		for _, f := range agent {
			if strings.Contains(string(f.Content), secret) {
				t.Errorf("a worker is given what only servers may have, in %s", f.Path)
			}
		}
	}

	for reason, err := range map[string]error{
		"a worker gets no server token": fails(JoinServer(inv, &inv.Nodes[1], secrets, via)),
		"nobody to join by":             fails(JoinServer(inv, &inv.Nodes[0], secrets, netip.Addr{})),
		"a server joins by itself":      fails(JoinServer(inv, &inv.Nodes[0], secrets, netip.MustParseAddr("192.168.1.10"))),
		"no key for node passwords":     fails(JoinAgent(inv, &inv.Nodes[1], JoinSecrets{ServerCA: secrets.ServerCA}, token, via)),
		"no authority to pin":           fails(JoinAgent(inv, &inv.Nodes[1], JoinSecrets{NodeKey: secrets.NodeKey}, token, via)),
	} {
		if err == nil {
			t.Errorf("no error: %s", reason)
		}
	}
	for _, incomplete := range []JoinSecrets{
		{}, {ServerToken: "t"}, {ServerToken: "t", AgentToken: "a"}, {ServerToken: "t", AgentToken: "a", NodeKey: make([]byte, 32)},
	} {
		if incomplete.Check() == nil {
			t.Errorf("nothing is missing in %v", incomplete)
		}
	}
}

func fails(_ []k3s.File, err error) error { return err }
