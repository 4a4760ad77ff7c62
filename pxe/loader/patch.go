package loader

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
)

// Placeholder stands in the config that is embedded in the GRUB images where the
// address and port of the server belong. It is longer than any IPv4 address with
// a port; the rest is filled with spaces, which GRUB skips.
const Placeholder = "@RHIZOME-SERVER-ADDRESS@"

// Patch returns the image with the server's address and port in the place of the
// placeholder, and of the same size. It reads the image once, to find the place;
// it is an error if there is none, or more than one.
func Patch(image io.ReaderAt, size int64, server netip.AddrPort) (io.ReaderAt, error) {
	value := []byte(server.String())
	if !server.Addr().Is4() || len(value) > len(Placeholder) {
		return nil, fmt.Errorf("cannot write the address %s into a loader image: want an IPv4 address", server)
	}
	at, err := find(io.NewSectionReader(image, 0, size), []byte(Placeholder))
	if err != nil {
		return nil, err
	}
	for len(value) < len(Placeholder) {
		value = append(value, ' ')
	}
	return &patched{image, at, value}, nil
}

// find returns where the one occurrence of the pattern begins.
func find(r io.Reader, pattern []byte) (int64, error) {
	const chunk = 64 << 10
	var (
		buf    = make([]byte, 0, chunk+len(pattern))
		offset int64 // of buf[0] in the image
		found  int64 = -1
	)
	for {
		n, err := io.ReadFull(r, buf[len(buf):len(buf)+chunk])
		buf = buf[:len(buf)+n]
		for from := 0; ; {
			i := bytes.Index(buf[from:], pattern)
			if i < 0 {
				break
			}
			if found >= 0 {
				return 0, errors.New("the loader image has the placeholder of the server's address twice")
			}
			found = offset + int64(from+i)
			from += i + len(pattern)
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			if found < 0 {
				return 0, errors.New("the loader image lacks the placeholder of the server's address: it was not made by pxe/loader/build.sh")
			}
			return found, nil
		case err != nil:
			return 0, fmt.Errorf("cannot read the loader image: %w", err)
		}
		// Keep what may be the begin of the pattern; less than a whole one, so that
		// none is counted twice.
		keep := min(len(pattern)-1, len(buf))
		offset += int64(len(buf) - keep)
		copy(buf, buf[len(buf)-keep:])
		buf = buf[:keep]
	}
}

// patched is an image with one range of bytes replaced.
type patched struct {
	image io.ReaderAt
	at    int64
	value []byte
}

// ReadAt implements io.ReaderAt.
func (p *patched) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.image.ReadAt(b, off)
	from, to := max(off, p.at), min(off+int64(n), p.at+int64(len(p.value)))
	if from < to {
		copy(b[from-off:to-off], p.value[from-p.at:to-p.at])
	}
	return n, err
}
