package seed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/diskfs/go-diskfs/filesystem"
	"github.com/diskfs/go-diskfs/filesystem/fat16"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
)

// Label is the volume label that cloud-init looks for.
const Label = "CIDATA"

// volume makes the file system in memory. It is FAT16 as its size asks for,
// except on disks with sectors of 4096 bytes, for which the library makes FAT32
// only.
func volume(files map[string]string, sector int) ([]byte, error) {
	total := 0
	for _, content := range files {
		total += len(content)
	}
	if total > MaxContent {
		return nil, fmt.Errorf("the seed's files have %d bytes, at most %d fit", total, MaxContent)
	}
	m := &memory{bytes: make([]byte, Size)}
	var fat filesystem.FileSystem
	var err error
	if sector == 512 {
		fat, err = fat16.Create(m, Size, 0, 512, Label, false)
	} else {
		fat, err = fat32.Create(m, Size, 0, int64(sector), Label, false)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot make the seed's file system: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := writeFile(fat, name, files[name]); err != nil {
			return nil, fmt.Errorf("cannot write %s into the seed: %w", name, err)
		}
	}
	if sector == 512 {
		freeRootCluster(m.bytes)
	}
	return m.bytes, nil
}

// freeRootCluster frees cluster 2, which the library reserves for the root
// directory. FAT16 keeps that elsewhere (Microsoft FAT specification 1.03, "FAT
// directory structure"), so that fsck would find a cluster that nothing uses.
func freeRootCluster(volume []byte) {
	le := binary.LittleEndian
	reserved, fats := int(le.Uint16(volume[14:])), int(volume[16])
	entries, sectors := int(le.Uint16(volume[17:])), int(le.Uint16(volume[22:]))
	root := (reserved + fats*sectors) * 512
	for i := range entries {
		const firstCluster = 26
		if le.Uint16(volume[root+32*i+firstCluster:]) == 2 {
			return // a file lives there
		}
	}
	for i := range fats {
		le.PutUint16(volume[(reserved+i*sectors)*512+2*2:], 0)
	}
}

func writeFile(fat filesystem.FileSystem, name, content string) (err error) {
	f, err := fat.OpenFile(name, os.O_CREATE|os.O_RDWR)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if content == "" {
		return nil
	}
	n, err := f.Write([]byte(content))
	if err == nil && n != len(content) {
		err = fs.ErrInvalid
	}
	return err
}
