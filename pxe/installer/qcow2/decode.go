package qcow2

import (
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// zstdWindow bounds the memory of a Decoder, in bytes: no cluster is larger.
const zstdWindow = 1 << maxClusterBits

// Decoder unpacks clusters. It is for one user at a time.
type Decoder struct {
	zstd    *zstd.Decoder
	deflate io.ReadCloser
}

// Decoder makes one for the clusters of this file. It is to be closed.
func (i *Image) Decoder() (*Decoder, error) {
	if !i.zstd {
		return &Decoder{deflate: flate.NewReader(nil)}, nil
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
	if err != nil {
		return nil, fmt.Errorf("cannot unpack clusters: %w", err)
	}
	return &Decoder{zstd: d}, nil
}

// Decode unpacks the bytes of a compressed piece to fill to, which is a cluster. What
// follows the content in packed is not looked at.
func (d *Decoder) Decode(to, packed []byte) error {
	from := bytes.NewReader(packed)
	var r io.Reader = d.zstd
	var err error
	if d.zstd != nil {
		err = d.zstd.Reset(from)
	} else {
		r, err = d.deflate, d.deflate.(flate.Resetter).Reset(from, nil)
	}
	if err == nil {
		_, err = io.ReadFull(r, to)
	}
	if err != nil {
		return fmt.Errorf("a cluster cannot be unpacked: %w", err)
	}
	return nil
}

// Close gives the memory back.
func (d *Decoder) Close() {
	if d.zstd != nil {
		d.zstd.Close()
	}
}
