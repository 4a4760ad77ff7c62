package network

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
)

func TestReadTakesWhatTheServerAcknowledged(t *testing.T) {
	tests := []struct {
		reason string
		mods   []dhcpv4.Modifier
		want   settings
		fails  bool
	}{
		{"everything", []dhcpv4.Modifier{
			dhcpv4.WithYourIP(net.IPv4(192, 168, 7, 20)), dhcpv4.WithNetmask(net.CIDRMask(22, 32)),
			dhcpv4.WithRouter(net.IPv4(192, 168, 4, 1), net.IPv4(192, 168, 4, 2)), dhcpv4.WithDNS(net.IPv4(9, 9, 9, 9)),
		}, settings{netip.MustParsePrefix("192.168.7.20/22"), netip.MustParseAddr("192.168.4.1"), []netip.Addr{netip.MustParseAddr("9.9.9.9")}}, false},
		{"no mask, no router", []dhcpv4.Modifier{dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 9))},
			settings{address: netip.MustParsePrefix("10.0.0.9/24")}, false},
		{"a router 0.0.0.0 is none", []dhcpv4.Modifier{dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 9)), dhcpv4.WithRouter(net.IPv4zero)},
			settings{address: netip.MustParsePrefix("10.0.0.9/24")}, false},
		{"a mask with holes", []dhcpv4.Modifier{dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 9)), dhcpv4.WithNetmask(net.IPMask{255, 0, 255, 0})},
			settings{}, true},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			ack, err := dhcpv4.New(tt.mods...)
			if err != nil {
				t.Fatal(err)
			}
			got, err := read(ack)
			if (err != nil) != tt.fails {
				t.Fatalf("read = %v", err)
			}
			if tt.fails {
				return
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(settings{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
		})
	}
}
