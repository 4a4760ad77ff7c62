//go:build linux

package lab

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The image's promise to whoever installs it: written to a bigger disk, with a
// NoCloud partition behind it, it boots on either firmware and becomes what the
// partition says.
func TestLabImageBootsAndIsConfiguredByCloudInit(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT TESTED: boots machines, which takes minutes; run without -short")
	}
	image := Image(t)
	for _, firmware := range []Firmware{UEFI, BIOS} {
		t.Run(string(firmware), func(t *testing.T) {
			l := New(t, Options{})
			disk := filepath.Join(l.Dir, "disk0.raw")
			if err := image.Unpack(t.Context(), disk, 8<<30); err != nil {
				t.Fatal(err)
			}
			address := nth(l.Network.LAN, 10)
			config := MachineConfig{Name: "node", Firmware: firmware, BootOrder: DiskOnly, Disks: []Disk{{Path: disk}}}
			m, err := l.Machine(config)
			if err != nil {
				t.Fatal(err)
			}
			appendNoCloud(t, disk, map[string]string{
				"meta-data": "instance-id: lab-test\n",
				"user-data": `#cloud-config
hostname: lab-node
write_files:
  - path: /etc/lab-test
    content: written
runcmd:
  - "echo RESULT host=$(hostname) file=$(cat /etc/lab-test) root=$(findmnt -bno SIZE /) size"
  - "timeout 60 python3 -m http.server 8080 --directory /etc &"
  - "echo CONFIGURED"
`,
				"network-config": fmt.Sprintf(`version: 2
ethernets:
  lan0:
    match: {macaddress: %q}
    set-name: lan0
    addresses: [%s/%d]
    routes: [{to: 0.0.0.0/0, via: %s}]
    nameservers: {addresses: [%s]}
`, m.Config.MAC, address, l.Network.LAN.Bits(), l.Network.Gateway, l.Network.Gateway),
			})

			ctx := within(t, 20*time.Minute)
			started := time.Now()
			if err := m.PowerOn(ctx); err != nil {
				t.Fatal(err)
			}
			result, err := m.WaitForSerial(ctx, regexp.MustCompile(`RESULT .* size`))
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s: from power-on to cloud-init's last stage: %.0f s", firmware, time.Since(started).Seconds())
			fields := regexp.MustCompile(`host=(\S*) file=(\S*) root=(\d+)`).FindStringSubmatch(result)
			if fields == nil || fields[1] != "lab-node" || fields[2] != "written" {
				t.Errorf("the configuration was not applied: %s", result)
			} else if len(fields[3]) < 10 || fields[3] < "7" {
				// Ten digits that begin with 7: of 8 GiB, 8589934592 bytes.
				t.Errorf("the root file system has %s bytes, it was not grown", fields[3])
			}
			if _, err := m.WaitForSerial(ctx, regexp.MustCompile(`CONFIGURED`)); err != nil {
				t.Fatal(err)
			}
			for {
				conn, err := l.Network.DialContext(ctx, "tcp", address.String()+":8080")
				if err == nil {
					_ = conn.Close()
					break
				}
				if ctx.Err() != nil {
					t.Fatal(m.explain(fmt.Errorf("its static address %s does not answer: %w", address, err)))
				}
				time.Sleep(200 * time.Millisecond)
			}

			if err := m.Shutdown(ctx); err != nil {
				t.Fatal(err)
			}
			if err := m.WaitForPowerOff(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// appendNoCloud puts a small FAT partition with the given files at the end of a
// disk, as an installer does.
func appendNoCloud(t *testing.T, disk string, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	partition := filepath.Join(dir, "partition")
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		return string(out)
	}
	run("sgdisk", "--new=4:-4M:0", "--typecode=4:0700", disk)
	start := regexp.MustCompile(`First sector: (\d+)`).FindStringSubmatch(run("sgdisk", "--info=4", disk))
	if start == nil {
		t.Fatal("sgdisk does not tell where the partition starts")
	}
	run("truncate", "--size=4M", partition)
	run("mkfs.vfat", "-n", "CIDATA", partition)
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		run("mcopy", "-i", partition, path, "::/"+name)
	}
	run("dd", "if="+partition, "of="+disk, "bs=512", "seek="+start[1], "conv=notrunc", "status=none")
}

func TestImageKeyFollowsTheSources(t *testing.T) {
	key, err := imageKey()
	if err != nil {
		t.Fatal(err)
	}
	again, _ := imageKey()
	if key != again || !strings.HasPrefix(key, "image-") {
		t.Errorf("imageKey = %q, then %q", key, again)
	}
	dir := t.TempDir()
	if err := writeImageSource(dir); err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{"build.sh", "root/etc/initramfs-tools/hooks/image"} {
		info, err := os.Stat(filepath.Join(dir, script))
		if err != nil || info.Mode()&0o111 == 0 {
			t.Errorf("%s is not executable: %v", script, err)
		}
	}
}
