// Package media keeps the files that machines are installed from: downloaded
// once, verified, and found again by their digest.
//
// The files are read and written as streams; none is held in memory. A download
// that was cut short, even by the death of the process, goes on where it stopped.
// (The grab library resumes by comparing sizes and knows no If-Range, so that a
// file that changed at its source would be glued to the old one's beginning;
// hence net/http.)
package media

import (
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/gofrs/flock"
)

// Source is a file to be had: where it is and what it must be.
type Source struct {
	URL    string // http, https or file; data as made by Inline
	SHA256 string // 64 lower-case hexadecimal digits
	Name   string // for people and for the path it is served under; empty: the last part of the URL's path
	// Attempts is how often in a row a download may fail without a single byte having
	// come. Zero: eight. Few are right where there is another source to turn to: a
	// later one goes on where this one stopped.
	Attempts int
}

// File is a verified file of the cache.
type File struct {
	Path   string // where it lies; it must not be written to
	Name   string
	SHA256 string
	Size   int64 // bytes
}

// Cache is a directory of verified files, named by their digests. Its methods
// may be called from many goroutines, and many processes may share a directory:
// one of them downloads a file, the others wait for it.
type Cache struct {
	// OnRetry is told, if it is set before the first call, why a download is tried
	// again and after which wait.
	OnRetry func(src Source, err error, wait time.Duration)

	dir    string
	client *http.Client
	// backOff says how long to wait between attempts.
	backOff func() backoff.BackOff
	// idle is how long a server may say nothing before the connection is given up.
	idle time.Duration
}

const (
	// maxFailures is how often in a row an attempt may fail without a single byte
	// having come.
	maxFailures = 8
	idleTime    = 60 * time.Second
)

// Open opens the cache in a directory, which is made if need be.
func Open(dir string) (*Cache, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the media cache: %w; choose another directory", err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	// The digest is of the bytes as the server keeps them, not of what a
	// transparent decompression makes of them.
	transport.DisableCompression = true
	return &Cache{
		dir:    dir,
		client: &http.Client{Transport: transport},
		backOff: func() backoff.BackOff {
			b := backoff.NewExponentialBackOff()
			b.MaxInterval = 15 * time.Second
			return b
		},
		idle: idleTime,
	}, nil
}

// Open opens a cached file by its digest and tells its size in bytes. A file
// that is not in the cache, or is no longer what it was, is fs.ErrNotExist.
func (c *Cache) Open(sha256 string) (io.ReadSeekCloser, int64, error) {
	if !isDigest(sha256) {
		return nil, 0, &fs.PathError{Op: "open", Path: sha256, Err: fs.ErrNotExist}
	}
	ok, err := c.verified(sha256)
	if err != nil {
		return nil, 0, err
	}
	if !ok {
		return nil, 0, &fs.PathError{Op: "open", Path: c.path(sha256), Err: fs.ErrNotExist}
	}
	f, err := os.Open(c.path(sha256))
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// The files of the cache that belong to one digest.
func (c *Cache) path(sha256 string) string  { return filepath.Join(c.dir, sha256) }
func (c *Cache) part(sha256 string) string  { return c.path(sha256) + ".part" }
func (c *Cache) notes(sha256 string) string { return c.path(sha256) + ".part.json" }
func (c *Cache) stamp(sha256 string) string { return c.path(sha256) + ".stamp" }

// lock is the lock on one digest. The kernel gives it up when the process dies,
// so that a killed download never blocks the next.
func (c *Cache) lock(sha256 string) *flock.Flock { return flock.New(c.path(sha256) + ".lock") }

func isDigest(s string) bool {
	if len(s) != 64 {
		return false
	}
	for _, r := range s {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return false
		}
	}
	return true
}

// Trust makes downloads by another transport than the usual one, such as one that
// knows a private certificate authority. It is called before the first download.
func (c *Cache) Trust(transport http.RoundTripper) { c.client = &http.Client{Transport: transport} }
