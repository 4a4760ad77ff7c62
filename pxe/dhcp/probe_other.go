//go:build !linux

package dhcp

import (
	"net"

	"github.com/insomniacslk/dhcp/dhcpv4/server4"
)

// listenAsClient shares the port with a DHCP client of this host.
func listenAsClient(iface string) (net.PacketConn, error) {
	return server4.NewIPv4UDPConn(iface, &net.UDPAddr{Port: PortClient})
}
