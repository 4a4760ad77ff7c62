package dhcp

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rhizome-dev/rhizome/pxe"
)

func newPool(t *testing.T, prefix string, taken ...string) *Pool {
	t.Helper()
	p, err := NewPool(PoolConfig{
		Range: netip.MustParsePrefix(prefix), Network: netip.MustParsePrefix("192.168.1.0/24"),
		Gateway: netip.MustParseAddr("192.168.1.1"),
		Taken: func(a netip.Addr) bool {
			for _, s := range taken {
				if a.String() == s {
					return true
				}
			}
			return false
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// guest is a packet of the machine with this number.
func guest(number int, kind dhcpv4.MessageType, more ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	hw := net.HardwareAddr{0x52, 0x54, 0, 0, byte(number >> 8), byte(number)}
	p, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(hw), dhcpv4.WithMessageType(kind)}, more...)...)
	if err != nil {
		panic(err)
	}
	return p
}

func wants(a netip.Addr) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(a.AsSlice()))
}

func of(server netip.Addr) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(server.AsSlice()))
}

const (
	discovers = dhcpv4.MessageTypeDiscover
	requests  = dhcpv4.MessageTypeRequest
)

var noon = time.Unix(1700000000, 0)

func addressIn(l *pxe.Lease) netip.Addr {
	if l == nil {
		return netip.Addr{}
	}
	return l.Address.Addr()
}

func TestAPoolIsAPartOfItsNetwork(t *testing.T) {
	for _, c := range []struct {
		addresses, network string
		ok                 bool
	}{
		{"192.168.1.128/25", "192.168.1.0/24", true},
		{"192.168.1.0/24", "192.168.1.0/24", true},
		{"10.0.16.0/20", "10.0.0.0/8", true},
		{"10.0.0.0/19", "10.0.0.0/8", false},
		{"192.168.2.0/25", "192.168.1.0/24", false},
		{"192.168.0.0/16", "192.168.1.0/24", false},
		{"fd00::/120", "fd00::/64", false},
	} {
		_, err := NewPool(PoolConfig{Range: netip.MustParsePrefix(c.addresses), Network: netip.MustParsePrefix(c.network)})
		if (err == nil) != c.ok {
			t.Errorf("%s of %s: %v", c.addresses, c.network, err)
		}
	}
}

// Nothing has to be remembered for that.
func TestServersThatKnowNothingOfEachOtherOfferOneAddress(t *testing.T) {
	for n := range 20 {
		first := addressIn(newPool(t, "192.168.1.128/25").Lease(guest(n, discovers), ours, noon))
		second := addressIn(newPool(t, "192.168.1.128/25").Lease(guest(n, discovers), netip.MustParseAddr("192.168.1.3"), noon))
		if !first.IsValid() || first != second {
			t.Errorf("machine %d is offered %s and %s", n, first, second)
		}
	}
}

func TestEveryMachineHasAnAddressOfItsOwnUntilThePoolIsFull(t *testing.T) {
	p := newPool(t, "192.168.1.0/28", "192.168.1.7", "192.168.1.8")
	got := map[netip.Addr]int{}
	full := 0
	for n := range 20 {
		a := addressIn(p.Lease(guest(n, discovers), ours, noon))
		if !a.IsValid() {
			full++
			continue
		}
		if other, ok := got[a]; ok {
			t.Errorf("machines %d and %d are both offered %s", other, n, a)
		}
		got[a] = n
	}
	// Sixteen, but for the network's own, the gateway's, ours, and two that are declared.
	if len(got) != 11 || full != 9 {
		t.Errorf("%d addresses given, %d machines without one: %v", len(got), full, got)
	}
	for _, never := range []string{"192.168.1.0", "192.168.1.1", "192.168.1.2", "192.168.1.7", "192.168.1.8"} {
		if _, ok := got[netip.MustParseAddr(never)]; ok {
			t.Errorf("%s was handed out", never)
		}
	}
	// Offers that nobody took are free again.
	if a := addressIn(p.Lease(guest(100, discovers), ours, noon.Add(2*offerTime))); !a.IsValid() {
		t.Error("the pool stays full of offers that nobody took")
	}
}

func TestAPoolsLease(t *testing.T) {
	other := netip.MustParseAddr("192.168.1.3") // another server of ours
	free, outside := netip.MustParseAddr("192.168.1.130"), netip.MustParseAddr("192.168.1.20")
	declared := netip.MustParseAddr("192.168.1.131")
	server := netip.MustParseAddr("192.168.1.2")
	held := func(p *Pool) {
		p.Lease(guest(1, discovers, wants(free)), server, noon)
		p.Lease(guest(1, requests, wants(free), of(server)), server, noon)
	}
	for _, c := range []struct {
		name   string
		before func(*Pool)
		packet *dhcpv4.DHCPv4
		later  time.Duration
		want   string // the address; "another": one that is not the wanted; empty: no answer
	}{
		{"is the address that was asked for, if it is free", nil, guest(2, discovers, wants(free)), 0, free.String()},
		{"is another if that is outside of the pool", nil, guest(2, discovers, wants(outside)), 0, "another"},
		{"is another if that is declared", nil, guest(2, discovers, wants(declared)), 0, "another"},
		{"is another if somebody has it", held, guest(2, discovers, wants(free)), 0, "another"},
		{"is refused to a machine that asks for another's", held, guest(2, requests, wants(free)), 0, "another"},
		{"is the machine's own while it lasts", held, guest(1, discovers), 5 * time.Minute, free.String()},
		{"is renewed", held, guest(1, requests, dhcpv4.WithClientIP(free.AsSlice())), 9 * time.Minute, free.String()},
		{"is free after its time", held, guest(2, discovers, wants(free)), poolLease, free.String()},
		{"is taken up again after a restart", nil, guest(1, requests, wants(free)), 0, free.String()},
		{"is another server's to acknowledge", nil, guest(2, requests, wants(free), of(other)), 0, ""},
		{"that another server gave is known here", func(p *Pool) { p.Lease(guest(1, requests, wants(free), of(other)), server, noon) },
			guest(2, discovers, wants(free)), time.Minute, "another"},
		{"that was declined is nobody's", func(p *Pool) {
			held(p)
			p.Lease(guest(1, dhcpv4.MessageTypeDecline, wants(free), of(server)), server, noon)
		}, guest(1, discovers, wants(free)), time.Minute, "another"},
		{"of another is not lost by a stranger's DECLINE", func(p *Pool) {
			held(p)
			p.Lease(guest(2, dhcpv4.MessageTypeDecline, wants(free), of(server)), server, noon)
		}, guest(1, discovers), time.Minute, free.String()},
		{"that was given back is free", func(p *Pool) {
			held(p)
			p.Lease(guest(1, dhcpv4.MessageTypeRelease, dhcpv4.WithClientIP(free.AsSlice())), server, noon)
		}, guest(2, discovers, wants(free)), 0, free.String()},
		{"is not for a machine behind a relay", nil, guest(2, discovers, dhcpv4.WithRelay(net.IPv4(10, 0, 0, 1).To4())), 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPool(t, "192.168.1.128/25", declared.String())
			if c.before != nil {
				c.before(p)
			}
			got := addressIn(p.Lease(c.packet, server, noon.Add(c.later)))
			switch c.want {
			case "":
				if got.IsValid() {
					t.Errorf("got %s, want no answer", got)
				}
			case "another":
				if wanted := addrOf(c.packet.RequestedIPAddress()); !got.IsValid() || got == wanted || got == declared {
					t.Errorf("got %s, want an address that is not %s", got, wanted)
				}
			default:
				if got.String() != c.want {
					t.Errorf("got %s, want %s", got, c.want)
				}
			}
		})
	}
}

// A flood of made-up machines takes no more memory than the pool has addresses, and
// its leases pass.
func TestAFloodOfMachinesIsBounded(t *testing.T) {
	p := newPool(t, "192.168.1.0/24")
	for n := range 5000 {
		p.Lease(guest(n, discovers), ours, noon)
		p.Lease(guest(n, requests, wants(netip.AddrFrom4([4]byte{192, 168, 1, byte(n)}))), ours, noon)
		p.Lease(guest(n, dhcpv4.MessageTypeDecline, wants(netip.AddrFrom4([4]byte{192, 168, 1, byte(n)}))), ours, noon)
	}
	if len(p.held) > 256 || len(p.of) > 256 {
		t.Errorf("%d and %d entries", len(p.held), len(p.of))
	}
	if a := addressIn(p.Lease(guest(9999, discovers), ours, noon.Add(time.Hour))); !a.IsValid() {
		t.Error("the pool never recovers")
	}
}

// Whatever happens, no two machines have one address at one time.
func FuzzPool(f *testing.F) {
	f.Add([]byte{0, 1, 0x80, 1, 1, 0x81, 2, 2, 0x80})
	f.Fuzz(func(t *testing.T, script []byte) {
		p := newPool(t, "192.168.1.0/28", "192.168.1.5")
		now := noon
		type lease struct {
			machine int
			until   time.Time
		}
		given := map[netip.Addr]lease{}
		for ; len(script) >= 3; script = script[3:] {
			kind := []dhcpv4.MessageType{discovers, requests, dhcpv4.MessageTypeRelease}[int(script[0])%3]
			machine := int(script[1] % 32)
			a := netip.AddrFrom4([4]byte{192, 168, 1, script[2] & 31})
			now = now.Add(time.Duration(script[0]>>2) * time.Second)
			names := wants(a)
			if kind == dhcpv4.MessageTypeRelease {
				names = dhcpv4.WithClientIP(a.AsSlice())
				if given[a].machine == machine {
					delete(given, a)
				}
			}
			l := p.Lease(guest(machine, kind, names), ours, now)
			if l == nil || kind != requests || l.Address.Addr() != a {
				continue
			}
			if g, ok := given[a]; ok && g.machine != machine && now.Before(g.until) {
				t.Fatalf("%s is given to %d and to %d", a, g.machine, machine)
			}
			if s := a.String(); s == "192.168.1.0" || s == "192.168.1.1" || s == "192.168.1.2" || s == "192.168.1.5" {
				t.Fatal(fmt.Sprint(s, " is given"))
			}
			// Who takes another address has given its old one up.
			maps.DeleteFunc(given, func(_ netip.Addr, g lease) bool { return g.machine == machine })
			given[a] = lease{machine, now.Add(poolLease)}
		}
	})
}
