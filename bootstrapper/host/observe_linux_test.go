package host

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
)

// TestMain lets the test binary observe a network namespace of its own.
func TestMain(m *testing.M) {
	if os.Getenv("HOST_TEST_OBSERVE") != "" {
		if err := observeProcess(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// observeProcess makes the network of a machine with one card, takes two ports,
// and prints what Observe sees.
func observeProcess() error {
	card := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "card0"}, PeerName: "cable0"}
	if err := netlink.LinkAdd(card); err != nil {
		return err
	}
	address, err := netlink.ParseAddr("192.0.2.7/24")
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(card, address); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(card); err != nil {
		return err
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: card.Index, Gw: net.IPv4(192, 0, 2, 1)}); err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp4", ":69")
	if err != nil {
		return err
	}
	defer udp.Close()
	tcp, err := net.Listen("tcp4", "192.0.2.7:7480")
	if err != nil {
		return err
	}
	defer tcp.Close()
	q := Question{HTTPPort: 7480, HTTPSPort: 7443, Inventory: inventory.Inventory{Clusters: []v1alpha1.Cluster{{Spec: v1alpha1.ClusterSpec{Network: v1alpha1.NetworkSpec{CIDR: "192.0.2.0/24"}}}}}}
	facts, err := Observe(context.Background(), q)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(facts)
}

func TestObserveSeesThisMachine(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: a network namespace needs root; run the tests as root")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), "HOST_TEST_OBSERVE=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got Facts
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	by := got.Ports[2].By
	if want := fmt.Sprintf("%s (pid %d)", comm(self), cmd.Process.Pid); by != want {
		t.Errorf("UDP port 69 is said to be taken by %q, want %q", by, want)
	}
	want := Facts{
		System: "linux",
		Interfaces: []Interface{
			{Name: "cable0"},
			{Name: "card0", Up: true, Addresses: prefixes("192.0.2.7/24")},
			{Name: "lo", Loopback: true},
		},
		Route:      Route{Interface: "card0", Gateway: netip.MustParseAddr("192.0.2.1")},
		Privileges: Privileges{LowPorts: true, RawSockets: true},
		Probed:     true,
		Ports: []Port{
			{Protocol: "UDP", Number: 67, Purpose: "DHCP"},
			{Protocol: "UDP", Number: 4011, Purpose: "the PXE boot server"},
			{Protocol: "UDP", Number: 69, Purpose: "TFTP", Taken: true, By: by},
			{Protocol: "TCP", Number: 7480, Purpose: "HTTP", Taken: true, By: by},
			{Protocol: "TCP", Number: 7443, Purpose: "HTTPS"},
		},
	}
	if diff := cmp.Diff(want, got,
		cmpopts.IgnoreFields(Interface{}, "MAC"),
		cmpopts.SortSlices(func(a, b Interface) bool { return a.Name < b.Name }),
		cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{}),
		cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// comm is a program's name as the kernel keeps it: its first 15 bytes.
func comm(path string) string {
	name := filepath.Base(path)
	return name[:min(len(name), 15)]
}
