// Package tree opens the files of an installer: in an ISO, which is not unpacked, or
// by a listing of files that are kept by their digests.
package tree

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Opener opens a file by the SHA-256 of its content, 64 lower-case hexadecimal
// digits. An unknown one is fs.ErrNotExist.
type Opener func(sha256 string) (file io.ReadSeekCloser, size int64, err error)

// File is an open file of a tree.
type File struct {
	io.ReadSeeker
	Size int64 // bytes
	// ID changes when the content does: it is an entity tag without its quotes.
	ID     string
	closer io.Closer
}

// Close closes the file.
func (f *File) Close() error { return f.closer.Close() }

// Open opens a file of the tree whose ISO or listing has the digest id. name is a
// slash-separated path without a slash in front. What is not there, a directory and
// an id that is no tree are fs.ErrNotExist.
func Open(open Opener, id, name string) (*File, error) {
	missing := &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	if !fs.ValidPath(name) || name == "." {
		return nil, missing
	}
	file, size, err := open(id)
	if err != nil {
		return nil, err
	}
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(file, head); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF {
		_ = file.Close()
		return nil, fmt.Errorf("cannot read %s: %w", id, err)
	}
	if string(head) == magic {
		digest, err := lookUp(file, size, name)
		_ = file.Close()
		if err != nil {
			return nil, err
		}
		found, size, err := open(digest)
		if err != nil {
			return nil, err
		}
		return &File{ReadSeeker: found, Size: size, ID: digest, closer: found}, nil
	}
	at, ok := file.(io.ReaderAt)
	if !ok {
		_ = file.Close()
		return nil, fmt.Errorf("cannot read %s from its middle", id)
	}
	section, err := inISO(at, size, name)
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	// The digest of the whole and the place in it tell the content.
	_, offset, length := section.Outer()
	return &File{ReadSeeker: section, Size: length, ID: fmt.Sprintf("%s-%d-%d", id, offset, length), closer: file}, nil
}

// magic is the first line of a listing.
const magic = "rhizome-tree 1\n"

// MaxListing is the size of the largest listing that is read, in bytes.
const MaxListing = 64 << 10

// Entry is a file of a listing.
type Entry struct {
	Path   string
	SHA256 string // 64 lower-case hexadecimal digits
}

// Listing writes a listing down: a file whose own digest names the tree. The same
// entries give the same bytes, in whatever order they come.
func Listing(entries []Entry) ([]byte, error) {
	sorted := slices.Clone(entries)
	slices.SortFunc(sorted, func(a, b Entry) int { return strings.Compare(a.Path, b.Path) })
	var out bytes.Buffer
	out.WriteString(magic)
	for i, e := range sorted {
		switch {
		case !fs.ValidPath(e.Path) || e.Path == "." || strings.ContainsFunc(e.Path, func(r rune) bool { return r < ' ' || r == 0x7f }):
			return nil, fmt.Errorf("cannot list %q: it is no path of a file", e.Path)
		case i > 0 && sorted[i-1].Path == e.Path:
			return nil, fmt.Errorf("cannot list %q: it is there twice", e.Path)
		case !isDigest(e.SHA256):
			return nil, fmt.Errorf("cannot list %q: %q is no SHA-256 digest", e.Path, e.SHA256)
		}
		fmt.Fprintf(&out, "%s  %s\n", e.SHA256, e.Path)
	}
	if out.Len() > MaxListing {
		return nil, fmt.Errorf("cannot list %d files: the listing has more than %d bytes", len(sorted), MaxListing)
	}
	return out.Bytes(), nil
}

// lookUp finds a path in a listing of which the first line was read.
func lookUp(listing io.Reader, size int64, name string) (string, error) {
	if size > MaxListing {
		return "", fmt.Errorf("the listing of a tree has %d bytes, more than %d", size, MaxListing)
	}
	lines := bufio.NewScanner(io.LimitReader(listing, MaxListing))
	for lines.Scan() {
		digest, at, ok := strings.Cut(lines.Text(), "  ")
		if ok && at == path.Clean(name) && isDigest(digest) {
			return digest, nil
		}
	}
	if err := lines.Err(); err != nil {
		return "", fmt.Errorf("cannot read the listing of a tree: %w", err)
	}
	return "", &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

func isDigest(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}
