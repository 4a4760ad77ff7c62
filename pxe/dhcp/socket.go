package dhcp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// ListenUDP opens a UDP socket that sees only the packets of the interface. It
// does not share the port: what else listens there would take half of the packets.
func ListenUDP(ctx context.Context, iface string, addr netip.AddrPort) (net.PacketConn, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var bound error
		err := c.Control(func(fd uintptr) { bound = dhcpv4.BindToInterface(int(fd), iface) })
		if bound != nil {
			return fmt.Errorf("cannot bind to interface %q: %w", iface, bound)
		}
		return err
	}}
	conn, err := config.ListenPacket(ctx, "udp4", addr.String())
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("UDP port %d is in use on %s: stop the program that has it (ss -lunp 'sport = :%d' shows it): %w",
			addr.Port(), iface, addr.Port(), err)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return nil, fmt.Errorf("not allowed to open UDP port %d on %s: run as root, or with the capabilities NET_BIND_SERVICE and NET_RAW: %w",
			addr.Port(), iface, err)
	case err != nil:
		return nil, fmt.Errorf("cannot open UDP port %d on %s: %w", addr.Port(), iface, err)
	}
	return conn, nil
}
