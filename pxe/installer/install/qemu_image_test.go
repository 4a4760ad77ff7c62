package install_test

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
)

// TestMachineTakesAnImage installs the image named by RHIZOME_IMAGE, a raw GPT disk
// image packed with zstd, such as the lab's, and compares all of it.
func TestMachineTakesAnImage(t *testing.T) {
	path := os.Getenv("RHIZOME_IMAGE")
	if path == "" {
		t.Skip("RHIZOME_IMAGE is not set: no image of yours was tried (set it to the absolute path of a raw disk image packed with zstd)")
	}
	packed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, "10.0.2.2", nil, func(s *service) { s.pack(packed, plan.Zstd) })
	disk := os.Getenv("RHIZOME_DISK") // kept, to be booted by hand
	if disk == "" {
		disk = t.TempDir() + "/disk"
	}
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(disk, 8<<30); err != nil {
		t.Fatal(err)
	}
	log := boot(t, s, virtioDisk(disk, "only")...)
	for line := range strings.Lines(log) {
		if strings.Contains(line, "rhizome: image") {
			t.Log(strings.TrimSpace(line))
		}
	}
	if last := s.last(); last.Stage != pxe.StageInstalled {
		t.Fatalf("the last report is %+v", last)
	}
	if out := run(t, "sgdisk", "--verify", disk); !bytes.Contains(out, []byte("No problems found")) {
		t.Errorf("sgdisk finds problems:\n%s", out)
	}

	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	image, err := zstd.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	want, got := make([]byte, mib), make([]byte, mib)
	for at := int64(0); ; at += mib {
		_, err := io.ReadFull(image, want)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.ReadAt(got, at); err != nil {
			t.Fatal(err)
		}
		// The partition tables at both ends of the image are the disk's own.
		if end := mib - 33*512; at > 0 && !bytes.Equal(want[:end], got[:end]) {
			t.Fatalf("the disk differs from the image in the MiB at %d", at)
		}
	}
}
