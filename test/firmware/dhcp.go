//go:build linux

package firmware

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/vishvananda/netlink"
)

// bootServer is what an answer says of booting.
type bootServer struct {
	server netip.Addr
	file   string // empty: nothing
}

var broadcast = &net.UDPAddr{IP: net.IPv4bcast, Port: 67}

// dhcp runs one exchange: DISCOVER, the offers, REQUEST, ACK, and what to boot.
func (s *session) dhcp(ctx context.Context, asIPXE bool) (bootServer, error) {
	var conn net.PacketConn
	if err := s.host.Do(func() (err error) {
		conn, err = nclient4.NewRawUDPConn(s.iface, 68)
		return err
	}); err != nil {
		return bootServer{}, fmt.Errorf("cannot open the card %s: %w", s.iface, err)
	}
	defer func() { _ = conn.Close() }()

	var address, boot, ack *dhcpv4.DHCPv4
	for try := 0; ack == nil; try++ {
		var err error
		address, boot, err = s.discover(ctx, conn, asIPXE)
		if err != nil || address == nil {
			return bootServer{}, err
		}
		ack, err = s.request(ctx, conn, address, asIPXE)
		if err != nil && (!errors.Is(err, errNak) || try == 3) {
			return bootServer{}, err
		}
	}
	if err := s.takeAddress(ack); err != nil {
		return bootServer{}, err
	}
	if boot == nil {
		return bootServer{}, nil
	}
	if boot == address {
		boot = ack // the ACK is what counts
	}
	return s.judge(ctx, boot, asIPXE)
}

// discover sends DISCOVERs until it has an offer of an address and one of
// something to boot; without the latter it takes what there is after the waits.
func (s *session) discover(ctx context.Context, conn net.PacketConn, asIPXE bool) (address, boot *dhcpv4.DHCPv4, err error) {
	discover, err := s.packet(dhcpv4.MessageTypeDiscover, asIPXE)
	if err != nil {
		return nil, nil, err
	}
	for _, wait := range s.Waits {
		if _, err := conn.WriteTo(discover.ToBytes(), broadcast); err != nil && !errors.Is(err, syscall.ENOBUFS) {
			return nil, nil, fmt.Errorf("cannot send a DISCOVER: %w", err)
		}
		until := time.Now().Add(wait)
		for address == nil || boot == nil {
			offer, err := receive(ctx, conn, discover, dhcpv4.MessageTypeOffer, until)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return nil, nil, err
			}
			if offer.YourIPAddr.IsUnspecified() {
				// EDK2 drops a ProxyDHCP offer that lacks any of these.
				if s.saysBoot(offer, asIPXE) {
					boot = offer
				}
				continue
			}
			if address == nil || s.saysBoot(offer, asIPXE) {
				address = offer
			}
			if s.saysBoot(offer, asIPXE) {
				boot = offer
			}
		}
		if address != nil && boot != nil {
			break
		}
	}
	return address, boot, nil
}

// saysBoot tells whether the firmware takes an offer as one of a boot server.
func (s *session) saysBoot(offer *dhcpv4.DHCPv4, asIPXE bool) bool {
	if s.Kind == UBoot {
		return offer.BootFileName != "" && !offer.ServerIPAddr.IsUnspecified()
	}
	class := "PXEClient"
	if s.Kind == UEFIHTTP && !asIPXE {
		class = "HTTPClient"
	}
	id := offer.ServerIdentifier()
	return strings.HasPrefix(offer.ClassIdentifier(), class) && id != nil && !id.IsUnspecified() &&
		bytes.Equal(offer.Options.Get(dhcpv4.OptionClientMachineIdentifier), s.uuidOption())
}

func (s *session) request(ctx context.Context, conn net.PacketConn, offer *dhcpv4.DHCPv4, asIPXE bool) (*dhcpv4.DHCPv4, error) {
	request, err := s.packet(dhcpv4.MessageTypeRequest, asIPXE)
	if err != nil {
		return nil, err
	}
	request.TransactionID = offer.TransactionID
	request.UpdateOption(dhcpv4.OptRequestedIPAddress(offer.YourIPAddr))
	request.UpdateOption(dhcpv4.OptServerIdentifier(offer.ServerIdentifier()))
	for _, wait := range s.Waits {
		if _, err := conn.WriteTo(request.ToBytes(), broadcast); err != nil && !errors.Is(err, syscall.ENOBUFS) {
			return nil, fmt.Errorf("cannot send a REQUEST: %w", err)
		}
		ack, err := receive(ctx, conn, request, dhcpv4.MessageTypeAck, time.Now().Add(wait))
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		return ack, err
	}
	return nil, fmt.Errorf("the DHCP server %s does not acknowledge the address %s that it offered", offer.ServerIdentifier(), offer.YourIPAddr)
}

// judge says what the firmware makes of a boot server's answer.
func (s *session) judge(ctx context.Context, answer *dhcpv4.DHCPv4, asIPXE bool) (bootServer, error) {
	from := func(p *dhcpv4.DHCPv4) (bootServer, error) {
		option := strings.TrimRight(p.BootFileNameOption(), "\x00")
		if option != p.BootFileName {
			return bootServer{}, fmt.Errorf("option 67 is %q but the header's file is %q: firmware that reads one differs from firmware that reads the other", option, p.BootFileName)
		}
		server, ok := netip.AddrFromSlice(p.ServerIPAddr.To4())
		if !ok || server.IsUnspecified() || p.ServerHostName == "" || p.TFTPServerName() == "" {
			return bootServer{}, errors.New("siaddr, sname or option 66 is missing: some firmware reads no other")
		}
		return bootServer{server, option}, nil
	}
	if s.Kind == UBoot {
		server, _ := netip.AddrFromSlice(answer.ServerIPAddr.To4())
		return bootServer{server, answer.BootFileName}, nil
	}
	if s.Kind == UEFIHTTP && !asIPXE {
		return from(answer)
	}
	control := discoveryControl(answer.Options.Get(dhcpv4.OptionVendorSpecificInformation))
	switch {
	case control < 0:
		ack, err := s.askBootServer(ctx, answer, asIPXE)
		if err != nil {
			return bootServer{}, err
		}
		return from(ack)
	case control&8 == 0:
		return bootServer{}, errors.New("option 43 tells the firmware to look for boot servers by broadcast, and there are none")
	case answer.BootFileName == "":
		return bootServer{}, errors.New("option 43 tells the firmware to take the file of the answer, which has none")
	}
	return from(answer)
}

// askBootServer is the exchange on port 4011 (PXE 2.1 §2.2.3).
func (s *session) askBootServer(ctx context.Context, offer *dhcpv4.DHCPv4, asIPXE bool) (*dhcpv4.DHCPv4, error) {
	var conn net.PacketConn
	if err := s.host.Do(func() (err error) {
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: s.out.Address.Addr().AsSlice(), Port: 68})
		return err
	}); err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	request, err := s.packet(dhcpv4.MessageTypeRequest, asIPXE)
	if err != nil {
		return nil, err
	}
	request.ClientIPAddr = s.out.Address.Addr().AsSlice()
	to := &net.UDPAddr{IP: offer.ServerIdentifier(), Port: 4011}
	for _, wait := range s.Waits {
		if _, err := conn.WriteTo(request.ToBytes(), to); err != nil {
			return nil, err
		}
		ack, err := receive(ctx, conn, request, dhcpv4.MessageTypeAck, time.Now().Add(wait))
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return ack, err
		}
	}
	return nil, fmt.Errorf("nobody answers on %s", to)
}

// AskBootServer runs the exchange on port 4011 alone, as firmware does that was
// offered no file. The interface must have the address.
func (m Machine) AskBootServer(ctx context.Context, host Host, address netip.Prefix, server netip.Addr) (string, error) {
	s := &session{Machine: m, host: host, out: Outcome{Address: address}}
	ack, err := s.askBootServer(ctx, &dhcpv4.DHCPv4{Options: dhcpv4.OptionsFromList(dhcpv4.OptServerIdentifier(server.AsSlice()))}, false)
	if err != nil {
		return "", err
	}
	return ack.BootFileName, nil
}

// discoveryControl is PXE_DISCOVERY_CONTROL of option 43, or -1.
func discoveryControl(option []byte) int {
	for len(option) >= 2 && option[0] != 255 {
		if option[0] == 0 {
			option = option[1:]
			continue
		}
		n := int(option[1])
		if len(option) < 2+n {
			return -1
		}
		if option[0] == 6 && n == 1 {
			return int(option[2])
		}
		option = option[2+n:]
	}
	return -1
}

// errNak is a REQUEST refused, after which a client begins again (RFC 2131
// §3.1.5): another was faster to take the address that both were offered.
var errNak = errors.New("the DHCP server refuses the address")

// receive waits for the answer of the given type to a packet of ours.
func receive(ctx context.Context, conn net.PacketConn, ours *dhcpv4.DHCPv4, kind dhcpv4.MessageType, until time.Time) (*dhcpv4.DHCPv4, error) {
	if end, ok := ctx.Deadline(); ok && end.Before(until) {
		until = end
	}
	if err := conn.SetReadDeadline(until); err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			return nil, err
		}
		p, err := dhcpv4.FromBytes(buf[:n])
		if err != nil || p.OpCode != dhcpv4.OpcodeBootReply || p.TransactionID != ours.TransactionID ||
			!bytes.Equal(p.ClientHWAddr, ours.ClientHWAddr) {
			continue
		}
		if p.MessageType() == dhcpv4.MessageTypeNak && kind == dhcpv4.MessageTypeAck {
			return nil, fmt.Errorf("%w: %s", errNak, p.Message())
		}
		if p.MessageType() == kind {
			return p, nil
		}
	}
}

// packet is a request as the firmware, or iPXE on it, sends it.
func (s *session) packet(kind dhcpv4.MessageType, asIPXE bool) (*dhcpv4.DHCPv4, error) {
	arch, class := iana.INTEL_X86PC, "PXEClient"
	switch s.Kind {
	case UEFI, IPXEUEFI:
		arch = iana.EFI_X86_64
	case UEFIBC:
		arch = iana.EFI_BC
	case UEFIARM64, UBoot:
		arch = iana.EFI_ARM64
	case UEFIHTTP:
		arch = iana.EFI_X86_64
		if !asIPXE {
			arch, class = iana.EFI_X86_64_HTTP, "HTTPClient"
		}
	}
	identifier := fmt.Sprintf("%s:Arch:%05d:UNDI:003016", class, arch)
	if s.Kind == UBoot {
		identifier = "U-Boot.armv8"
	}
	options := []dhcpv4.Modifier{
		dhcpv4.WithMessageType(kind), dhcpv4.WithHwAddr(s.MAC), dhcpv4.WithBroadcast(true),
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier(identifier)),
		dhcpv4.WithOption(dhcpv4.OptClientArch(arch)),
		dhcpv4.WithGeneric(dhcpv4.OptionClientNetworkInterfaceIdentifier, []byte{1, 3, 16}),
		dhcpv4.WithGeneric(dhcpv4.OptionClientMachineIdentifier, s.uuidOption()),
		dhcpv4.WithOption(dhcpv4.OptMaxMessageSize(1472)),
		dhcpv4.WithRequestedOptions(
			dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer,
			dhcpv4.OptionVendorSpecificInformation, dhcpv4.OptionClassIdentifier,
			dhcpv4.OptionTFTPServerName, dhcpv4.OptionBootfileName, dhcpv4.OptionClientMachineIdentifier),
	}
	if asIPXE {
		options = append(options,
			dhcpv4.WithUserClass("iPXE", false),
			dhcpv4.WithGeneric(dhcpv4.GenericOptionCode(175), []byte{0x13, 1, 1, 0x18, 1, 1}))
	}
	return dhcpv4.New(options...)
}

func (s *session) uuidOption() []byte {
	if s.UUID == [16]byte{} {
		return []byte{}
	}
	return append([]byte{0}, s.UUID[:]...)
}

// takeAddress puts the address of the ACK on the interface.
func (s *session) takeAddress(ack *dhcpv4.DHCPv4) error {
	address, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	mask := ack.SubnetMask()
	if !ok || mask == nil {
		return errors.New("the ACK has no address or no subnet mask")
	}
	bits, _ := mask.Size()
	prefix := netip.PrefixFrom(address, bits)
	if s.added && prefix == s.out.Address {
		return nil
	}
	if err := s.dropAddress(); err != nil {
		return err
	}
	s.out.Address = prefix
	err := s.onLink(netlink.AddrAdd)
	s.added = err == nil
	if routers := ack.Router(); err == nil && len(routers) > 0 {
		return s.routeBy(routers[0])
	}
	return err
}

// routeBy makes the gateway the default route. A host that has one already keeps it.
func (s *session) routeBy(gateway net.IP) error {
	return s.host.Do(func() error {
		link, err := netlink.LinkByName(s.iface)
		if err != nil {
			return err
		}
		err = netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway})
		if errors.Is(err, syscall.EEXIST) || errors.Is(err, syscall.ENETUNREACH) {
			return nil
		}
		return err
	})
}

func (s *session) dropAddress() error {
	if !s.added {
		return nil
	}
	s.added = false
	return s.onLink(netlink.AddrDel)
}

func (s *session) onLink(do func(netlink.Link, *netlink.Addr) error) error {
	return s.host.Do(func() error {
		link, err := netlink.LinkByName(s.iface)
		if err != nil {
			return err
		}
		return do(link, &netlink.Addr{IPNet: &net.IPNet{
			IP: s.out.Address.Addr().AsSlice(), Mask: net.CIDRMask(s.out.Address.Bits(), 32),
		}})
	})
}
