package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"syscall"

	"github.com/rhizome-dev/rhizome/pxe/dhcp"
)

// Observe looks at this machine. It opens and closes the ports that seeding
// needs, and asks the chosen interface's network who else answers, which takes up
// to five seconds. It changes nothing. What cannot be observed is missing in the
// facts; the error is only that the interfaces cannot be listed.
func Observe(ctx context.Context, q Question) (Facts, error) {
	f := Facts{System: runtime.GOOS, Privileges: privileges()}
	var err error
	if f.Interfaces, err = Interfaces(); err != nil {
		return f, err
	}
	f.Route, _ = DefaultRoute()
	if q.Files {
		f.Files = localFiles(q.Inventory)
		for i := range f.Files {
			f.Files[i].Problem = problem(f.Files[i].Path)
		}
	}
	cidr, ok := q.network()
	if !ok {
		return f, nil
	}
	choice, err := Choose(f.Interfaces, cidr, q.Interface)
	if err != nil {
		return f, nil //nolint:nilerr // Judge chooses again and reports it.
	}
	for _, p := range neededPorts(q) {
		p.Taken, p.By = tryPort(ctx, choice, p)
		f.Ports = append(f.Ports, p)
	}
	if f.Privileges.RawSockets {
		f.Probed = true
		if f.Foreign, err = dhcp.Probe(ctx, choice.Interface.Name); err != nil {
			f.ProbeError = err.Error()
		}
	}
	return f, nil
}

// Interfaces lists the network interfaces of this machine.
func Interfaces() ([]Interface, error) {
	list, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("cannot list the network interfaces: %w", err)
	}
	all := make([]Interface, 0, len(list))
	for _, i := range list {
		item := Interface{Name: i.Name, MAC: i.HardwareAddr.String(), Up: i.Flags&net.FlagUp != 0, Loopback: i.Flags&net.FlagLoopback != 0}
		addrs, err := i.Addrs()
		if err != nil {
			continue // the interface went away meanwhile
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
				item.Addresses = append(item.Addresses, p)
			}
		}
		all = append(all, item)
	}
	return all, nil
}

// neededPorts lists the ports of the PXE service.
func neededPorts(q Question) []Port {
	return []Port{
		{Protocol: "UDP", Number: 67, Purpose: "DHCP"},
		{Protocol: "UDP", Number: 4011, Purpose: "the PXE boot server"},
		{Protocol: "UDP", Number: 69, Purpose: "TFTP"},
		{Protocol: "TCP", Number: q.HTTPPort, Purpose: "HTTP"},
		{Protocol: "TCP", Number: q.HTTPSPort, Purpose: "HTTPS"},
	}
}

// tryPort opens a port as the PXE service will, and closes it.
func tryPort(ctx context.Context, c Choice, p Port) (taken bool, by string) {
	var err error
	if p.Protocol == "UDP" {
		address := c.Address
		if p.Number != 69 {
			address = netip.IPv4Unspecified() // broadcasts come to no address of ours
		}
		var conn net.PacketConn
		if conn, err = dhcp.ListenUDP(ctx, c.Interface.Name, netip.AddrPortFrom(address, p.Number)); err == nil {
			_ = conn.Close()
		}
	} else {
		var l net.Listener
		if l, err = (&net.ListenConfig{}).Listen(ctx, "tcp4", netip.AddrPortFrom(c.Address, p.Number).String()); err == nil {
			_ = l.Close()
		}
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return false, "" // free, or not ours to open, which the privileges tell
	}
	return true, portUser(p.Protocol, p.Number)
}
