package server

import (
	"net"
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
}

func newLimitListener(l *net.TCPListener, places int) *limitListener {
	closed := make(chan struct{})
	return &limitListener{
		TCPListener: l,
		places:      make(chan struct{}, places),
		closed:      closed,
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
	return &limitedConn{TCPConn: conn, leave: sync.OnceFunc(func() { <-l.places })}, nil
}

// Close implements net.Listener.
func (l *limitListener) Close() error { return l.close() }

// limitedConn holds a place until it is closed.
type limitedConn struct {
	*net.TCPConn
	leave func()
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	defer c.leave()
	return c.TCPConn.Close()
}
