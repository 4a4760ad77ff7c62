package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/pxe/bootfs"
	"github.com/rhizome-dev/rhizome/pxe/web"
)

// Whatever a client does, both servers end, and with them the port and the connection.
func TestAnHTTPServerEnds(t *testing.T) {
	for name, c := range map[string]struct {
		says  string
		early bool // told to end before it has begun
	}{
		"before it has begun":                  {early: true},
		"while a client says nothing":          {},
		"while a request is not said to end":   {says: "GET / HTTP/1.1\r\n"},
		"while a connection waits for its own": {says: "GET /none HTTP/1.1\r\nHost: host\r\n\r\n"},
	} {
		handlers := &web.Handlers{Table: &bootfs.Table{}, Backend: backend{}, Logger: slog.New(slog.DiscardHandler), Now: time.Now}
		plain, secure := handlers.PlainServer(), newHTTPS(http.NotFoundHandler(), handlers.Logger)
		for side, s := range map[string]struct {
			serve    func(net.Listener) error
			shutdown func(context.Context) error
		}{
			"fasthttp": {plain.Serve, plain.ShutdownWithContext},
			"net/http": {secure.Serve, secure.Shutdown},
		} {
			t.Run(side+" "+name, func(t *testing.T) {
				t.Parallel()
				tcp, err := net.Listen("tcp4", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if c.early {
					cancel()
				}
				ended := make(chan error, 1)
				go func() {
					ended <- serveHTTP(ctx, newLimitListener(tcp.(*net.TCPListener), 1), s.serve, s.shutdown)
				}()
				if !c.early {
					client, err := net.Dial("tcp4", tcp.Addr().String())
					if err != nil {
						t.Fatal(err)
					}
					defer client.Close()
					if _, err := client.Write([]byte(c.says)); err != nil {
						t.Fatal(err)
					}
					time.AfterFunc(100*time.Millisecond, cancel)
					if _, err := io.Copy(io.Discard, client); err != nil && !errors.Is(err, syscall.ECONNRESET) {
						t.Errorf("the connection is not closed: %v", err)
					}
				}
				if err := <-ended; err != nil {
					t.Error(err)
				}
				if late, err := net.Dial("tcp4", tcp.Addr().String()); err == nil {
					late.Close()
					t.Error("the port is still open")
				}
			})
		}
	}
}
