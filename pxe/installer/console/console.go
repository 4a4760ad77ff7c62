// Package console writes to every console of the machine at once, because the
// person in front of it may look at the screen or at a serial line.
package console

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Consoles is an io.Writer. Writing never waits for a console: one that is stuck
// loses text, the others do not. It is safe for concurrent use.
type Consoles struct {
	lines   []chan []byte
	pending sync.WaitGroup
}

// queue is how many writes may wait for one console.
const queue = 512

// Open opens the consoles that the kernel uses (sysfs, class/tty/console/active),
// or the one that it would choose if it does not say.
func Open(sysfs, dev string) *Consoles {
	names := []string{"console"}
	if b, err := os.ReadFile(filepath.Join(sysfs, "class/tty/console/active")); err == nil {
		if active := strings.Fields(string(b)); len(active) > 0 {
			names = active
		}
	}
	var writers []io.Writer
	for _, name := range names {
		if f, err := os.OpenFile(filepath.Join(dev, name), os.O_WRONLY, 0); err == nil {
			writers = append(writers, f)
		}
	}
	return New(writers...)
}

// New writes to each of these.
func New(writers ...io.Writer) *Consoles {
	c := &Consoles{}
	for _, w := range writers {
		line := make(chan []byte, queue)
		c.lines = append(c.lines, line)
		go func() {
			for b := range line {
				_, _ = w.Write(b) // nowhere is left to say that a console is broken
				c.pending.Done()
			}
		}()
	}
	return c
}

// Write implements io.Writer. It never fails.
func (c *Consoles) Write(p []byte) (int, error) {
	for _, line := range c.lines {
		c.pending.Add(1)
		select {
		case line <- slices.Clone(p):
		default:
			c.pending.Done()
		}
	}
	return len(p), nil
}

// Flush waits until everything is written, at most this long.
func (c *Consoles) Flush(limit time.Duration) {
	done := make(chan struct{})
	go func() {
		c.pending.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}
