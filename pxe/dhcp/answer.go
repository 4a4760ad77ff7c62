// Package dhcp answers the DHCP requests of machines that boot from the network:
// beside the network's own DHCP server (proxy) or as the DHCP server.
package dhcp

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

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
	// Machine is the packet's sender; the zero value: as MachineOf says.
	Machine pxe.Machine
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
	// Pooled is what an undeclared machine is handed out by our DHCP server; nil:
	// nothing.
	Pooled *pxe.Lease
}

// Answer decides on one packet: the reply, or nil, and in either case the reason
// for people. It has no state and no side effect, so that any number of servers
// answer alike and the same packet always gets the same answer.
func Answer(q Question) (reply *dhcpv4.DHCPv4, reason string) {
	m := q.Machine
	if m == (pxe.Machine{}) {
		m = MachineOf(q.Packet)
	}
	boots := IsNetworkBoot(q.Packet)
	switch {
	case q.Packet.OpCode != dhcpv4.OpcodeBootRequest:
		return nil, "not a request"
	case m.MAC == "":
		return nil, "the client has no Ethernet address"
	case q.Decision.Action == pxe.Ignore && q.Pooled != nil && q.Mode == Server && q.Port == PortServer:
		// An address and nothing to boot.
		reply, reason = answerLease(q, m, q.Pooled, false)
		return reply, because("not declared", reason)
	case q.Decision.Action == pxe.Ignore:
		return nil, because("ignored", q.Decision.Reason)
	case boots && q.Decision.Action == pxe.BootLocal && q.Decision.LocalBoot == pxe.LocalBootSilence:
		return nil, because("left to boot its own disk", q.Decision.Reason)
	case q.Port == PortBoot || q.Mode == Proxy:
		return answerBoot(q, m, boots)
	}
	lease := q.Decision.Lease
	if lease == nil || !lease.Address.IsValid() {
		return nil, "the machine has no reservation"
	}
	// RFC 2131 §4.3.1: an address of the client's network. A client that has one
	// already is told by answerLease if it is another (§4.3.2).
	if subnet := subnetOf(q.Packet, q.Address); !addrOf(q.Packet.ClientIPAddr).IsValid() && !lease.Address.Masked().Contains(subnet) {
		return nil, fmt.Sprintf("the machine asks from the network of %s, and its reservation %s is of another", subnet, lease.Address)
	}
	return answerLease(q, m, lease, boots)
}

// answerBoot tells what to boot and nothing about addresses: the part of a
// ProxyDHCP server on port 67 and of a boot server on port 4011.
func answerBoot(q Question, m pxe.Machine, boots bool) (*dhcpv4.DHCPv4, string) {
	if !boots {
		return nil, "not a network boot client: the network's own DHCP server answers it"
	}
	if q.BootFile == "" {
		return nil, "there is nothing that this machine can load"
	}
	var kind dhcpv4.MessageType
	switch t := q.Packet.MessageType(); {
	case t == dhcpv4.MessageTypeDiscover && q.Port == PortServer:
		kind = dhcpv4.MessageTypeOffer
	case t == dhcpv4.MessageTypeInform, t == dhcpv4.MessageTypeRequest && q.Port == PortBoot:
		kind = dhcpv4.MessageTypeAck
	case t == dhcpv4.MessageTypeRequest && selected(q):
		kind = dhcpv4.MessageTypeAck
	case t == dhcpv4.MessageTypeRequest:
		return nil, "the client asks the network's own DHCP server for its address"
	default:
		return nil, fmt.Sprintf("nothing to say to %s", t)
	}
	r := newReply(q, kind)
	if addrOf(q.Packet.GatewayIPAddr).IsValid() && !addrOf(q.Packet.ClientIPAddr).IsValid() {
		// A relay sends an answer that is not to be broadcast to the address that it
		// hands out (RFC 1542 §5.4), and this one hands out none.
		r.SetBroadcast()
	}
	addBoot(r, q, m)
	return r, "told to load " + q.BootFile
}

// subnetOf is an address of the network that the client stands in: what the relay
// (RFC 3527 §3) or the client itself (RFC 3011) says it is, else the relay's own on
// it (RFC 2131 §4.3.1), else the client's if it has one, else ours.
func subnetOf(p *dhcpv4.DHCPv4, ours netip.Addr) netip.Addr {
	if relay := p.RelayAgentInfo(); relay != nil {
		if link := addrOf(relay.Get(dhcpv4.LinkSelectionSubOption)); link.IsValid() {
			return link
		}
	}
	if subnet := addrOf(p.Options.Get(dhcpv4.OptionSubnetSelection)); subnet.IsValid() {
		return subnet
	}
	for _, a := range []netip.Addr{addrOf(p.GatewayIPAddr), addrOf(p.ClientIPAddr)} {
		if a.IsValid() {
			return a
		}
	}
	return ours
}

// answerLease is the DHCP server (RFC 2131 §4.3). A reservation comes from the
// declaration, so there is nothing to store, to decline or to release.
func answerLease(q Question, m pxe.Machine, lease *pxe.Lease, boots bool) (*dhcpv4.DHCPv4, string) {
	address := lease.Address.Addr()
	var r *dhcpv4.DHCPv4
	switch t := q.Packet.MessageType(); t {
	case dhcpv4.MessageTypeDiscover:
		r = newReply(q, dhcpv4.MessageTypeOffer)
		addLease(r, lease)
	case dhcpv4.MessageTypeRequest:
		// The three states of a client that sends a REQUEST, RFC 2131 §4.3.2.
		wanted, has := addrOf(q.Packet.RequestedIPAddress()), addrOf(q.Packet.ClientIPAddr)
		switch server := addrOf(q.Packet.ServerIdentifier()); {
		case server.IsValid() && server != q.Address:
			return nil, fmt.Sprintf("the client took the offer of %s", server)
		case !wanted.IsValid() && !has.IsValid():
			return nil, "a REQUEST that names no address"
		case wanted.IsValid() && wanted != address, !wanted.IsValid() && has != address:
			r = newReply(q, dhcpv4.MessageTypeNak)
			r.UpdateOption(dhcpv4.OptMessage("the reservation is " + address.String()))
			return r, "refused another address than its reservation " + address.String()
		}
		r = newReply(q, dhcpv4.MessageTypeAck)
		addLease(r, lease)
	case dhcpv4.MessageTypeInform:
		// RFC 2131 §4.3.5: neither an address nor a lease time.
		r = newReply(q, dhcpv4.MessageTypeAck)
		addNetwork(r, lease)
	case dhcpv4.MessageTypeDecline:
		return nil, fmt.Sprintf("the client found its reservation %s in use by another machine", address)
	default:
		return nil, fmt.Sprintf("nothing to say to %s", t)
	}
	if !boots || q.BootFile == "" {
		return r, "told its address " + address.String()
	}
	addBoot(r, q, m)
	return r, fmt.Sprintf("told its address %s and to load %s", address, q.BootFile)
}

// Destination says where a reply goes (RFC 2131 §4.1). A boot server on port
// 4011 answers the sender. A client that has no address yet gets a broadcast
// whether it asked for that or not: to reach it by unicast one would need a frame
// made by hand, and §4.1 allows the broadcast.
func Destination(reply *dhcpv4.DHCPv4, port int, from netip.AddrPort) netip.AddrPort {
	broadcast := netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), PortClient)
	relay, client := addrOf(reply.GatewayIPAddr), addrOf(reply.ClientIPAddr)
	switch {
	case port == PortBoot && from.IsValid() && !from.Addr().IsUnspecified():
		return from
	case relay.IsValid():
		return netip.AddrPortFrom(relay, PortServer)
	case reply.MessageType() == dhcpv4.MessageTypeNak || !client.IsValid():
		return broadcast
	}
	return netip.AddrPortFrom(client, PortClient)
}

// usualOptions is how many options a reply has, with an address and something to boot.
const usualOptions = 14

// newReply is the part that every reply has. It echoes what a relay (RFC 3046 §2.2)
// and the client (RFC 6842 §3) call themselves, options 82 and 61. The library's own
// NewReplyFromRequest draws a transaction identifier first, from the kernel and under a
// timer, and takes the request's then.
func newReply(q Question, kind dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	r := &dhcpv4.DHCPv4{
		ClientIPAddr: net.IPv4zero, YourIPAddr: net.IPv4zero, ServerIPAddr: net.IPv4zero,
		Options: make(dhcpv4.Options, usualOptions),
	}
	for _, modify := range []dhcpv4.Modifier{
		dhcpv4.WithReply(q.Packet),
		dhcpv4.WithGatewayIP(q.Packet.GatewayIPAddr),
		dhcpv4.WithOptionCopied(q.Packet, dhcpv4.OptionRelayAgentInformation),
		dhcpv4.WithOptionCopied(q.Packet, dhcpv4.OptionClientIdentifier),
	} {
		modify(r)
	}
	r.UpdateOption(dhcpv4.OptMessageType(kind))
	r.UpdateOption(dhcpv4.OptServerIdentifier(q.Address.AsSlice()))
	if kind == dhcpv4.MessageTypeNak {
		r.SetBroadcast() // RFC 2131 §4.3.2: a relay is to broadcast it
		return r
	}
	if kind == dhcpv4.MessageTypeAck {
		r.ClientIPAddr = q.Packet.ClientIPAddr // RFC 2131 table 3
	}
	return r
}

// addBoot adds what to load, said in every way that some firmware reads: EDK2
// wants options 54, 60 and 67, U-Boot and old ROMs read siaddr and the header's
// file field alone.
func addBoot(r *dhcpv4.DHCPv4, q Question, m pxe.Machine) {
	address := q.Address.String()
	r.ServerIPAddr = q.Address.AsSlice()
	r.ServerHostName = address
	r.UpdateOption(dhcpv4.OptTFTPServerName(address))
	if len(q.BootFile) < 128 {
		r.BootFileName = q.BootFile
	}
	file := q.BootFile
	if m.Firmware == pxe.FirmwareBIOS && !m.IPXE {
		// Some ROMs of this age copy the option and read up to a NUL.
		file += "\x00"
	}
	r.UpdateOption(dhcpv4.OptBootFileName(file))
	if strings.HasPrefix(q.Packet.ClassIdentifier(), classHTTP) {
		r.UpdateOption(dhcpv4.OptClassIdentifier(classHTTP))
	} else {
		r.UpdateOption(dhcpv4.OptClassIdentifier(classPXE))
		// PXE_DISCOVERY_CONTROL (6) bit 3 (8): take the file of this very answer and
		// look for no other boot server (PXE 2.1 table 2-1).
		r.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, []byte{6, 1, 8, 255}))
	}
	// PXE 2.1 §2.2.1: the machine identifier is returned as it came.
	if q.Packet.Options.Has(dhcpv4.OptionClientMachineIdentifier) {
		r.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientMachineIdentifier,
			q.Packet.Options.Get(dhcpv4.OptionClientMachineIdentifier)))
	}
}

func addLease(r *dhcpv4.DHCPv4, lease *pxe.Lease) {
	r.YourIPAddr = lease.Address.Addr().AsSlice()
	duration := lease.Duration
	if duration <= 0 {
		duration = time.Hour
	}
	r.UpdateOption(dhcpv4.OptIPAddressLeaseTime(duration))
	addNetwork(r, lease)
}

func addNetwork(r *dhcpv4.DHCPv4, lease *pxe.Lease) {
	r.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(lease.Address.Bits(), 32)))
	if lease.Gateway.IsValid() {
		r.UpdateOption(dhcpv4.OptRouter(lease.Gateway.AsSlice()))
	}
	servers := make([]net.IP, 0, len(lease.Nameservers))
	for _, n := range lease.Nameservers {
		servers = append(servers, n.AsSlice())
	}
	if len(servers) > 0 {
		r.UpdateOption(dhcpv4.OptDNS(servers...))
	}
	if lease.HostName != "" {
		r.UpdateOption(dhcpv4.OptHostName(lease.HostName))
	}
}

func selected(q Question) bool {
	return addrOf(q.Packet.ServerIdentifier()) == q.Address
}

// addrOf is invalid for no address and for 0.0.0.0, which DHCP uses as none.
func addrOf(ip net.IP) netip.Addr {
	a, ok := netip.AddrFromSlice(ip.To4())
	if !ok || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

func because(what, reason string) string {
	if reason == "" {
		return what
	}
	return what + ": " + reason
}
