//go:build linux

package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrOn is the error of what is done only to a machine that is off.
var ErrOn = errors.New("the machine is on")

// Hang freezes the machine: it stays on, and its kernel goes on to take connections,
// but nothing in it runs any more until it loses its power. It does nothing to a
// machine that is off.
func (m *Machine) Hang() error {
	m.mu.Lock()
	on := m.life != nil
	m.hung, m.stalled = on, on
	m.mu.Unlock()
	if !on {
		return nil
	}
	m.Log("%s: hangs", m.Name)
	own, err := os.Stat(m.Host.Path())
	if err != nil {
		return err
	}
	// What was just being started is found the next time.
	for range 20 {
		stopped, err := stopAll(own)
		if err != nil || stopped == 0 {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("%s: new processes come up as fast as they are stopped", m.Name)
}

// Stall freezes the kubelet alone: it says nothing to the API server nor to who
// connects, and what it started runs on.
func (m *Machine) Stall() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stalled = m.life != nil
	m.Log("%s: its kubelet hangs", m.Name)
}

// Ail has the kubelet say that the machine is not Ready, for this reason, until it
// boots again.
func (m *Machine) Ail(why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life != nil {
		m.ailment = why
	}
	m.Log("%s: ails: %s", m.Name, why)
}

// Skew sets the machine's clock wrong, for all that its kubelet dates: its Lease and
// its conditions. What runs as programs of its own, a server's k3s above all, has the
// right time: the kernel has no clock for some of its processes.
func (m *Machine) Skew(by time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.skew = by
	m.Log("%s: its clock is wrong by %s", m.Name, by)
}

// Blank puts an empty disk in the place of the one that there was. ErrOn: that is
// not done to a machine that is on.
func (m *Machine) Blank() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life != nil {
		return ErrOn
	}
	m.Log("%s: gets a blank disk", m.Name)
	return errors.Join(os.RemoveAll(m.disk()), os.MkdirAll(m.disk(), 0o755))
}

// Hangs tells whether the machine, or its kubelet, is frozen.
func (m *Machine) Hangs() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stalled
}

// now is the time by the machine's clock.
func (m *Machine) now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Now().Add(m.skew)
}

// ails says why the kubelet is not Ready; empty: it is.
func (m *Machine) ails() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ailment
}

// whileFrozen returns once the kubelet is not frozen, or ctx has ended.
func (m *Machine) whileFrozen(ctx context.Context) {
	for ctx.Err() == nil && m.Hangs() {
		sleep(ctx, 200*time.Millisecond)
	}
}

// boots anew: what a restart mends is mended.
func (m *Machine) restarted() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hung, m.stalled, m.ailment = false, false, ""
}

// stopAll stops the processes of a network namespace and tells how many ran.
func stopAll(namespace os.FileInfo) (int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	stopped := 0
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		in, err := os.Stat("/proc/" + e.Name() + "/ns/net")
		if err != nil || !os.SameFile(in, namespace) || isStopped(pid) {
			continue
		}
		if err := unix.Kill(pid, syscall.SIGSTOP); err == nil {
			stopped++
		}
	}
	return stopped, nil
}

// isStopped reads the state, the field after the name in parentheses (proc(5)).
func isStopped(pid int) bool {
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return true // it is gone
	}
	for i := len(content) - 1; i > 1; i-- {
		if content[i-1] == ')' && i+1 < len(content) {
			switch content[i+1] {
			case 'T', 't', 'Z', 'X':
				return true
			}
			return false
		}
	}
	return true
}
