//go:build linux

package lab

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Firmware of a machine.
type Firmware string

const (
	// UEFI is OVMF with its own network boot: PXE, then HTTP.
	UEFI Firmware = "UEFI"
	// BIOS is SeaBIOS. It boots from the network through the iPXE in the
	// network card's ROM.
	BIOS Firmware = "BIOS"
	// UEFIARM64 is the same EDK2 as UEFI, for arm64 (AAVMF), always by emulation. It
	// needs the packages qemu-system-arm and qemu-efi-aarch64.
	UEFIARM64 Firmware = "UEFI arm64"
)

// BootOrder is what a machine's firmware tries.
type BootOrder string

const (
	// NetworkThenDisk is the order of a machine that Rhizome manages.
	NetworkThenDisk BootOrder = "NetworkThenDisk"
	// DiskOnly never asks the network.
	DiskOnly BootOrder = "DiskOnly"
)

// Bus is how a disk is attached.
type Bus string

// The buses.
const (
	VirtIO Bus = "virtio" // /dev/vd*
	NVMe   Bus = "nvme"   // /dev/nvme*n1
	SCSI   Bus = "scsi"   // /dev/sd*, virtio-scsi
	AHCI   Bus = "ahci"   // /dev/sd*, needs a kernel with SATA drivers: Debian's cloud kernel has none
)

// Disk describes a disk of a machine.
type Disk struct {
	// Path of the raw image. Empty: a blank one is made in the lab's directory.
	Path string
	// Size in bytes of a blank disk. Zero: 8 GiB. Sparse: it takes what is written.
	Size int64
	// Serial number, at most 20 characters. Empty: the machine's name and the
	// disk's number, such as "m1-disk0".
	Serial string
	// Bus. Empty: VirtIO.
	Bus Bus
}

// MachineConfig describes a machine. Its zero value is a blank UEFI machine with
// one disk that boots from the network first.
type MachineConfig struct {
	// Name, unique in the lab. Empty: "m1", "m2" and so on.
	Name string
	// MAC address. Nil: made from the name, so it stays the same.
	MAC net.HardwareAddr
	// UUID (SMBIOS). Empty: made from the name.
	UUID string
	// Firmware. Empty: UEFI.
	Firmware Firmware
	// IPXE puts iPXE's ROM on a UEFI machine's network card, in place of the
	// firmware's own network boot.
	IPXE bool
	// HTTPBoot makes a UEFI machine boot from the network by HTTP and not by PXE, as
	// one that is set so in its firmware's menu.
	HTTPBoot bool
	// SecureBoot makes a UEFI machine start only what is signed with the keys that
	// vendors put into theirs. x86-64 only.
	SecureBoot bool
	// BootOrder. Empty: NetworkThenDisk.
	BootOrder BootOrder
	// Memory in MiB. Zero: 3072.
	Memory int
	// CPUs. Zero: 2.
	CPUs int
	// Disks. Nil: a single one. An empty list: none.
	Disks []Disk
}

// Machine is a QEMU machine on the lab's network. It is made powered off; a
// magic packet, or PowerOn, powers it on. Its methods may be called from several
// goroutines at once.
type Machine struct {
	// Config is complete: what was left empty is filled in.
	Config MachineConfig

	dir    string
	qemu   []string
	tap    string
	lab    *Lab
	serial serialLog

	mu       sync.Mutex
	process  *process // of the last power-on; nil before the first
	powerOns int
}

// Names of a machine's files in its directory.
const (
	serialFile  = "serial.log"
	monitorFile = "qmp.sock"
	qemuLogFile = "qemu.log"
	varsFile    = "efi-vars.fd"
)

func newMachine(lab *Lab, config MachineConfig, accelerator, tap string) (*Machine, error) {
	m := &Machine{Config: config, lab: lab, tap: tap, dir: filepath.Join(lab.Dir, config.Name)}
	m.serial.path = m.SerialLog()
	if err := os.Mkdir(m.dir, 0o700); err != nil {
		return nil, err
	}
	for i := range m.Config.Disks {
		if err := m.makeDisk(i); err != nil {
			return nil, fmt.Errorf("machine %s: disk %d: %w", config.Name, i, err)
		}
	}
	if flash, ok := flashOf(config); ok {
		if err := copyFile(flash.vars, filepath.Join(m.dir, varsFile)); err != nil {
			return nil, fmt.Errorf("machine %s: firmware (package %s): %w", config.Name, flash.from, err)
		}
	}
	m.qemu = qemuArgs(m.Config, m.dir, accelerator, tap)
	return m, nil
}

func (c MachineConfig) withDefaults(number int) MachineConfig {
	if c.Name == "" {
		c.Name = fmt.Sprintf("m%d", number)
	}
	hash := sha256.Sum256([]byte(c.Name))
	if c.MAC == nil {
		// 52:54:00 is the prefix that QEMU uses for its own.
		c.MAC = net.HardwareAddr{0x52, 0x54, 0x00, hash[0], hash[1], hash[2]}
	}
	if c.UUID == "" {
		h := hash[3:19]
		h[6], h[8] = h[6]&0x0f|0x40, h[8]&0x3f|0x80
		c.UUID = fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
	}
	if c.Firmware == "" {
		c.Firmware = UEFI
	}
	if c.BootOrder == "" {
		c.BootOrder = NetworkThenDisk
	}
	if c.Memory == 0 {
		c.Memory = 3072
	}
	if c.CPUs == 0 {
		c.CPUs = 2
	}
	if c.Disks == nil {
		c.Disks = make([]Disk, 1)
	} else {
		c.Disks = append([]Disk{}, c.Disks...)
	}
	for i := range c.Disks {
		d := &c.Disks[i]
		if d.Size == 0 {
			d.Size = 8 << 30
		}
		if d.Serial == "" {
			d.Serial = fmt.Sprintf("%s-disk%d", c.Name, i)
		}
		if d.Bus == "" {
			d.Bus = VirtIO
		}
	}
	return c
}

func (m *Machine) makeDisk(number int) error {
	d := &m.Config.Disks[number]
	if d.Path != "" {
		_, err := os.Stat(d.Path)
		return err
	}
	d.Path = filepath.Join(m.dir, fmt.Sprintf("disk%d.raw", number))
	file, err := os.OpenFile(d.Path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(file.Truncate(d.Size), file.Close())
}

// PowerOn starts the machine from its firmware on. On a running one it does
// nothing. The machine lives until PowerOff, its own power-off, or the lab's end.
func (m *Machine) PowerOn(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.process != nil && m.process.running() {
		return nil
	}
	if err := m.lab.ctx.Err(); err != nil {
		return fmt.Errorf("machine %s: the lab is closed: %w", m.Config.Name, err)
	}
	m.powerOns++
	if err := m.note(fmt.Sprintf("---- power on %d, %s ----", m.powerOns, time.Now().UTC().Format(time.RFC3339))); err != nil {
		return err
	}
	_ = os.Remove(m.monitor())
	name := "machine " + m.Config.Name
	p, err := m.lab.run(name, filepath.Join(m.dir, qemuLogFile), m.lab.Network.Namespace, m.qemu[0], m.qemu[1:]...)
	if err != nil {
		return err
	}
	m.process = p
	for {
		if err := qmpExecute(ctx, m.monitor(), "query-status", nil); err == nil {
			m.lab.logger.Info("machine powered on", "machine", m.Config.Name, "count", m.powerOns)
			return nil
		}
		select {
		case <-p.done:
			return p.ended()
		case <-ctx.Done():
			p.stop()
			return fmt.Errorf("machine %s does not start: %w", m.Config.Name, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// note adds a line of the lab's own to the serial log.
func (m *Machine) note(line string) error {
	log, err := os.OpenFile(m.SerialLog(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(log, "\r\n%s\r\n", line)
	return errors.Join(err, log.Close())
}

// PowerOff pulls the plug.
func (m *Machine) PowerOff() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unplug()
}

// unplug kills the machine's program. The caller holds mu.
func (m *Machine) unplug() {
	if m.process == nil {
		return
	}
	m.process.stop()
	if err := m.lab.Network.forget(m.tap); err != nil && m.lab.ctx.Err() == nil {
		m.lab.logger.Warn("the bridge takes a machine for plugged in", "machine", m.Config.Name, "error", err)
	}
}

// Wipe pulls the plug and makes all disks as blank as new ones, before anything can
// turn the machine on again.
func (m *Machine) Wipe() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unplug()
	var errs []error
	for _, d := range m.Config.Disks {
		info, err := os.Stat(d.Path)
		if err == nil {
			// What is cut off is gone; what is grown again is a hole.
			err = errors.Join(os.Truncate(d.Path, 0), os.Truncate(d.Path, info.Size()))
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("machine %s: cannot wipe its disks: %w", m.Config.Name, err)
	}
	return m.note(fmt.Sprintf("---- wiped, %s ----", time.Now().UTC().Format(time.RFC3339)))
}

// Reset presses the reset button.
func (m *Machine) Reset(ctx context.Context) error {
	return m.monitorCommand(ctx, "system_reset", nil)
}

// Shutdown presses the power button: an operating system that listens to ACPI
// shuts down. WaitForPowerOff tells when it has.
func (m *Machine) Shutdown(ctx context.Context) error {
	return m.monitorCommand(ctx, "system_powerdown", nil)
}

// Running tells whether the machine is powered on.
func (m *Machine) Running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.process != nil && m.process.running()
}

// PowerOns counts how often the machine was powered on.
func (m *Machine) PowerOns() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.powerOns
}

// Status is the machine's state in QEMU's words ("running", "paused",
// "guest-panicked"), or "off".
func (m *Machine) Status(ctx context.Context) (string, error) {
	if !m.Running() {
		return "off", nil
	}
	var status struct{ Status string }
	err := m.monitorCommand(ctx, "query-status", &status)
	return status.Status, err
}

// MachineStatus is Machine.Status for a machine of another process, by its
// directory.
func MachineStatus(ctx context.Context, dir string) string {
	var status struct{ Status string }
	if err := qmpExecute(ctx, filepath.Join(dir, monitorFile), "query-status", &status); err != nil {
		return "off"
	}
	return status.Status
}

func (m *Machine) monitorCommand(ctx context.Context, command string, result any) error {
	if !m.Running() {
		return fmt.Errorf("machine %s is off", m.Config.Name)
	}
	if err := qmpExecute(ctx, m.monitor(), command, result); err != nil {
		return fmt.Errorf("machine %s: %w", m.Config.Name, err)
	}
	return nil
}

// WaitForSerial waits for a line of the serial console that matches, and returns
// it. Each search goes on behind the line that the last one found. The console
// of all power-ons is one log.
func (m *Machine) WaitForSerial(ctx context.Context, pattern *regexp.Regexp) (string, error) {
	line, err := m.serial.wait(ctx, pattern)
	if err != nil {
		return "", m.explain(fmt.Errorf("no line that matches %q: %w", pattern, err))
	}
	return line, nil
}

// WaitForPowerOff waits until the machine has powered itself off.
func (m *Machine) WaitForPowerOff(ctx context.Context) error {
	m.mu.Lock()
	p := m.process
	m.mu.Unlock()
	if p == nil {
		return nil
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return m.explain(fmt.Errorf("it does not power off: %w", ctx.Err()))
	}
}

// explain adds what a person wants to see when a machine disappoints.
func (m *Machine) explain(err error) error {
	state := "running"
	if !m.Running() {
		state = "off"
	}
	return fmt.Errorf("machine %s (%s): %w; the end of %s:\n%s", m.Config.Name, state, err, m.SerialLog(), Tail(m.SerialLog(), 30))
}

// SerialLog is the file with the output of the serial console.
func (m *Machine) SerialLog() string { return filepath.Join(m.dir, serialFile) }

// DiskPath is the raw image of the disk with the given number. It may be read
// and written while the machine is off.
func (m *Machine) DiskPath(number int) string { return m.Config.Disks[number].Path }

func (m *Machine) monitor() string { return filepath.Join(m.dir, monitorFile) }

func copyFile(from, to string) error {
	out, err := exec.Command("cp", "--sparse=always", "--", from, to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cannot copy %s: %s", from, strings.TrimSpace(string(out)))
	}
	return nil
}
