// Package qcow2 reads where a qcow2 file has the contents of its disk, in the order
// of the file, so that the file can be written to a disk as it comes, from its first
// byte to its last.
//
// Section names are those of QEMU's specification of the format, "qcow2.txt".
package qcow2

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Magic begins every qcow2 file.
const Magic = "QFI\xfb"

// Bounds of what is read. They bound the memory, whatever a file says.
const (
	minClusterBits = 9  // of the specification
	maxClusterBits = 21 // 2 MiB, as much as QEMU itself reads
	// maxTables is the size of all second-level tables together, in bytes: they stand
	// for 256 GiB of disk with the usual clusters of 64 KiB. The first-level table then
	// has 512 KiB at most.
	maxTables = 32 << 20
	// headerSize is as much of the first cluster as is looked at: the smallest one.
	headerSize = 1 << minClusterBits
)

// entrySize is that of an entry of both levels' tables.
const entrySize = 8

// The incompatible features, section "Header".
const (
	featureDirty = 1 << iota
	featureCorrupt
	featureExternalData
	featureCompression
	featureExtendedEntries
)

// The values of compression_type.
const (
	compressionDeflate = 0 // the specification says zlib; there is no zlib header
	compressionZstd    = 1
)

// header is what the first cluster says.
type header struct {
	clusterBits uint
	size        int64 // of the disk, in bytes
	tableAt     int64 // of the first-level table
	entries     int64 // of the first-level table that are needed
	zstd        bool
}

func (h header) cluster() int64 { return 1 << h.clusterBits }

// perTable is how many bytes of the disk one second-level table stands for.
func (h header) perTable() int64 { return h.cluster() / entrySize * h.cluster() }

func readHeader(b []byte) (header, error) {
	be := binary.BigEndian
	if len(b) < headerSize || !bytes.HasPrefix(b, []byte(Magic)) {
		return header{}, fmt.Errorf("this is not a qcow2 file")
	}
	version := be.Uint32(b[4:])
	if version != 2 && version != 3 {
		return header{}, fmt.Errorf("it is of version %d of the format: want 2 or 3", version)
	}
	if be.Uint64(b[8:]) != 0 {
		return header{}, fmt.Errorf("it has a backing file, so it is only a part of an image: merge them with 'qemu-img convert -O qcow2'")
	}
	bits, size, crypt := be.Uint32(b[20:]), be.Uint64(b[24:]), be.Uint32(b[32:])
	if crypt != 0 {
		return header{}, fmt.Errorf("it is encrypted: decrypt it with 'qemu-img convert -O qcow2'")
	}
	if bits < minClusterBits || bits > maxClusterBits {
		return header{}, fmt.Errorf("its clusters have 2^%d bytes: want 2^%d to 2^%d", bits, minClusterBits, maxClusterBits)
	}
	h := header{clusterBits: uint(bits)}
	if version == 3 {
		if err := h.readFeatures(b); err != nil {
			return header{}, err
		}
	}
	// The largest disk that the bounds of the tables allow.
	largest := uint64(maxTables/h.cluster()) * uint64(h.perTable())
	switch {
	case size == 0:
		return header{}, fmt.Errorf("its disk is empty")
	case size%512 != 0:
		return header{}, fmt.Errorf("its disk has %d bytes, which are not whole sectors", size)
	case size > largest:
		return header{}, fmt.Errorf("its disk has %d bytes: with clusters of %d bytes at most %d are read; make it smaller, or its clusters larger, with 'qemu-img convert -O qcow2 -o cluster_size=2M'",
			size, h.cluster(), largest)
	}
	h.size = int64(size)
	h.entries = (h.size + h.perTable() - 1) / h.perTable()
	entries, tableAt := be.Uint32(b[36:]), be.Uint64(b[40:])
	switch {
	case int64(entries) < h.entries:
		return header{}, fmt.Errorf("it is damaged: its first table has %d entries, its disk needs %d", entries, h.entries)
	case tableAt == 0 || tableAt&uint64(h.cluster()-1) != 0 || tableAt > uint64(h.furthest()):
		return header{}, fmt.Errorf("it is damaged: its first table is at byte %d", tableAt)
	}
	h.tableAt = int64(tableAt)
	return h, nil
}

func (h *header) readFeatures(b []byte) error {
	be := binary.BigEndian
	length := be.Uint32(b[100:])
	if length < 104 || length > uint32(h.cluster()) {
		return fmt.Errorf("it is damaged: its header has %d bytes", length)
	}
	compression := byte(compressionDeflate)
	if length > 104 {
		compression = b[104]
	}
	features := be.Uint64(b[72:])
	// A dirty file's reference counts may be wrong, which nobody reads here.
	features &^= featureDirty
	for _, refused := range []struct {
		bit uint64
		why string
	}{
		{featureCorrupt, "it is marked as corrupt: see 'qemu-img check'"},
		{featureExternalData, "its data are in another file: make it one with 'qemu-img convert -O qcow2'"},
		{featureExtendedEntries, "it has subclusters (extended entries): make it plain with 'qemu-img convert -O qcow2'"},
	} {
		if features&refused.bit != 0 {
			return fmt.Errorf("%s", refused.why)
		}
	}
	if unknown := features &^ featureCompression; unknown != 0 {
		return fmt.Errorf("it uses features that are not known here (%#x): make it plain with 'qemu-img convert -O qcow2'", unknown)
	}
	switch {
	case (features&featureCompression != 0) != (compression != compressionDeflate):
		return fmt.Errorf("it is damaged: its header contradicts itself about the compression")
	case compression > compressionZstd:
		return fmt.Errorf("its clusters have the compression %d, which is not known here: make it plain with 'qemu-img convert -O qcow2'", compression)
	}
	h.zstd = compression == compressionZstd
	return nil
}

// furthest is where in the file the last cluster may lie. A file may be larger than
// its disk by its tables, and by what is not in use any more.
func (h header) furthest() int64 { return 2*h.size + 1<<30 }
