//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// Namespace is an unnamed network namespace: one host on the lab's network.
// It lives as long as this process holds it open or a process runs in it.
// Its methods may be called from several goroutines at once.
type Namespace struct {
	file *os.File
}

// newNamespace makes an empty network namespace whose loopback is down.
func newNamespace() (*Namespace, error) {
	// The thread comes back, rather than ending in the new namespace: programs
	// that were started from it would be killed with it (Pdeathsig).
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	defer home.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("cannot make a network namespace (are you root?): %w", err)
	}
	file, err := os.Open("/proc/thread-self/ns/net")
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return nil, errors.Join(err, fmt.Errorf("cannot leave the new network namespace: %w", back))
	}
	runtime.UnlockOSThread()
	if err != nil {
		return nil, err
	}
	return &Namespace{file: file}, nil
}

// Close lets go of the namespace. Programs that run in it keep it alive.
func (n *Namespace) Close() error { return n.file.Close() }

// Path is a file by which any process of this machine's root can enter the
// namespace (`nsenter --net=PATH`) while this process lives.
func (n *Namespace) Path() string {
	return "/proc/" + strconv.Itoa(os.Getpid()) + "/fd/" + strconv.Itoa(int(n.file.Fd()))
}

// Command is exec.CommandContext inside the namespace. The program is killed
// when ctx ends and when this process dies. SysProcAttr may be extended, not
// replaced.
func (n *Namespace) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return CommandIn(ctx, n.Path(), name, args...)
}

// CommandIn is Namespace.Command for a namespace that another process of this
// machine holds; namespace is what its Path returned.
func CommandIn(ctx context.Context, namespace, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + namespace, "--", name}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Do runs fn with the calling goroutine inside the namespace. Sockets that fn
// opens stay there; goroutines that fn starts are not in it. Look-ups of host
// names may leave it too, so use addresses.
func (n *Namespace) Do(fn func() error) (err error) {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("cannot enter the lab's network namespace: %w", err)
	}
	defer func() {
		if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
			// The thread stays locked and ends with its goroutine: nobody else
			// may run on it.
			err = errors.Join(err, fmt.Errorf("cannot leave the lab's network namespace: %w", back))
			return
		}
		runtime.UnlockOSThread()
	}()
	return fn()
}

// DialContext connects from inside the namespace; it fits http.Transport and
// client-go's rest.Config.Dial. The address must be an IP address and a port.
func (n *Namespace) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("the lab's network has no names, only addresses: %w", err)
	}
	var conn net.Conn
	err := n.Do(func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen is net.Listen inside the namespace.
func (n *Namespace) Listen(network, address string) (net.Listener, error) {
	var listener net.Listener
	err := n.Do(func() (err error) {
		listener, err = net.Listen(network, address)
		return err
	})
	return listener, err
}

// ListenPacket is net.ListenPacket inside the namespace.
func (n *Namespace) ListenPacket(network, address string) (net.PacketConn, error) {
	var conn net.PacketConn
	err := n.Do(func() (err error) {
		conn, err = net.ListenPacket(network, address)
		return err
	})
	return conn, err
}
