//go:build linux

package matrix

import (
	"net/netip"
	"testing"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/dhcp"
	"github.com/rhizome-dev/rhizome/test/lab"
	"github.com/rhizome-dev/rhizome/test/pxeserver"
)

// The kinds of network.
const (
	proxy       = "proxy beside a router's DHCP"
	server      = "our DHCP server, reservation"
	pool        = "our DHCP server, pool for guests"
	relayProxy  = "relayed, proxy beside a router's DHCP"
	relayServer = "relayed, our DHCP server"
)

// The networks of a test: the server's, and behind a router that relays DHCP a
// further one.
var (
	near = netip.MustParsePrefix("10.77.0.0/24")
	far  = netip.MustParsePrefix("10.78.0.0/24")
	// guests is the pool for undeclared machines.
	guests = netip.MustParsePrefix("10.77.0.192/27")
)

// site is the network that a machine stands in and, of a server that is not started
// yet, where it stands and what it is told.
type site struct {
	*lab.Lab // the machine's
	in       *lab.Namespace
	config   pxeserver.Config
	lease    *pxe.Lease // of the machine; nil: it is not ours to give
}

func newSite(t *testing.T, kind string) site {
	t.Helper()
	relayed := kind == relayProxy || kind == relayServer
	ours := kind == server || kind == pool || kind == relayServer
	// The server's network; the machine's too, if nothing is between them.
	l := lab.New(t, lab.Options{LAN: near, NoDHCP: ours || relayed})
	s := site{Lab: l, in: l.Network.Namespace, config: pxeserver.Config{Interface: lab.BridgeName, Address: l.Network.Laptop}}
	gateway := l.Network.Gateway
	if relayed {
		s.Lab = lab.New(t, lab.Options{LAN: far, NoDHCP: ours})
		relay, err := s.Relay(l)
		if err != nil {
			t.Fatal(err)
		}
		gateway = relay
	}
	if ours {
		s.config.Mode = dhcp.Server
		address := near.Masked().Addr().As4()
		if relayed {
			address = far.Masked().Addr().As4()
		}
		address[3] = 20
		s.lease = &pxe.Lease{Address: netip.PrefixFrom(netip.AddrFrom4(address), 24), Gateway: gateway, HostName: "machine"}
	}
	if kind == pool {
		s.config.Pool, s.config.Network = guests, near
	}
	return s
}
