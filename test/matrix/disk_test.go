//go:build linux

package matrix

import (
	"context"
	"fmt"
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

// ownDisk is a machine that has no claim, and is to boot what is on its disk. (Of x86-64
// without Secure Boot test/netboot has every way to do that, from a whole system.)
type ownDisk struct {
	firmware firmwareOf
	network  string
	loader   pxe.LoaderPolicy
	// disk are the files of its EFI system partition.
	disk func(t *testing.T, files string) map[string]string
	// runs is what its console says when the disk's system runs.
	runs string
}

func TestOwnDisk(t *testing.T) {
	for _, r := range []ownDisk{
		{secure, server, pxe.LoaderSigned, signedSystem, `HELLO .*from=disk`},
		{arm, proxy, pxe.LoaderAuto, armSystem, `Linux version .*arm64`},
	} {
		t.Run(fmt.Sprintf("%s, %s, %s", r.firmware.name, r.network, nameOf(r.loader)), func(t *testing.T) {
			began, last := time.Now(), "nothing"
			defer func() {
				verdict := "own disk ok"
				switch {
				case t.Skipped():
					verdict = "not tested"
				case t.Failed():
					verdict = "own disk FAILED"
				}
				results.add(result{r.firmware.name, r.network, nameOf(r.loader), verdict, last, time.Since(began)})
			}()
			bootDisk(t, r, &last)
		})
	}
}

func bootDisk(t *testing.T, r ownDisk, last *string) {
	files := filesFor(t, r.firmware.MachineConfig)
	site := newSite(t, r.network)
	config := r.firmware.MachineConfig
	config.Disks, config.Memory = []lab.Disk{{Path: espDisk(t, r.disk(t, files))}}, 1024
	m, err := site.Machine(config)
	if err != nil {
		t.Fatal(err)
	}
	arch := pxe.AMD64
	if config.Firmware == lab.UEFIARM64 {
		arch = pxe.ARM64
	}
	site.config.BootFiles = files
	site.config.Machines = map[pxe.MAC]pxe.Decision{macOf(m.Config.MAC): {
		Action: pxe.BootLocal, Reason: "no open claim", Loader: r.loader, Arch: arch, Lease: site.lease,
	}}
	s := pxeserver.Start(t, site.in, site.config)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	defer func() { t.Log(s.Story()) }()
	if err := m.PowerOn(ctx); err != nil {
		t.Fatal(err)
	}
	if config.SecureBoot {
		if _, err := m.WaitForSerial(ctx, regexp.MustCompile(`[Ss]ecure boot enabled`)); err != nil {
			t.Fatal(err)
		}
	}
	line, err := m.WaitForSerial(ctx, regexp.MustCompile(r.runs))
	if err != nil {
		t.Fatal(err)
	}
	*last = line
	told := false
	for _, o := range s.Observations() {
		told = told || o.Stage == pxe.StageConfig
	}
	if !told {
		t.Error("the machine booted its disk without having been told to")
	}
}

// signedSystem is a system as Debian installs it: shim, the signed GRUB, the signed
// kernel.
func signedSystem(t *testing.T, files string) map[string]string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	grubs, err := filepath.Glob(filepath.Join(cache, "rhizome", "loader", "grub-efi-amd64-signed-*", "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"))
	if err != nil || len(grubs) == 0 {
		t.Fatalf("pxe/loader/build.sh left no signed GRUB in the cache: %v", err)
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "grub.cfg")
	if err := os.WriteFile(config, []byte("search --file --set=root /vmlinuz\nlinux /vmlinuz console=ttyS0 from=disk\ninitrd /initrd.img\nboot\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	hello := exec.Command("go", "build", "-ldflags=-s -w", "-o", filepath.Join(dir, "root", "init"), "../netboot/hello")
	hello.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := hello.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	initrd := filepath.Join(dir, "initrd.img")
	if out, err := exec.Command("sh", "-c", "cd "+dir+"/root && mkdir -p dev && find . | cpio -o -H newc --quiet | gzip -1 >"+initrd).CombinedOutput(); err != nil {
		t.Fatalf("cpio: %v\n%s", err, out)
	}
	return map[string]string{
		"EFI/debian/shimx64.efi": filepath.Join(files, "loader/signed/shimx64.efi"),
		"EFI/debian/grubx64.efi": grubs[len(grubs)-1],
		"EFI/debian/grub.cfg":    config,
		"vmlinuz":                filepath.Join(files, "installer/amd64/vmlinuz"),
		"initrd.img":             initrd,
	}
}

// armSystem is a kernel in the place of the removable media's loader: it is an EFI
// program by itself.
func armSystem(_ *testing.T, files string) map[string]string {
	return map[string]string{"EFI/BOOT/BOOTAA64.EFI": filepath.Join(files, "installer/arm64/vmlinuz")}
}

// espDisk makes a disk with an EFI system partition that holds the files, by their
// names on it.
func espDisk(t *testing.T, files map[string]string) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk.raw")
	script := `set -e
truncate -s 256M "$0"
sgdisk -n 1:2048:0 -t 1:ef00 "$0" >/dev/null
mkfs.vfat -F 32 --offset 2048 "$0" $(( (256 - 2) * 1024 )) >/dev/null
mmd -i "$0@@1M" ::EFI ::EFI/debian ::EFI/BOOT`
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "MTOOLS_SKIP_CHECK=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	run("sh", "-c", script, disk)
	for name, from := range files {
		run("mcopy", "-i", disk+"@@1M", from, "::"+name)
	}
	return disk
}
