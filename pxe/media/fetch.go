package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"time"
)

// lockPoll is how often a lock that another process holds is tried again.
const lockPoll = 100 * time.Millisecond

// Fetch sees to it that the source's file is in the cache: found there and still
// what it was, or copied, or downloaded and verified. A download that was
// interrupted is resumed, now and at the next call.
//
// progress, if it is not nil, is told the bytes that are there and the bytes in
// all (0 while that is not known); it is called from this goroutine, often, must not
// block, and goes back to 0 if the download has to start anew. A file that is not what SHA256 says is a *ChecksumError, an HTTP
// answer other than the file a *StatusError, a full disk a *SpaceError.
func (c *Cache) Fetch(ctx context.Context, src Source, progress func(done, total int64)) (File, error) {
	if !isDigest(src.SHA256) {
		return File{}, fmt.Errorf("cannot fetch %s: %q is not a SHA-256 digest: want 64 lower-case hexadecimal digits", src.URL, src.SHA256)
	}
	u, err := url.Parse(src.URL)
	if err != nil {
		return File{}, fmt.Errorf("cannot fetch: %w; correct the URL", err)
	}
	src.URL = u.Redacted() // from here on only for people: it may hold a password
	if src.Name == "" {
		src.Name = path.Base(u.Path)
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}

	if c.stampHolds(src.SHA256) {
		return c.found(src, progress)
	}
	unlock, err := c.acquire(ctx, src.SHA256)
	if err != nil {
		return File{}, fmt.Errorf("cannot fetch %s: %w", src.URL, err)
	}
	defer unlock()

	ok, err := c.verified(src.SHA256)
	if err != nil {
		return File{}, fmt.Errorf("cannot fetch %s: %w", src.URL, err)
	}
	if !ok {
		switch u.Scheme {
		case "http", "https":
			err = c.download(ctx, src, u, progress)
		case "file":
			err = c.copyFrom(ctx, src, u)
		case "data":
			err = c.unpackInline(ctx, src, u)
		default:
			err = fmt.Errorf("cannot fetch %s: scheme %q: want http, https or file", src.URL, u.Scheme)
		}
		if err != nil {
			return File{}, err
		}
	}
	return c.found(src, progress)
}

func (c *Cache) found(src Source, progress func(done, total int64)) (File, error) {
	f, err := c.file(src.SHA256, src.Name)
	if err == nil {
		progress(f.Size, f.Size)
	}
	return f, err
}

// Add puts a local file into the cache; its digest is computed. An empty name
// means the file's own.
func (c *Cache) Add(ctx context.Context, path, name string) (File, error) {
	if name == "" {
		name = filepath.Base(path)
	}
	digest, _, err := digestOf(ctx, path)
	if err != nil {
		return File{}, fmt.Errorf("cannot add %s to the media cache: %w", path, err)
	}
	unlock, err := c.acquire(ctx, digest)
	if err != nil {
		return File{}, fmt.Errorf("cannot add %s to the media cache: %w", path, err)
	}
	defer unlock()
	ok, err := c.verified(digest)
	if err == nil && !ok {
		err = c.take(ctx, path, digest, path)
	}
	if err != nil {
		return File{}, fmt.Errorf("cannot add %s to the media cache: %w", path, err)
	}
	return c.file(digest, name)
}

func (c *Cache) file(digest, name string) (File, error) {
	info, err := os.Stat(c.path(digest))
	if err != nil {
		return File{}, err
	}
	return File{Path: c.path(digest), Name: name, SHA256: digest, Size: info.Size()}, nil
}

// acquire waits for the lock on a digest.
func (c *Cache) acquire(ctx context.Context, digest string) (func(), error) {
	l := c.lock(digest)
	if _, err := l.TryLockContext(ctx, lockPoll); err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", l.Path(), err)
	}
	return func() { _ = l.Unlock() }, nil
}

// copyFrom takes a file of this machine.
func (c *Cache) copyFrom(ctx context.Context, src Source, u *url.URL) error {
	if u.Host != "" && u.Host != "localhost" {
		return fmt.Errorf("cannot fetch %s: a file URL names a file of this machine: write file:///path", src.URL)
	}
	if err := c.take(ctx, filepath.FromSlash(u.Path), src.SHA256, src.URL); err != nil {
		var checksum *ChecksumError
		if errors.As(err, &checksum) {
			return err
		}
		return fmt.Errorf("cannot fetch %s: %w", src.URL, err)
	}
	return nil
}

// take puts a local file under a digest into the cache, as a hard link where
// that is possible and as a copy otherwise. What was linked is verified by the
// digest of the link, what was copied by the digest of the copy, so that nothing
// can change between the look and the use.
func (c *Cache) take(ctx context.Context, from, digest, shown string) error {
	// Not the .part file: that one is opened for writing, and this may be the very
	// file of the user.
	part := c.path(digest) + ".local"
	if err := os.Remove(part); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	resolved, err := filepath.EvalSymlinks(from) // a hard link to a symbolic link would be one
	if err != nil {
		return fmt.Errorf("%w: correct the path", err)
	}
	if info, err := os.Stat(resolved); err != nil {
		return err
	} else if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", resolved)
	}
	if err := os.Link(resolved, part); err != nil {
		if err := c.copyFile(ctx, resolved, part); err != nil {
			_ = os.Remove(part)
			return err
		}
	}
	got, now, err := digestOf(ctx, part)
	if err != nil {
		_ = os.Remove(part)
		return err
	}
	if got != digest {
		_ = os.Remove(part)
		return &ChecksumError{URL: shown, Want: digest, Got: got, Size: now.Size}
	}
	return c.keep(part, digest, now)
}

func (c *Cache) copyFile(ctx context.Context, from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, contextReader{ctx, in}); err != nil {
		_ = out.Close()
		return c.full(err)
	}
	return c.full(errors.Join(out.Sync(), out.Close()))
}

// keep makes a verified file the file of its digest.
func (c *Cache) keep(from, digest string, now stamp) error {
	if err := os.Rename(from, c.path(digest)); err != nil {
		return err
	}
	_ = os.Remove(from) // a rename onto another link of the same file leaves both
	_ = os.Remove(c.part(digest))
	_ = os.Remove(c.notes(digest))
	return c.writeJSON(c.stamp(digest), now)
}
