package boot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// Supervise runs the program with these arguments and environment as a child
// and returns its exit code, copying what it prints to out. It collects orphans
// meanwhile, as the first process must. A child that was killed by a signal has
// the code 128 plus the signal's number.
func Supervise(program string, args []string, out io.Writer) (code int, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, fmt.Errorf("cannot make a pipe: %w", err)
	}
	cmd := exec.Command(program, args...) //nolint:noctx // it lives as long as this process
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		return 0, errors.Join(fmt.Errorf("cannot start %s: %w", program, err), r.Close(), w.Close())
	}
	_ = w.Close() // the child has its own
	copied := make(chan struct{})
	go func() {
		_, _ = io.Copy(out, r)
		close(copied)
	}()
	code = reap(cmd.Process.Pid)
	<-copied
	_ = r.Close()
	return code, nil
}

// reap waits for children until this one ends.
func reap(pid int) int {
	for {
		var status syscall.WaitStatus
		got, err := unix.Wait4(-1, (*unix.WaitStatus)(&status), 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return 1 // no children: cannot happen while the one is not reaped
		case got == pid && status.Signaled():
			return 128 + int(status.Signal())
		case got == pid:
			return status.ExitStatus()
		}
	}
}
