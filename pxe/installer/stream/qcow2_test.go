package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
)

func qemuImg(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img %q (of the package qemu-utils): %v\n%s", args, err, out)
	}
}

// disk is a raw image of what file systems are made of: noise, text, zeroes in all
// lengths, and an end that fills no cluster.
func disk() []byte {
	b := make([]byte, 23*mib+3*512)
	source := rand.NewChaCha8([32]byte{7})
	random := rand.New(source)
	for at := 0; at < len(b); {
		part := b[at:min(len(b), at+512*(1+random.IntN(900)))]
		switch random.IntN(4) {
		case 0:
			_, _ = source.Read(part)
		case 1:
			for i := range part {
				part[i] = "the quick brown fox "[(i*i/77)%20]
			}
		}
		at += len(part)
	}
	_, _ = source.Read(b[:3000])
	_, _ = source.Read(b[len(b)-700:])
	return b
}

// qcow2File makes a qcow2 file of raw by QEMU's own tool.
func qcow2File(t *testing.T, raw []byte, args ...string) []byte {
	t.Helper()
	from, to := filepath.Join(t.TempDir(), "raw"), filepath.Join(t.TempDir(), "qcow2")
	if err := os.WriteFile(from, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	qemuImg(t, append(append([]string{"convert", "-f", "raw", "-O", "qcow2"}, args...), from, to)...)
	b, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func serveFile(t *testing.T, b []byte) string {
	t.Helper()
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b))
	})
}

func TestQcow2ReachesTheDiskAsQEMUReadsIt(t *testing.T) {
	raw := disk()
	compressed := []string{"-c"}
	for _, tt := range []struct {
		reason      string
		args        []string
		compression string
	}{
		{"as qemu-img makes it", nil, plan.None},
		{"with compressed clusters, as distributions publish it", compressed, plan.None},
		{"of version 2", []string{"-o", "compat=0.10"}, plan.None},
		{"of version 2, compressed", []string{"-c", "-o", "compat=0.10"}, plan.None},
		{"clusters compressed with zstd", []string{"-c", "-o", "compression_type=zstd"}, plan.None},
		{"the smallest clusters", []string{"-o", "cluster_size=512"}, plan.None},
		{"the smallest clusters, compressed", []string{"-c", "-o", "cluster_size=512"}, plan.None},
		{"clusters of 4 KiB, compressed", []string{"-c", "-o", "cluster_size=4k"}, plan.None},
		{"the largest clusters", []string{"-o", "cluster_size=2M"}, plan.None},
		{"the largest clusters, compressed", []string{"-c", "-o", "cluster_size=2M"}, plan.None},
		{"the largest clusters, compressed with zstd", []string{"-c", "-o", "cluster_size=2M,compression_type=zstd"}, plan.None},
		{"with all clusters allocated", []string{"-S", "0"}, plan.None},
		{"with tables made before", []string{"-o", "preallocation=metadata"}, plan.None},
		{"written out of order", []string{"-W", "-m", "8"}, plan.None},
		{"with lazy reference counts", []string{"-o", "lazy_refcounts=on"}, plan.None},
		{"packed with gzip", nil, plan.Gzip},
		{"packed with xz", nil, plan.XZ},
		{"packed with zstd", compressed, plan.Zstd},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			file := pack(t, tt.compression, qcow2File(t, raw, tt.args...))
			disk := newTarget(t, 40*mib)
			var progress Progress
			head, err := Image(t.Context(), plan.Image{URL: serveFile(t, file), SHA256: digest(file), Compression: tt.compression, Size: int64(len(file))},
				disk, Options{Client: http.DefaultClient, Patience: quick, Progress: &progress})
			if err != nil {
				t.Fatal(err)
			}
			got := disk.bytes()
			if !bytes.Equal(head, raw[:HeadBytes]) {
				t.Error("the head is not the image's")
			}
			if !bytes.Equal(got[:HeadBytes], make([]byte, HeadBytes)) {
				t.Error("the disk could boot before the caller wrote the head")
			}
			for at := HeadBytes; at < len(raw); at += 512 {
				if !bytes.Equal(got[at:at+512], raw[at:at+512]) {
					t.Fatalf("the disk differs from the image at byte %d: old data shine through, or new data are wrong", at)
				}
			}
			if got[30*mib] != 0xa5 || got[len(raw)] != 0xa5 {
				t.Error("the disk was written behind the image")
			}
			if done, written := progress.Done.Load(), progress.Written.Load(); done != int64(len(file)) || written != int64(len(raw)) {
				t.Errorf("progress says %d of %d read, %d of %d written", done, len(file), written, len(raw))
			}
		})
	}
}

func TestQcow2GoesOnWhereTheConnectionBroke(t *testing.T) {
	raw := disk()
	file := qcow2File(t, raw)
	f := &flaky{content: file, piece: 3 * mib, ranges: true, etag: `"a"`}
	disk := newTarget(t, 40*mib)
	head, err := Image(t.Context(), plan.Image{URL: serve(t, f.ServeHTTP), SHA256: digest(file), Compression: plan.None},
		disk, Options{Client: http.DefaultClient, Patience: quick})
	if err != nil {
		t.Fatal(err)
	}
	if got := disk.bytes(); !bytes.Equal(got[HeadBytes:len(raw)], raw[HeadBytes:]) || !bytes.Equal(head, raw[:HeadBytes]) {
		t.Error("the disk differs from the image")
	}
	if len(f.asked) < 5 {
		t.Errorf("the file was asked for with %q: the connection did not break", f.asked)
	}
}

// put changes a number of a file.
func put(b []byte, at, size int, value uint64) []byte {
	b = bytes.Clone(b)
	for i := range size {
		b[at+i] = byte(value >> (8 * (size - 1 - i)))
	}
	return b
}

func TestQcow2ThatIsNotAWholeImageLeavesTheDiskUntouched(t *testing.T) {
	raw := disk()
	good := qcow2File(t, raw)
	tableAt := int(binary.BigEndian.Uint64(good[40:]))
	secondAt := int(binary.BigEndian.Uint64(good[tableAt:]) & 0x00ff_ffff_ffff_fe00)
	refused := errors.New("not for this disk")
	for _, tt := range []struct {
		reason  string
		file    []byte
		disk    int64
		inspect func([]byte) error
		want    string
	}{
		{"a disk that is smaller", good, 23 * mib, nil, fmt.Sprintf("needs a disk of %d bytes, this one has %d", len(raw), 23*mib)},
		{"the inspection refuses", good, 40 * mib, func(head []byte) error {
			if !bytes.Equal(head, raw[:HeadBytes]) {
				t.Error("the inspection was shown another head")
			}
			return refused
		}, refused.Error()},
		{"a backing file", put(good, 8, 8, 0x200), 40 * mib, nil, "backing file"},
		{"encrypted", put(good, 32, 4, 2), 40 * mib, nil, "encrypted"},
		{"an unknown version", put(good, 4, 4, 4), 40 * mib, nil, "version 4"},
		{"clusters that are too small", put(good, 20, 4, 8), 40 * mib, nil, "2^8 bytes"},
		{"clusters that are too large", put(good, 20, 4, 63), 40 * mib, nil, "2^63 bytes"},
		{"an empty disk", put(good, 24, 8, 0), 40 * mib, nil, "empty"},
		{"a disk that is no whole sectors", put(good, 24, 8, 1<<20+1), 40 * mib, nil, "whole sectors"},
		{"a disk that is too large for memory", put(good, 24, 8, 1<<50), 40 * mib, nil, "at most 274877906944 are read"},
		{"a disk of more than all bytes", put(good, 24, 8, 1<<63), 40 * mib, nil, "at most"},
		{"a first table that is too short", put(good, 36, 4, 0), 40 * mib, nil, "its first table has 0 entries, its disk needs 1"},
		{"a first table nowhere", put(good, 40, 8, 1<<62), 40 * mib, nil, "its first table is at byte"},
		{"a first table behind the end", put(good, 40, 8, 1<<30), 40 * mib, nil, "it ends at byte"},
		{"a second table behind the end", put(good, tableAt, 8, 1<<30), 40 * mib, nil, "it ends at byte"},
		{"a second table that is nowhere", put(good, tableAt, 8, 1<<55), 40 * mib, nil, "a table is at byte"},
		{"a cluster that is nowhere", put(good, secondAt, 8, 1<<55), 40 * mib, nil, "a cluster is at byte"},
		{"a cluster at no whole cluster", put(good, secondAt, 8, 1<<63|0x200), 40 * mib, nil, "a cluster is at byte 512"},
		{"a compressed cluster of noise", put(good, secondAt, 8, 1<<62|1), 40 * mib, nil, "cannot be unpacked"},
		{"marked as corrupt", put(good, 72, 8, 2), 40 * mib, nil, "corrupt"},
		{"data in another file", put(good, 72, 8, 4), 40 * mib, nil, "another file"},
		{"subclusters", put(good, 72, 8, 16), 40 * mib, nil, "subclusters"},
		{"an unknown feature", put(good, 72, 8, 1<<40), 40 * mib, nil, "0x10000000000"},
		{"an unknown compression", put(put(good, 72, 8, 8), 104, 1, 9), 40 * mib, nil, "the compression 9"},
		{"a compression that contradicts", put(good, 104, 1, 1), 40 * mib, nil, "contradicts itself"},
		{"a header of no length", put(good, 100, 4, 0), 40 * mib, nil, "header has 0 bytes"},
		{"the beginning alone", good[:600], 40 * mib, nil, "it ends at byte"},
		{"the magic alone", good[:4], 40 * mib, nil, "it ends at byte"},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			disk := newTarget(t, tt.disk)
			_, err := Image(t.Context(), plan.Image{URL: serveFile(t, tt.file), SHA256: digest(tt.file), Compression: plan.None, Size: int64(len(tt.file))},
				disk, Options{Client: http.DefaultClient, Patience: quick, Inspect: tt.inspect})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if !bytes.Equal(disk.bytes(), bytes.Repeat([]byte{0xa5}, int(tt.disk))) {
				t.Error("the disk was written to")
			}
		})
	}
}

func TestQcow2ThatFailsLateLeavesADiskThatCannotBoot(t *testing.T) {
	raw := disk()
	good := qcow2File(t, raw, "-c")
	damaged := bytes.Clone(good)
	for i := len(damaged) / 2; i < len(damaged)/2+200_000; i++ {
		damaged[i] ^= 0x55
	}
	for _, tt := range []struct {
		reason string
		file   []byte
		sum    string
		want   string
	}{
		{"another digest", good, digest(raw), "SHA-256"},
		{"damaged on the way", damaged, digest(good), "SHA-256"},
		{"damaged before it was declared", damaged, digest(damaged), "cannot be unpacked"},
		{"cut off before it was declared", good[:len(good)*3/4], digest(good[:len(good)*3/4]), "it ends before what its tables name"},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			disk := newTarget(t, 40*mib)
			_, err := Image(t.Context(), plan.Image{URL: serveFile(t, tt.file), SHA256: tt.sum, Compression: plan.None},
				disk, Options{Client: http.DefaultClient, Patience: quick})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if got := disk.bytes(); !bytes.Equal(got[:HeadBytes], make([]byte, HeadBytes)) {
				t.Error("the disk's partition table is still there")
			}
		})
	}
}

// The tables are read before the digest can be known. Somebody between could send
// others then.
func TestQcow2WithOtherTablesThanTheFilesIsNotInstalled(t *testing.T) {
	good := qcow2File(t, disk())
	tableAt := int(binary.BigEndian.Uint64(good[40:]))
	secondAt := int(binary.BigEndian.Uint64(good[tableAt:]) & 0x00ff_ffff_ffff_fe00)
	entry := func(n int) int { return secondAt + 8*n }
	forged := bytes.Clone(good)
	copy(forged[entry(300):entry(301)], good[entry(200):])
	firstCluster := int(binary.BigEndian.Uint64(good[secondAt:]) & 0x00ff_ffff_ffff_fe00)
	for _, tt := range []struct {
		reason string
		forged []byte
		want   string
	}{
		{"another table", forged, "not those that were read before"},
		{"another head", put(good, firstCluster, 8, 12345), "changed while it was being written"},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			asked := 0
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				// First what tells the format, then the tables and the head, then all.
				file := tt.forged
				if asked++; asked == 3 {
					file = good
				}
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file))
			})
			disk := newTarget(t, 40*mib)
			_, err := Image(t.Context(), plan.Image{URL: url, SHA256: digest(good), Compression: plan.None},
				disk, Options{Client: http.DefaultClient, Patience: quick})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if asked != 3 {
				t.Errorf("the file was asked for %d times: this test forges something else than it says", asked)
			}
			if got := disk.bytes(); !bytes.Equal(got[:HeadBytes], make([]byte, HeadBytes)) {
				t.Error("the disk could boot")
			}
		})
	}
}
