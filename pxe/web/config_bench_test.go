package web

import (
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"testing/fstest"
	"time"

	"github.com/valyala/fasthttp"

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

// What a machine's script costs beside the connection that it travels on.
func BenchmarkScript(b *testing.B) {
	h := &Handlers{
		Table: &bootfs.Table{
			Files: fstest.MapFS{}, Backend: &installing{}, Server: netip.MustParseAddrPort("192.168.1.2:7480"),
		},
		Backend: &installing{}, Logger: slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelInfo})), Now: time.Now,
	}
	var ctx fasthttp.RequestCtx
	ctx.Init(&fasthttp.Request{}, &net.TCPAddr{IP: net.IPv4(192, 168, 1, 77), Port: 1234}, nil)
	ctx.Request.SetRequestURI("/boot/52:54:00:12:34:56/ipxe")
	b.ReportAllocs()
	for b.Loop() {
		ctx.Response.Reset()
		h.plain(&ctx)
	}
	if status := ctx.Response.StatusCode(); status != fasthttp.StatusOK {
		b.Fatalf("answered %d", status)
	}
}
