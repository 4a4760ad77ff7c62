package power

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

func TestTarget(t *testing.T) {
	other := v1alpha1.MAC("52:54:00:00:00:02")
	long := v1alpha1.MAC("52:54:00:00:00:00:00:02")
	for _, c := range []struct {
		reason    string
		power     *v1alpha1.PowerSpec
		want, err string
	}{
		{"nothing said", nil, "52:54:00:00:00:01", ""},
		{"Wake-on-LAN", &v1alpha1.PowerSpec{WakeOnLAN: &v1alpha1.WakeOnLANSpec{}}, "52:54:00:00:00:01", ""},
		{"another interface", &v1alpha1.PowerSpec{WakeOnLAN: &v1alpha1.WakeOnLANSpec{MAC: &other}}, "52:54:00:00:00:02", ""},
		{"not Ethernet", &v1alpha1.PowerSpec{WakeOnLAN: &v1alpha1.WakeOnLANSpec{MAC: &long}}, "", "Node/alpha: spec.power.wakeOnLAN.mac: "},
		{"Redfish", &v1alpha1.PowerSpec{Redfish: &v1alpha1.RedfishSpec{Endpoint: "https://x"}}, "", "Node/alpha: spec.power.redfish: "},
		{"webhook", &v1alpha1.PowerSpec{Webhook: &v1alpha1.WebhookSpec{URL: "https://x"}}, "", "Node/alpha: spec.power.webhook: "},
	} {
		node := &v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: "alpha"}, Spec: v1alpha1.NodeSpec{MAC: "52:54:00:00:00:01", Power: c.power}}
		got, err := Target(node)
		if got.String() != c.want || (err != nil) != (c.err != "") || err != nil && !strings.HasPrefix(err.Error(), c.err) {
			t.Errorf("%s: %s, %v", c.reason, got, err)
		}
	}
}

func TestDestinations(t *testing.T) {
	for network, want := range map[string][]string{
		"192.168.1.0/24":  {"192.168.1.255:9", "255.255.255.255:9"},
		"192.168.1.77/26": {"192.168.1.127:9", "255.255.255.255:9"},
		"10.0.0.0/8":      {"10.255.255.255:9", "255.255.255.255:9"},
		"192.168.1.0/31":  {"255.255.255.255:9"},
	} {
		var addresses []netip.AddrPort
		for _, w := range want {
			addresses = append(addresses, netip.MustParseAddrPort(w))
		}
		if diff := cmp.Diff(addresses, Destinations(netip.MustParsePrefix(network)), cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
			t.Errorf("%s (- want, + got):\n%s", network, diff)
		}
	}
	if got := Destinations(netip.Prefix{}); len(got) != 1 {
		t.Errorf("no network: %v", got)
	}
}

func TestMagicPacket(t *testing.T) {
	mac := net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, 0x56}
	got, err := Magic(mac)
	want := append(bytes.Repeat([]byte{0xff}, 6), bytes.Repeat(mac, 16)...)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, %v", got, err)
	}
	if _, err := Magic(nil); err == nil {
		t.Error("a packet for nobody was made")
	}
}

func TestWakeGivesUpAtTheDeadline(t *testing.T) {
	w := Waker{Interface: "lo", Address: netip.MustParseAddr("127.0.0.1"), Interval: time.Millisecond, Deadline: 20 * time.Millisecond}
	if _, err := net.InterfaceByName(w.Interface); err != nil {
		w.Interface = "lo0"
	}
	err := w.Wake(t.Context(), net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1})
	if !errors.Is(err, ErrDeadline) || !strings.Contains(err.Error(), "52:54:00:00:00:01") {
		t.Errorf("%v", err)
	}
}

func TestWakeSaysWhichInterfaceIsMissing(t *testing.T) {
	w := Waker{Interface: "nonesuch0", Address: netip.MustParseAddr("127.0.0.1")}
	err := w.Wake(context.Background(), net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1})
	if err == nil || !strings.Contains(err.Error(), "nonesuch0") {
		t.Errorf("%v", err)
	}
}

// A machine in a segment is woken by that segment's broadcast address.
func TestAWakerForAMachineBehindARouter(t *testing.T) {
	ours := netip.MustParsePrefix("192.168.1.0/24")
	cluster := &v1alpha1.Cluster{}
	cluster.Spec.Network.Segments = []v1alpha1.NetworkSegment{{CIDR: "10.9.0.0/25", Gateway: "10.9.0.1"}}
	for address, want := range map[v1alpha1.Address]string{
		"192.168.1.10": "192.168.1.0/24", "10.9.0.11": "10.9.0.0/25", "10.9.1.11": "192.168.1.0/24", "": "192.168.1.0/24",
	} {
		node := &v1alpha1.Node{Spec: v1alpha1.NodeSpec{Address: address}}
		if got := (Waker{Network: ours}).For(cluster, node).Network.String(); got != want {
			t.Errorf("%q: %s, want %s", address, got, want)
		}
		if got := (Waker{Network: ours}).For(nil, node).Network; got != ours {
			t.Errorf("%q, without a Cluster: %s", address, got)
		}
	}
}
