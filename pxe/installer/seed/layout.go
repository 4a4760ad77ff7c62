// Package seed gives a freshly streamed disk its NoCloud seed: it fits the
// image's partition table to the disk and adds one small partition at the disk's
// end, a FAT file system labelled CIDATA, where cloud-init looks for its
// configuration (cloud-init documentation, NoCloud, "Source 2: Drive with
// labeled filesystem").
//
// The partition lies at the end, so that cloud-init's growpart can still grow
// the root partition up to it.
package seed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/diskfs/go-diskfs/partition/mbr"
)

const (
	// Size of the seed partition in bytes.
	Size = 8 << 20
	// alignment of the seed partition in bytes.
	alignment = 1 << 20
	// maxEntries of a partition table; 128 are usual.
	maxEntries = 128
	// MaxContent is how much the files may hold together, in bytes.
	MaxContent = Size * 3 / 4
)

// Layout is what Inspect found and decided. The zero value is no layout.
type Layout struct {
	sector int   // bytes
	disk   int64 // bytes
	start  int64 // of the seed partition, in bytes
	gpt    *gpt.Table
	mbr    *mbr.Table
	image  int64 // size of the image as its GPT has it, in bytes; zero for MBR
	index  int   // number of the seed partition, from 1
}

// Start is where the seed partition begins, in bytes.
func (l Layout) Start() int64 { return l.start }

// Inspect looks at the head of an image and says where the seed partition goes on
// a disk of this size, or why the image cannot be installed on it. It writes
// nothing.
func Inspect(head []byte, diskBytes int64, sector int) (Layout, error) {
	l := Layout{sector: sector, disk: diskBytes / int64(sector) * int64(sector)}
	if len(head) < 40*sector {
		return Layout{}, fmt.Errorf("the image has only %d bytes: it is no disk image", len(head))
	}
	const signature = "EFI PART"
	if !bytes.Equal(head[sector:sector+8], []byte(signature)) {
		for _, other := range []int{512, 4096} {
			if bytes.Equal(head[other:other+8], []byte(signature)) {
				return Layout{}, fmt.Errorf("the image is made for disks with sectors of %d bytes, this disk has sectors of %d: choose another image or disk", other, sector)
			}
		}
		return l.inspectMBR(head)
	}
	return l.inspectGPT(head)
}

func (l Layout) inspectGPT(head []byte) (Layout, error) {
	header := head[l.sector:]
	// UEFI 2.10 table 5.5: PartitionEntryLBA, SizeOfPartitionEntry,
	// NumberOfPartitionEntries. The library takes the memory that they ask for.
	if lba := binary.LittleEndian.Uint64(header[72:]); lba != 2 {
		return Layout{}, fmt.Errorf("the image's partition table is at sector %d: only tables at sector 2 are supported", lba)
	}
	if size := binary.LittleEndian.Uint32(header[84:]); size != gpt.PartitionEntrySize {
		return Layout{}, fmt.Errorf("the image's partition entries have %d bytes: want %d", size, gpt.PartitionEntrySize)
	}
	entries := binary.LittleEndian.Uint32(header[80:])
	if entries == 0 || entries > maxEntries {
		return Layout{}, fmt.Errorf("the image's partition table has %d entries: want at most %d", entries, maxEntries)
	}
	table, err := gpt.Read(&memory{bytes: head}, l.sector, l.sector)
	if err != nil {
		return Layout{}, fmt.Errorf("cannot read the image's partition table: %w", err)
	}
	l.gpt, l.image = table, int64(table.TotalSize())
	if l.image > l.disk {
		return Layout{}, fmt.Errorf("the image needs a disk of %d bytes, this one has %d: choose a larger disk in the Node's spec.disk", l.image, l.disk)
	}
	table.Resize(uint64(l.disk))
	used, taken := uint64(0), map[int]bool{}
	for _, p := range table.Partitions {
		if p.End > table.LastDataSector() || p.Start > p.End {
			return Layout{}, fmt.Errorf("the image's partition %d ends beyond the disk", p.Index)
		}
		used, taken[p.Index] = max(used, p.End), true
	}
	for l.index = 1; taken[l.index]; l.index++ {
	}
	if uint32(l.index) > entries {
		return Layout{}, fmt.Errorf("the image's partition table is full: all %d entries are used", entries)
	}
	return l.place(int64(table.LastDataSector()+1), int64(used+1))
}

func (l Layout) inspectMBR(head []byte) (Layout, error) {
	if head[510] != 0x55 || head[511] != 0xaa {
		return Layout{}, errors.New("the image has no partition table: want a disk image that boots by itself")
	}
	if l.sector != 512 {
		return Layout{}, fmt.Errorf("the image has an MBR partition table, which needs sectors of 512 bytes; this disk has sectors of %d", l.sector)
	}
	table, err := mbr.Read(&memory{bytes: head}, l.sector, l.sector)
	if err != nil {
		return Layout{}, fmt.Errorf("cannot read the image's MBR partition table: %w", err)
	}
	l.mbr = table
	used := int64(0)
	for i, p := range table.Partitions {
		if p.Type == mbr.Empty {
			if l.index == 0 {
				l.index = i + 1
			}
			continue
		}
		if p.Type == 0xee {
			return Layout{}, errors.New("the image has a protective MBR without a GPT: it is damaged")
		}
		used = max(used, int64(p.Start)+int64(p.Size))
	}
	switch {
	case used == 0:
		return Layout{}, errors.New("the image has an empty partition table: want a disk image that boots by itself")
	case l.index == 0:
		return Layout{}, errors.New("the image's MBR partition table has no free entry for the seed: use an image with a GPT")
	}
	// An MBR counts sectors in 32 bits.
	return l.place(min(l.disk/512, 1<<32), used)
}

// place puts the seed below the sector end, above the sector used.
func (l Layout) place(end, used int64) (Layout, error) {
	sector := int64(l.sector)
	l.start = (end*sector - Size) / alignment * alignment
	if l.start < used*sector {
		return Layout{}, fmt.Errorf("the image's partitions leave no room for the seed: they need %d bytes and the seed %d, the disk has %d; choose a larger disk in the Node's spec.disk",
			used*sector, int64(Size), l.disk)
	}
	return l, nil
}
