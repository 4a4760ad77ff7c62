package stream

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
	"github.com/rhizome-dev/rhizome/pxe/installer/qcow2"
)

// errQcow2 is what writing a raw image ends with that is a qcow2 file.
var errQcow2 = errors.New("the image is of the format qcow2")

// qcow2 streams a qcow2 file: first its tables, which say where on the disk its parts
// belong, and the head; then the whole file from its first byte to its last, each part
// to its place. The digest is that of the file as it was published, and what was read
// of it before is compared with what that vouches for.
func (f *file) qcow2(ctx context.Context, target Target) (head []byte, err error) {
	image, head, err := f.readTables(ctx)
	if err != nil {
		return nil, err
	}
	if image.Size() > target.Size() {
		return nil, fmt.Errorf("the image needs a disk of %d bytes, this one has %d: choose a larger disk in the Node's spec.disk; nothing was written", image.Size(), target.Size())
	}
	if f.o.Inspect != nil {
		if err := f.o.Inspect(head); err != nil {
			return nil, err
		}
	}
	if err := unboot(target); err != nil {
		return nil, err
	}
	f.o.Progress.Written.Store(int64(len(head)))
	l := newLayer(image, target, f.o.Progress)
	if err := f.pass(ctx, l.lay); err != nil {
		return nil, err
	}
	if string(l.head) != string(head) {
		return nil, errors.New("the file on the server changed while it was being written: install again; the disk was made unbootable")
	}
	return head, nil
}

// readTables reads the tables and the first bytes of the disk that the file holds.
func (f *file) readTables(ctx context.Context) (*qcow2.Image, []byte, error) {
	if f.o.Log != nil {
		twice := ""
		if f.image.Compression != plan.None {
			twice = ", for which it is unpacked once more"
		}
		f.o.Log("the image is a qcow2 file: reading its tables%s", twice)
	}
	r := &forward{ctx: ctx, file: f}
	defer r.close()
	image, err := qcow2.Read(r.fetch)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the qcow2 file: %w; nothing was written", err)
	}
	head := make([]byte, min(image.Size(), HeadBytes))
	decoder, err := image.Decoder()
	if err != nil {
		return nil, nil, err
	}
	defer decoder.Close()
	for _, p := range image.Beginning(HeadBytes) {
		content := make([]byte, image.ClusterSize())
		if err := f.cluster(r, decoder, p, content); err != nil {
			return nil, nil, fmt.Errorf("cannot read the qcow2 file: %w; nothing was written", err)
		}
		copy(head[p.Disk:], content)
	}
	return image, head, nil
}

// cluster reads one cluster of content.
func (f *file) cluster(r *forward, decoder *qcow2.Decoder, p qcow2.Piece, to []byte) error {
	b := make([]byte, p.Length)
	n, err := r.some(b, p.Offset)
	if err != nil {
		return err
	}
	if p.Compressed {
		return decoder.Decode(to, b[:n])
	}
	copy(to, b[:n])
	return nil
}

// nearby is how far ahead bytes are read and dropped in place of asking anew.
const nearby = 256 << 10

// forward reads parts of the unpacked file. It is made for offsets that grow: a file
// that is packed has to be unpacked from its beginning for one that does not.
type forward struct {
	ctx  context.Context
	file *file

	download *download
	r        io.ReadCloser
	at       int64
}

// fetch is a qcow2.Fetch.
func (r *forward) fetch(p []byte, offset int64) error {
	n, err := r.some(p, offset)
	if err == nil && n < len(p) {
		err = endsBefore(offset + int64(n))
	}
	return err
}

// some reads as much of p as the file has, but at least a byte.
func (r *forward) some(p []byte, offset int64) (int, error) {
	packed := r.file.image.Compression != plan.None
	if r.r == nil || offset < r.at || !packed && offset-r.at > nearby {
		r.close()
		r.at = offset
		if packed {
			r.at = 0
		}
		if known := r.file.image.Size; !packed && known > 0 && offset >= known {
			return 0, endsBefore(known)
		}
		r.download = r.file.open(r.ctx, r.at)
		if packed { // it takes as long as the download that follows
			r.download.received = r.file.report
		}
		r.r = &lazy{compression: r.file.image.Compression, from: r.download}
	}
	skipped, err := io.CopyN(io.Discard, r.r, offset-r.at)
	r.at += skipped
	if err == nil {
		var n int
		n, err = io.ReadFull(r.r, p)
		r.at += int64(n)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return n, nil
		}
		if err == nil {
			return n, nil
		}
	}
	if errors.Is(err, io.EOF) {
		err = endsBefore(r.at)
	}
	return 0, err
}

func endsBefore(at int64) error {
	return fmt.Errorf("it is damaged: it ends at byte %d, before what its tables name", at)
}

func (r *forward) close() {
	if r.r != nil {
		_ = r.r.Close()        // its error was returned by Read
		_ = r.download.Close() // has none
		r.r = nil
	}
}
