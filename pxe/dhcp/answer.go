// Package dhcp answers the DHCP requests of machines that boot from the network:
// beside the network's own DHCP server (proxy) or as the DHCP server.
package dhcp

import (
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rhizome-dev/rhizome/pxe"
)

// Mode says who hands out addresses on the network.
type Mode int

// The modes. The zero value is Proxy.
const (
	// Proxy: the network has a DHCP server; we only add what to boot (PXE 2.1
	// §2.2.2, ProxyDHCP).
	Proxy Mode = iota
	// Server: we are the DHCP server, with a reservation for each declared machine
	// and nothing for any other.
	Server
)

// String names the mode.
func (m Mode) String() string {
	if m == Server {
		return "Server"
	}
	return "Proxy"
}

// The vendor classes (option 60) of network boot clients.
const (
	classPXE  = "PXEClient"
	classHTTP = "HTTPClient"
)

// The UDP ports of DHCP.
const (
	PortServer = 67   // RFC 2131 §4.1
	PortClient = 68   // RFC 2131 §4.1
	PortBoot   = 4011 // PXE 2.1 §2.2.3: the boot server
)

// Question is one packet and all that is needed to answer it.
type Question struct {
	Packet *dhcpv4.DHCPv4
	// Port is our port that the packet came to: PortServer or PortBoot.
	Port int
	// Address is ours on the interface that the packet came in on.
	Address netip.Addr
	Mode    Mode
	// Decision is what the machine may boot.
	Decision pxe.Decision
	// BootFile is what the machine is to load: a path for TFTP, or a URL. Empty:
	// there is nothing that this machine can load.
	BootFile string
}
