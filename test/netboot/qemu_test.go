//go:build linux

package netboot

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/test/lab"
	"github.com/rhizome-dev/rhizome/test/pxeserver"
)

// bootFiles is a tree with our loaders, Debian's kernel and an initial ramdisk
// that says on the console that it runs.
func bootFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("../../pxe/loader/build.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("pxe/loader/build.sh: %v\n%s", err, out)
	}
	return dir
}

// withInstaller adds a kernel and an initial ramdisk whose init says that it runs.
func withInstaller(t *testing.T, dir string) {
	t.Helper()
	installer := filepath.Join(dir, "installer", "amd64")
	if err := os.MkdirAll(installer, 0o755); err != nil {
		t.Fatal(err)
	}
	image := lab.Image(t)
	kernel, err := os.ReadFile(image.Kernel)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(installer, "vmlinuz"), kernel, 0o644); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", filepath.Join(root, "init"), "./hello")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	archive := exec.Command("sh", "-c", "cd "+root+" && mkdir -p dev && find . | cpio -o -H newc --quiet | gzip -1")
	initrd, err := archive.Output()
	if err != nil {
		t.Fatalf("cpio: %v", err)
	}
	if err := os.WriteFile(filepath.Join(installer, "initrd.img"), initrd, 0o644); err != nil {
		t.Fatal(err)
	}
}

// The machine installs under its open claim: whatever its firmware and whichever
// loader is asked for, it ends in the kernel and the initial ramdisk that the
// backend named, with the arguments that it gave. (test/matrix has more firmwares, and
// the other networks, with the real installer.)
func TestRealFirmwareBootsTheInstaller(t *testing.T) {
	dir := bootFiles(t)
	withInstaller(t, dir)
	for _, c := range []struct {
		name    string
		machine lab.MachineConfig
		loader  pxe.LoaderPolicy
		file    string // the loader that must have been fetched; empty: none
	}{
		{"UEFI PXE by iPXE", lab.MachineConfig{}, pxe.LoaderAuto, "loader/snponly.efi"},
		{"UEFI PXE by GRUB", lab.MachineConfig{}, pxe.LoaderGRUB, "loader/grubx64.efi"},
		{"iPXE in ROM on BIOS", lab.MachineConfig{Firmware: lab.BIOS}, pxe.LoaderAuto, ""},
		{"iPXE in ROM on UEFI", lab.MachineConfig{IPXE: true}, pxe.LoaderAuto, ""},
		{"iPXE in ROM on UEFI, GRUB asked for", lab.MachineConfig{IPXE: true}, pxe.LoaderGRUB, "loader/grubx64.efi"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := lab.New(t, lab.Options{})
			c.machine.Disks = []lab.Disk{}
			c.machine.Memory = 1024
			m, err := l.Machine(c.machine)
			if err != nil {
				t.Fatal(err)
			}
			mac := mustMAC(m.Config.MAC)
			s := pxeserver.Start(t, l.Network.Namespace, pxeserver.Config{
				Interface: lab.BridgeName, Address: l.Network.Laptop, BootFiles: dir,
				Machines: map[pxe.MAC]pxe.Decision{mac: {
					Action: pxe.Install, Reason: "a test", Loader: c.loader, Arch: pxe.AMD64,
					Kernel: pxe.Kernel{
						Path: "/installer/amd64/vmlinuz", Initrds: []string{"/installer/amd64/initrd.img"},
						Args: []string{"console=ttyS0", "rhizome.init=${base}/init/${mac}", "rhizome.mac=${mac}", "odd=a;b$c&d(e)"},
					},
				}},
			})
			ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
			defer cancel()
			if err := m.PowerOn(ctx); err != nil {
				t.Fatal(err)
			}
			line, err := m.WaitForSerial(ctx, regexp.MustCompile(`^HELLO `))
			if err != nil {
				t.Fatalf("%v\n%s", err, s.Story())
			}
			t.Logf("%s\n%s", line, s.Story())
			for _, want := range []string{
				"rhizome.init=http://" + l.Network.Laptop.String() + ":7480/init/" + string(mac),
				"rhizome.mac=" + string(mac), "odd=a;b$c&d(e)",
			} {
				if !regexp.MustCompile(`(^| )` + regexp.QuoteMeta(want) + `( |$)`).MatchString(line) {
					t.Errorf("the kernel's command line lacks %s:\n%s", want, line)
				}
			}
			var loader string
			for _, o := range s.Observations() {
				if o.Stage == pxe.StageLoader {
					loader = o.Message
				}
				if o.Stage == pxe.StageDHCP && o.Machine.UUID != m.Config.UUID {
					t.Errorf("the UUID in %+v is not the machine's own %s", o, m.Config.UUID)
				}
			}
			if loader != c.file {
				t.Errorf("the machine loaded %q, want %q", loader, c.file)
			}
		})
	}
}

// A declared machine without a claim is told to boot its own disk, and does, by
// every way that its firmware knows.
func TestRealFirmwareBootsItsOwnDisk(t *testing.T) {
	dir := bootFiles(t)
	image := lab.Image(t)
	for _, c := range []struct {
		name    string
		machine lab.MachineConfig
		loader  pxe.LoaderPolicy
		method  pxe.LocalBoot
	}{
		{"UEFI, GRUB chain-loads", lab.MachineConfig{}, pxe.LoaderAuto, pxe.LocalBootAuto},
		{"UEFI, iPXE chain-loads by GRUB", lab.MachineConfig{}, pxe.LoaderIPXE, pxe.LocalBootAuto},
		{"UEFI, iPXE leaves", lab.MachineConfig{}, pxe.LoaderIPXE, pxe.LocalBootExit},
		{"UEFI, silence", lab.MachineConfig{}, pxe.LoaderAuto, pxe.LocalBootSilence},
		{"BIOS, iPXE boots the disk", lab.MachineConfig{Firmware: lab.BIOS}, pxe.LoaderAuto, pxe.LocalBootAuto},
		{"BIOS, iPXE leaves", lab.MachineConfig{Firmware: lab.BIOS}, pxe.LoaderAuto, pxe.LocalBootExit},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := lab.New(t, lab.Options{})
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			disk := filepath.Join(t.TempDir(), "disk.raw")
			if err := image.Unpack(ctx, disk, 2<<30); err != nil {
				t.Fatal(err)
			}
			c.machine.Disks = []lab.Disk{{Path: disk}}
			c.machine.Memory = 1024
			m, err := l.Machine(c.machine)
			if err != nil {
				t.Fatal(err)
			}
			s := pxeserver.Start(t, l.Network.Namespace, pxeserver.Config{
				Interface: lab.BridgeName, Address: l.Network.Laptop, BootFiles: dir,
				Machines: map[pxe.MAC]pxe.Decision{mustMAC(m.Config.MAC): {
					Action: pxe.BootLocal, Reason: "no open claim", Loader: c.loader, Arch: pxe.AMD64, LocalBoot: c.method,
				}},
			})
			if err := m.PowerOn(ctx); err != nil {
				t.Fatal(err)
			}
			line, err := m.WaitForSerial(ctx, regexp.MustCompile(`Welcome to .*Debian`))
			if err != nil {
				t.Fatalf("%v\n%s", err, s.Story())
			}
			t.Logf("%s\n%s", line, s.Story())
			asked := false
			for _, o := range s.Observations() {
				asked = asked || o.Stage == pxe.StageDHCP
			}
			if !asked {
				t.Error("the machine booted its disk without asking the network first")
			}
		})
	}
}

// A machine that is to boot its own disk and has nothing on it does not stand still: it
// restarts by itself and asks the network anew, where a claim may wait for it by then.
func TestRealFirmwareWithABlankDiskAsksAgain(t *testing.T) {
	dir := bootFiles(t)
	for _, c := range []struct {
		name    string
		machine lab.MachineConfig
		loader  pxe.LoaderPolicy
	}{
		{"UEFI, GRUB", lab.MachineConfig{}, pxe.LoaderGRUB},
		{"UEFI, iPXE", lab.MachineConfig{}, pxe.LoaderIPXE},
		{"BIOS, iPXE", lab.MachineConfig{Firmware: lab.BIOS}, pxe.LoaderAuto},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := lab.New(t, lab.Options{})
			c.machine.Memory = 1024
			m, err := l.Machine(c.machine) // with one disk, which is blank
			if err != nil {
				t.Fatal(err)
			}
			s := pxeserver.Start(t, l.Network.Namespace, pxeserver.Config{
				Interface: lab.BridgeName, Address: l.Network.Laptop, BootFiles: dir,
				Machines: map[pxe.MAC]pxe.Decision{mustMAC(m.Config.MAC): {
					Action: pxe.BootLocal, Reason: "no open claim", Loader: c.loader, Arch: pxe.AMD64,
				}},
			})
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			if err := m.PowerOn(ctx); err != nil {
				t.Fatal(err)
			}
			told, err := s.WaitFor(ctx, func(o pxe.Observation) bool { return o.Stage == pxe.StageConfig })
			if err != nil {
				t.Fatalf("it was never told to boot its disk: %v\n%s", err, s.Story())
			}
			// Whatever runs on a machine asks for no address after its config, but the
			// firmware does when it starts.
			again, err := s.WaitFor(ctx, func(o pxe.Observation) bool {
				return o.Stage == pxe.StageDHCP && o.Time.After(told.Time)
			})
			if err != nil {
				t.Fatalf("it did not ask again: %v\n%s\nthe console:\n%s", err, s.Story(), lab.Tail(m.SerialLog(), 30))
			}
			t.Logf("it asked again %s after it was told to boot its disk", again.Time.Sub(told.Time).Round(time.Second))
			if n := m.PowerOns(); n != 1 {
				t.Errorf("it was powered on %d times: it is to restart by itself", n)
			}
		})
	}
}
