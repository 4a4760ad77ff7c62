//go:build linux

package matrix

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
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
	// The router between the two networks.
	nearRelay, farRelay = netip.MustParseAddr("10.77.0.3"), netip.MustParseAddr("10.78.0.3")
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
		connect(t, l, s.Lab)
		gateway = farRelay
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

// connect puts a router between the server's network and the machine's, which relays
// the DHCP packets of the machines to the server (dnsmasq, RFC 1542).
func connect(t *testing.T, servers, machines *lab.Lab) {
	t.Helper()
	relay, err := servers.Network.Attach("relay", netip.PrefixFrom(nearRelay, near.Bits()), netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	if err := machines.Network.Join(relay, "relay", "eth1", netip.PrefixFrom(farRelay, far.Bits())); err != nil {
		t.Fatal(err)
	}
	for _, route := range []struct {
		host interface {
			Command(ctx context.Context, name string, args ...string) *exec.Cmd
		}
		to, via string
	}{
		{servers.Network, far.String(), nearRelay.String()},
		// Machines that the router over there gave their addresses ask it the way.
		{machines.Router, near.String(), farRelay.String()},
	} {
		if out, err := route.host.Command(t.Context(), "ip", "route", "add", route.to, "via", route.via).CombinedOutput(); err != nil {
			t.Fatalf("ip route add %s via %s: %v\n%s", route.to, route.via, err, out)
		}
	}
	dnsmasq := relay.Command(context.WithoutCancel(t.Context()), "dnsmasq",
		"--conf-file=/dev/null", "--keep-in-foreground", "--log-facility="+filepath.Join(machines.Dir, "relay.log"), "--pid-file=", "--user=root",
		"--port=0", "--interface=eth1", "--log-dhcp", "--dhcp-leasefile="+filepath.Join(machines.Dir, "relay.leases"),
		fmt.Sprintf("--dhcp-relay=%s,%s", farRelay, servers.Network.Laptop))
	if err := dnsmasq.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = dnsmasq.Process.Kill()
		_ = dnsmasq.Wait()
	})
}
