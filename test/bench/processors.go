//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// processors keeps servers and clients apart: a server has the last processor for
// itself, this process and the clients that it starts have the others. Nil: all have
// all, and take them from each other.
type processors struct{ server, clients unix.CPUSet }

// keepApart begins with this process.
func keepApart() (*processors, error) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return nil, fmt.Errorf("cannot read which processors there are: %w", err)
	}
	if all.Count() < 2 {
		return nil, errors.New("-apart needs two processors")
	}
	p := &processors{clients: all}
	last := 0
	for i, left := 0, all.Count(); left > 0; i++ {
		if all.IsSet(i) {
			last = i
			left--
		}
	}
	p.server.Set(last)
	p.clients.Clear(last)
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil, err
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return nil, err
		}
		if err := unix.SchedSetaffinity(id, &p.clients); err != nil && !errors.Is(err, unix.ESRCH) {
			return nil, fmt.Errorf("cannot keep this process off the servers' processor: %w", err)
		}
	}
	return p, nil
}

// start starts a server on its processor: it inherits that of the thread that starts it.
func (p *processors) start(start func() (*daemon, error)) (d *daemon, err error) {
	if p == nil {
		return start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.SchedSetaffinity(0, &p.server); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unix.SchedSetaffinity(0, &p.clients)) }()
	return start()
}
