package web

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/bootfs"
)

// installing has every machine install.
type installing struct{ backend }

func (*installing) Decide(pxe.Machine) pxe.Decision {
	return pxe.Decision{
		Action: pxe.Install, Reason: "there is an open claim", Arch: pxe.AMD64,
		Kernel: pxe.Kernel{
			Path: "/installer/amd64/vmlinuz", Initrds: []string{"/installer/amd64/initrd.img"},
			Args: []string{"rhizome.init=${base}/init/${mac}", "rhizome.mac=${mac}", "console=ttyS0"},
		},
	}
}

func (*installing) Observe(pxe.Observation) {}

// nobody takes an answer and forgets it.
type nobody struct{ header http.Header }

func (n nobody) Header() http.Header       { return n.header }
func (nobody) Write(b []byte) (int, error) { return len(b), nil }
func (nobody) WriteHeader(int)             {}

// What a machine's script costs beside the connection that it travels on.
func BenchmarkScript(b *testing.B) {
	h := &Handlers{
		Table: &bootfs.Table{
			Files: fstest.MapFS{}, Backend: &installing{}, Server: netip.MustParseAddrPort("192.168.1.2:7480"),
		},
		Backend: &installing{}, Logger: slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelInfo})), Now: time.Now,
	}
	handler := h.Plain()
	request := httptest.NewRequest(http.MethodGet, "/boot/52:54:00:12:34:56/ipxe", nil)
	b.ReportAllocs()
	for b.Loop() {
		handler.ServeHTTP(nobody{http.Header{}}, request)
	}
}
