// Package network brings up the one interface that the machine was booted from.
package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/rhizome-dev/rhizome/pxe"
)

// Config says which interface, and what to do when no DHCP server answers.
type Config struct {
	MAC pxe.MAC
	// Static is used when DHCP yields nothing; the zero value: there is none.
	Static        netip.Prefix
	StaticGateway netip.Addr
	// Log is told what is being waited for.
	Log func(format string, args ...any)
}

// The time-outs.
const (
	waitDriver  = 60 * time.Second // for the interface to appear
	waitCarrier = 60 * time.Second // for the link: switches and autonegotiation are slow
	waitLease   = 90 * time.Second // for a DHCP server, over all attempts
	complain    = 5 * time.Second  // between two lines about waiting
)

// Up waits for the interface, sets it up and gives it an address. The lease is
// renewed until ctx ends.
func Up(ctx context.Context, c Config) error {
	if lo, err := netlink.LinkByName("lo"); err == nil {
		_ = netlink.LinkSetUp(lo) // nothing here needs it, libraries might
	}
	link, err := find(ctx, c)
	if err != nil {
		return err
	}
	name := link.Attrs().Name
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("cannot set up the interface %s: %w", name, err)
	}
	if err := carrier(ctx, c, name); err != nil {
		return err
	}
	leaseErr := lease(ctx, c, link)
	if leaseErr == nil {
		return nil
	}
	if !c.Static.IsValid() {
		return leaseErr
	}
	c.Log("%v: using the static address %s from the kernel command line", leaseErr, c.Static)
	return configure(link, settings{address: c.Static, gateway: c.StaticGateway})
}

// find waits for the driver to make the interface.
func find(ctx context.Context, c Config) (netlink.Link, error) {
	var seen []string
	deadline := time.Now().Add(waitDriver)
	for next := time.Now().Add(complain); ; {
		links, err := netlink.LinkList()
		if err != nil {
			return nil, fmt.Errorf("cannot list the network interfaces: %w", err)
		}
		seen = seen[:0]
		for _, l := range links {
			mac := l.Attrs().HardwareAddr.String()
			if mac == string(c.MAC) && l.Type() == "device" {
				return l, nil
			}
			if mac != "" {
				seen = append(seen, l.Attrs().Name+" "+mac)
			}
		}
		slices.Sort(seen)
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("no network interface has the MAC address %s; this machine has: %s. The installer may lack its driver, or the driver its firmware", c.MAC, orNone(seen))
		}
		if time.Now().After(next) {
			next = next.Add(complain)
			c.Log("waiting for the interface with the MAC address %s; there are: %s", c.MAC, orNone(seen))
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func orNone(s []string) string {
	if len(s) == 0 {
		return "none"
	}
	return strings.Join(s, ", ")
}

// carrier waits for the link.
func carrier(ctx context.Context, c Config, name string) error {
	deadline := time.Now().Add(waitCarrier)
	for next := time.Now().Add(complain); ; {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return fmt.Errorf("cannot look at the interface %s: %w", name, err)
		}
		if link.Attrs().RawFlags&unix.IFF_LOWER_UP != 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the interface %s has no link after %s: is its cable plugged in?", name, waitCarrier)
		}
		if time.Now().After(next) {
			next = next.Add(complain)
			c.Log("waiting for the link of %s", name)
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// settings of an interface.
type settings struct {
	address     netip.Prefix
	gateway     netip.Addr
	nameservers []netip.Addr
}

func configure(link netlink.Link, s settings) error {
	name := link.Attrs().Name
	address := &netlink.Addr{IPNet: &net.IPNet{
		IP:   s.address.Addr().AsSlice(),
		Mask: net.CIDRMask(s.address.Bits(), s.address.Addr().BitLen()),
	}}
	if err := netlink.AddrReplace(link, address); err != nil {
		return fmt.Errorf("cannot give %s the address %s: %w", name, s.address, err)
	}
	if s.gateway.IsValid() {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: s.gateway.AsSlice()}
		if !s.address.Contains(s.gateway) {
			route.Flags = int(netlink.FLAG_ONLINK)
		}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("cannot route %s by %s: %w", name, s.gateway, err)
		}
	}
	var resolv strings.Builder
	for _, ns := range s.nameservers {
		fmt.Fprintf(&resolv, "nameserver %s\n", ns)
	}
	if resolv.Len() == 0 {
		return nil
	}
	if err := errors.Join(os.MkdirAll("/etc", 0o755), os.WriteFile("/etc/resolv.conf", []byte(resolv.String()), 0o644)); err != nil {
		return fmt.Errorf("cannot write the name servers: %w", err)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
