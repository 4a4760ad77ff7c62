package power

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// bindTo ties a socket to an interface (socket(7), SO_BINDTODEVICE). Without the
// right to do so (Linux before 5.7) the socket's source address has to do: it
// selects the interface of a limited broadcast.
func bindTo(ifi *net.Interface) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), ifi.Name) }); e != nil {
			return e
		}
		if errors.Is(err, unix.EPERM) {
			return nil
		}
		return err
	}
}
