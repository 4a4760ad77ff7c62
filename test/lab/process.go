//go:build linux

package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"time"
)

// process is a program that runs beside the lab with its output in a log file.
type process struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // why; valid once done is closed
}

func startProcess(name, log string, cmd *exec.Cmd) (*process, error) {
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	cmd.Stdout, cmd.Stderr = file, file
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start the lab's %s: %w", name, err)
	}
	p := &process{name: name, log: log, cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// stop kills the program and waits until it is gone.
func (p *process) stop() {
	_ = p.cmd.Process.Kill() // fails only if it has ended already
	<-p.done
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// ended describes the program's end, with the last lines that it said.
func (p *process) ended() error {
	return fmt.Errorf("the lab's %s has ended: %w; the end of %s:\n%s", p.name, p.err, p.log, Tail(p.log, 15))
}

// waitForPort waits until something accepts TCP connections at the address.
func (p *process) waitForPort(ctx context.Context, from *Namespace, address netip.AddrPort) error {
	for {
		conn, err := from.DialContext(ctx, "tcp", address.String())
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.done:
			return p.ended()
		case <-ctx.Done():
			return fmt.Errorf("the lab's %s does not answer at %s: %w", p.name, address, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
