package stream

import (
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/mikelolasagasti/xz"

	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
)

// zstdWindow is the largest window that a zstd image may ask for, in bytes: what
// zstd --long=27 and -22 --ultra make. It bounds the memory needed.
const zstdWindow = 128 << 20

// xzDictionary is the largest dictionary that an xz image may ask for, in bytes: what
// xz -9 makes. It bounds the memory needed.
const xzDictionary = 64 << 20

// Decompress reads r as one of plan's compressions. Files of several members or
// frames one after the other are read as one.
func Decompress(compression string, r io.Reader) (io.ReadCloser, error) {
	switch compression {
	case plan.None:
		return io.NopCloser(r), nil
	case plan.Gzip:
		d, err := gzip.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("this is not a gzip file: %w", err)
		}
		return d, nil
	case plan.XZ:
		d, err := xz.NewReader(r, xzDictionary)
		if err != nil {
			return nil, fmt.Errorf("this is not an xz file: %w", err)
		}
		return io.NopCloser(d), nil
	case plan.Zstd:
		d, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, fmt.Errorf("this is not a zstd file: %w", err)
		}
		return d.IOReadCloser(), nil
	}
	return nil, fmt.Errorf("cannot read the compression %q: want None, Gzip, XZ or Zstd", compression)
}
