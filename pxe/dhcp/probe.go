package dhcp

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// Foreign is a DHCP or boot server that answered a probe.
type Foreign struct {
	// Server is its address.
	Server netip.Addr
	// OffersAddress: it hands out addresses to anybody.
	OffersAddress bool
	// BootFile that it offers to network boot clients, or "(told on port 4011)";
	// empty: it is no boot server.
	BootFile string
}

// probeTime is how long answers are waited for. Some servers look for three
// seconds whether an address is in use before they offer it.
const probeTime = 5 * time.Second

// Probe asks the network of the interface, as a PXE client with a random locally
// administered address would, and lists who answers, in the order of their
// addresses. A PXE service of ours knows a probe and does not answer it, so it is never
// in the list. It takes until ctx ends or five seconds, and needs root or CAP_NET_RAW.
func Probe(ctx context.Context, iface string) ([]Foreign, error) {
	conn, err := listenAsClient(iface)
	if err != nil {
		return nil, fmt.Errorf("cannot probe %s for DHCP servers (are you root?): %w", iface, err)
	}
	defer func() { _ = conn.Close() }()
	mac := make(net.HardwareAddr, 6)
	rand.Read(mac)
	mac[0] = mac[0]&^1 | 2 // one machine's, locally administered (IEEE 802)

	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	// A read that waits ends with the context.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
	defer stop()
	asked := make(chan error, 1)
	go func() { asked <- ask(ctx, conn, mac) }()

	found := map[netip.Addr]Foreign{}
	buf := make([]byte, 4096)
	for {
		n, _, err := conn.ReadFrom(buf)
		if ctx.Err() != nil {
			break
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			cancel()
			return nil, fmt.Errorf("cannot probe %s for DHCP servers: %w", iface, errors.Join(err, <-asked))
		}
		note(found, buf[:n], mac)
	}
	if err := <-asked; err != nil {
		return nil, fmt.Errorf("cannot probe %s for DHCP servers: %w", iface, err)
	}
	return slices.SortedFunc(maps.Values(found), func(a, b Foreign) int { return a.Server.Compare(b.Server) }), nil
}

// ask sends DISCOVERs as a UEFI machine and as a BIOS, since a boot server may
// know only one of them, until ctx ends.
func ask(ctx context.Context, conn net.PacketConn, mac net.HardwareAddr) error {
	for i := 0; ; i++ {
		arch := []iana.Arch{iana.EFI_X86_64, iana.INTEL_X86PC}[i%2]
		p, err := dhcpv4.NewDiscovery(mac, dhcpv4.WithBroadcast(true),
			dhcpv4.WithOption(dhcpv4.OptClassIdentifier(fmt.Sprintf("%s:Arch:%05d:UNDI:003016", classPXE, arch))),
			dhcpv4.WithOption(dhcpv4.OptClientArch(arch)),
			dhcpv4.WithUserClass(classProbe, true),
			dhcpv4.WithGeneric(dhcpv4.OptionClientNetworkInterfaceIdentifier, []byte{1, 3, 16}),
			dhcpv4.WithGeneric(dhcpv4.OptionClientMachineIdentifier, append(make([]byte, 11), mac...)),
			dhcpv4.WithRequestedOptions(dhcpv4.OptionVendorSpecificInformation, dhcpv4.OptionTFTPServerName, dhcpv4.OptionBootfileName))
		if err != nil {
			return err
		}
		_, err = conn.WriteTo(p.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: PortServer})
		if err != nil && !errors.Is(err, syscall.ENOBUFS) {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// note adds what a datagram tells of its sender, if it answers the probe.
func note(found map[netip.Addr]Foreign, datagram []byte, mac net.HardwareAddr) {
	p, err := dhcpv4.FromBytes(datagram)
	if err != nil || p.OpCode != dhcpv4.OpcodeBootReply || p.ClientHWAddr.String() != mac.String() {
		return
	}
	server := addrOf(p.ServerIdentifier())
	if !server.IsValid() {
		server = addrOf(p.ServerIPAddr)
	}
	if !server.IsValid() {
		return
	}
	f := found[server]
	f.Server = server
	f.OffersAddress = f.OffersAddress || addrOf(p.YourIPAddr).IsValid()
	f.BootFile = cmp.Or(f.BootFile, p.BootFileName, strings.TrimRight(p.BootFileNameOption(), "\x00"))
	if f.BootFile == "" && strings.HasPrefix(p.ClassIdentifier(), classPXE) {
		f.BootFile = "(told on port 4011)"
	}
	found[server] = f
}
