package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"runtime"
	"testing"

	smallxz "github.com/mikelolasagasti/xz"
	"github.com/ulikunitz/xz"

	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
)

// A header may ask for a dictionary of 4 GiB, whatever is behind it: the machine's
// memory is not the image's to take.
func TestAnXZHeaderCannotTakeTheMemory(t *testing.T) {
	var file bytes.Buffer
	w, err := xz.NewWriter(&file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("an image")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	b := file.Bytes()
	if r, err := Decompress(plan.XZ, bytes.NewReader(b)); err != nil {
		t.Fatal(err)
	} else if got, err := io.ReadAll(r); err != nil || string(got) != "an image" {
		t.Fatalf("%q, %v", got, err)
	}
	// The block header (xz file format, section 3.1) follows twelve bytes of the
	// stream's: its size, flags, and of its only filter the ID, one, and the dictionary.
	header := b[12 : 12+(int(b[12])+1)*4]
	if header[2] != 0x21 || header[3] != 1 {
		t.Fatalf("the block header is % x", header)
	}
	header[4] = 40 // 4 GiB - 1
	binary.LittleEndian.PutUint32(header[len(header)-4:], crc32.ChecksumIEEE(header[:len(header)-4]))
	r, err := Decompress(plan.XZ, bytes.NewReader(b))
	if err == nil {
		_, err = io.ReadAll(r)
	}
	if !errors.Is(err, smallxz.ErrMemlimit) {
		t.Errorf("%v, want that the limit is kept", err)
	}
}

func FuzzDecompress(f *testing.F) {
	f.Add(plan.XZ, []byte("\xfd7zXZ\x00"))
	f.Add(plan.Gzip, []byte("\x1f\x8b\x08"))
	f.Add(plan.Zstd, []byte("\x28\xb5\x2f\xfd"))
	f.Fuzz(func(t *testing.T, compression string, content []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r, err := Decompress(compression, bytes.NewReader(content))
		if err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(r, 16<<20)) // what comes of it, if anything
			_ = r.Close()
		}
		runtime.ReadMemStats(&after)
		// The largest window, which is held twice while it moves, and what else they need.
		if took := after.TotalAlloc - before.TotalAlloc; took > 2*zstdWindow+128<<20 {
			t.Errorf("unpacking %d bytes took %d bytes of memory", len(content), took)
		}
	})
}
