package media

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// usedTick is how precisely it is remembered when a file was last of use.
const usedTick = time.Hour

// Sweep removes the files that were of no use for longer than grace, begun ones
// too. used says of a digest whether it is of use now. When it last was is
// remembered beside the file, so that it counts over restarts: of a file that
// nothing is known of, grace begins now. It returns the digests of what went.
//
// A file that another process is fetching stays. One that is open can be read to
// its end.
func (c *Cache) Sweep(now time.Time, grace time.Duration, used func(sha256 string) bool) (removed []string, err error) {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, fmt.Errorf("cannot list the media cache: %w", err)
	}
	var digests []string
	for _, e := range entries {
		digest, ending, _ := strings.Cut(e.Name(), ".")
		if isDigest(digest) && ending != "lock" && !slices.Contains(digests, digest) {
			digests = append(digests, digest)
		}
	}
	var troubles []error
	for _, digest := range digests {
		gone, err := c.sweep(digest, now, grace, used(digest))
		if err != nil {
			troubles = append(troubles, fmt.Errorf("cannot clean the media cache of %s: %w", digest, err))
		}
		if gone {
			removed = append(removed, digest)
		}
	}
	return removed, errors.Join(troubles...)
}

func (c *Cache) used(sha256 string) string { return c.path(sha256) + ".used" }

func (c *Cache) sweep(digest string, now time.Time, grace time.Duration, used bool) (gone bool, err error) {
	last, err := os.Stat(c.used(digest))
	switch known := err == nil; {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return false, err
	case !known || used && now.Sub(last.ModTime()) >= usedTick || last.ModTime().After(now):
		return false, c.markUsed(digest, now)
	case used || now.Sub(last.ModTime()) < grace:
		return false, nil
	}
	lock := c.lock(digest)
	if free, err := lock.TryLock(); err != nil || !free {
		return false, err
	}
	// The lock's own file stays: somebody may hold it open to wait for it.
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	// What says how much is there goes after the content.
	for _, path := range []string{c.path(digest), c.part(digest), c.notes(digest), c.stamp(digest), c.used(digest)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return true, nil
}

func (c *Cache) markUsed(digest string, now time.Time) error {
	f, err := os.OpenFile(c.used(digest), os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Chtimes(c.used(digest), now, now)
}
