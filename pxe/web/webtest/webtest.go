// Package webtest serves package web's side in the clear to tests, as httptest does
// a handler.
package webtest

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/rhizome-dev/rhizome/pxe/web"
)

// Serve serves on a port of the loopback interface until the test ends.
func Serve(t testing.TB, h *web.Handlers) netip.AddrPort {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, ended := h.PlainServer(), make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		if err := errors.Join(l.Close(), server.Shutdown()); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return netip.MustParseAddrPort(l.Addr().String())
}
