package host

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/pxe/dhcp"
)

// able is a machine that can seed, beside a home router.
func able() (Question, Facts) {
	router := netip.MustParseAddr("192.168.1.1")
	return Question{HTTPPort: 7480, HTTPSPort: 7443, Inventory: inventory.Inventory{
			Clusters: []v1alpha1.Cluster{{Spec: v1alpha1.ClusterSpec{
				Network:      v1alpha1.NetworkSpec{CIDR: "192.168.1.0/24", Gateway: "192.168.1.1", DHCP: v1alpha1.DHCPProxy},
				ControlPlane: v1alpha1.ControlPlaneSpec{VirtualIP: ptr(v1alpha1.Address("192.168.1.5"))},
			}}},
			Nodes: []v1alpha1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "alpha"}, Spec: v1alpha1.NodeSpec{Address: "192.168.1.10"}}},
		}}, Facts{
			System: "linux",
			Interfaces: []Interface{
				{Name: "lo", Up: true, Loopback: true, Addresses: prefixes("127.0.0.1/8")},
				{Name: "eth0", Up: true, Addresses: prefixes("192.168.1.77/24")},
				{Name: "wlan0", Up: true, Addresses: prefixes("10.0.0.7/16")},
				{Name: "eth1"},
			},
			Privileges: Privileges{LowPorts: true, RawSockets: true},
			Ports:      []Port{{Protocol: "UDP", Number: 67, Purpose: "DHCP"}, {Protocol: "TCP", Number: 7480, Purpose: "HTTP"}},
			Probed:     true,
			Foreign:    []dhcp.Foreign{{Server: router, OffersAddress: true}},
		}
}

func prefixes(s ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(s))
	for i := range s {
		all[i] = netip.MustParsePrefix(s[i])
	}
	return all
}

func ptr[T any](v T) *T { return &v }

func TestJudge(t *testing.T) {
	cases := []struct {
		reason string
		change func(*Question, *Facts)
		want   []string // rule, then what the finding says
	}{
		{"an able machine", func(*Question, *Facts) {}, nil},
		{"no interface on the network", func(q *Question, _ *Facts) { q.Inventory.Clusters[0].Spec.Network.CIDR = "172.16.0.0/24" },
			[]string{"NoInterface this machine: interface: no interface of this machine stands in the cluster's network 172.16.0.0/24; there is eth0 (192.168.1.77/24), wlan0 (10.0.0.7/16), eth1 (down); connect this machine to the network 172.16.0.0/24, or correct network.cidr"}},
		{"an interface that is down does not count", func(_ *Question, f *Facts) { f.Interfaces[1].Up = false },
			[]string{"NoInterface eth0 (down)"}},
		{"two interfaces on the network", func(_ *Question, f *Facts) { f.Interfaces[2].Addresses = prefixes("192.168.1.78/24") },
			[]string{"SeveralInterfaces eth0 (192.168.1.77/24), wlan0 (192.168.1.78/24); name one of them with --interface"}},
		{"two interfaces on the network, one named", func(q *Question, f *Facts) {
			f.Interfaces[2].Addresses, q.Interface = prefixes("192.168.1.78/24"), "wlan0"
		}, nil},
		{"a named interface that is not there", func(q *Question, _ *Facts) { q.Interface = "eth9" },
			[]string{`NoInterface there is no interface "eth9"; there is eth0 (192.168.1.77/24), wlan0 (10.0.0.7/16), eth1 (down); name one that there is`}},
		{"a named interface elsewhere", func(q *Question, _ *Facts) { q.Interface = "wlan0" },
			[]string{"NoInterface the interface wlan0 is not up with an address in the cluster's network 192.168.1.0/24"}},
		{"only the loopback", func(_ *Question, f *Facts) { f.Interfaces = f.Interfaces[:1] },
			[]string{"NoInterface there is no interface but the loopback"}},
		{"another prefix length", func(_ *Question, f *Facts) { f.Interfaces[1].Addresses = prefixes("192.168.1.77/16") },
			[]string{"NetmaskDiffers has the address 192.168.1.77/16, whose prefix length is not that of network.cidr 192.168.1.0/24"}},
		{"our address is a node's", func(_ *Question, f *Facts) { f.Interfaces[1].Addresses = prefixes("192.168.1.10/24") },
			[]string{"OwnAddressTaken has the address 192.168.1.10, which Node/alpha is to have; give this machine another address"}},
		{"our address is the virtual IP", func(_ *Question, f *Facts) { f.Interfaces[1].Addresses = prefixes("192.168.1.5/24") },
			[]string{"OwnAddressTaken virtual IP"}},
		{"our address is in the pool", func(_ *Question, f *Facts) { f.Interfaces[1].Addresses = prefixes("192.168.1.250/24") },
			[]string{"OwnAddressInPool 192.168.1.224/27"}},
		{"no privileges on Linux", func(_ *Question, f *Facts) { f.Privileges, f.Probed = Privileges{}, false },
			[]string{"NoPrivileges may not open ports below 1024 and not use raw sockets; run as root, with sudo, or give the program CAP_NET_BIND_SERVICE and CAP_NET_RAW"}},
		{"no privileges on macOS", func(_ *Question, f *Facts) { f.Privileges, f.Probed, f.System = Privileges{}, false, "darwin" },
			[]string{"NoPrivileges run as root, with sudo"}},
		{"half of the privileges", func(_ *Question, f *Facts) { f.Privileges.LowPorts = false },
			[]string{"NoPrivileges may not open ports below 1024; run"}},
		{"a port is taken by a known program", func(_ *Question, f *Facts) { f.Ports[0].Taken, f.Ports[0].By = true, "dnsmasq (pid 7)" },
			[]string{"PortTaken UDP port 67: is in use by dnsmasq (pid 7), and DHCP needs it; stop that program"}},
		{"a port is taken by nobody knows whom", func(_ *Question, f *Facts) { f.Ports[1].Taken = true },
			[]string{"PortTaken TCP port 7480: is in use, and HTTP needs it; stop the program that has it: ss -lntp 'sport = :7480' shows which"}},
		{"the same on macOS", func(_ *Question, f *Facts) { f.Ports[0].Taken, f.System = true, "darwin" },
			[]string{"PortTaken sudo lsof -nP -i UDP:67 shows which"}},
		{"the probe failed", func(_ *Question, f *Facts) { f.ProbeError, f.Foreign = "no such device", nil },
			[]string{"ProbeFailed no such device"}},
		{"nobody was asked", func(_ *Question, f *Facts) { f.Probed, f.Foreign = false, nil }, nil},
		{"proxy without a DHCP server", func(_ *Question, f *Facts) { f.Foreign = nil },
			[]string{"NoDHCPServer nobody hands out addresses, and network.dhcp is Proxy"}},
		{"server beside a DHCP server", func(q *Question, _ *Facts) { q.Inventory.Clusters[0].Spec.Network.DHCP = v1alpha1.DHCPServer },
			[]string{"ForeignDHCPServer 192.168.1.1 hands out addresses, and network.dhcp is Server; switch that DHCP server off, or set network.dhcp to Proxy"}},
		{"server alone", func(q *Question, f *Facts) {
			q.Inventory.Clusters[0].Spec.Network.DHCP, f.Foreign = v1alpha1.DHCPServer, nil
		}, nil},
		{"another boot server", func(_ *Question, f *Facts) {
			f.Foreign = append(f.Foreign, dhcp.Foreign{Server: netip.MustParseAddr("192.168.1.3"), BootFile: "pxelinux.0"})
		}, []string{`ForeignBootServer 192.168.1.3 offers the boot file "pxelinux.0"`}},
		{"no Cluster: only what does not depend on it", func(q *Question, f *Facts) { q.Inventory, f.Privileges.LowPorts = inventory.Inventory{}, false },
			[]string{"NoPrivileges may not open"}},
	}
	proven := map[string]bool{}
	for _, tc := range cases {
		t.Run(tc.reason, func(t *testing.T) {
			q, f := able()
			tc.change(&q, &f)
			var got []string
			for i, finding := range Judge(q, f) {
				proven[finding.Rule] = true
				line := finding.Rule + " " + finding.String()
				if finding.Severity == "" || finding.Fix == "" {
					t.Errorf("incomplete: %+v", finding)
				}
				if i < len(tc.want) {
					rule, says, _ := strings.Cut(tc.want[i], " ")
					if rule == finding.Rule && strings.Contains(finding.String(), says) {
						line = tc.want[i]
					}
				}
				got = append(got, line)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for _, r := range Rules() {
		if !proven[r.Name] && r.Name != ruleFile {
			t.Errorf("no case breaks the rule %s", r.Name)
		}
	}
}

func TestFilesThatAManifestNamesMustBeHere(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	there, empty := write("there.raw", "x"), write("empty.raw", "")
	file := func(url string) v1alpha1.File { return v1alpha1.File{URL: v1alpha1.URL(url)} }
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }
	inv := inventory.Inventory{
		Clusters: []v1alpha1.Cluster{{ObjectMeta: named("home"), Spec: v1alpha1.ClusterSpec{
			Network: v1alpha1.NetworkSpec{CIDR: "192.0.2.0/24"}, OperatingSystem: "debian",
			Kubernetes: v1alpha1.KubernetesSpec{Files: []v1alpha1.KubernetesFiles{
				{Architecture: v1alpha1.ARM64, Binary: file("file:///not/needed")},
				{Architecture: v1alpha1.AMD64, Binary: file("file://" + empty), Images: []v1alpha1.File{file("https://example.org/a.tar"), file("file://" + dir)}},
			}},
		}}},
		OperatingSystems: []v1alpha1.OperatingSystem{
			{ObjectMeta: named("other"), Spec: v1alpha1.OperatingSystemSpec{Media: []v1alpha1.Medium{{Architecture: v1alpha1.AMD64, File: file("file:///not/needed")}}}},
			{ObjectMeta: named("debian"), Spec: v1alpha1.OperatingSystemSpec{Media: []v1alpha1.Medium{
				{Architecture: v1alpha1.AMD64, File: file("file:///srv/there/is/none.raw")},
				{Architecture: v1alpha1.ARM64, File: file("file://" + there)},
			}}},
		},
		Nodes:   []v1alpha1.Node{{ObjectMeta: named("alpha"), Spec: v1alpha1.NodeSpec{Role: v1alpha1.ControlPlane}}},
		Origins: map[inventory.Key]inventory.Origin{{Kind: "OperatingSystem", Index: 1}: {File: "debian.yaml", Line: 1, Fields: map[string]int{"spec.media[0].url": 9}}},
	}
	observe := func(inv inventory.Inventory, files bool) []string {
		q := Question{Inventory: inv, HTTPPort: 7480, HTTPSPort: 7443, Files: files}
		facts, err := Observe(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, f := range Judge(q, facts) {
			if f.Rule == ruleFile {
				out = append(out, f.String())
			}
		}
		return out
	}
	const fix = "; put the file there, or correct the URL"
	want := []string{
		"debian.yaml:9: OperatingSystem/debian: spec.media[0].url: /srv/there/is/none.raw cannot be read on this machine: no such file or directory" + fix,
		"Cluster/home: spec.kubernetes.files[1].binary.url: " + empty + " cannot be read on this machine: it is empty" + fix,
		"Cluster/home: spec.kubernetes.files[1].images[1].url: " + dir + " cannot be read on this machine: it is not a regular file" + fix,
	}
	if diff := cmp.Diff(want, observe(inv, true)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := observe(inv, false); got != nil {
		t.Errorf("nobody asked, and got %q", got)
	}
	inv.Nodes[0].Spec.Architecture = v1alpha1.ARM64
	inv.Clusters[0].Spec.Kubernetes.Files = nil
	if got := observe(inv, true); got != nil {
		t.Errorf("all files are there, and got %q", got)
	}
	if got := observe(inventory.Inventory{}, true); got != nil {
		t.Errorf("nothing is declared, and got %q", got)
	}
}
