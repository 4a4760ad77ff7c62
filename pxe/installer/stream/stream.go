// Package stream writes a compressed disk image from a URL straight to a disk,
// in bounded memory, while checking its SHA-256.
//
// The first HeadBytes of the image, which hold its partition table and boot
// sector, are the last thing to reach the disk: until the whole image is there
// and its digest is right, the disk begins with zeroes and cannot boot, whenever
// the power goes or whatever goes wrong.
package stream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/klauspost/readahead"

	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
	"github.com/rhizome-dev/rhizome/pxe/installer/qcow2"
)

// HeadBytes is how much of the image is held back, in bytes.
const HeadBytes = chunk

// chunk is the size of one write, and the alignment of every write: a multiple
// of every erase block and stripe that matters.
const chunk = 1 << 20

// tail is cleared at the end of the disk, where an old backup partition table
// and the marks of old RAID and LVM members lie.
const tail = chunk

// Target is a disk, or a file in its place.
type Target interface {
	io.WriterAt
	// Size in bytes.
	Size() int64
	// Zero makes n bytes from off on read as zeroes.
	Zero(off, n int64) error
	// Sync returns when all that was written is on the medium.
	Sync() error
}

// Progress is how far the work is. It is safe for concurrent use.
type Progress struct {
	// Done and Total are bytes as downloaded; Total is -1 until it is known. A packed
	// qcow2 file is downloaded twice, and Done goes back to zero between.
	Done, Total atomic.Int64
	// Written is bytes of the unpacked image that the disk has been given.
	Written atomic.Int64
}

// Options of Image.
type Options struct {
	Client   *http.Client
	Patience Patience
	// Inspect is shown the head of the image before anything is written. An error
	// ends the work with the disk untouched. Nil: nothing is checked.
	Inspect func(head []byte) error
	// Progress may be nil.
	Progress *Progress
	// Log is told of broken connections and of what takes long. It may be nil.
	Log func(format string, args ...any)
}

// ChecksumError says that what was downloaded is not what was asked for.
type ChecksumError struct{ Got, Want string }

// Error implements error.
func (e *ChecksumError) Error() string {
	return fmt.Sprintf("the image has the SHA-256 %s, want %s: the file on the server is damaged or not the one declared; the disk was made unbootable", e.Got, e.Want)
}

// Image streams the image to the target and returns its head, which the caller
// writes when everything else is in place. Until then the target cannot boot. The
// image is raw or qcow2, which its first bytes tell.
func Image(ctx context.Context, image plan.Image, target Target, o Options) (head []byte, err error) {
	if o.Progress == nil {
		o.Progress = new(Progress)
	}
	o.Progress.Total.Store(-1)
	if image.Size > 0 {
		o.Progress.Total.Store(image.Size)
	}
	f := &file{image: image, o: o}
	err = f.pass(ctx, func(ctx context.Context, r io.Reader) error {
		head, err = write(ctx, r, target, o)
		return err
	})
	if errors.Is(err, errQcow2) {
		head, err = f.qcow2(ctx, target)
	}
	if err != nil {
		return nil, err
	}
	if err := target.Sync(); err != nil {
		return nil, fmt.Errorf("cannot write to the disk: %w", err)
	}
	return head, nil
}

// file is the image as it lies on the server.
type file struct {
	image plan.Image
	o     Options
}

// open begins a download at an offset of the file as it lies there.
func (f *file) open(ctx context.Context, offset int64) *download {
	d := newDownload(ctx, f.o.Client, append([]string{f.image.URL}, f.image.Mirrors...), f.image.Size, f.o.Patience)
	d.offset = offset
	if f.o.Log != nil {
		d.log = f.o.Log
	}
	return d
}

func (f *file) report(done, total int64) {
	f.o.Progress.Done.Store(done)
	f.o.Progress.Total.Store(total)
}

// pass hands the file to consume, unpacked, and checks its digest; what consume leaves
// of it is fetched all the same. Without an error the file was the one declared.
func (f *file) pass(ctx context.Context, consume func(context.Context, io.Reader) error) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := f.open(ctx, 0)
	defer func() { err = errors.Join(err, d.Close()) }()
	d.received = f.report

	// Three stages side by side: download and digest, unpacking, writing.
	digest := sha256.New()
	raw, err := ahead(io.TeeReader(d, digest))
	if err != nil {
		return err
	}
	defer closeStage(cancel, raw)
	plain := &lazy{compression: f.image.Compression, from: raw}
	defer closeStage(cancel, plain)
	out, err := ahead(plain)
	if err != nil {
		return err
	}
	defer closeStage(cancel, out)

	err = consume(ctx, out)
	var unreadable *readError
	if err != nil && !errors.As(err, &unreadable) {
		return err
	}
	// What was not read belongs to the file, too. After a file that could not be
	// unpacked, the digest tells who is to blame.
	for _, stage := range []io.Closer{out, plain} {
		_ = stage.Close() // it would read on by itself
	}
	if _, drainErr := io.Copy(io.Discard, struct{ io.Reader }{raw}); drainErr != nil {
		return drainErr
	}
	if got := hex.EncodeToString(digest.Sum(nil)); !strings.EqualFold(got, f.image.SHA256) {
		return &ChecksumError{Got: got, Want: strings.ToLower(f.image.SHA256)}
	}
	if err != nil {
		return fmt.Errorf("%w: the file is the one declared, so it is not a valid image of the compression %s", err, f.image.Compression)
	}
	return nil
}

// readError is an image that cannot be unpacked, or read at all.
type readError struct{ error }

func (e *readError) Error() string { return "cannot read the image: " + e.error.Error() }
func (e *readError) Unwrap() error { return e.error }

// lazy opens the decompressor when it is first read, because opening reads.
type lazy struct {
	compression string
	from        io.Reader
	to          io.ReadCloser
}

func (l *lazy) Read(p []byte) (n int, err error) {
	if l.to == nil {
		if l.to, err = Decompress(l.compression, l.from); err != nil {
			return 0, err
		}
	}
	return l.to.Read(p)
}

func (l *lazy) Close() error {
	if l.to == nil {
		return nil
	}
	return l.to.Close()
}

func ahead(r io.Reader) (io.ReadCloser, error) { return readahead.NewReaderSize(r, 4, chunk) }

// closeStage stops a stage that may be waiting for the network.
func closeStage(cancel context.CancelFunc, c io.Closer) {
	cancel()
	_ = c.Close() // its error was returned by Read
}

// write puts all of r except its head on the target.
func write(ctx context.Context, r io.Reader, target Target, o Options) (head []byte, err error) {
	head = make([]byte, HeadBytes)
	n, err := io.ReadFull(r, head)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), err == io.EOF:
	case err != nil:
		return nil, &readError{err}
	}
	head = head[:n]
	if bytes.HasPrefix(head, []byte(qcow2.Magic)) {
		return nil, errQcow2
	}
	if n == 0 {
		return nil, errors.New("the image is empty: nothing was written")
	}
	if int64(n) > target.Size() {
		return nil, fmt.Errorf("the image is larger than the disk (%d bytes): nothing was written", target.Size())
	}
	if o.Inspect != nil {
		if err := o.Inspect(head); err != nil {
			return nil, err
		}
	}
	if err := unboot(target); err != nil {
		return nil, err
	}
	o.Progress.Written.Store(int64(n))
	if n < HeadBytes {
		return head, nil
	}
	w := &writer{target: target, at: HeadBytes}
	buf := make([]byte, chunk)
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			if err := w.write(buf[:n]); err != nil {
				return nil, err
			}
			o.Progress.Written.Store(w.at)
		}
		switch {
		case err == nil:
		case errors.Is(err, io.ErrUnexpectedEOF), err == io.EOF:
			return head, w.flush()
		default:
			return nil, &readError{err}
		}
	}
}

// unboot clears what makes the disk bootable and what would make an old system
// be found on it.
func unboot(target Target) error {
	size := target.Size()
	err := target.Zero(0, min(size, HeadBytes))
	if err == nil && size > HeadBytes {
		n := min(size-HeadBytes, tail)
		err = target.Zero(size-n, n)
	}
	if err == nil {
		err = target.Sync()
	}
	if err != nil {
		return fmt.Errorf("cannot clear the disk's partition table: %w", err)
	}
	return nil
}

func tooLarge(size int64) error {
	return fmt.Errorf("the image is larger than the disk (%d bytes): choose a larger disk in the Node's spec.disk; the disk was made unbootable", size)
}

// writer writes chunk by chunk. Zeroes are not skipped, because a used disk holds
// other bytes there: they are gathered into long runs for the disk to clear by
// itself.
type writer struct {
	target Target
	at     int64 // where the next chunk belongs
	zeroes int64 // bytes before at that are still to be cleared
}

var zeroChunk = make([]byte, chunk)

// longestRun bounds one request to clear, so that the progress is seen.
const longestRun = 256 << 20

func (w *writer) write(b []byte) error {
	if w.at+int64(len(b)) > w.target.Size() {
		return tooLarge(w.target.Size())
	}
	if bytes.Equal(b, zeroChunk) {
		w.at += int64(len(b))
		w.zeroes += int64(len(b))
		if w.zeroes >= longestRun {
			return w.flush()
		}
		return nil
	}
	if err := w.flush(); err != nil {
		return err
	}
	if _, err := w.target.WriteAt(b, w.at); err != nil {
		return fmt.Errorf("cannot write to the disk at byte %d: %w", w.at, err)
	}
	w.at += int64(len(b))
	return nil
}

func (w *writer) flush() error {
	if w.zeroes == 0 {
		return nil
	}
	if err := w.target.Zero(w.at-w.zeroes, w.zeroes); err != nil {
		return fmt.Errorf("cannot write to the disk at byte %d: %w", w.at-w.zeroes, err)
	}
	w.zeroes = 0
	return nil
}
