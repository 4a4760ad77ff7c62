//go:build linux

package lab

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestLeasesAreRead(t *testing.T) {
	mac := net.HardwareAddr{0x52, 0x54, 0x00, 0xaa, 0xbb, 0xcc}
	tests := []struct {
		reason, file string
		want         []Lease
		wantError    string
	}{
		{"empty", "", nil, ""},
		{
			"a named client and one without a name that never expires",
			"1795342000 52:54:00:aa:bb:cc 10.77.0.100 node-1 ff:00\n0 52:54:00:aa:bb:cc 10.77.0.101 * *\n",
			[]Lease{
				{Expires: time.Unix(1795342000, 0), MAC: mac, Address: netip.MustParseAddr("10.77.0.100"), Name: "node-1"},
				{MAC: mac, Address: netip.MustParseAddr("10.77.0.101")},
			}, "",
		},
		{"the server's own DHCPv6 identifier", "duid 00:01:00:01:00:00\n", nil, ""},
		{"no expiry", "soon 52:54:00:aa:bb:cc 10.77.0.100 * *\n", nil, "expiry"},
		{"no MAC", "0 52:54 10.77.0.100 * *\n", nil, "MAC"},
		{"no address", "0 52:54:00:aa:bb:cc 10.77.0 * *\n", nil, "address"},
	}
	for _, test := range tests {
		got, err := parseLeases(strings.NewReader(test.file))
		if test.wantError != "" {
			if err == nil || !strings.Contains(err.Error(), test.wantError) {
				t.Errorf("%s: error %v does not speak of %q", test.reason, err, test.wantError)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.reason, err)
		}
		if diff := cmp.Diff(test.want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", test.reason, diff)
		}
	}
}

func TestLeaseRangeKeepsClearOfNodesAndLoadBalancerPool(t *testing.T) {
	tests := []struct{ lan, first, last string }{
		{"10.77.0.0/24", "10.77.0.100", "10.77.0.150"},
		{"10.77.0.0/16", "10.77.0.100", "10.77.0.150"},
		{"192.168.7.128/25", "192.168.7.160", "192.168.7.191"},
		{"192.168.7.64/26", "192.168.7.80", "192.168.7.95"},
	}
	for _, test := range tests {
		first, last := leaseRange(netip.MustParsePrefix(test.lan))
		if first.String() != test.first || last.String() != test.last {
			t.Errorf("leaseRange(%s) = %s to %s, want %s to %s", test.lan, first, last, test.first, test.last)
		}
	}
}
