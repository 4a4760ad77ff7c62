package dhcp

import (
	"io"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/rhizome-dev/rhizome/pxe"
)

// forgetful decides as backend does, and keeps nothing.
type forgetful struct{ backend }

func (*forgetful) Observe(pxe.Observation) {}

// What an answer costs beside the system calls that bring and take it.
func BenchmarkHandle(b *testing.B) {
	s := responder(nil, Server, func(pxe.Machine, pxe.Decision) (string, error) { return "snponly.efi", nil })
	s.Backend = &forgetful{backend{decision: pxe.Decision{Action: pxe.Install, Reason: "there is an open claim", Lease: lease}}}
	s.Logger, s.Now = slog.New(slog.NewTextHandler(io.Discard, nil)), time.Now
	discover := client(dhcpv4.MessageTypeDiscover, "PXEClient:Arch:00007", iana.EFI_X86_64).ToBytes()
	b.ReportAllocs()
	for b.Loop() {
		if reply, _ := s.Handle(discover, PortServer, netip.AddrPort{}); reply == nil {
			b.Fatal("no answer")
		}
	}
}
