//go:build linux

// Package machine is a fake: computers without a processor, of which a test may
// have dozens. One is turned on by a magic packet, boots as strict firmware does
// (package firmware), and does in this process what the installer, cloud-init and
// systemd would do in it: it fetches the init config, verifies the image,
// reports, writes the files of the seed below a directory in the place of its
// disk, and runs the real join script there. A server's k3s is the stand-in,
// without an agent; what an agent does (join by token, kubelet, service proxy) is
// done here, with the credentials that the join gave; pods of the operator's
// image run as the real program in a container of its own.
package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"

	"github.com/rhizome-dev/rhizome/test/firmware"
	"github.com/rhizome-dev/rhizome/test/lab"
)

// Machine is one machine. It lives on while the programs that serve it are
// killed, and retries as a machine does. Fields are set before Run.
type Machine struct {
	Name    string // of the node that it is declared as
	MAC     net.HardwareAddr
	UUID    [16]byte // as its firmware sends it
	Address netip.Prefix
	Kind    firmware.Kind // empty: firmware.UEFI
	// Host is its place on the network.
	Host *lab.Namespace
	// Dir is its disk, below disk/, and what it says, below log/.
	Dir string
	// Image is the SHA-256 of what the installer must have received. Empty: of
	// anything.
	Image string
	// Programs are what its pods run.
	Programs Programs
	// ServerArgs are further arguments of k3s server, such as shorter leases.
	ServerArgs []string
	// Heartbeat is how often its kubelet says that it lives. Zero: 10 seconds, as k3s'.
	Heartbeat time.Duration
	// Log is told what it does.
	Log func(format string, args ...any)
	// Wiped is told of every wipe, with the digest of the claim. It may be nil.
	Wiped func(claim string)

	mu     sync.Mutex
	claims []string // digests of the claims under which the disk was wiped
	broken string
	button chan struct{}
	life   context.CancelFunc // nil while it is off
	pods   *pods              // of the running kubelet
	boots  int
	served string // URL of the image of the last init config

	// The faults (faults.go).
	hung, stalled bool
	ailment       string
	skew          time.Duration
}

// Programs are what pods of the operator's image run.
type Programs struct {
	// Rhizome is the operator's program, Boot the boot files of its image.
	Rhizome, Boot string
	// Container is the program of container/cmd/container.
	Container string
	// Repository is the name of the operator's image, without tag and digest. Pods of
	// other images are pretended to run.
	Repository string
}

const ifname = "eth0"

// Wipes are the digests (SHA-256, hexadecimal) of the claims under which the disk
// was wiped, in their order.
func (m *Machine) Wipes() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.claims...)
}

// Break gives the disk a fault that the installer reports. Empty: it is repaired.
func (m *Machine) Break(fault string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = fault
}

// PressPower turns the machine on if it is off, as a person does.
func (m *Machine) PressPower() {
	select {
	case m.power() <- struct{}{}:
	default:
	}
}

// Cut is a power cut: everything in the machine dies at once, and it is off. It
// does nothing to a machine that is off.
func (m *Machine) Cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.life != nil {
		m.life()
	}
}

// On tells whether the machine is on.
func (m *Machine) On() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.life != nil
}

// Boots counts how often the firmware ran.
func (m *Machine) Boots() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.boots
}

// ServedBy is the address of the PXE service that the last init config came from.
func (m *Machine) ServedBy() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	u, err := url.Parse(m.served)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

func (m *Machine) power() chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.button == nil {
		m.button = make(chan struct{}, 1)
	}
	return m.button
}

// Run is the machine's life, from plugging it in to pulling the plug, which is
// the end of ctx.
func (m *Machine) Run(ctx context.Context) error {
	for _, dir := range []string{m.logs(), m.disk()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	for ctx.Err() == nil {
		if err := m.standby(ctx); err != nil || ctx.Err() != nil {
			return err
		}
		life, off := context.WithCancel(ctx)
		m.mu.Lock()
		m.life = off
		m.mu.Unlock()
		err := m.on(life)
		m.mu.Lock()
		m.life = nil
		m.mu.Unlock()
		off()
		if err != nil && ctx.Err() == nil {
			return err
		}
		m.Log("%s: is off", m.Name)
	}
	return nil
}

// on is the life between power on and power off.
func (m *Machine) on(ctx context.Context) error {
	kind := m.Kind
	if kind == "" {
		kind = firmware.UEFI
	}
	for ctx.Err() == nil {
		m.restarted()
		m.mu.Lock()
		m.boots++
		m.mu.Unlock()
		outcome, err := firmware.Machine{MAC: m.MAC, Kind: kind, UUID: m.UUID,
			Waits: []time.Duration{time.Second, 2 * time.Second, 2 * time.Second}}.Boot(ctx, m.Host, ifname)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			m.Log("%s: hangs in its firmware and is restarted: %v", m.Name, err)
		case outcome.Local == "":
			if err := m.install(ctx, outcome); err != nil && ctx.Err() == nil {
				m.Log("%s: the installer gave up: %v", m.Name, err)
			}
		case m.seeded():
			m.Log("%s: boots its own disk (%s)", m.Name, outcome.Local)
			err := m.system(ctx)
			if errors.Is(err, errPowerOff) {
				return nil
			}
			if err != nil && ctx.Err() == nil && !errors.Is(err, errReboot) {
				return err
			}
		}
		sleep(ctx, time.Second)
	}
	return nil
}

// What ends a running system, beside a power cut.
var (
	errReboot   = errors.New("the system restarts")
	errPowerOff = errors.New("the system turns the machine off")
)

// standby is the network card, and the power button, of a machine that is off.
func (m *Machine) standby(ctx context.Context) error {
	var conn *packet.Conn
	err := m.Host.Do(func() error {
		card, err := net.InterfaceByName(ifname)
		if err != nil {
			return err
		}
		conn, err = packet.Listen(card, packet.Raw, unix.ETH_P_ALL, nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot listen for magic packets: %w", err)
	}
	pressed := m.power()
	waiting, woken := context.WithCancel(ctx)
	defer woken()
	go func() {
		select {
		case <-pressed:
			m.Log("%s: its button is pressed", m.Name)
			woken()
		case <-waiting.Done():
		}
	}()
	stop := context.AfterFunc(waiting, func() { _ = conn.Close() })
	defer func() {
		if stop() {
			_ = conn.Close()
		}
	}()
	frame := make([]byte, 65536)
	for {
		n, _, err := conn.ReadFrom(frame)
		if err != nil {
			if waiting.Err() != nil {
				return nil
			}
			return err
		}
		if target, ok := lab.MagicPacket(frame[:n]); ok && bytes.Equal(target, m.MAC) {
			m.Log("%s: woken", m.Name)
			return nil
		}
	}
}

func (m *Machine) disk() string { return filepath.Join(m.Dir, "disk") }
func (m *Machine) logs() string { return filepath.Join(m.Dir, "log") }

// Root is the root directory of the installed system.
func (m *Machine) Root() string { return filepath.Join(m.disk(), "root") }

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
