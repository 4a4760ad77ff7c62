package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
)

// lease asks for an address until there is one, and keeps it in the background.
func lease(ctx context.Context, c Config, link netlink.Link) error {
	name := link.Attrs().Name
	got, err := backoff.Retry(ctx, func() (*nclient4.Lease, error) {
		return ask(ctx, name)
	}, backoff.WithMaxElapsedTime(waitLease), backoff.WithNotify(func(err error, _ time.Duration) {
		c.Log("no address by DHCP on %s yet: %v", name, err)
	}))
	if err != nil {
		return fmt.Errorf("no DHCP server gave %s an address within %s: %w", name, waitLease, err)
	}
	s, err := read(got.ACK)
	if err != nil {
		return err
	}
	if err := configure(link, s); err != nil {
		return err
	}
	c.Log("%s has the address %s from the DHCP server %s", name, s.address, got.ACK.ServerIdentifier())
	go keep(ctx, c, name, got)
	return nil
}

// ask does one exchange (RFC 2131 section 3.1), sending each message at most
// three times. Offers without an address, which boot servers send, do not count.
func ask(ctx context.Context, name string) (lease *nclient4.Lease, err error) {
	client, err := nclient4.New(name, nclient4.WithTimeout(3*time.Second), nclient4.WithRetry(2))
	if err != nil {
		return nil, fmt.Errorf("cannot send DHCP requests: %w", err)
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	discover, err := dhcpv4.NewDiscovery(client.InterfaceAddr(), dhcpv4.WithRequestedOptions(
		dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer))
	if err != nil {
		return nil, err
	}
	offer, err := client.SendAndRead(ctx, client.RemoteAddr(), discover, func(m *dhcpv4.DHCPv4) bool {
		return m.MessageType() == dhcpv4.MessageTypeOffer && !m.YourIPAddr.IsUnspecified() && m.YourIPAddr != nil
	})
	if err != nil {
		return nil, err
	}
	return client.RequestFromOffer(ctx, offer)
}

// keep renews the lease at half its time (RFC 2131 section 4.4.5), so that the
// address is not given to another machine during a long installation. A server
// that does not answer is asked again; the address stays, for lack of a better.
func keep(ctx context.Context, c Config, name string, l *nclient4.Lease) {
	for {
		half := l.ACK.IPAddressLeaseTime(time.Hour) / 2
		if sleep(ctx, max(half, 10*time.Second)) != nil {
			return
		}
		renewed, err := renew(ctx, name, l)
		if err != nil {
			c.Log("cannot renew the address of %s, keeping it: %v", name, err)
			continue
		}
		l = renewed
	}
}

func renew(ctx context.Context, name string, l *nclient4.Lease) (lease *nclient4.Lease, err error) {
	client, err := nclient4.New(name, nclient4.WithTimeout(3*time.Second), nclient4.WithRetry(2))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	return client.Renew(ctx, l)
}

// read takes from an acknowledgement what is needed here.
func read(ack *dhcpv4.DHCPv4) (settings, error) {
	address, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	if !ok {
		return settings{}, errors.New("the DHCP server acknowledged no IPv4 address")
	}
	bits := 24 // a server that sends no mask: the usual home network
	if mask := ack.SubnetMask(); mask != nil {
		if bits, _ = mask.Size(); bits == 0 {
			return settings{}, fmt.Errorf("the DHCP server sent the subnet mask %s", mask)
		}
	}
	s := settings{address: netip.PrefixFrom(address, bits)}
	if routers := valid(ack.Router()); len(routers) > 0 {
		s.gateway = routers[0]
	}
	s.nameservers = valid(ack.DNS())
	return s, nil
}

func valid(ips []net.IP) (addrs []netip.Addr) {
	for _, ip := range ips {
		if a, ok := netip.AddrFromSlice(ip.To4()); ok && !a.IsUnspecified() {
			addrs = append(addrs, a)
		}
	}
	return addrs
}
