package qcow2

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
)

// Fetch reads len(p) bytes of the file at an offset. What lies behind the end of the
// file is an error.
type Fetch func(p []byte, offset int64) error

// Image is what the tables of a file say. It does not change.
type Image struct {
	header
	tables   []Piece
	clusters []cluster
	used     []uint64 // a bit for each cluster of the disk that the file has content of
}

// Piece is a part of the file.
type Piece struct {
	Offset int64 // in the file, in bytes
	Length int   // bytes
	// Disk is where on the disk the content belongs; negative: it is one of the tables.
	Disk int64
	// Compressed says that the content is to be had by Decoder.
	Compressed bool
	// SHA256 of a table as it was when the Image was read.
	SHA256 [sha256.Size]byte
}

// Table says that the piece is no content.
func (p Piece) Table() bool { return p.Disk < 0 }

// cluster is a Piece of content in few bytes: there may be millions.
type cluster struct {
	offset  int64
	number  uint32 // on the disk
	sectors uint16 // of compressed content: how many beyond the first; at most 2^13
	packed  bool
}

// Read reads the tables of a file. Its errors say what is wrong with the file.
func Read(fetch Fetch) (*Image, error) {
	b := make([]byte, headerSize)
	if err := fetch(b, 0); err != nil {
		return nil, err
	}
	h, err := readHeader(b)
	if err != nil {
		return nil, err
	}
	i := &Image{header: h}
	i.keep(0, b)
	table := make([]byte, h.entries*entrySize)
	if err := fetch(table, h.tableAt); err != nil {
		return nil, err
	}
	i.keep(h.tableAt, table)
	return i, i.readTables(table, fetch)
}

func (i *Image) keep(offset int64, b []byte) {
	i.tables = append(i.tables, Piece{Offset: offset, Length: len(b), Disk: -1, SHA256: sha256.Sum256(b)})
}

// The bits of entries, section "Cluster mapping".
const (
	entryOffset     = 0x00ff_ffff_ffff_fe00
	entryCompressed = 1 << 62
	entryZero       = 1
)

// readTables reads the second-level tables, in the order of the file: fetching may be
// going through it.
func (i *Image) readTables(first []byte, fetch Fetch) error {
	type place struct {
		offset int64
		index  int64
	}
	var places []place
	for n := range i.entries {
		at := binary.BigEndian.Uint64(first[n*entrySize:]) & entryOffset
		if at == 0 {
			continue
		}
		if at&uint64(i.cluster()-1) != 0 || at > uint64(i.furthest()) {
			return fmt.Errorf("it is damaged: a table is at byte %d", at)
		}
		places = append(places, place{int64(at), n})
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Compare(a.offset, b.offset) })
	i.used = make([]uint64, (i.count()+63)/64)
	b := make([]byte, i.cluster())
	for n, p := range places {
		if n > 0 && places[n-1].offset == p.offset {
			return fmt.Errorf("it is damaged: the table at byte %d is there twice", p.offset)
		}
		if err := fetch(b, p.offset); err != nil {
			return err
		}
		i.keep(p.offset, b)
		if err := i.readTable(b, p.index*(i.cluster()/entrySize)); err != nil {
			return err
		}
	}
	slices.SortFunc(i.clusters, func(a, b cluster) int {
		return cmp.Or(cmp.Compare(a.offset, b.offset), cmp.Compare(a.number, b.number))
	})
	slices.SortFunc(i.tables, func(a, b Piece) int { return cmp.Compare(a.Offset, b.Offset) })
	return nil
}

// count is how many clusters the disk has. It fits into 32 bits by the bounds of the
// tables.
func (i *Image) count() int64 { return (i.size + i.cluster() - 1) / i.cluster() }

// readTable reads the entries of the clusters from number on.
func (i *Image) readTable(b []byte, number int64) error {
	for ; len(b) > 0 && number < i.count(); b, number = b[entrySize:], number+1 {
		entry := binary.BigEndian.Uint64(b)
		c := cluster{number: uint32(number), packed: entry&entryCompressed != 0}
		if c.packed {
			// Section "Compressed Clusters Descriptor".
			x := 62 - (i.clusterBits - 8)
			c.offset = int64(entry & (1<<x - 1))
			c.sectors = uint16(entry & (entryCompressed - 1) >> x)
		} else {
			if entry&entryZero != 0 {
				continue
			}
			if c.offset = int64(entry & entryOffset); c.offset == 0 {
				continue
			}
			if c.offset&(i.cluster()-1) != 0 {
				return fmt.Errorf("it is damaged: a cluster is at byte %d", c.offset)
			}
		}
		if c.offset == 0 || c.offset > i.furthest() {
			return fmt.Errorf("it is damaged: a cluster is at byte %d", c.offset)
		}
		i.used[number/64] |= 1 << (number % 64)
		i.clusters = append(i.clusters, c)
	}
	return nil
}

// Size of the disk in bytes: whole sectors of 512.
func (i *Image) Size() int64 { return i.size }

// ClusterSize in bytes: a power of two from 512 to 2 MiB. The content of a Piece is
// one cluster, the last of the disk perhaps less.
func (i *Image) ClusterSize() int { return int(i.cluster()) }

// Pieces are the parts of the file that matter, in the order in which they lie there.
// They may overlap.
func (i *Image) Pieces() iter.Seq[Piece] {
	return func(yield func(Piece) bool) {
		tables := i.tables
		for _, c := range i.clusters {
			for len(tables) > 0 && tables[0].Offset <= c.offset {
				if !yield(tables[0]) {
					return
				}
				tables = tables[1:]
			}
			if !yield(i.piece(c)) {
				return
			}
		}
		for _, t := range tables {
			if !yield(t) {
				return
			}
		}
	}
}

func (i *Image) piece(c cluster) Piece {
	p := Piece{
		Offset: c.offset, Length: int(i.cluster()), Compressed: c.packed,
		Disk: int64(c.number) * i.cluster(),
	}
	if c.packed {
		// The sectors are counted from the one that the content begins in.
		p.Length = (int(c.sectors)+1)*512 - int(c.offset%512)
	}
	return p
}

// Beginning are the pieces of the first n bytes of the disk, in the order of the file.
func (i *Image) Beginning(n int64) []Piece {
	var out []Piece
	for _, c := range i.clusters {
		if int64(c.number)*i.cluster() < n {
			out = append(out, i.piece(c))
		}
	}
	return out
}

// Holes are the ranges of the disk that the file has no content of, which read as
// zeroes, in the order of the disk: an offset and a length in bytes each.
func (i *Image) Holes() iter.Seq2[int64, int64] {
	return func(yield func(int64, int64) bool) {
		from := int64(-1)
		for n := range i.count() + 1 {
			empty := n < i.count() && i.used[n/64]&(1<<(n%64)) == 0
			switch {
			case empty && from < 0:
				from = n * i.cluster()
			case !empty && from >= 0:
				if !yield(from, min(n*i.cluster(), i.size)-from) {
					return
				}
				from = -1
			}
		}
	}
}
