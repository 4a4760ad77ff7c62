package media

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// stamp is what a file looked like when its digest was last computed. While it
// still looks like that it is not read again.
type stamp struct {
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
}

func stampOf(info fs.FileInfo) stamp {
	return stamp{Size: info.Size(), Modified: info.ModTime().UTC()}
}

func (s stamp) equal(o stamp) bool { return s.Size == o.Size && s.Modified.Equal(o.Modified) }

// stampHolds says whether the file of a digest looks as it did when it was last
// verified.
func (c *Cache) stampHolds(digest string) bool {
	info, err := os.Stat(c.path(digest))
	if err != nil {
		return false
	}
	b, err := os.ReadFile(c.stamp(digest))
	var then stamp
	return err == nil && json.Unmarshal(b, &then) == nil && then.equal(stampOf(info))
}

// verified says whether the file of a digest is in the cache and is what it
// should be. It is read anew only if its stamp differs.
func (c *Cache) verified(digest string) (bool, error) {
	if c.stampHolds(digest) {
		return true, nil
	}
	if _, err := os.Stat(c.path(digest)); errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	got, now, err := digestOf(context.Background(), c.path(digest))
	if err != nil {
		return false, err
	}
	if got != digest {
		return false, nil
	}
	return true, c.writeJSON(c.stamp(digest), now)
}

// Digest computes the SHA-256 digest of a file, as 64 lower-case hexadecimal digits.
func Digest(ctx context.Context, path string) (string, error) {
	digest, _, err := digestOf(ctx, path)
	return digest, err
}

// digestOf computes a file's digest and tells what the file looked like. A file
// that changes meanwhile is an error.
func digestOf(ctx context.Context, path string) (string, stamp, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", stamp{}, err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return "", stamp{}, err
	}
	if !before.Mode().IsRegular() {
		return "", stamp{}, fmt.Errorf("%s is not a regular file", path)
	}
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, onlyReader{contextReader{ctx, f}}, make([]byte, bufferSize)); err != nil {
		return "", stamp{}, fmt.Errorf("cannot read %s: %w", path, err)
	}
	after, err := os.Stat(path)
	if err != nil {
		return "", stamp{}, err
	}
	if !stampOf(before).equal(stampOf(after)) {
		return "", stamp{}, fmt.Errorf("%s changed while it was read: try again when it is complete", path)
	}
	return hex.EncodeToString(sum.Sum(nil)), stampOf(after), nil
}

const bufferSize = 256 << 10

// onlyReader hides every other method, so that a copy uses its buffer.
type onlyReader struct{ io.Reader }

// contextReader stops reading when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// writeJSON replaces a small file in one step: a reader sees the old or the new.
func (c *Cache) writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(c.dir, filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(b); err != nil {
		_ = tmp.Close()
		return c.full(err)
	}
	if err := tmp.Close(); err != nil {
		return c.full(err)
	}
	return os.Rename(tmp.Name(), path)
}
