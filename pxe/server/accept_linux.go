package server

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// deferred is how long the kernel keeps a connection without a request, in seconds.
const deferred = 3

// acceptWithRequest has the kernel keep a connection to itself until its request is
// there (tcp(7), TCP_DEFER_ACCEPT), or some seconds are over: it need not be waited for.
func acceptWithRequest(_, _ string, c syscall.RawConn) error {
	var err error
	if controlled := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, deferred)
	}); controlled != nil {
		return controlled
	}
	return err
}
