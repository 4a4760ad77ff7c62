package seed

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rhizome-dev/rhizome/pxe/installer/disk"
	"github.com/rhizome-dev/rhizome/pxe/installer/stream"
)

const mib = 1 << 20

var files = map[string]string{
	"user-data":      "#cloud-config\n" + strings.Repeat("# a long line of a file that needs several clusters\n", 200),
	"meta-data":      "instance-id: node-1-1\n",
	"network-config": "version: 2\n",
}

// partitioned makes an image of this size with sgdisk or sfdisk and returns its path.
func partitioned(t *testing.T, size int64, tool string, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	if tool == "sfdisk" {
		cmd := exec.Command(tool, "--quiet", path)
		cmd.Stdin = strings.NewReader(strings.Join(args, "\n") + "\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("sfdisk: %v\n%s", err, out)
		}
		return path
	}
	run(t, tool, append(args, path)...)
	return path
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// install copies an image to a larger, used disk as the stream does, and seeds it.
func install(t *testing.T, image string, size int64) (string, error) {
	t.Helper()
	content, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	d, err := disk.OpenDevice(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	head := bytes.Clone(content[:min(stream.HeadBytes, len(content))])
	l, err := Inspect(head, d.Size(), d.SectorSize())
	if err != nil {
		return "", err
	}
	if len(content) > stream.HeadBytes {
		if _, err := d.WriteAt(content[stream.HeadBytes:], stream.HeadBytes); err != nil {
			t.Fatal(err)
		}
	}
	return path, Write(d, head, l, files)
}

func TestSeedIsReadByOtherPeoplesTools(t *testing.T) {
	tests := []struct {
		reason     string
		image      string
		disk       int64
		start      int64 // of the seed, in sectors
		dump       string
		keepsFirst bool
	}{
		{
			reason: "a GPT image on a larger disk: the seed is at the disk's end and has the first free number",
			image:  partitioned(t, 40*mib, "sgdisk", "--clear", "--new=1:2048:+8M", "--new=14:0:+1M", "--new=3:0:0"),
			disk:   200*mib + 512*5,
			start:  (192 - 1) * 2048,
			dump:   "2 : start=391168, size=16384, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7",
		},
		{
			reason: "a GPT image that leaves just enough room",
			image:  partitioned(t, 20*mib, "sgdisk", "--clear", "--new=1:2048:+8M"),
			disk:   20 * mib,
			start:  11 * 2048,
			dump:   "2 : start=22528, size=16384",
		},
		{
			reason: "an MBR image",
			image:  partitioned(t, 40*mib, "sfdisk", "label: dos", "2048,32768,L,*"),
			disk:   100 * mib,
			start:  92 * 2048,
			dump:   "2 : start=188416, size=16384, type=e",
		},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			path, err := install(t, tt.image, tt.disk)
			if err != nil {
				t.Fatal(err)
			}
			if dump := squeeze(run(t, "sfdisk", "--dump", path)); !strings.Contains(dump, tt.dump) {
				t.Errorf("sfdisk does not list %q:\n%s", tt.dump, dump)
			}
			if strings.Contains(tt.reason, "GPT") {
				if out := run(t, "sgdisk", "--verify", path); !strings.Contains(out, "No problems found") {
					t.Errorf("sgdisk finds problems:\n%s", out)
				}
			}
			volume := filepath.Join(t.TempDir(), "volume")
			all, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(volume, all[tt.start*512:tt.start*512+Size], 0o600); err != nil {
				t.Fatal(err)
			}
			run(t, "fsck.fat", "-n", volume)
			if out := run(t, "blkid", "--probe", "--output", "export", volume); !strings.Contains(out, "LABEL=CIDATA\n") || !strings.Contains(out, "TYPE=vfat\n") {
				t.Errorf("blkid says:\n%s", out)
			}
			for name, want := range files {
				if got := run(t, "mtype", "-i", volume, "::"+name); got != want {
					t.Errorf("%s is %q, want %q", name, got, want)
				}
			}
		})
	}
}

// squeeze makes sfdisk's columns comparable.
func squeeze(s string) string {
	return strings.ReplaceAll(strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' }), " "), "= ", "=")
}

func TestRootCanGrowUpToTheSeed(t *testing.T) {
	image := partitioned(t, 40*mib, "sgdisk", "--clear", "--new=1:2048:+8M", "--new=2:0:0")
	path, err := install(t, image, 200*mib)
	if err != nil {
		t.Fatal(err)
	}
	// The way of growpart: the same partition with all the room behind it.
	cmd := exec.Command("sfdisk", "--no-reread", "-N", "2", path)
	cmd.Stdin = strings.NewReader(",+\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk cannot grow the root partition: %v\n%s", err, out)
	}
	dump := squeeze(run(t, "sfdisk", "--dump", path))
	if want := fmt.Sprintf("2 : start=18432, size=%d,", 191*2048-18432); !strings.Contains(dump, want) {
		t.Errorf("the root partition did not grow to the seed, want %q:\n%s", want, dump)
	}
}

func TestImagesThatCannotBeInstalledAreRefusedBeforeAnythingIsWritten(t *testing.T) {
	gpt := func(args ...string) []byte {
		b, err := os.ReadFile(partitioned(t, 40*mib, "sgdisk", append([]string{"--clear"}, args...)...))
		if err != nil {
			t.Fatal(err)
		}
		return b[:mib]
	}
	mbrImage := func(lines ...string) []byte {
		b, err := os.ReadFile(partitioned(t, 40*mib, "sfdisk", append([]string{"label: dos"}, lines...)...))
		if err != nil {
			t.Fatal(err)
		}
		return b[:mib]
	}
	change := func(b []byte, f func([]byte)) []byte {
		b = bytes.Clone(b)
		f(b)
		return b
	}
	good := gpt("--new=1:2048:+8M")
	tests := []struct {
		reason string
		head   []byte
		disk   int64
		sector int
		want   string
	}{
		{"a file without a partition table", make([]byte, mib), 100 * mib, 512, "no partition table"},
		{"a few bytes", []byte("404 page not found"), 100 * mib, 512, "no disk image"},
		{"an image larger than the disk", good, 39 * mib, 512, "needs a disk of 41943040 bytes, this one has 40894464"},
		{"no room for the seed", gpt("--new=1:2048:0"), 40 * mib, 512, "no room for the seed"},
		{"an image for other sectors", good, 100 * mib, 4096, "sectors of 512 bytes, this disk has sectors of 4096"},
		{"a damaged GPT", change(good, func(b []byte) { b[1024] ^= 1 }), 100 * mib, 512, "cannot read the image's partition table"},
		{"a GPT whose entries are elsewhere", gpt("--move-main-table=64", "--new=1:4096:+8M"), 100 * mib, 512, "partition table is at sector 64"},
		{"a GPT with too many entries", change(good, func(b []byte) { b[512+82] = 0xff }), 100 * mib, 512, "entries"},
		{"an MBR without a free entry", mbrImage("2048,2048", "4096,2048", "6144,2048", "8192,2048"), 100 * mib, 512, "no free entry"},
		{"an empty MBR", mbrImage(), 100 * mib, 512, "empty partition table"},
		{"an MBR image on a disk with large sectors", mbrImage("2048,2048"), 100 * mib, 4096, "MBR partition table, which needs sectors of 512"},
		{"a protective MBR alone", change(good, func(b []byte) { clear(b[512:]) }), 100 * mib, 512, "protective MBR without a GPT"},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			_, err := Inspect(tt.head, tt.disk, tt.sector)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Inspect = %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestProtectiveMBRSaysSoOfDisksLargerThanItCanCount(t *testing.T) {
	head := make([]byte, 512)
	head[446+4] = 0xee
	fitProtectiveMBR(head, 1<<33)
	if got := binary.LittleEndian.Uint32(head[446+12:]); got != 0xffffffff {
		t.Errorf("the size is %#x, want 0xffffffff", got)
	}
}

func TestTooMuchContentIsRefused(t *testing.T) {
	if _, err := volume(map[string]string{"user-data": strings.Repeat("x", MaxContent+1)}, 512); err == nil {
		t.Error("a seed that does not fit was made")
	}
}

func FuzzInspect(f *testing.F) {
	f.Add(make([]byte, 1<<16), int64(100*mib))
	path := filepath.Join(f.TempDir(), "image")
	if err := errorsJoin(os.WriteFile(path, nil, 0o600), os.Truncate(path, 40*mib)); err != nil {
		f.Fatal(err)
	}
	if out, err := exec.Command("sgdisk", "--clear", "--new=1:2048:+8M", path).CombinedOutput(); err != nil {
		f.Fatalf("%v\n%s", err, out)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:1<<16], int64(100*mib))
	f.Fuzz(func(t *testing.T, head []byte, size int64) {
		if size < 0 {
			return
		}
		for _, sector := range []int{512, 4096} {
			l, err := Inspect(bytes.Clone(head), size, sector)
			if err == nil && (l.Start() < 0 || l.Start()+Size > size) {
				t.Errorf("the seed would be at %d of a disk of %d bytes", l.Start(), size)
			}
		}
	})
}

func errorsJoin(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
