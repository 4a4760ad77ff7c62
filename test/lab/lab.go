//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"
)

// Options of a lab. The zero value is the lab of a home: a router that hands
// out addresses on 10.77.0.0/24.
type Options struct {
	// Dir is where logs, disks and sockets go. It must not exist or be empty, and
	// be short (sockets live in it). Empty: a new directory in the system's
	// directory for temporary files.
	Dir string
	// LAN is the network, IPv4, /26 or wider. Zero: DefaultLAN. Labs do not see
	// each other, so they may all have the same.
	LAN netip.Prefix
	// NoDHCP makes the router hand out no addresses, which leaves the LAN to a
	// DHCP server of ours.
	NoDHCP bool
	// Logger takes what the lab does. Nil: nothing is logged.
	Logger *slog.Logger
}

// Lab is a running network with its router, the standby cards that listen for
// Wake-on-LAN, and machines. Its methods may be called from several goroutines
// at once.
type Lab struct {
	// Dir has a directory for each machine, and the router's log and leases.
	Dir string
	// Network is the LAN; the bootstrapper runs in its namespace.
	Network *Network
	// Router is the foreign DHCP server.
	Router *Router

	ctx     context.Context // ends with the lab
	cancel  context.CancelFunc
	logger  *slog.Logger
	standby *standby

	mu        sync.Mutex
	machines  []*Machine
	processes map[string]*process
}

// Start makes a lab that lives until Close or the end of ctx or of this process.
func Start(ctx context.Context, options Options) (lab *Lab, err error) {
	if !options.LAN.IsValid() {
		options.LAN = DefaultLAN
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	if options.Dir == "" {
		if options.Dir, err = os.MkdirTemp("", "rhizome-lab-"); err != nil {
			return nil, err
		}
	} else if err := os.MkdirAll(options.Dir, 0o700); err != nil {
		return nil, err
	}

	l := &Lab{Dir: options.Dir, logger: options.Logger, processes: map[string]*process{}}
	l.ctx, l.cancel = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	if l.Network, err = newNetwork(options.LAN); err != nil {
		return nil, err
	}
	starting, cancel := context.WithTimeout(l.ctx, time.Minute)
	defer cancel()
	if l.Router, err = startRouter(starting, l, !options.NoDHCP); err != nil {
		return nil, err
	}
	if l.standby, err = listenForWakeOnLAN(l.ctx, l.Network, l.logger); err != nil {
		return nil, err
	}
	return l, nil
}

var machineName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,30}$`)

// Machine adds a machine to the LAN. It is powered off.
func (l *Lab) Machine(config MachineConfig) (*Machine, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	config = config.withDefaults(len(l.machines) + 1)
	if !machineName.MatchString(config.Name) {
		return nil, fmt.Errorf("machine name %q: lower-case letters, digits and dashes only", config.Name)
	}
	for _, other := range l.machines {
		if other.Config.Name == config.Name || other.Config.MAC.String() == config.MAC.String() {
			return nil, fmt.Errorf("machine %s: name or MAC %s is taken by machine %s", config.Name, config.MAC, other.Config.Name)
		}
	}
	accelerator, err := Accelerator(l.ctx)
	if err != nil {
		return nil, err
	}
	tap, err := l.Network.addTap()
	if err != nil {
		return nil, err
	}
	m, err := newMachine(l, config, accelerator, tap)
	if err != nil {
		return nil, err
	}
	l.machines = append(l.machines, m)
	l.standby.register(m.Config.MAC, m.PowerOn)
	return m, nil
}

// Machines are all machines in the order in which they were made.
func (l *Lab) Machines() []*Machine {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*Machine(nil), l.machines...)
}

// Close powers everything off and takes the network down. Files stay.
func (l *Lab) Close() error {
	l.cancel()
	var errs []error
	if l.standby != nil {
		errs = append(errs, l.standby.close())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.processes {
		p.stop()
	}
	clear(l.processes)
	if l.Network != nil {
		errs = append(errs, l.Network.Close())
	}
	return errors.Join(errs...)
}

// RemoveDisks deletes the disks that the lab made, and leaves the logs.
func (l *Lab) RemoveDisks() error {
	disks, err := filepath.Glob(filepath.Join(l.Dir, "*", "disk*.raw"))
	if err != nil {
		return err
	}
	var errs []error
	for _, disk := range disks {
		errs = append(errs, os.Remove(disk))
	}
	return errors.Join(errs...)
}

// run starts a program that ends with the lab.
func (l *Lab) run(name, log string, in *Namespace, program string, args ...string) (*process, error) {
	p, err := startProcess(name, log, in.Command(l.ctx, program, args...))
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.processes[name] = p
	return p, nil
}

// TB is what a lab needs of a testing.TB.
type TB interface {
	Helper()
	Name() string
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Context() context.Context
}

// New starts a lab that ends with the test. The logs of a test that failed are
// kept, and the test's output says where. Without root the test is skipped.
func New(t TB, options Options) *Lab {
	t.Helper()
	needsRoot(t)
	if options.Logger == nil {
		options.Logger = slog.New(slog.NewTextHandler(logWriter{t}, nil))
	}
	l, err := Start(context.WithoutCancel(t.Context()), options)
	if err != nil {
		t.Fatalf("cannot start the lab: %v", err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Logf("closing the lab: %v", err)
		}
		if t.Failed() {
			if err := l.RemoveDisks(); err != nil {
				t.Logf("removing the lab's disks: %v", err)
			}
			t.Logf("the lab's logs are kept in %s", l.Dir)
			return
		}
		if err := os.RemoveAll(l.Dir); err != nil {
			t.Logf("removing the lab's directory: %v", err)
		}
	})
	return l
}

func needsRoot(t TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skipf("NOT TESTED: the lab makes network namespaces and needs root; run the test as root")
	}
}

type logWriter struct{ t TB }

func (w logWriter) Write(line []byte) (int, error) {
	w.t.Logf("%s", line)
	return len(line), nil
}
