package node

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/internal/provision"
)

// The server that carries the virtual IP may be the very one that is sick, and the
// address be on nobody, or on another one, as it is repaired: nothing of its way back, or
// of anybody's, names it as the address of a server.
func TestNoWayBackUsesTheVirtualIP(t *testing.T) {
	const vip = "192.168.1.100"
	carries := func(f *fleet, name string) {
		// Machines may tell all their addresses, in any order.
		core := f.m(name).core.object
		core.Status.Addresses = append([]corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: vip}}, core.Status.Addresses...)
		m := memberOf(core)
		f.m(name).core = &m
		for i := range f.servers {
			if f.servers[i].name == name {
				f.servers[i] = m
			}
		}
	}
	founding, err := provision.NewFounding(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	secrets, err := founding.JoinSecrets()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		reason string
		change func(*fleet)
		via    string // the server by which s3 joins again; empty: none
	}{
		{"the sick server carries it", func(f *fleet) { carries(f, "s3") }, "192.168.1.10"},
		{"another server took it over", func(f *fleet) { carries(f, "s1") }, "192.168.1.10"},
		{"both say so", func(f *fleet) { carries(f, "s3"); carries(f, "s1"); carries(f, "s2") }, "192.168.1.10"},
		{"a PXE pod says that it answers there", func(f *fleet) {
			f.cluster.Status.PXE = []v1alpha1.PXEPod{{Node: "s1", Ready: true, Address: vip}, {Node: "s2", Ready: true, Address: "192.168.1.11"}}
		}, "192.168.1.10"},
		{"nothing but it is known of the others", func(f *fleet) {
			for i := range f.servers {
				f.servers[i].addresses = []string{vip}
			}
		}, ""},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			f := home()
			f.joined("s3", false)
			address := v1alpha1.Address(vip)
			f.cluster.Spec.ControlPlane.VirtualIP = &address
			f.cluster.Spec.Network = v1alpha1.NetworkSpec{CIDR: "192.168.1.0/24", Gateway: "192.168.1.1"}
			tc.change(f)
			for _, name := range []string{"s3", "w1"} {
				m := f.m(name)
				for _, p := range []*corev1.Pod{
					adoptPod(m, f, "pxe"), barPod(m, f, "pxe", t0, false), waitingRebootPod(m, f, "pxe", t0), expelPod(m, f, "pxe", "s1", t0),
				} {
					if args := strings.Join(p.Spec.Containers[0].Args, " "); strings.Contains(args, vip) {
						t.Errorf("the pod %s runs %s", p.Name, args)
					}
				}
				via, ok := f.serverFor(m)
				if got := via.String(); ok != (tc.via != "") || ok && got != tc.via {
					t.Fatalf("%s joins by %s, want %q", name, got, tc.via)
				}
				if ok {
					joinsBy(t, f, m, secrets, via)
				}
			}
		})
	}
}

// joinsBy looks at which server the machine's config names.
func joinsBy(t *testing.T, f *fleet, m *machine, secrets provision.JoinSecrets, via netip.Addr) {
	t.Helper()
	var files []k3s.File
	var err error
	if m.isControlPlane() {
		files, err = provision.JoinServer(f.inventory(), m.node, secrets, via)
	} else {
		files, err = provision.JoinAgent(f.inventory(), m.node, secrets, k3s.NewBootstrapToken(t0, "test"), via)
	}
	if err != nil {
		t.Fatal(err)
	}
	want := "server: https://" + via.String() + ":6443"
	for _, file := range files {
		for line := range strings.Lines(string(file.Content)) {
			if line = strings.TrimSpace(line); strings.HasPrefix(line, "server:") {
				if line != want {
					t.Errorf("%s: %s has %q, want %q", m.node.Name, file.Path, line, want)
				}
				return
			}
		}
	}
	t.Errorf("%s is told no server to join by", m.node.Name)
}
