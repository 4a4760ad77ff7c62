package tree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// This is a reader of what a boot needs of ISO 9660 (ECMA-119) and of its Rock Ridge
// extension (IEEE P1281 and P1282), and of nothing else: find one file by its path.
// It is our own, because the libraries for it (kdomanski/iso9660, go-diskfs) allocate
// what lengths in the image ask for, and do not come back from some that lie.

const (
	sector = 2048
	// budget bounds what is read of an ISO to find one file in it, in sectors. The
	// largest directories of distributions, thousands of packages in one, have about
	// one MiB.
	budget = 32 << 20 / sector
)

// record is a directory record (ECMA-119 section 9.1).
type record struct {
	extent, size uint32 // in sectors; in bytes
	directory    bool
	more         bool // the file goes on in the next record
	name         string
	other        bool // a link, a device: nothing that can be served
	system       []byte
}

// iso is an image that is being searched.
type iso struct {
	io.ReaderAt
	left int // of the budget
	// skip is how many bytes of each system use field are not the extension's; it is
	// negative on an image without Rock Ridge.
	skip int
}

func (i *iso) read(at uint32) ([]byte, error) {
	if i.left--; i.left < 0 {
		return nil, errors.New("its directories are larger than any distribution's")
	}
	b := make([]byte, sector)
	if _, err := i.ReadAt(b, int64(at)*sector); err != nil {
		return nil, fmt.Errorf("sector %d: %w", at, err)
	}
	return b, nil
}

// inISO is a file in an ISO 9660 image, as a section of it. Names are those of the
// Rock Ridge extension where it has one, as on Linux.
func inISO(image io.ReaderAt, size int64, name string) (*io.SectionReader, error) {
	i := &iso{ReaderAt: image, left: budget, skip: -1}
	at, err := i.root()
	if err != nil {
		return nil, fmt.Errorf("cannot read the ISO: %w", err)
	}
	missing := &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	length := int64(0)
	for part := range strings.SplitSeq(name, "/") {
		if !at.directory {
			return nil, missing
		}
		found, whole, err := i.find(at, part)
		if err != nil {
			return nil, fmt.Errorf("cannot find %s in the ISO: %w", name, err)
		}
		if found == nil {
			return nil, missing
		}
		at, length = *found, whole
	}
	if at.directory || at.other {
		return nil, missing
	}
	offset := int64(at.extent) * sector
	if offset+length > size {
		return nil, fmt.Errorf("cannot read %s in the ISO: the ISO ends before it", name)
	}
	return io.NewSectionReader(image, offset, length), nil
}

// root is the record of the root directory, of the primary volume descriptor
// (ECMA-119 section 8.4). It also finds out whether there is Rock Ridge.
func (i *iso) root() (record, error) {
	for at := uint32(16); at < 16+32; at++ {
		b, err := i.read(at)
		if err != nil {
			return record{}, err
		}
		if string(b[1:6]) != "CD001" || b[0] == 255 {
			break
		}
		if b[0] != 1 {
			continue
		}
		root, _, err := parse(b[156:190])
		if err != nil {
			return record{}, err
		}
		first, err := i.read(root.extent)
		if err != nil {
			return record{}, err
		}
		// The record of the directory itself, which comes first, says how the extension
		// is used (IEEE P1281 section 5.3).
		self, _, err := parse(first)
		if err != nil {
			return record{}, err
		}
		if s := self.system; len(s) >= 7 && string(s[:2]) == "SP" && s[4] == 0xbe && s[5] == 0xef {
			i.skip = int(s[6])
		}
		root.directory = true
		return root, nil
	}
	return record{}, errors.New("it has no primary volume descriptor")
}

// find looks for a name in a directory. A file of several sections (ECMA-119 section
// 6.5.1) that follow each other is one; length is that of all of them.
func (i *iso) find(dir record, name string) (found *record, length int64, err error) {
	for n := range (int64(dir.size) + sector - 1) / sector {
		b, err := i.read(dir.extent + uint32(n))
		if err != nil {
			return nil, 0, err
		}
		// A record does not cross a sector's end; what is left of one is zero.
		for len(b) > 0 && b[0] != 0 {
			r, size, err := parse(b)
			if err != nil {
				return nil, 0, err
			}
			b = b[size:]
			i.extend(&r)
			if found == nil && r.name != name {
				continue
			}
			if found == nil {
				found = &r
			} else if int64(r.extent)*sector != int64(found.extent)*sector+length || r.name != name {
				return nil, 0, errors.New("the file lies in several pieces")
			}
			length += int64(r.size)
			if !r.more {
				return found, length, nil
			}
			if length%sector != 0 {
				return nil, 0, errors.New("the file lies in several pieces")
			}
		}
	}
	if found != nil {
		return nil, 0, errors.New("the end of the file is missing")
	}
	return nil, 0, nil
}

// parse reads the record at the beginning of b, and says how long it is.
func parse(b []byte) (record, int, error) {
	damaged := errors.New("a directory record is damaged")
	if len(b) < 34 || int(b[0]) > len(b) || b[0] < 34 {
		return record{}, 0, damaged
	}
	size := int(b[0])
	b = b[:size]
	end := 33 + int(b[32])
	if end > size {
		return record{}, 0, damaged
	}
	r := record{
		extent: binary.LittleEndian.Uint32(b[2:]), size: binary.LittleEndian.Uint32(b[10:]),
		directory: b[25]&2 != 0, more: b[25]&0x80 != 0,
	}
	switch identifier := string(b[33:end]); identifier {
	case "\x00", "\x01": // the directory itself and the one above: no names
	default:
		r.name, _, _ = strings.Cut(identifier, ";")
		r.name = strings.TrimSuffix(r.name, ".")
	}
	if end%2 != 0 { // fields begin at even places, counted from the record's
		end++
	}
	if end < size {
		r.system = b[end:]
	}
	return r, size, nil
}

// extend takes what the extension says of a record: the name and what kind of file
// it is. What of it is damaged is as if it was not there.
func (i *iso) extend(r *record) {
	if i.skip < 0 || i.skip > len(r.system) || r.name == "" {
		return
	}
	name := ""
	rest := r.system[i.skip:]
	for range 64 {
		if len(rest) < 4 || int(rest[2]) < 4 || int(rest[2]) > len(rest) {
			break
		}
		entry := rest[:rest[2]]
		rest = rest[rest[2]:]
		switch {
		case string(entry[:2]) == "NM" && len(entry) >= 5: // P1282 section 4.1.4
			name += string(entry[5:])
		case string(entry[:2]) == "PX" && len(entry) >= 8: // P1282 section 4.1.1
			const kind, regular, directory = 0o170000, 0o100000, 0o040000
			mode := binary.LittleEndian.Uint32(entry[4:]) & kind
			r.other = mode != regular && mode != directory
		case string(entry[:2]) == "CE" && len(entry) >= 28: // P1281 section 5.1
			from, size := binary.LittleEndian.Uint32(entry[12:]), binary.LittleEndian.Uint32(entry[20:])
			b, err := i.read(binary.LittleEndian.Uint32(entry[4:]))
			if err != nil || uint64(from)+uint64(size) > sector {
				return
			}
			// It is the last that counts, wherever it stands in the field.
			rest = append(rest[:len(rest):len(rest)], b[from:from+size]...)
		case string(entry[:2]) == "ST":
			rest = nil
		}
	}
	if name != "" {
		r.name = name
	}
}
