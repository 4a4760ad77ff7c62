//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/rhizome-dev/rhizome/test/lab"
)

const (
	// readyTime is how long a server may take until it answers.
	readyTime = 20 * time.Second
	// stopTime is how long it may take to end in order.
	stopTime = 10 * time.Second
)

// daemon is a server that is being measured. It ends with this process.
type daemon struct {
	name  string
	cmd   *exec.Cmd
	log   tail
	ended chan struct{}
}

func startDaemon(name string, cmd *exec.Cmd) (*daemon, error) {
	d := &daemon{name: name, cmd: cmd, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &d.log, &d.log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	go func() {
		_ = cmd.Wait() // it is told to end, and how it took that is of no interest
		close(d.ended)
	}()
	return d, nil
}

// startPeer starts somebody else's server, with a process namespace around it: what
// it forks ends with it.
func startPeer(ctx context.Context, peers peers, host *lab.Namespace, env []string, name string, args ...string) (*daemon, error) {
	program, err := peers.find(name)
	if err != nil {
		return nil, err
	}
	cmd := host.Command(ctx, "unshare", append([]string{"--pid", "--fork", "--kill-child", "--", program}, args...)...)
	cmd.Env = append(peers.environment(), env...)
	return startDaemon(name, cmd)
}

// waitUntil tries until the server does what is asked of it.
func (d *daemon) waitUntil(ctx context.Context, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-d.ended:
			return fmt.Errorf("%s has ended; it said:\n%s", d.name, d.log.String())
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w; it said:\n%s", d.name, err, d.log.String())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// stop ends the server.
func (d *daemon) stop() error {
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-d.ended:
		return nil
	case <-time.After(stopTime):
	}
	if err := d.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-d.ended
	return nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailSize = 8 << 10

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if extra := len(t.text) - tailSize; extra > 0 {
		t.text = append(t.text[:0], t.text[extra:]...)
	}
	return len(b), nil
}

// String is the end of what was written.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
