package dhcp

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/rhizome-dev/rhizome/pxe"
)

// backend knows one machine.
type backend struct {
	decision pxe.Decision
	seen     []pxe.Observation
}

func (b *backend) Decide(m pxe.Machine) pxe.Decision {
	if m.MAC == "52:54:00:12:34:56" {
		return b.decision
	}
	return pxe.Decision{Reason: "not declared"}
}
func (b *backend) Observe(o pxe.Observation) { b.seen = append(b.seen, o) }
func (*backend) InitConfig(context.Context, pxe.MAC, netip.Addr) (pxe.Document, error) {
	return pxe.Document{}, pxe.ErrNotFound
}
func (*backend) Report(context.Context, string, pxe.Report, netip.Addr) error { return pxe.ErrNotFound }
func (*backend) Credentials(context.Context, string, netip.Addr) ([]byte, error) {
	return nil, pxe.ErrNotFound
}

func responder(b *backend, mode Mode, file func(pxe.Machine, pxe.Decision) (string, error)) *Responder {
	return &Responder{
		Interface: "eth0", Address: ours, Mode: mode, Backend: b, BootFile: file,
		Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Unix(1, 0) },
	}
}

func TestTheBackendHearsOfEveryNetworkBootClient(t *testing.T) {
	file := func(pxe.Machine, pxe.Decision) (string, error) { return "snponly.efi", nil }
	missing := func(pxe.Machine, pxe.Decision) (string, error) {
		return "", errors.New("the boot file loader/grubaa64.efi is missing")
	}
	other := client(dhcpv4.MessageTypeDiscover, "PXEClient:Arch:00007", iana.EFI_X86_64)
	other.ClientHWAddr = net.HardwareAddr{0x52, 0x54, 0x00, 0x12, 0x34, 0x57}
	system := client(dhcpv4.MessageTypeDiscover, "dhcpcd", 0)
	system.DeleteOption(dhcpv4.OptionClientSystemArchitectureType)
	for _, c := range []struct {
		name     string
		packet   *dhcpv4.DHCPv4
		file     func(pxe.Machine, pxe.Decision) (string, error)
		answered bool
		action   pxe.Action
		messages []string
	}{
		{"a declared machine", client(dhcpv4.MessageTypeDiscover, "PXEClient", iana.EFI_X86_64), file, true, pxe.Install, []string{"UEFI amd64: told to load snponly.efi"}},
		{"an undeclared machine", other, file, false, pxe.Ignore, []string{"UEFI amd64: ignored: not declared"}},
		{"a machine whose loader is missing", client(dhcpv4.MessageTypeDiscover, "PXEClient", iana.EFI_ARM64), missing, false, pxe.Install, []string{"UEFI arm64: there is nothing that this machine can load: the boot file loader/grubaa64.efi is missing"}},
		{"an operating system", system, file, false, 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &backend{decision: pxe.Decision{Action: pxe.Install}}
			reply, _ := responder(b, Proxy, c.file).Handle(c.packet.ToBytes(), PortServer, netip.AddrPort{})
			if got := reply != nil; got != c.answered {
				t.Errorf("answered: %v, want %v", got, c.answered)
			}
			var messages []string
			for _, o := range b.seen {
				messages = append(messages, o.Message)
				if o.Decision != c.action || o.Stage != pxe.StageDHCP || o.Machine.MAC == "" {
					t.Errorf("observed %+v", o)
				}
			}
			if diff := cmp.Diff(c.messages, messages); diff != "" {
				t.Errorf("observations (-want +got):\n%s", diff)
			}
		})
	}
}

// Our own look for foreign servers is no machine that wants to boot.
func TestAProbeIsNeitherAnsweredNorListed(t *testing.T) {
	b := &backend{}
	s := responder(b, Server, func(pxe.Machine, pxe.Decision) (string, error) { return "f", nil })
	s.Pool = newPool(t, "192.168.1.128/25")
	probe := client(dhcpv4.MessageTypeDiscover, "PXEClient:Arch:00007:UNDI:003016", iana.EFI_X86_64, dhcpv4.WithUserClass(classProbe, true))
	if reply, _ := s.Handle(probe.ToBytes(), PortServer, netip.AddrPort{}); reply != nil || len(b.seen) > 0 {
		t.Errorf("answered: %v, observed: %+v", reply != nil, b.seen)
	}
	guest := client(dhcpv4.MessageTypeDiscover, "PXEClient:Arch:00007:UNDI:003016", iana.EFI_X86_64)
	guest.ClientHWAddr = net.HardwareAddr{0x52, 0x54, 0x00, 0x12, 0x34, 0x57}
	if reply, _ := s.Handle(guest.ToBytes(), PortServer, netip.AddrPort{}); reply == nil || len(b.seen) != 1 {
		t.Errorf("a machine that is no probe: answered: %v, observed: %+v", reply != nil, b.seen)
	}
}

// Whatever bytes come, the responder neither fails nor answers a machine that is
// not declared, and what it answers can be read.
func FuzzHandle(f *testing.F) {
	for _, p := range []*dhcpv4.DHCPv4{
		client(dhcpv4.MessageTypeDiscover, "PXEClient:Arch:00007:UNDI:003016", iana.EFI_X86_64),
		client(dhcpv4.MessageTypeRequest, "HTTPClient:Arch:00016", iana.EFI_X86_64_HTTP),
		client(dhcpv4.MessageTypeInform, "PXEClient", iana.INTEL_X86PC, dhcpv4.WithUserClass("iPXE", true)),
	} {
		f.Add(p.ToBytes(), uint8(0))
		f.Add(p.ToBytes(), uint8(3))
		f.Add(p.ToBytes(), uint8(2|16))
	}
	f.Fuzz(func(t *testing.T, datagram []byte, how uint8) {
		b := &backend{decision: pxe.Decision{Action: pxe.Action(how >> 2 % 3), Lease: lease}}
		port := []int{PortServer, PortBoot}[how&1]
		s := responder(b, Mode(how>>1&1), func(pxe.Machine, pxe.Decision) (string, error) { return "snponly.efi", nil })
		if how&16 != 0 {
			s.Pool = newPool(t, "192.168.1.128/25")
		}
		reply, to := s.Handle(datagram, port, netip.MustParseAddrPort("192.168.1.77:68"))
		if reply == nil {
			return
		}
		if len(reply) < 300 {
			t.Fatalf("the answer has %d bytes, less than a relay may pass on", len(reply))
		}
		p, err := dhcpv4.FromBytes(reply)
		if err != nil {
			t.Fatalf("the answer cannot be read: %v", err)
		}
		if undeclared := MachineOf(p).MAC != "52:54:00:12:34:56" || b.decision.Action == pxe.Ignore; undeclared && s.Pool != nil {
			if p.BootFileName != "" || p.Options.Has(dhcpv4.OptionBootfileName) || p.Options.Has(dhcpv4.OptionClassIdentifier) {
				t.Fatalf("an undeclared machine is told to boot: %s", p.Summary())
			}
		} else if undeclared {
			t.Fatalf("an undeclared machine was answered: %s", p.Summary())
		}
		if p.OpCode != dhcpv4.OpcodeBootReply || addrOf(p.ServerIdentifier()) != ours || !to.IsValid() {
			t.Fatalf("not an answer of ours, to %s: %s", to, p.Summary())
		}
	})
}
