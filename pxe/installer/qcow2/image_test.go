package qcow2

import (
	"bytes"
	"encoding/binary"
	"io"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/flate"
)

// small is a file with clusters of 512 bytes for a disk of three tables' size: the
// header, the first table, a second one for the first 64 clusters and one for the
// last, then contents.
func small() []byte {
	const cluster = 512
	be := binary.BigEndian
	b := make([]byte, 8*cluster)
	copy(b, Magic)
	be.PutUint32(b[4:], 3)
	be.PutUint32(b[20:], 9)                  // bits of a cluster
	be.PutUint64(b[24:], (2*64+3)*cluster)   // size of the disk
	be.PutUint32(b[36:], 3)                  // entries of the first table
	be.PutUint64(b[40:], 1*cluster)          // where it is
	be.PutUint32(b[100:], 104)               // length of the header
	be.PutUint64(b[1*cluster:], 1<<63|3*512) // the later one comes first in the file
	be.PutUint64(b[1*cluster+16:], 1<<63|2*512)
	first, last := b[3*cluster:], b[2*cluster:]
	be.PutUint64(first[0:], 1<<63|5*cluster)
	be.PutUint64(first[8:], 1<<63|4*cluster)
	be.PutUint64(first[16:], 1) // reads as zeroes
	var packed bytes.Buffer
	w, _ := flate.NewWriter(&packed, 9)
	_, _ = w.Write(bytes.Repeat([]byte("text"), cluster/4))
	_ = w.Close()
	copy(b[6*cluster+100:], packed.Bytes())
	be.PutUint64(last[8:], 1<<62|6*cluster+100)
	copy(b[4*cluster:], bytes.Repeat([]byte{4}, cluster))
	copy(b[5*cluster:], bytes.Repeat([]byte{5}, cluster))
	return b
}

func fetchFrom(b []byte) Fetch {
	return func(p []byte, offset int64) error {
		_, err := bytes.NewReader(b).ReadAt(p, offset)
		return err
	}
}

func TestPiecesComeInTheOrderOfTheFileAndHolesInTheDisks(t *testing.T) {
	i, err := Read(fetchFrom(small()))
	if err != nil {
		t.Fatal(err)
	}
	type place struct{ Offset, Disk int64 }
	var got []place
	for p := range i.Pieces() {
		got = append(got, place{p.Offset, p.Disk})
	}
	want := []place{{0, -1}, {512, -1}, {2 * 512, -1}, {3 * 512, -1}, {4 * 512, 512}, {5 * 512, 0}, {6*512 + 100, 129 * 512}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pieces (-want +got):\n%s", diff)
	}
	type span struct{ From, Length int64 }
	var holes []span
	for from, length := range i.Holes() {
		holes = append(holes, span{from, length})
	}
	if diff := cmp.Diff([]span{{2 * 512, 127 * 512}, {130 * 512, 512}}, holes); diff != "" {
		t.Errorf("holes (-want +got):\n%s", diff)
	}
	if got := i.Beginning(512); len(got) != 1 || got[0].Offset != 5*512 {
		t.Errorf("the first sector is in %+v", got)
	}
}

// FuzzRead reads files of strangers: what is said of them is whole, no two contents are
// for the same place, and it takes little memory to say so.
func FuzzRead(f *testing.F) {
	f.Add(small())
	f.Add(small()[:600])
	f.Add([]byte(Magic))
	f.Fuzz(func(t *testing.T, file []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		i, err := Read(fetchFrom(file))
		runtime.ReadMemStats(&after)
		// The clusters that tables of the file's size can name, four times for the slice
		// that grows; and what is there whatever the file's size.
		if took, bound := after.TotalAlloc-before.TotalAlloc, uint64(16*len(file)+8<<20); took > bound {
			t.Fatalf("a file of %d bytes took %d bytes of memory, more than %d", len(file), took, bound)
		}
		if err != nil {
			return
		}
		decoder, err := i.Decoder()
		if err != nil {
			t.Fatal(err)
		}
		defer decoder.Close()
		covered, last := int64(0), int64(0)
		content := make([]byte, i.ClusterSize())
		for p := range i.Pieces() {
			if p.Offset < last || p.Length <= 0 || p.Length > 3<<maxClusterBits {
				t.Fatalf("a piece of %d bytes at %d, after one at %d", p.Length, p.Offset, last)
			}
			last = p.Offset
			if p.Table() {
				continue
			}
			if p.Disk >= i.Size() || p.Disk%int64(i.ClusterSize()) != 0 {
				t.Fatalf("a cluster for byte %d of %d", p.Disk, i.Size())
			}
			covered += min(int64(i.ClusterSize()), i.Size()-p.Disk)
			if p.Compressed && p.Offset < int64(len(file)) && covered < 1<<20 {
				packed, err := io.ReadAll(io.NewSectionReader(bytes.NewReader(file), p.Offset, int64(p.Length)))
				if err != nil {
					t.Fatal(err)
				}
				_ = decoder.Decode(content, packed) // that it returns is all that is asked
			}
		}
		for from, length := range i.Holes() {
			if length <= 0 || from < 0 {
				t.Fatalf("a hole of %d bytes at %d", length, from)
			}
			covered += length
		}
		if covered != i.Size() {
			t.Fatalf("contents and holes make %d bytes of %d", covered, i.Size())
		}
	})
}
