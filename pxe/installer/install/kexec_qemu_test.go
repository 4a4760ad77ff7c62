package install_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/installer/initramfs"
	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
)

// makeSystem makes a disk image with one partition, a file system made by makeFS of the
// directory that it is given: in /boot the distribution's kernel, an initial ramdisk of
// which the program says its kernel's command line and powers the machine off, and
// GRUB's script.
func makeSystem(t *testing.T, grub string, size int64, makeFS func(dir, device string)) string {
	t.Helper()
	boot := os.Getenv("RHIZOME_BOOT_FILES")
	if boot == "" {
		t.Fatal("RHIZOME_BOOT_FILES is not set: run 'pxe/installer/build.sh dist/boot' and set it to the absolute path of dist/boot")
	}
	work := t.TempDir()
	dir, program := filepath.Join(work, "root"), filepath.Join(work, "hello")
	build := exec.Command("go", "build", "-o", program, "../../../test/netboot/hello")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	hello, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "boot/grub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "boot/grub/grub.cfg"), []byte(grub), 0o644); err != nil {
		t.Fatal(err)
	}
	initrd, err := os.Create(filepath.Join(dir, "boot/initrd.img"))
	if err != nil {
		t.Fatal(err)
	}
	if err := initramfs.WriteProgram(initrd, hello); err != nil {
		t.Fatal(err)
	}
	if err := initrd.Close(); err != nil {
		t.Fatal(err)
	}
	run(t, "cp", filepath.Join(boot, "installer/amd64/vmlinuz"), filepath.Join(dir, "boot/vmlinuz-1"))
	if err := os.Symlink("vmlinuz-1", filepath.Join(dir, "boot/vmlinuz")); err != nil {
		t.Fatal(err)
	}

	image, partition := filepath.Join(work, "image"), filepath.Join(work, "partition")
	for path, size := range map[string]int64{image: size + 2*mib, partition: size} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
	}
	makeFS(dir, partition)
	run(t, "sgdisk", "--clear", fmt.Sprintf("--new=1:2048:+%dM", size/mib), image)
	run(t, "dd", "if="+partition, "of="+image, "bs=1M", "seek=1", "conv=notrunc,sparse", "status=none")
	return image
}

func ext4(t *testing.T) func(dir, device string) {
	return func(dir, device string) { run(t, "mke2fs", "-q", "-t", "ext4", "-d", dir, device) }
}

// xfs makes the one whose files mkfs.xfs is told by a list (mkfs.xfs(8), "protofile").
func xfs(t *testing.T) func(dir, device string) {
	return func(dir, device string) {
		list := strings.NewReplacer("DIR", dir).Replace(`/
0 0
d--755 0 0
boot d--755 0 0
vmlinuz-1 ---644 0 0 DIR/boot/vmlinuz-1
vmlinuz l--777 0 0 vmlinuz-1
initrd.img ---644 0 0 DIR/boot/initrd.img
grub d--755 0 0
grub.cfg ---644 0 0 DIR/boot/grub/grub.cfg
$
$
$
`)
		path := filepath.Join(t.TempDir(), "list")
		if err := os.WriteFile(path, []byte(list), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, "mkfs.xfs", "-q", "-p", path, device)
	}
}

const ofItsOwn = `set default="0"
menuentry 'A system' {
	search --no-floppy --fs-uuid --set=root 1234
	linux	/boot/vmlinuz root=PARTLABEL=a ro console=ttyS0 panic=1
	initrd	/boot/initrd.img
}
`

func TestMachineGoesFromAQcow2FileIntoItsNewSystemByKexec(t *testing.T) {
	const size = 80 * mib
	for _, tt := range []struct {
		reason string
		image  func(t *testing.T) string
		want   string // of the last report; empty: the new system is started
	}{
		{"from ext4", func(t *testing.T) string { return makeSystem(t, ofItsOwn, size, ext4(t)) }, ""},
		{"from XFS", func(t *testing.T) string { return makeSystem(t, ofItsOwn, 300*mib, xfs(t)) }, ""},
		{"a system that starts in a way of its own", func(t *testing.T) string {
			return makeSystem(t, strings.Replace(ofItsOwn, `"0"`, `"1"`, 1), size, ext4(t))
		}, "another entry than the first"},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			image := tt.image(t)
			run(t, "qemu-img", "convert", "-f", "raw", "-c", "-O", "qcow2", image, image+".qcow2")
			packed, err := os.ReadFile(image + ".qcow2")
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(image)
			if err != nil {
				t.Fatal(err)
			}
			s := serve(t, "10.0.2.2", nil, func(s *service) {
				s.pack(packed, plan.None)
				s.plan.Kexec = true
			})
			disk := used(t, info.Size()+24*mib)
			log := boot(t, s, virtioDisk(disk, "only")...)

			last := s.last()
			if last.Stage != pxe.StageInstalled {
				t.Fatalf("the last report is %+v", last)
			}
			if tt.want != "" {
				if !strings.Contains(last.Message, "it restarts, because") || !strings.Contains(last.Message, tt.want) {
					t.Errorf("the last report says %q, want why it restarts: %q", last.Message, tt.want)
				}
				if strings.Contains(log, "HELLO ") || !strings.Contains(log, "rebooting into the installed system") {
					t.Error("the machine did not restart")
				}
				return
			}
			if !strings.Contains(last.Message, "its kernel is started by kexec") {
				t.Errorf("the last report says %q", last.Message)
			}
			if !strings.Contains(log, "HELLO root=PARTLABEL=a ro console=ttyS0 panic=1\n") && !strings.Contains(log, "HELLO root=PARTLABEL=a ro console=ttyS0 panic=1\r\n") {
				t.Error("the new system did not say its command line")
			}
		})
	}
}
