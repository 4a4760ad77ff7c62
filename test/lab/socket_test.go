//go:build linux

package lab

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// onCard binds a socket to a network card and lets it broadcast from there.
func onCard(name string) func(network, address string, conn syscall.RawConn) error {
	return func(_, _ string, conn syscall.RawConn) error {
		var failed error
		err := conn.Control(func(fd uintptr) {
			failed = unix.BindToDevice(int(fd), name)
		})
		if err != nil {
			return err
		}
		return failed
	}
}
