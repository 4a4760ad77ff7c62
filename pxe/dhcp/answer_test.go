package dhcp

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/rhizome-dev/rhizome/pxe"
)

var update = flag.Bool("update", false, "rewrite the golden packets")

var (
	ours  = netip.MustParseAddr("192.168.1.2")
	mac   = net.HardwareAddr{0x52, 0x54, 0x00, 0x12, 0x34, 0x56}
	lease = &pxe.Lease{
		Address: netip.MustParsePrefix("192.168.1.21/24"), Gateway: netip.MustParseAddr("192.168.1.1"),
		Nameservers: []netip.Addr{netip.MustParseAddr("192.168.1.1"), netip.MustParseAddr("9.9.9.9")}, HostName: "node-1",
	}
	// far is the reservation of a machine behind a relay.
	far = &pxe.Lease{
		Address: netip.MustParsePrefix("10.0.0.21/24"), Gateway: netip.MustParseAddr("10.0.0.1"),
		Nameservers: []netip.Addr{netip.MustParseAddr("9.9.9.9")}, HostName: "far-1",
	}
	smbios = []byte{0, 0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}
)

// client is a request, made from what distinguishes clients.
func client(kind dhcpv4.MessageType, class string, arch iana.Arch, more ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	modifiers := []dhcpv4.Modifier{
		dhcpv4.WithTransactionID(dhcpv4.TransactionID{1, 2, 3, 4}),
		dhcpv4.WithHwAddr(mac), dhcpv4.WithMessageType(kind), dhcpv4.WithBroadcast(true),
		dhcpv4.WithOption(dhcpv4.OptClassIdentifier(class)),
		dhcpv4.WithOption(dhcpv4.OptClientArch(arch)),
		dhcpv4.WithGeneric(dhcpv4.OptionClientMachineIdentifier, smbios),
	}
	p, err := dhcpv4.New(append(modifiers, more...)...)
	if err != nil {
		panic(err)
	}
	return p
}

// recorded is a request as it was seen on the wire.
func recorded(t *testing.T, name string) *dhcpv4.DHCPv4 {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "requests", name+".hex"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatal(err)
	}
	p, err := dhcpv4.FromBytes(raw)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const recordedScript = "http://192.168.1.2:7480/boot/52:54:00:ca:0d:f2/ipxe"

// The firmware of QEMU's machines is recorded; others, that cannot be had here,
// are made by what their documents and sources say.
func TestAnswersMatchTheGoldenPackets(t *testing.T) {
	const discover, request = dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest
	script := "http://192.168.1.2:7480/boot/52:54:00:12:34:56/ipxe"
	ipxe := []dhcpv4.Modifier{
		dhcpv4.WithUserClass("iPXE", false),
		dhcpv4.WithGeneric(optionIPXE, []byte{0x21, 1, 1, 0x15, 1, 1}),
	}
	for _, c := range []struct {
		name    string
		request *dhcpv4.DHCPv4
		port    int
		file    string
	}{
		{"ovmf-pxe", recorded(t, "ovmf-pxe-discover"), PortServer, "snponly.efi"},
		{"ovmf-pxe-request", recorded(t, "ovmf-pxe-request"), PortServer, "snponly.efi"},
		{"ovmf-ipxe", recorded(t, "ovmf-ipxe-discover"), PortServer, recordedScript},
		{"ovmf-ipxe-rom", recorded(t, "ovmf-ipxe-rom-discover"), PortServer, recordedScript},
		{"seabios-ipxe-rom", recorded(t, "seabios-ipxe-rom-discover"), PortServer, recordedScript},
		{"uefi-pxe", client(discover, "PXEClient:Arch:00007:UNDI:003016", iana.EFI_X86_64), PortServer, "snponly.efi"},
		{"uefi-pxe-grub", client(discover, "PXEClient:Arch:00007:UNDI:003016", iana.EFI_X86_64), PortServer, "grubx64.efi"},
		{"uefi-pxe-port-4011", client(request, "PXEClient:Arch:00007:UNDI:003016", iana.EFI_X86_64, dhcpv4.WithClientIP(net.IPv4(192, 168, 1, 77).To4())), PortBoot, "snponly.efi"},
		{"uefi-pxe-without-uuid", client(discover, "PXEClient:Arch:00009:UNDI:003016", iana.EFI_BC, dhcpv4.WithGeneric(dhcpv4.OptionClientMachineIdentifier, []byte{})), PortServer, "snponly.efi"},
		{"uefi-pxe-relayed", client(discover, "PXEClient:Arch:00007:UNDI:003016", iana.EFI_X86_64, dhcpv4.WithRelay(net.IPv4(10, 0, 0, 1).To4()), dhcpv4.WithGeneric(dhcpv4.OptionRelayAgentInformation, []byte{1, 4, 'e', 't', 'h', '7'})), PortServer, "snponly.efi"},
		{"uefi-http", client(discover, "HTTPClient:Arch:00016:UNDI:003001", iana.EFI_X86_64_HTTP), PortServer, "http://192.168.1.2:7480/loader/snponly.efi"},
		{"uefi-pxe-arm64", client(discover, "PXEClient:Arch:00011:UNDI:003016", iana.EFI_ARM64), PortServer, "grubaa64.efi"},
		{"bios-pxe", client(discover, "PXEClient:Arch:00000:UNDI:002001", iana.INTEL_X86PC), PortServer, "undionly.kpxe"},
		{"bios-ipxe-rom", client(discover, "PXEClient:Arch:00000:UNDI:002001", iana.INTEL_X86PC, ipxe...), PortServer, script},
		{"uefi-ipxe-chained", client(discover, "PXEClient:Arch:00007:UNDI:003010", iana.EFI_X86_64, ipxe...), PortServer, script},
		{"u-boot", client(discover, "U-Boot.armv8", iana.EFI_ARM64), PortServer, "grubaa64.efi"},
		{"uefi-pxe-request", client(request, "PXEClient:Arch:00007:UNDI:003016", iana.EFI_X86_64, dhcpv4.WithOption(dhcpv4.OptServerIdentifier(ours.AsSlice())), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(lease.Address.Addr().AsSlice()))), PortServer, "snponly.efi"},
		{"linux", client(discover, "dhcpcd-9.4.1:Linux-6.1.0", 0, dhcpv4.WithoutOption(dhcpv4.OptionClientSystemArchitectureType), dhcpv4.WithoutOption(dhcpv4.OptionClientMachineIdentifier), dhcpv4.WithGeneric(dhcpv4.OptionClientIdentifier, append([]byte{1}, mac...))), PortServer, ""},
		{"linux-relayed-request", client(request, "dhcpcd-9.4.1:Linux-6.1.0", 0, dhcpv4.WithoutOption(dhcpv4.OptionClientSystemArchitectureType), dhcpv4.WithoutOption(dhcpv4.OptionClientMachineIdentifier), dhcpv4.WithBroadcast(false), dhcpv4.WithRelay(net.IPv4(10, 0, 0, 1).To4()), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(ours.AsSlice())), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(far.Address.Addr().AsSlice()))), PortServer, ""},
		{"uefi-http-arm64", client(discover, "HTTPClient:Arch:00019:UNDI:003001", iana.EFI_ARM64_HTTP), PortServer, "http://192.168.1.2:7480/loader/grubaa64.efi"},
		{"uefi-http-relayed", client(discover, "HTTPClient:Arch:00016:UNDI:003001", iana.EFI_X86_64_HTTP, dhcpv4.WithRelay(net.IPv4(10, 0, 0, 1).To4())), PortServer, "http://192.168.1.2:7480/loader/snponly.efi"},
		// The relay's own address is of a network without machines: it says which one
		// the client stands in.
		{"bios-pxe-relayed-link-selection", client(discover, "PXEClient:Arch:00000:UNDI:002001", iana.INTEL_X86PC, dhcpv4.WithRelay(net.IPv4(172, 16, 0, 9).To4()), dhcpv4.WithGeneric(dhcpv4.OptionRelayAgentInformation, []byte{5, 4, 10, 0, 0, 0})), PortServer, "undionly.kpxe"},
		{"uefi-pxe-signed", client(discover, "PXEClient:Arch:00007:UNDI:003016", iana.EFI_X86_64), PortServer, "signed/shimx64.efi"},
	} {
		for _, mode := range []Mode{Proxy, Server} {
			name := strings.ToLower(mode.String()) + "-" + c.name
			t.Run(name, func(t *testing.T) {
				q := Question{
					Packet: c.request, Port: c.port, Address: ours, Mode: mode, BootFile: c.file,
					Decision: pxe.Decision{Action: pxe.Install},
				}
				if mode == Server {
					q.Decision.Lease = lease
				}
				if mode == Server && strings.Contains(name, "relayed") {
					q.Decision.Lease = far
				}
				compareGolden(t, name, q)
			})
		}
	}
}

// An undeclared machine is given an address of the pool, if there is one, and
// nothing to boot.
func TestPooledAnswersMatchTheGoldenPackets(t *testing.T) {
	pooled := &pxe.Lease{
		Address: netip.MustParsePrefix("192.168.1.77/24"), Gateway: netip.MustParseAddr("192.168.1.1"),
		Nameservers: []netip.Addr{netip.MustParseAddr("192.168.1.1")}, Duration: 10 * time.Minute,
	}
	for _, c := range []struct {
		name    string
		request *dhcpv4.DHCPv4
	}{
		{"pool-uefi-pxe", client(dhcpv4.MessageTypeDiscover, "PXEClient:Arch:00007:UNDI:003016", iana.EFI_X86_64)},
		{"pool-linux-request", client(dhcpv4.MessageTypeRequest, "dhcpcd-9.4.1:Linux-6.1.0", 0, dhcpv4.WithoutOption(dhcpv4.OptionClientSystemArchitectureType), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(ours.AsSlice())), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(pooled.Address.Addr().AsSlice())))},
	} {
		t.Run(c.name, func(t *testing.T) {
			compareGolden(t, c.name, Question{
				Packet: c.request, Port: PortServer, Address: ours, Mode: Server, BootFile: "snponly.efi",
				Decision: pxe.Decision{Reason: "no Node declares this MAC"}, Pooled: pooled,
			})
		})
	}
}

// compareGolden compares the answer with testdata/NAME.txt: in words, then as it
// goes over the wire.
func compareGolden(t *testing.T, name string, q Question) {
	t.Helper()
	// The answer is to what is on the wire.
	packet, err := dhcpv4.FromBytes(q.Packet.ToBytes())
	if err != nil {
		t.Fatal(err)
	}
	q.Packet = packet
	reply, reason := Answer(q)
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", reason)
	if reply == nil {
		b.WriteString("no answer\n")
	} else {
		fmt.Fprintf(&b, "to %s\n%s", Destination(reply, q.Port, netip.MustParseAddrPort("192.168.1.77:68")), reply.Summary())
		raw := encode(reply)
		fmt.Fprintf(&b, "\nheader\n%s\noptions\n%s", wrapped(raw[:236]), wrapped(raw[236:]))
	}
	text := strings.ReplaceAll(b.String(), "\x00", `\0`) // or the file would be no text
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("the answer changed (-want +got):\n%s", diff)
	}
}

func wrapped(raw []byte) string {
	var b strings.Builder
	for line := range slicesOf(raw, 32) {
		fmt.Fprintf(&b, "  %s\n", hex.EncodeToString(line))
	}
	return b.String()
}

func slicesOf(b []byte, n int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			m := min(n, len(b))
			if !yield(b[:m]) {
				return
			}
			b = b[m:]
		}
	}
}

func TestSilence(t *testing.T) {
	pxeDiscover := func(more ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
		return client(dhcpv4.MessageTypeDiscover, "PXEClient:Arch:00007", iana.EFI_X86_64, more...)
	}
	osRequest := func(more ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
		p := client(dhcpv4.MessageTypeRequest, "linux", 0, more...)
		p.DeleteOption(dhcpv4.OptionClientSystemArchitectureType)
		return p
	}
	install := pxe.Decision{Action: pxe.Install, Lease: lease}
	for _, c := range []struct {
		name     string
		packet   *dhcpv4.DHCPv4
		port     int
		mode     Mode
		decision pxe.Decision
		file     string
		reason   string
	}{
		{"an undeclared machine", pxeDiscover(), PortServer, Proxy, pxe.Decision{Reason: "not declared"}, "f", "ignored: not declared"},
		{"an undeclared machine, of our DHCP server", pxeDiscover(), PortServer, Server, pxe.Decision{}, "f", "ignored"},
		{"an undeclared machine, on port 4011", client(dhcpv4.MessageTypeRequest, "PXEClient", 7), PortBoot, Proxy, pxe.Decision{}, "f", "ignored"},
		{"an undeclared operating system", osRequest(), PortServer, Server, pxe.Decision{}, "", "ignored"},
		{"a machine to be left alone", pxeDiscover(), PortServer, Server, pxe.Decision{Action: pxe.BootLocal, LocalBoot: pxe.LocalBootSilence, Lease: lease}, "f", "left to boot its own disk"},
		{"an operating system, beside the network's DHCP server", osRequest(), PortServer, Proxy, install, "", "not a network boot client: the network's own DHCP server answers it"},
		{"a machine with nothing to load", pxeDiscover(), PortServer, Proxy, install, "", "there is nothing that this machine can load"},
		{"a REQUEST to another server, as a proxy", client(dhcpv4.MessageTypeRequest, "PXEClient", 7), PortServer, Proxy, install, "f", "the client asks the network's own DHCP server for its address"},
		{"a REQUEST to another server", osRequest(dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(192, 168, 1, 9)))), PortServer, Server, install, "", "the client took the offer of 192.168.1.9"},
		{"a REQUEST without an address", osRequest(), PortServer, Server, install, "", "a REQUEST that names no address"},
		{"a DISCOVER on port 4011", pxeDiscover(), PortBoot, Proxy, install, "f", "nothing to say to DISCOVER"},
		{"a RELEASE", client(dhcpv4.MessageTypeRelease, "linux", 0), PortServer, Server, install, "", "nothing to say to RELEASE"},
		{"a DECLINE", client(dhcpv4.MessageTypeDecline, "linux", 0), PortServer, Server, install, "", "the client found its reservation 192.168.1.21 in use by another machine"},
		{"a machine that stands behind a relay, and not where it is declared", pxeDiscover(dhcpv4.WithRelay(net.IPv4(10, 0, 0, 1).To4())), PortServer, Server, install, "f", "the machine asks from the network of 10.0.0.1, and its reservation 192.168.1.21/24 is of another"},
		{"a machine that says itself that it stands elsewhere", pxeDiscover(dhcpv4.WithGeneric(dhcpv4.OptionSubnetSelection, []byte{10, 9, 8, 0})), PortServer, Server, install, "f", "the machine asks from the network of 10.9.8.0, and its reservation 192.168.1.21/24 is of another"},
		{"no reservation", pxeDiscover(), PortServer, Server, pxe.Decision{Action: pxe.Install}, "f", "the machine has no reservation"},
		{"a reply", pxeDiscover(func(p *dhcpv4.DHCPv4) { p.OpCode = dhcpv4.OpcodeBootReply }), PortServer, Proxy, install, "f", "not a request"},
		{"a group address", pxeDiscover(dhcpv4.WithHwAddr(net.HardwareAddr{1, 0, 0x5e, 0, 0, 1})), PortServer, Proxy, install, "f", "the client has no Ethernet address"},
		{"another kind of network", pxeDiscover(dhcpv4.WithHWType(iana.HWTypeInfiniband)), PortServer, Proxy, install, "f", "the client has no Ethernet address"},
		{"plain BOOTP", pxeDiscover(dhcpv4.WithoutOption(dhcpv4.OptionDHCPMessageType)), PortServer, Server, install, "f", "nothing to say to unknown (0)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			reply, reason := Answer(Question{Packet: c.packet, Port: c.port, Address: ours, Mode: c.mode, Decision: c.decision, BootFile: c.file})
			if reply != nil {
				t.Errorf("answered: %s", reply.Summary())
			}
			if reason != c.reason {
				t.Errorf("reason %q, want %q", reason, c.reason)
			}
		})
	}
}

// RFC 2131 §4.3.2, the states of a client.
func TestALeaseIsTheReservationOrNone(t *testing.T) {
	relay := net.IPv4(192, 168, 1, 254).To4() // on the reservation's network
	other := net.IPv4(192, 168, 1, 99).To4()
	own := net.IP(lease.Address.Addr().AsSlice())
	server := dhcpv4.WithOption(dhcpv4.OptServerIdentifier(ours.AsSlice()))
	asking := func(ip net.IP) dhcpv4.Modifier { return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(ip)) }
	for _, c := range []struct {
		name string
		kind dhcpv4.MessageType
		more []dhcpv4.Modifier
		want dhcpv4.MessageType
		to   string
	}{
		{"DISCOVER", dhcpv4.MessageTypeDiscover, nil, dhcpv4.MessageTypeOffer, "255.255.255.255:68"},
		{"selecting", dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{server, asking(own)}, dhcpv4.MessageTypeAck, "255.255.255.255:68"},
		{"selecting what was not offered", dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{server, asking(other)}, dhcpv4.MessageTypeNak, "255.255.255.255:68"},
		{"rebooting", dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{asking(own)}, dhcpv4.MessageTypeAck, "255.255.255.255:68"},
		{"rebooting with an address of before", dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{asking(other)}, dhcpv4.MessageTypeNak, "255.255.255.255:68"},
		{"renewing", dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{dhcpv4.WithClientIP(own)}, dhcpv4.MessageTypeAck, "192.168.1.21:68"},
		{"renewing an address of before", dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{dhcpv4.WithClientIP(other)}, dhcpv4.MessageTypeNak, "255.255.255.255:68"},
		{"relayed", dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{asking(own), dhcpv4.WithRelay(relay)}, dhcpv4.MessageTypeAck, "192.168.1.254:67"},
		// RFC 2131 §4.1: giaddr comes before ciaddr, and a NAK goes through the relay too.
		{"relayed, renewing", dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{dhcpv4.WithClientIP(own), dhcpv4.WithRelay(relay)}, dhcpv4.MessageTypeAck, "192.168.1.254:67"},
		{"relayed, with an address of before", dhcpv4.MessageTypeRequest, []dhcpv4.Modifier{asking(other), dhcpv4.WithRelay(relay)}, dhcpv4.MessageTypeNak, "192.168.1.254:67"},
		{"INFORM", dhcpv4.MessageTypeInform, []dhcpv4.Modifier{dhcpv4.WithClientIP(other)}, dhcpv4.MessageTypeAck, "192.168.1.99:68"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := client(c.kind, "linux", 0, c.more...)
			p.DeleteOption(dhcpv4.OptionClientSystemArchitectureType)
			p.DeleteOption(dhcpv4.OptionClientMachineIdentifier)
			reply, reason := Answer(Question{
				Packet: p, Port: PortServer, Address: ours, Mode: Server,
				Decision: pxe.Decision{Action: pxe.BootLocal, Lease: lease},
			})
			if reply == nil || reply.MessageType() != c.want {
				t.Fatalf("got %v (%s), want %s", reply, reason, c.want)
			}
			if to := Destination(reply, PortServer, netip.AddrPort{}); to.String() != c.to {
				t.Errorf("sent to %s, want %s", to, c.to)
			}
			leased := c.want != dhcpv4.MessageTypeNak && c.kind != dhcpv4.MessageTypeInform
			if got := addrOf(reply.YourIPAddr); leased != (got == lease.Address.Addr()) {
				t.Errorf("address %s", got)
			}
			if got := reply.Options.Has(dhcpv4.OptionIPAddressLeaseTime); got != leased {
				t.Errorf("lease time: %v, want %v", got, leased)
			}
			for _, code := range []dhcpv4.OptionCode{dhcpv4.OptionBootfileName, dhcpv4.OptionClassIdentifier, dhcpv4.OptionVendorSpecificInformation} {
				if reply.Options.Has(code) {
					t.Errorf("an operating system is told to boot: %s", code)
				}
			}
		})
	}
}

func TestAProxyNeverOffersAnAddress(t *testing.T) {
	p := client(dhcpv4.MessageTypeDiscover, "PXEClient:Arch:00007", iana.EFI_X86_64)
	reply, _ := Answer(Question{Packet: p, Port: PortServer, Address: ours, Decision: pxe.Decision{Action: pxe.Install, Lease: lease}, BootFile: "f"})
	if reply == nil {
		t.Fatal("no answer")
	}
	if !reply.YourIPAddr.IsUnspecified() || reply.Options.Has(dhcpv4.OptionIPAddressLeaseTime) || reply.Options.Has(dhcpv4.OptionRouter) {
		t.Errorf("a proxy's offer holds a lease: %s", reply.Summary())
	}
}

func TestTheSameQuestionGetsTheSameAnswer(t *testing.T) {
	q := Question{
		Packet: client(dhcpv4.MessageTypeDiscover, "PXEClient:Arch:00007", iana.EFI_X86_64), Port: PortServer, Address: ours,
		Mode: Server, Decision: pxe.Decision{Action: pxe.Install, Lease: lease}, BootFile: "snponly.efi",
	}
	first, _ := Answer(q)
	for range 20 {
		if again, _ := Answer(q); !bytes.Equal(first.ToBytes(), again.ToBytes()) {
			t.Fatalf("two answers to one question:\n%s\n%s", first.Summary(), again.Summary())
		}
	}
}
