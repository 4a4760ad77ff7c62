//go:build linux

package lab

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
)

// relayNumber is the number of the relaying router's address in either network.
const relayNumber = 3

// Relay puts a router between two networks, which passes the DHCP packets of this
// lab's machines on to the server at the laptop of the other lab (RFC 1542; dnsmasq),
// and everything else both ways. It returns the router's address on this lab's network,
// which is the gateway of machines that the server gives their address. It lives as
// long as this lab.
func (l *Lab) Relay(servers *Lab) (gateway netip.Addr, err error) {
	near, far := servers.Network.LAN, l.Network.LAN
	at, gateway := nth(near, relayNumber), nth(far, relayNumber)
	host, err := servers.Network.Attach("relay", netip.PrefixFrom(at, near.Bits()), netip.Addr{})
	if err != nil {
		return netip.Addr{}, err
	}
	if err := l.Network.Join(host, "relay", "eth1", netip.PrefixFrom(gateway, far.Bits())); err != nil {
		return netip.Addr{}, err
	}
	if err := route(l.ctx, servers.Network.Namespace, far, at); err != nil {
		return netip.Addr{}, err
	}
	// Machines that this lab's router gave their addresses ask it the way.
	if err := route(l.ctx, l.Router.host, near, gateway); err != nil {
		return netip.Addr{}, err
	}
	_, err = l.run("relay", filepath.Join(l.Dir, "relay.log"), host, "dnsmasq",
		"--conf-file=/dev/null", "--keep-in-foreground", "--log-facility=-", "--pid-file=", "--user=root", "--group=root",
		"--port=0", "--interface=eth1", "--log-dhcp", "--dhcp-leasefile="+filepath.Join(l.Dir, "relay.leases"),
		fmt.Sprintf("--dhcp-relay=%s,%s", gateway, servers.Network.Laptop))
	return gateway, err
}

func route(ctx context.Context, in *Namespace, to netip.Prefix, via netip.Addr) error {
	if out, err := in.Command(ctx, "ip", "route", "add", to.String(), "via", via.String()).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot route %s via %s: %w: %s", to, via, err, out)
	}
	return nil
}
