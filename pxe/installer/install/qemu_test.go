package install_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ulikunitz/xz"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
)

// bootLimit bounds the life of a machine, so that one that hangs fails the test.
const bootLimit = 10 * time.Minute

// boot runs the installer on an emulated machine until the machine reboots, and
// returns what its serial console said. The machine reaches the service at
// 10.0.2.2 by QEMU's own DHCP server and network, in which nothing else is.
func boot(t *testing.T, s *service, devices ...string) string {
	t.Helper()
	files := os.Getenv("RHIZOME_BOOT_FILES")
	if files == "" {
		t.Fatal("RHIZOME_BOOT_FILES is not set: run 'pxe/installer/build.sh dist/boot' and set it to the absolute path of dist/boot")
	}
	serial := filepath.Join(t.TempDir(), "serial")
	args := []string{
		"-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1024",
		"-nodefaults", "-display", "none", "-no-reboot", "-serial", "file:" + serial,
		"-kernel", filepath.Join(files, "installer/amd64/vmlinuz"),
		"-initrd", filepath.Join(files, "installer/amd64/initrd.img"),
		"-append", fmt.Sprintf("rhizome.init=%s rhizome.mac=52:54:00:00:00:01 rhizome.pause=1s console=tty0 console=ttyS0 %s", s.initURL(), s.arguments),
		"-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,mac=52:54:00:00:00:01,romfile=",
		"-device", "qemu-xhci",
		"-uuid", "12345678-9abc-def0-1234-56789abcdef0",
		// A machine whose clock battery is dead.
		"-rtc", "base=2001-01-01T00:00:00",
	}
	started := time.Now()
	cmd := exec.Command("qemu-system-x86_64", append(args, devices...)...)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var err error
	select {
	case err = <-ended:
	case <-time.After(bootLimit):
		_ = cmd.Process.Kill()
		err = fmt.Errorf("the machine did not reboot within %s", bootLimit)
		<-ended
	}
	log, readErr := os.ReadFile(serial)
	if err != nil || readErr != nil {
		t.Fatalf("%v %v\n%s\n%s", err, readErr, complaints.Bytes(), log)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.firstAt.IsZero() {
		t.Logf("power on to init config asked for: %s; to the reboot: %s", s.firstAt.Sub(started).Round(100*time.Millisecond), time.Since(started).Round(100*time.Millisecond))
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("serial console:\n%s", log)
		}
	})
	return string(log)
}

func virtioDisk(path, serial string) []string {
	return []string{
		"-drive", "file=" + path + ",format=raw,if=none,id=" + serial + ",discard=unmap",
		"-device", "virtio-blk-pci,drive=" + serial + ",serial=" + serial,
	}
}

func TestMachineIsInstalledOverABrokenConnection(t *testing.T) {
	image := makeImage(t)
	s := serve(t, "10.0.2.2", image, func(s *service) { s.cuts = 2 })
	disk := used(t, diskSize)
	log := boot(t, s, virtioDisk(disk, "only")...)

	installed(t, disk, image, s.plan.Seed)
	last := s.last()
	if last.Stage != pxe.StageInstalled || last.UUID != "12345678-9abc-def0-1234-56789abcdef0" || !strings.Contains(last.Disk, "/dev/vda") {
		t.Errorf("the last report is %+v", last)
	}
	if first := s.reports[0]; first.Stage != pxe.StageInstalling || first.Step != "disk" {
		t.Errorf("the first report is %+v: it must name the disk before anything is written", first)
	}
	if len(s.ranges) != 3 || s.ranges[0] != "" || s.ranges[1] == "" || s.ranges[2] == "" {
		t.Errorf("the image was asked for with the ranges %q: want the rest after each cut", s.ranges)
	}
	if strings.Contains(log, claim) {
		t.Error("the claim is on the console")
	}
	if !strings.Contains(log, "the clock is off by") {
		t.Error("the clock was not set")
	}
}

func TestMachineWithTwoDisksIsNotTouched(t *testing.T) {
	// A refusal comes first: it is shown, and asked again.
	s := serve(t, "10.0.2.2", makeImage(t), func(s *service) { s.refuse = 1 })
	sata, nvme, stick := used(t, diskSize), used(t, diskSize), used(t, diskSize)
	log := boot(t, s,
		"-drive", "file="+sata+",format=raw,if=none,id=sata", "-device", "ide-hd,drive=sata,serial=SATA-1",
		"-drive", "file="+nvme+",format=raw,if=none,id=nvme", "-device", "nvme,drive=nvme,serial=NVME-1",
		"-drive", "file="+stick+",format=raw,if=none,id=stick", "-device", "usb-storage,drive=stick,serial=USB-1",
	)
	for _, disk := range []string{sata, nvme, stick} {
		untouched(t, disk)
	}
	last := s.last()
	if last.Stage != pxe.StageFailed || last.Step != "disk" {
		t.Errorf("the last report is %+v, want Failed at disk", last)
	}
	for _, want := range []string{
		`spec.disk: {serial: "SATA-1"}`, `spec.disk: {serial: "NVME-1"}`, `spec.disk: {serial: "USB-1"}`,
		"2 disks of this machine match", "it is a USB disk",
	} {
		if !strings.Contains(last.Message, want) {
			t.Errorf("the report does not say %q:\n%s", want, last.Message)
		}
		if !strings.Contains(log, want) {
			t.Errorf("the console does not say %q", want)
		}
	}
	if !strings.Contains(log, "rule:   ClaimExpired") {
		t.Error("the console does not show the refusal")
	}
	if len(s.ranges) != 0 {
		t.Error("the image was asked for")
	}
}

func TestMachineWithAWrongImageCannotBoot(t *testing.T) {
	image := makeImage(t)
	s := serve(t, "10.0.2.2", image, func(s *service) {
		s.plan.Image.SHA256 = strings.Repeat("0", 64)
		s.plan.Disk = plan.DiskHint{Serial: "right"}
	})
	right, wrong := used(t, diskSize), used(t, diskSize)
	log := boot(t, s, append(virtioDisk(wrong, "wrong"), virtioDisk(right, "right")...)...)

	untouched(t, wrong)
	disk, err := os.ReadFile(right)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(disk[:mib], make([]byte, mib)) || !bytes.Equal(disk[diskSize-mib:], make([]byte, mib)) {
		t.Error("the disk has something where partition tables are")
	}
	last := s.last()
	if last.Stage != pxe.StageFailed || last.Step != "image" || !strings.Contains(last.Message, "SHA-256") {
		t.Errorf("the last report is %+v, want Failed by the SHA-256", last)
	}
	if !strings.Contains(log, "INSTALLATION FAILED (image)") {
		t.Error("the console does not show the failure")
	}
}

func TestMachineReportsACrashOfTheInstaller(t *testing.T) {
	// An image that asks for as much memory as one may, where the kernel gives less: the
	// Go runtime ends the program without a chance to clean up.
	s := serve(t, "10.0.2.2", makeImage(t), func(s *service) {
		s.pack(greedyXZ(t, make([]byte, mib)), plan.XZ)
		// Enough for the installer until then, some 250 MB, and not for the 64 MiB more.
		s.arguments = "sysctl.vm.overcommit_memory=2 sysctl.vm.overcommit_kbytes=285000"
	})
	disk := used(t, diskSize)
	log := boot(t, s, virtioDisk(disk, "only")...)
	untouched(t, disk)
	last := s.last()
	if last.Stage != pxe.StageFailed || last.Step != "crash" || !strings.Contains(last.Message, "out of memory") {
		t.Errorf("the last report is %+v, want Failed by a crash", last)
	}
	if !strings.Contains(log, "the installer crashed with the code") {
		t.Error("the console does not show the crash")
	}
}

// greedyXZ packs b so that unpacking asks for 64 MiB: the size of the dictionary in
// the first block's header is changed (The .xz File Format 1.1.0, sections 3.1 and
// 5.3.1).
func greedyXZ(t *testing.T, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := xz.NewWriter(&out)
	if err == nil {
		_, err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	const streamHeader, sixtyFourMiB = 12, 28
	header := out.Bytes()[streamHeader:]
	header = header[:4*(int(header[0])+1)]
	lzma2 := bytes.Index(header, []byte{0x21, 0x01})
	if lzma2 < 0 {
		t.Fatal("the block header names no LZMA2 filter")
	}
	header[lzma2+2] = sixtyFourMiB
	binary.LittleEndian.PutUint32(header[len(header)-4:], crc32.ChecksumIEEE(header[:len(header)-4]))
	return out.Bytes()
}
