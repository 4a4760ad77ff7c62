//go:build linux

package fleet

import (
	"net"
	"net/netip"
	"sync"
)

// ways are the test's own connections to the servers. One that hangs still takes
// connections, and one that is cut off never ends them: who knows of that, as the
// test does, goes elsewhere.
type ways struct {
	mu   sync.Mutex
	open map[*way]bool
	shut map[netip.Addr]bool
}

type way struct {
	net.Conn
	of *ways
}

func newWays() *ways { return &ways{open: map[*way]bool{}, shut: map[netip.Addr]bool{}} }

// Close implements net.Conn.
func (w *way) Close() error {
	w.of.mu.Lock()
	delete(w.of.open, w)
	w.of.mu.Unlock()
	return w.Conn.Close()
}

func (w *ways) follow(c net.Conn) net.Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	one := &way{c, w}
	w.open[one] = true
	return one
}

func (w *ways) closed(address string) bool {
	at, err := netip.ParseAddrPort(address)
	w.mu.Lock()
	defer w.mu.Unlock()
	return err == nil && w.shut[at.Addr()]
}

// close ends the connections to a server, and takes no new ones until it is opened.
func (w *ways) close(server netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shut[server] = true
	for one := range w.open {
		if at, err := netip.ParseAddrPort(one.RemoteAddr().String()); err == nil && at.Addr() == server {
			go func() { _ = one.Close() }()
		}
	}
}

func (w *ways) reopen(server netip.Addr) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.shut, server)
}
