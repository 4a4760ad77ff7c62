package power

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// bindTo ties a socket to an interface (ip(4), IP_BOUND_IF).
func bindTo(ifi *net.Interface) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BOUND_IF, ifi.Index)
		}); e != nil {
			return e
		}
		return err
	}
}
