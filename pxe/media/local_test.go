package media

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestALocalFileIsVerifiedAndKept(t *testing.T) {
	body := content(100_000)
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.raw")
	write(t, path, body)
	link := filepath.Join(dir, "link.raw")
	if err := os.Symlink("disk.raw", link); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{path, link} {
		c := testCache(t, filepath.Join(dir, "cache-"+filepath.Base(from)))
		f, err := c.Fetch(t.Context(), Source{URL: "file://" + from, SHA256: digest(body)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if info, err := os.Lstat(f.Path); err != nil || !info.Mode().IsRegular() {
			t.Errorf("the cache holds %v (%v), want a regular file", info, err)
		}
		assertContent(t, c, digest(body), body)
		assertNoRemains(t, c)
	}
}

func TestALocalFileIsNeverWrittenTo(t *testing.T) {
	body := content(100_000)
	dir := t.TempDir()
	path := filepath.Join(dir, "disk.raw")
	write(t, path, body)
	c := testCache(t, filepath.Join(dir, "cache"))
	if _, err := c.Fetch(t.Context(), Source{URL: "file://" + path, SHA256: digest(body)}, nil); err != nil {
		t.Fatal(err)
	}
	// The user's file changes, and with it perhaps the cache's (a hard link). The
	// change is noticed, and a download of the old content leaves the user's alone.
	changed := content(100_001)
	write(t, path, changed)
	o := newOrigin(t, body)
	if _, err := c.Fetch(t.Context(), Source{URL: o.URL, SHA256: digest(body)}, nil); err != nil {
		t.Fatal(err)
	}
	assertContent(t, c, digest(body), body)
	if got, err := os.ReadFile(path); err != nil || digest(got) != digest(changed) {
		t.Errorf("the user's file was written to (%v)", err)
	}
}

func TestLocalErrors(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x")
	write(t, path, []byte("x"))
	for url, want := range map[string]string{
		"file://" + path:           "wrong checksum",
		"file://" + path + ".none": "correct the path",
		"file://" + dir:            "not a regular file",
		"file://elsewhere/" + path: "file:///path",
		"ftp://example.com/x":      "want http, https or file",
		"http://[::1":              "correct the URL",
	} {
		c := testCache(t, filepath.Join(dir, "cache"))
		_, err := c.Fetch(t.Context(), Source{URL: url, SHA256: digest([]byte("y"))}, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want %q", url, err, want)
		}
	}
}

func TestAddComputesTheDigest(t *testing.T) {
	body := content(100_000)
	path := filepath.Join(t.TempDir(), "operator.tar")
	write(t, path, body)
	c := testCache(t, t.TempDir())
	for range 2 {
		f, err := c.Add(t.Context(), path, "")
		if err != nil {
			t.Fatal(err)
		}
		if f.SHA256 != digest(body) || f.Name != "operator.tar" {
			t.Errorf("got %+v", f)
		}
	}
	assertContent(t, c, digest(body), body)
	if _, err := c.Add(t.Context(), path+"x", ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v, want not found", err)
	}
}

func TestOpenRefusesWhatIsNoDigest(t *testing.T) {
	c := testCache(t, t.TempDir())
	write(t, filepath.Join(c.dir, "x"), []byte("x"))
	for _, name := range []string{"", "x", "../x", strings.Repeat("A", 64), strings.Repeat("0", 64)} {
		if _, _, err := c.Open(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open(%q) gives %v, want not found", name, err)
		}
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}
