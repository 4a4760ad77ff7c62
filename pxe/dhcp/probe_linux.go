package dhcp

import (
	"net"

	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

// listenAsClient sees answers to clients beside a DHCP client of this host that
// has the port: a packet socket.
func listenAsClient(iface string) (net.PacketConn, error) {
	return nclient4.NewRawUDPConn(iface, PortClient)
}
