package media

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func kept(t *testing.T, c *Cache, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := c.Add(t.Context(), path, "file")
	if err != nil {
		t.Fatal(err)
	}
	return f.SHA256
}

func digestOfText(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// What is of no use goes after a while, which counts over restarts, and nothing
// else does.
func TestTheCacheIsSwept(t *testing.T) {
	dir := t.TempDir()
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	wanted, old := kept(t, c, "wanted"), kept(t, c, "old")
	begun := digestOfText("begun")
	for _, name := range []string{begun + ".part", begun + ".part.json", "sha256sum-v1.txt", "somebody's own", "lost+found.x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	used := func(digest string) bool { return digest == wanted }
	sweep := func(at time.Time, want ...string) {
		t.Helper()
		got, err := c.Sweep(at, 24*time.Hour, used)
		slices.Sort(got)
		slices.Sort(want)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q went (%v), want %q", at, got, err, want)
		}
	}
	sweep(now)
	sweep(now.Add(23 * time.Hour))
	if c, err = Open(dir); err != nil { // a restart
		t.Fatal(err)
	}
	open, _, err := c.Open(old)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	sweep(now.Add(25*time.Hour), old, begun)
	if text, err := io.ReadAll(open); err != nil || !bytes.Equal(text, []byte("old")) {
		t.Errorf("a file that is being served ends with %q, %v", text, err)
	}
	if _, _, err := c.Open(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is there still: %v", err)
	}
	var left []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".lock" {
			left = append(left, e.Name())
		}
	}
	want := []string{wanted, wanted + ".stamp", wanted + ".used", "lost+found.x", "sha256sum-v1.txt", "somebody's own"}
	slices.Sort(want)
	if !slices.Equal(left, want) {
		t.Errorf("left are %q, want %q", left, want)
	}
	// It is fetched again like any other.
	if again := kept(t, c, "old"); again != old {
		t.Error("another digest")
	}
	sweep(now.Add(26 * time.Hour))
}

// A file that another process fetches is left alone.
func TestAFileThatIsBeingFetchedIsNotSwept(t *testing.T) {
	c, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	digest := kept(t, c, "old")
	other, err := Open(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	never := func(string) bool { return false }
	if _, err := c.Sweep(now, time.Hour, never); err != nil {
		t.Fatal(err)
	}
	release, err := other.acquire(context.Background(), digest)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Sweep(now.Add(2*time.Hour), time.Hour, never); err != nil || len(got) > 0 {
		t.Errorf("%q went (%v)", got, err)
	}
	release()
	if got, err := c.Sweep(now.Add(2*time.Hour), time.Hour, never); err != nil || len(got) != 1 {
		t.Errorf("%q went (%v)", got, err)
	}
}
