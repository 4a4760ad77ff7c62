package declare

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/bootstrapper/repository"
	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/manifests"
)

var seenAt = metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))

func machine(mac v1alpha1.MAC) v1alpha1.DiscoveredMachine {
	return v1alpha1.DiscoveredMachine{MAC: mac, Architecture: "amd64", Firmware: "UEFI", FirstSeen: seenAt, LastSeen: seenAt}
}

// home is a repository as init writes it, as text and as the inventory that it is.
func home(t *testing.T) ([]byte, inventory.Inventory) {
	t.Helper()
	files, err := repository.Files(repository.Options{
		CIDR: netip.MustParsePrefix("192.0.2.0/24"), Gateway: netip.MustParseAddr("192.0.2.1"), SHA256: strings.Repeat("0a", 32),
		Nodes: []repository.Node{{Name: "alpha", MAC: "52:54:00:00:00:01"}, {Name: "beta", MAC: "52:54:00:00:00:02"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for path, content := range files {
		if strings.HasSuffix(path, ".yaml") {
			fmt.Fprintf(&all, "---\n%s\n", content)
		}
	}
	return all.Bytes(), manifests.Parse("", all.Bytes()).Inventory
}

func TestWhatIsWrittenPassesTheChecksBesideWhatIsThere(t *testing.T) {
	text, inv := home(t)
	hostile := machine("52:54:00:00:00:98")
	hostile.Firmware, hostile.UUID, hostile.Architecture = "UEFI\nkind: Cluster", "x\u2028y\x85z", "riscv"
	inv.Clusters[0].Status.Discovered = []v1alpha1.DiscoveredMachine{
		machine("52:54:00:00:00:99"), hostile, machine("52:54:00:00:00:02"), // of which the last is beta
	}
	written, count, err := Manifests(inv)
	if err != nil || count != 2 {
		t.Fatalf("%d manifests, %v; want 2", count, err)
	}
	r := manifests.Parse("", append(append(text, "\n"...), written...))
	r.Judge()
	if len(r.Findings) != 0 {
		t.Errorf("the checks find %v in\n%s", r.Findings, written)
	}
	var got []string
	for _, n := range r.Inventory.Nodes {
		got = append(got, fmt.Sprintf("%s %s %s %s %s", n.Name, n.Spec.Role, n.Spec.MAC, n.Spec.Address, n.Spec.Architecture))
	}
	slices.Sort(got)
	want := []string{
		"alpha ControlPlane 52:54:00:00:00:01 192.0.2.10 amd64", "beta Worker 52:54:00:00:00:02 192.0.2.11 amd64",
		"node-525400000098 Worker 52:54:00:00:00:98 192.0.2.12 amd64", "node-525400000099 Worker 52:54:00:00:00:99 192.0.2.13 amd64",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	for _, part := range []string{"firmware UEFI; architecture amd64.", "First seen 2026-01-02T03:04:05Z", "firmware UEFIkind: Cluster; architecture riscv; UUID xyz.", "The firmware did not say"} {
		if !strings.Contains(string(written), part) {
			t.Errorf("the comments lack %q:\n%s", part, written)
		}
	}
}

func TestAnAddressIsGivenOnceAndNeverOneThatIsTaken(t *testing.T) {
	cluster := func(cidr, pool string) *v1alpha1.Cluster {
		c := &v1alpha1.Cluster{}
		c.Spec.Network.CIDR, c.Spec.Network.Gateway = v1alpha1.CIDR(cidr), "10.0.0.1"
		if pool != "" {
			p := v1alpha1.CIDR(pool)
			c.Spec.LoadBalancerPool = &p
		}
		return c
	}
	vip := v1alpha1.Address("10.0.0.3")
	small := cluster("10.0.0.0/28", "10.0.0.8/29")
	small.Spec.ControlPlane.VirtualIP = &vip
	small.Spec.Network.Nameservers = []v1alpha1.Address{"10.0.0.4", "9.9.9.9"}
	high := v1alpha1.Node{Spec: v1alpha1.NodeSpec{Address: "10.0.0.11"}}
	tests := []struct {
		reason  string
		cluster *v1alpha1.Cluster
		nodes   []v1alpha1.Node
		want    []string // the first ones
		all     bool     // there are no more
	}{
		{"from the tenth on", cluster("10.0.0.0/24", ""), nil, []string{"10.0.0.10", "10.0.0.11", "10.0.0.12"}, false},
		{"none that a Node has", cluster("10.0.0.0/24", ""), []v1alpha1.Node{high}, []string{"10.0.0.10", "10.0.0.12"}, false},
		{"in a small network every one but router, nameserver, virtual IP and pool", small, nil,
			[]string{"10.0.0.2", "10.0.0.5", "10.0.0.6", "10.0.0.7"}, true},
		{"at the end it begins anew below the tenth", cluster("10.0.0.0/27", "10.0.0.16/28"), nil,
			[]string{"10.0.0.10", "10.0.0.11", "10.0.0.12", "10.0.0.13", "10.0.0.14", "10.0.0.15", "10.0.0.2", "10.0.0.3"}, false},
		{"neither the network's own nor its broadcast address", cluster("10.0.0.0/29", "10.0.0.4/31"), nil,
			[]string{"10.0.0.2", "10.0.0.3", "10.0.0.6"}, true},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			a, err := newAddresses(tc.cluster, tc.nodes)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for range tc.want {
				if ip, ok := a.next(); ok {
					got = append(got, ip.String())
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("addresses (-want +got):\n%s", diff)
			}
			if ip, ok := a.next(); ok == tc.all {
				t.Errorf("and then %v, %v", ip, ok)
			}
		})
	}
}

func TestNoAddressLeftIsSaid(t *testing.T) {
	_, inv := home(t)
	inv.Clusters[0].Spec.Network.CIDR, inv.Clusters[0].Spec.Network.Gateway = "192.0.2.8/29", "192.0.2.9"
	pool := v1alpha1.CIDR("192.0.2.12/30")
	inv.Clusters[0].Spec.LoadBalancerPool = &pool
	inv.Clusters[0].Status.Discovered = []v1alpha1.DiscoveredMachine{machine("52:54:00:00:00:99")}
	if _, _, err := Manifests(inv); err == nil || !strings.Contains(err.Error(), "no address left for 52:54:00:00:00:99") {
		t.Errorf("error is %v", err)
	}
}

func TestTheArchitectureIsWhatTheFirmwareSays(t *testing.T) {
	for said, want := range map[string]string{"amd64": "amd64 true", "x86_64": "amd64 true", "ARM64": "arm64 true", "aarch64": "arm64 true", "": "amd64 false", "ia32": "amd64 false"} {
		if a, sure := architectureOf(said); fmt.Sprint(a, " ", sure) != want {
			t.Errorf("%q is %s, sure %v; want %s", said, a, sure, want)
		}
	}
}
