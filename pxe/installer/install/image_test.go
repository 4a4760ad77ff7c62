package install_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

const mib = 1 << 20

// diskSize is that of the disks installed on, imageEnd the end of the image's last
// partition.
const (
	diskSize = 40 * mib
	imageEnd = 20 * mib
)

// makeImage makes a disk image of 24 MiB with a GPT of two partitions: noise,
// then zeroes in the middle, then noise.
func makeImage(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 24*mib); err != nil {
		t.Fatal(err)
	}
	run(t, "sgdisk", "--clear", "--new=1:2048:+4M", "--new=2:0:+15M", path)
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	noise := rand.NewChaCha8([32]byte{1})
	copy(image[:440], bytes.Repeat([]byte{0x90}, 440)) // boot code
	_, _ = noise.Read(image[1*mib : 5*mib])
	_, _ = noise.Read(image[15*mib : imageEnd-777])
	return image
}

// used makes a disk that has been used: no byte of it is zero.
func used(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, bytes.Repeat([]byte{0xa5}, int(size)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// untouched fails the test if anything was written to a disk made by used.
func untouched(t *testing.T, path string) {
	t.Helper()
	disk, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(disk, bytes.Repeat([]byte{0xa5}, len(disk))) {
		t.Error("the disk was written to")
	}
}

// installed checks a disk with other people's tools.
func installed(t *testing.T, path string, image []byte, seed map[string]string) {
	t.Helper()
	disk, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// All of both partitions is as in the image, and so is the boot code.
	if !bytes.Equal(disk[:440], image[:440]) {
		t.Error("the boot code is not the image's")
	}
	if !bytes.Equal(disk[mib:imageEnd], image[mib:imageEnd]) {
		t.Error("the partitions differ from the image's")
	}
	if out := run(t, "sgdisk", "--verify", path); !bytes.Contains(out, []byte("No problems found")) {
		t.Errorf("sgdisk does not like the partition table:\n%s", out)
	}
	// Where the seed is: the last partition, up to the end of the disk.
	const seedSize = 8 * mib
	start := (int64(len(disk)) - 33*512 - seedSize) / mib * mib
	volume := filepath.Join(t.TempDir(), "volume")
	if err := os.WriteFile(volume, disk[start:start+seedSize], 0o600); err != nil {
		t.Fatal(err)
	}
	if out := run(t, "blkid", "--probe", "--output", "export", volume); !bytes.Contains(out, []byte("LABEL=CIDATA")) || !bytes.Contains(out, []byte("TYPE=vfat")) {
		t.Errorf("blkid does not see the seed at %d:\n%s", start, out)
	}
	run(t, "fsck.fat", "-n", volume)
	for name, want := range seed {
		if got := run(t, "mtype", "-i", volume, "::"+name); string(got) != want {
			t.Errorf("the seed's %s is %q, want %q", name, got, want)
		}
	}
}

func run(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}
