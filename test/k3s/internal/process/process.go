// Package process runs the programs of a k3s node as children of one
// process: they die with it, and it notices when one of them dies.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Self is the path of the running program, for children that are the same
// program under another name.
const Self = "/proc/self/exe"

// Child is one program to run.
type Child struct {
	Name string // argv[0], and the prefix of its log lines
	Path string // Self for a part of this very program
	Args []string
	Env  []string // beyond the parent's
	// Vital children end the node when they exit; others are started again.
	Vital bool
	// Grace is how long the child may take to end when told to; zero means 10 s.
	Grace time.Duration
	// PIDFile, if given, names the running child.
	PIDFile string
	// Line, if given, sees every line of output without its newline.
	Line func(string)
}

// Group runs children and stops them in the reverse order of their start.
// Its methods may be called from any goroutine.
type Group struct {
	// Log receives every child's output, line by line, prefixed by its name.
	Log io.Writer

	mu       sync.Mutex
	running  []*running
	stopping bool
	failed   chan error
	once     sync.Once
}

type running struct {
	stop context.CancelFunc
	done chan struct{}
}

// Failed delivers the error of the first vital child that exited.
func (g *Group) Failed() <-chan error {
	g.init()
	return g.failed
}

func (g *Group) init() { g.once.Do(func() { g.failed = make(chan error, 1) }) }

// Start runs the child until Stop. It returns at once; a child that cannot be
// started counts as one that exited.
func (g *Group) Start(c Child) {
	g.init()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{stop: cancel, done: make(chan struct{})}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stopping {
		cancel()
		return
	}
	g.running = append(g.running, r)
	go func() {
		defer close(r.done)
		// The kernel sends the death signal when the *thread* that started
		// the child ends (prctl(2), PR_SET_PDEATHSIG), so keep it.
		runtime.LockOSThread()
		g.supervise(ctx, c)
	}()
}

func (g *Group) supervise(ctx context.Context, c Child) {
	for {
		err := g.run(ctx, c)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("exited without an error")
		}
		err = fmt.Errorf("%s: %w", c.Name, err)
		if c.Vital {
			select {
			case g.failed <- err:
			default:
			}
			return
		}
		log.Printf("%v; starting it again", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(3 * time.Second):
		}
	}
}

func (g *Group) run(ctx context.Context, c Child) error {
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	cmd.Args[0] = c.Name
	cmd.Env = append(os.Environ(), c.Env...)
	out := &lines{to: g.Log, prefix: c.Name + ": ", see: c.Line}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = c.Grace
	if c.Grace == 0 {
		cmd.WaitDelay = 10 * time.Second
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if c.PIDFile != "" {
		if err := os.WriteFile(c.PIDFile, []byte(strconv.Itoa(cmd.Process.Pid)), 0o644); err != nil {
			log.Printf("%s: %v", c.Name, err)
		}
	}
	return cmd.Wait()
}

// Stop ends all children, the last started first, and returns when they are
// gone.
func (g *Group) Stop() {
	g.mu.Lock()
	g.stopping = true
	all := g.running
	g.running = nil
	g.mu.Unlock()
	for i := len(all) - 1; i >= 0; i-- {
		all[i].stop()
		<-all[i].done
	}
}

// lines writes whole lines with a prefix, so that the children's lines do not
// mix.
type lines struct {
	to     io.Writer
	prefix string
	see    func(string)
	rest   []byte
}

func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 {
			return len(p), nil
		}
		if l.see != nil {
			l.see(string(l.rest[:i]))
		}
		line := append([]byte(l.prefix), l.rest[:i+1]...)
		l.rest = l.rest[i+1:]
		if _, err := l.to.Write(line); err != nil {
			return len(p), err
		}
	}
}

// Fail reports that a vital part that is no child has ended.
func (g *Group) Fail(err error) {
	g.init()
	select {
	case g.failed <- err:
	default:
	}
}
