package seed

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/diskfs/go-diskfs/backend"

	"github.com/rhizome-dev/rhizome/pxe/installer/stream"
)

// memory is a disk of a few bytes in memory, in the shape that go-diskfs wants.
type memory struct {
	bytes []byte
	pos   int64
}

var (
	_ backend.Storage      = (*memory)(nil)
	_ backend.WritableFile = (*overlay)(nil)
)

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(m.bytes)) {
		return 0, io.EOF
	}
	n := copy(p, m.bytes[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(m.bytes)) {
		return 0, io.ErrShortWrite
	}
	return copy(m.bytes[off:], p), nil
}

func (m *memory) Read(p []byte) (int, error) {
	n, err := m.ReadAt(p, m.pos)
	m.pos += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (m *memory) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += m.pos
	case io.SeekEnd:
		offset += int64(len(m.bytes))
	}
	if offset < 0 {
		return 0, fs.ErrInvalid
	}
	m.pos = offset
	return offset, nil
}

func (m *memory) Close() error                            { return nil }
func (m *memory) Path() string                            { return "" }
func (m *memory) Stat() (fs.FileInfo, error)              { return nil, errors.ErrUnsupported }
func (m *memory) Sys() (*os.File, error)                  { return nil, backend.ErrNotSuitable }
func (m *memory) Writable() (backend.WritableFile, error) { return m, nil }

// overlay is the disk with its head still in memory.
type overlay struct {
	memory
	below stream.Target
}

// WriteAt goes to the memory or the disk, never to both.
func (o *overlay) WriteAt(p []byte, off int64) (int, error) {
	if off < int64(len(o.bytes)) {
		return o.memory.WriteAt(p, off)
	}
	return o.below.WriteAt(p, off)
}
