package disk

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Device is an open disk, or a regular file in its place. It is for one user at
// a time.
type Device struct {
	file   *os.File
	block  bool // a block device, not a file
	size   int64
	sector int
	dirty  int64 // bytes written since writing out was last started
	from   int64 // where these begin
}

// window is how many bytes may be on their way to the disk at once: enough to
// keep it busy, little enough that the progress is true and memory is bounded.
const window = 32 << 20

// OpenDevice opens a disk for writing, for this process alone: one that is
// mounted or part of another device is refused by the kernel.
func OpenDevice(path string) (*Device, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return nil, fmt.Errorf("%s is in use (mounted, or part of a RAID or LVM device): nothing was written", path)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open the disk: %w", err)
	}
	d := &Device{file: f}
	if err := d.measure(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot measure %s: %w", path, err), f.Close())
	}
	return d, nil
}

func (d *Device) measure() error {
	info, err := d.file.Stat()
	if err != nil {
		return err
	}
	if info.Mode().IsRegular() {
		d.size, d.sector = info.Size(), 512
		return nil
	}
	d.block = true
	fd := int(d.file.Fd())
	if d.size, err = d.file.Seek(0, 2); err != nil {
		return err
	}
	if d.sector, err = unix.IoctlGetInt(fd, unix.BLKSSZGET); err != nil {
		return err
	}
	readOnly, err := unix.IoctlGetInt(fd, unix.BLKROGET)
	if err == nil && readOnly != 0 {
		err = unix.EROFS
	}
	return err
}

// Size in bytes.
func (d *Device) Size() int64 { return d.size }

// SectorSize is the logical sector size in bytes.
func (d *Device) SectorSize() int { return d.sector }

// ReadAt implements io.ReaderAt.
func (d *Device) ReadAt(p []byte, off int64) (int, error) { return d.file.ReadAt(p, off) }

// WriteAt implements io.WriterAt. Writing out is started as data come, and waited
// for one window behind.
func (d *Device) WriteAt(p []byte, off int64) (int, error) {
	n, err := d.file.WriteAt(p, off)
	if err != nil {
		return n, err
	}
	if d.dirty == 0 || off < d.from {
		d.from = off
	}
	d.dirty += int64(n)
	if d.dirty >= window {
		const all = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE
		fd := int(d.file.Fd())
		// What was started before is waited for, what came since is started.
		err = unix.SyncFileRange(fd, 0, off+int64(n), all)
		d.dirty = 0
	}
	return n, err
}

// Zero implements stream.Target. The disk clears the range itself if it can;
// otherwise the kernel writes zeroes.
func (d *Device) Zero(off, n int64) error {
	if n == 0 {
		return nil
	}
	if !d.block {
		return d.punch(off, n)
	}
	span := [2]uint64{uint64(off), uint64(n)}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, d.file.Fd(), unix.BLKZEROOUT, uintptr(unsafe.Pointer(&span)))
	if errno != 0 {
		return fmt.Errorf("cannot clear %d bytes at %d: %w", n, off, errno)
	}
	return nil
}

func (d *Device) punch(off, n int64) error {
	const mode = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	err := unix.Fallocate(int(d.file.Fd()), mode, off, n)
	if !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	zeroes := make([]byte, 1<<20)
	for n > 0 {
		k := min(n, int64(len(zeroes)))
		if _, err := d.file.WriteAt(zeroes[:k], off); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

// Sync returns when all that was written is on the medium.
func (d *Device) Sync() error { return d.file.Sync() }

// ReadPartitions makes the kernel read the partition table anew.
func (d *Device) ReadPartitions() error {
	if !d.block {
		return nil
	}
	return unix.IoctlSetInt(int(d.file.Fd()), unix.BLKRRPART, 0)
}

// Close implements io.Closer.
func (d *Device) Close() error { return d.file.Close() }
