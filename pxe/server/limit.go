package server

import (
	"maps"
	"net"
	"slices"
	"sync"
)

// limitListener accepts a number of connections at once, and lets others wait. (The
// one of golang.org/x/net/netutil hides that a connection is TCP's, so that the
// kernel cannot send files by itself.)
type limitListener struct {
	*net.TCPListener
	places chan struct{}
	closed chan struct{}
	close  func() error

	mu   sync.Mutex
	open map[*limitedConn]bool
}

func newLimitListener(l *net.TCPListener, places int) *limitListener {
	closed := make(chan struct{})
	return &limitListener{
		TCPListener: l,
		places:      make(chan struct{}, places),
		closed:      closed,
		open:        map[*limitedConn]bool{},
		close: sync.OnceValue(func() error {
			close(closed)
			return l.Close()
		}),
	}
}

// Accept implements net.Listener.
func (l *limitListener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.AcceptTCP()
	if err != nil {
		<-l.places
		return nil, err
	}
	c := &limitedConn{TCPConn: conn, l: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[c] = true
	return c, nil
}

// leave frees the place of a connection, once.
func (l *limitListener) leave(c *limitedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[c] {
		delete(l.open, c)
		<-l.places
	}
}

// cutOff closes all connections.
func (l *limitListener) cutOff() {
	l.mu.Lock()
	open := slices.Collect(maps.Keys(l.open))
	l.mu.Unlock()
	for _, c := range open {
		_ = c.Close() // the other side sees it, whatever comes of it here
	}
}

// Close implements net.Listener.
func (l *limitListener) Close() error { return l.close() }

// limitedConn holds a place until it is closed.
type limitedConn struct {
	*net.TCPConn
	l *limitListener
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	defer c.l.leave(c)
	return c.TCPConn.Close()
}
