package seed

import (
	"encoding/binary"
	"fmt"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/diskfs/go-diskfs/partition/mbr"

	"github.com/rhizome-dev/rhizome/pxe/installer/stream"
)

// Write puts the seed and the head of the image on the disk, the head last: after
// this the disk can boot. head is changed: it gets the disk's partition table.
func Write(target stream.Target, head []byte, l Layout, files map[string]string) error {
	volume, err := volume(files, l.sector)
	if err != nil {
		return err
	}
	put := func(what string, b []byte, at int64) error {
		if _, err := target.WriteAt(b, at); err != nil {
			return fmt.Errorf("cannot write %s to the disk: %w", what, err)
		}
		if err := target.Sync(); err != nil {
			return fmt.Errorf("cannot write %s to the disk: %w", what, err)
		}
		return nil
	}
	if err := put("the seed", volume, l.start); err != nil {
		return err
	}
	joined := &overlay{memory: memory{bytes: head}, below: target}
	if l.gpt != nil {
		err = l.writeGPT(joined, target, head)
	} else {
		err = l.writeMBR(joined)
	}
	if err != nil {
		return fmt.Errorf("cannot write the partition table: %w", err)
	}
	// The first sectors make it a bootable disk: they come after all the others.
	first := min(8*l.sector, len(head))
	if err := put("the boot area", head[first:], int64(first)); err != nil {
		return err
	}
	return put("the partition table", head[:first], 0)
}

func (l Layout) writeGPT(joined *overlay, target stream.Target, head []byte) error {
	l.gpt.Partitions = append(l.gpt.Partitions, &gpt.Partition{
		Index: l.index,
		Start: uint64(l.start) / uint64(l.sector),
		End:   uint64(l.start+Size)/uint64(l.sector) - 1,
		Type:  gpt.MicrosoftBasicData,
		Name:  "cidata",
	})
	// The image's own backup table would lie about in the middle of the disk.
	if l.image < l.disk {
		stale := 33 * int64(l.sector)
		if at := l.image - stale; at >= int64(len(head)) && !l.inPartition(at, l.image) {
			if err := target.Zero(at, stale); err != nil {
				return err
			}
		}
	}
	fitProtectiveMBR(head, l.disk/int64(l.sector))
	l.gpt.ProtectiveMBR = false // ours to write, see there
	return l.gpt.Write(joined, l.disk)
}

// inPartition reports whether the bytes from a up to b touch a partition.
func (l Layout) inPartition(a, b int64) bool {
	for _, p := range l.gpt.Partitions {
		start, end := int64(p.Start)*int64(l.sector), int64(p.End+1)*int64(l.sector)
		if a < end && b > start {
			return true
		}
	}
	return false
}

// fitProtectiveMBR makes the protective entry cover the disk, or all that it can
// (UEFI 2.10 table 5.4: 0xFFFFFFFF if the size cannot be represented). The boot
// code and the flags stay as the image has them.
func fitProtectiveMBR(head []byte, sectors int64) {
	const protective = 0xee
	entry := head[446:]
	if entry[4] != protective {
		return // a hybrid MBR is its maker's business
	}
	binary.LittleEndian.PutUint32(entry[12:], uint32(min(sectors-1, 0xffffffff)))
}

func (l Layout) writeMBR(joined *overlay) error {
	const fat16LBA = 0x0e
	l.mbr.Partitions[l.index-1] = &mbr.Partition{
		Type:  fat16LBA,
		Start: uint32(l.start / 512),
		Size:  Size / 512,
	}
	return l.mbr.Write(joined, l.disk)
}
