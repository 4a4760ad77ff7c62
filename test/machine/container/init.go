//go:build linux

package container

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// restartSignal is SIGRTMIN+5, which tells systemd to restart the machine
// (systemd(1), "Signals").
const restartSignal = syscall.Signal(34 + 5)

// Init is a fake of systemd, as process 1 of the calling process's own PID
// namespace, and runs a container that sees it. Told to restart the machine, it
// does as systemd does at the end: reboot(2), which ends the namespace. It returns
// the container's exit code.
func Init(run *exec.Cmd) (int, error) {
	if os.Getpid() != 1 {
		return 0, errors.New("not process 1 of a PID namespace of its own")
	}
	if err := os.WriteFile("/proc/self/comm", []byte("systemd"), 0); err != nil {
		return 0, fmt.Errorf("cannot take systemd's name: %w", err)
	}
	told := make(chan os.Signal, 1)
	signal.Notify(told, restartSignal)
	run.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if err := run.Start(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- run.Wait() }()
	select {
	case <-told:
		return 0, unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	case err := <-ended:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return 0, err
		}
	}
	select {
	case <-told: // it had ended when the signal came through
		return 0, unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	default:
	}
	return run.ProcessState.ExitCode(), nil
}
