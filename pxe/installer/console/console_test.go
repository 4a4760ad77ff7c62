package console

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestEveryActiveConsoleGetsEveryLine(t *testing.T) {
	sysfs, dev := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(sysfs, "class/tty/console"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(sysfs, "class/tty/console/active"), []byte("tty0 ttyS0 ttyS9\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tty0", "ttyS0", "console"} { // ttyS9 is not there
		if err := os.WriteFile(filepath.Join(dev, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c := Open(sysfs, dev)
	if _, err := c.Write([]byte("hello\n")); err != nil {
		t.Fatal(err)
	}
	c.Flush(time.Minute)
	for name, want := range map[string]string{"tty0": "hello\n", "ttyS0": "hello\n", "console": ""} {
		if b, err := os.ReadFile(filepath.Join(dev, name)); err != nil || string(b) != want {
			t.Errorf("%s has %q, want %q (%v)", name, b, want, err)
		}
	}
}

// stuck is a serial line whose other end never takes anything.
type stuck struct{ release chan struct{} }

func (s stuck) Write(p []byte) (int, error) { <-s.release; return len(p), nil }

func TestAStuckConsoleStopsNobody(t *testing.T) {
	s := stuck{make(chan struct{})}
	defer close(s.release)
	var good bytes.Buffer
	c := New(s, &good)
	for range 2 * queue {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	c.Flush(10 * time.Millisecond) // does not wait for the stuck one
	only := New(&good)
	_, _ = only.Write([]byte("y"))
	only.Flush(time.Minute)
}
