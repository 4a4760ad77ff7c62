package stream

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/rhizome-dev/rhizome/pxe/installer/qcow2"
)

// layer puts the parts of a qcow2 file on a disk as the file comes. Reading, unpacking
// (on all processors) and writing (by one, in the order of the file) go on side by
// side, in bounded memory.
type layer struct {
	image    *qcow2.Image
	target   Target
	progress *Progress
	head     []byte // as lay finds it

	chunk int64 // bytes of one write at most
	hole  func() (from, length int64, ok bool)
	spare chan []byte // contents of loads that were written, to be used again
}

func newLayer(image *qcow2.Image, target Target, progress *Progress) *layer {
	return &layer{
		image: image, target: target, progress: progress,
		head:  make([]byte, min(image.Size(), HeadBytes)),
		chunk: max(chunk, int64(image.ClusterSize())),
		spare: make(chan []byte, maxDepth),
	}
}

func (l *layer) load(base int64) *load {
	b := &load{base: base, ready: make(chan error, 1)}
	select {
	case b.out = <-l.spare:
	default:
		b.out = make([]byte, l.chunk)
	}
	return b
}

// load is what lies together on the disk and came together.
type load struct {
	base   int64 // on the disk
	out    []byte
	runs   []run // of out
	packed []packedCluster
	ready  chan error
}

// run is a part of a load's content without a gap, in bytes.
type run struct{ from, to int64 }

type packedCluster struct {
	at    int64 // in the load's content
	bytes []byte
}

// maxDepth bounds how many loads are on their way, each of a few MiB.
const maxDepth = 10

// lay reads the file and fills the disk, all but the head.
func (l *layer) lay(ctx context.Context, file io.Reader) error {
	next, stop := iter.Pull2(l.image.Holes())
	defer stop()
	l.hole = next

	workers := min(runtime.GOMAXPROCS(0), maxDepth-2)
	group, ctx := errgroup.WithContext(ctx)
	work := make(chan *load)
	queue := make(chan *load, workers+2)
	for range workers {
		group.Go(func() error { return l.unpack(work) })
	}
	group.Go(func() error { return l.write(ctx, queue) })
	group.Go(func() error {
		defer close(work)
		defer close(queue)
		return l.read(ctx, file, func(b *load) error {
			for _, to := range []chan *load{queue, work} {
				select {
				case to <- b:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			return nil
		})
	})
	return group.Wait()
}

// read gathers the file's pieces to loads.
func (l *layer) read(ctx context.Context, file io.Reader, emit func(*load) error) error {
	w := &window{r: file}
	var b *load
	flush := func() error {
		full := b
		b = nil
		if full == nil {
			return nil
		}
		return emit(full)
	}
	for p := range l.image.Pieces() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		content, err := w.at(p.Offset, p.Length)
		if err != nil {
			return &readError{err}
		}
		if p.Table() {
			if len(content) < p.Length || sha256.Sum256(content) != p.SHA256 {
				return &readError{errors.New("its tables are not those that were read before")}
			}
			continue
		}
		if base := p.Disk &^ (l.chunk - 1); b != nil && b.base != base {
			if err := flush(); err != nil {
				return err
			}
		}
		if b == nil {
			b = l.load(p.Disk &^ (l.chunk - 1))
		}
		b.add(p, content, l.image)
	}
	return flush()
}

func (b *load) add(p qcow2.Piece, content []byte, image *qcow2.Image) {
	from := p.Disk - b.base
	cluster := b.out[from : from+int64(image.ClusterSize())]
	if p.Compressed {
		b.packed = append(b.packed, packedCluster{from, append([]byte(nil), content...)})
	} else {
		// What is missing at the file's end is zeroes: QEMU does not write the rest of the
		// last cluster.
		clear(cluster[copy(cluster, content):])
	}
	to := min(from+int64(len(cluster)), image.Size()-b.base)
	if n := len(b.runs); n > 0 && b.runs[n-1].to == from {
		b.runs[n-1].to = to
		return
	}
	b.runs = append(b.runs, run{from, to})
}

func (l *layer) unpack(work <-chan *load) error {
	decoder, err := l.image.Decoder()
	if err != nil {
		return err
	}
	defer decoder.Close()
	for b := range work {
		var err error
		for _, c := range b.packed {
			if err = decoder.Decode(b.out[c.at:c.at+int64(l.image.ClusterSize())], c.bytes); err != nil {
				err = &readError{err}
				break
			}
		}
		b.packed = nil
		b.ready <- err
	}
	return nil
}

func (l *layer) write(ctx context.Context, queue <-chan *load) error {
	from, length, more := l.hole()
	// Old data shine through no hole: the ones that lie before are cleared first, so
	// that the disk is gone over once.
	clearTo := func(end int64) (err error) {
		for more && from < end && err == nil {
			err = l.zero(ctx, from, length)
			from, length, more = l.hole()
		}
		return err
	}
	for b := range queue {
		select {
		case err := <-b.ready:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := clearTo(b.base); err != nil {
			return err
		}
		for _, r := range b.runs {
			if err := l.put(b.out[r.from:r.to], b.base+r.from); err != nil {
				return err
			}
		}
		select {
		case l.spare <- b.out:
		default:
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return clearTo(l.image.Size())
}

// put writes content to the disk, or to the head what belongs there.
func (l *layer) put(b []byte, at int64) error {
	if at < HeadBytes {
		n := copy(l.head[at:], b)
		b, at = b[n:], at+int64(n)
	}
	if len(b) == 0 {
		return nil
	}
	if _, err := l.target.WriteAt(b, at); err != nil {
		return fmt.Errorf("cannot write to the disk at byte %d: %w", at, err)
	}
	l.progress.Written.Add(int64(len(b)))
	return nil
}

// largestSector is that of disks, in bytes: what they are asked to clear is whole ones.
const largestSector = 4096

// zero clears a range. A small one is written, because to ask the disk costs more.
func (l *layer) zero(ctx context.Context, from, length int64) error {
	if from < HeadBytes { // clear already
		length -= HeadBytes - from
		from = HeadBytes
	}
	for length > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, ask := min(length, chunk), false
		if edge := from % largestSector; edge != 0 {
			n = min(n, largestSector-edge)
		} else if length >= chunk {
			n, ask = min(length, longestRun)/largestSector*largestSector, true
		}
		var err error
		if ask {
			err = l.target.Zero(from, n)
		} else {
			_, err = l.target.WriteAt(zeroChunk[:n], from)
		}
		if err != nil {
			return fmt.Errorf("cannot clear the disk at byte %d: %w", from, err)
		}
		from, length = from+n, length-n
		l.progress.Written.Add(n)
	}
	return nil
}

// window is a stream of which the last few bytes can be looked at again.
type window struct {
	r    io.Reader
	base int64 // where buf is in the stream
	buf  []byte
}

// at is the n bytes at an offset, fewer at the end of the stream but at least one.
// They hold until the next call, whose offset is not less than this one's.
func (w *window) at(offset int64, n int) ([]byte, error) {
	if behind := offset - w.base; behind >= int64(len(w.buf)) {
		skip := behind - int64(len(w.buf))
		w.buf = w.buf[:0]
		if _, err := io.CopyN(io.Discard, w.r, skip); err != nil {
			return nil, w.ended(err)
		}
	} else if behind > 0 {
		w.buf = w.buf[:copy(w.buf, w.buf[behind:])]
	}
	w.base = offset
	have := len(w.buf)
	if have >= n {
		return w.buf[:n], nil
	}
	if cap(w.buf) < n {
		w.buf = append(make([]byte, 0, n), w.buf...)
	}
	got, err := io.ReadFull(w.r, w.buf[have:n])
	w.buf = w.buf[:have+got]
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	if len(w.buf) == 0 {
		return nil, w.ended(io.EOF)
	}
	return w.buf, nil
}

func (w *window) ended(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("it is damaged: it ends before what its tables name")
	}
	return err
}
