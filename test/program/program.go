//go:build linux

// Package program runs a real program for a test: on loopback, with its output
// in a log that is kept when the test fails, and never for longer than the test.
package program

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Dir makes a directory for what a program writes. It is removed when the test
// ends, but for *.log of a test that failed. Its path is short: sockets of Unix
// have room for 107 bytes.
func Dir(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", name+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			os.RemoveAll(dir)
			return
		}
		t.Logf("the logs of %s are in %s", name, dir)
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Log(err)
		}
		for _, e := range entries {
			if filepath.Ext(e.Name()) != ".log" {
				os.RemoveAll(filepath.Join(dir, e.Name()))
			}
		}
	})
	return dir
}

// Port is a TCP port that nothing listens on at 127.0.0.1 just now.
func Port(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Process is a program that runs. Its methods may be called from any goroutine.
type Process struct {
	name, log string
	process   *os.Process
	done      chan struct{} // closed when it has ended
	state     *os.ProcessState
}

// Start runs the command with its output appended to the log file. It is killed
// when the test ends, or when the test's own process does, however that ends.
func Start(t testing.TB, name, log string, cmd *exec.Cmd) *Process {
	t.Helper()
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd.Stdout, cmd.Stderr = file, file
	// A session of its own: Ctrl-C at a terminal reaches the test only, which
	// then takes its programs along.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	p := &Process{name: name, log: log, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The signal comes at the end of the thread that started the program, not
		// of the process (prctl(2), PR_SET_PDEATHSIG): this one lives as long as it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		p.process = cmd.Process
		started <- nil
		_ = cmd.Wait() // the verdict is in the ProcessState
		p.state = cmd.ProcessState
		close(p.done)
	}()
	if err := <-started; err != nil {
		t.Fatalf("cannot start %s: %v", name, err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("the end of what %s said:\n%s", name, p.Tail(40))
		}
	})
	return p
}

// Running says whether the program has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// PID is the program's process identifier.
func (p *Process) PID() int { return p.process.Pid }

// Kill ends the program as a power cut does, and returns when it is gone. A
// program that has ended is left as it is.
func (p *Process) Kill() {
	if p.Running() {
		// With the programs that it runs itself, as far as it left them in its group.
		_ = syscall.Kill(-p.process.Pid, syscall.SIGKILL) // fails only if it has just ended
	}
	<-p.done
}

// Stop asks the program to end, kills it when it does not within half a minute,
// and returns when it is gone.
func (p *Process) Stop() {
	_ = p.process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.Kill()
	}
}

// Pause lets the program hang: its port accepts connections and nothing answers.
func (p *Process) Pause() error { return p.process.Signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (p *Process) Resume() error { return p.process.Signal(syscall.SIGCONT) }

// Tail is the last lines that the program said.
func (p *Process) Tail(lines int) string {
	content, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Wait asks the probe until it finds no fault. It is an error when the context
// ends before, or the program does.
func (p *Process) Wait(ctx context.Context, probe func(context.Context) error) error {
	for {
		one, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := probe(one)
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s has ended: %s", p.name, p.state)
		case <-ctx.Done():
			return fmt.Errorf("%s does not work: %w", p.name, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
