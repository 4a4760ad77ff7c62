package media

import (
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
)

// prepareProcess mounts a small disk on the cache directory, when the test asks
// for one. The process has a mount namespace of its own then.
func prepareProcess(dir string) error {
	size := os.Getenv("MEDIA_TEST_DISK")
	if size == "" {
		return nil
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	return syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size)
}

func TestAFullDiskIsSaidSo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: mounting a small disk needs root; run the tests as root")
	}
	body := content(4 << 20)
	o := newOrigin(t, body)
	dir := t.TempDir()
	for name, url := range map[string]string{"download": o.URL, "copy": "file://" + writeTemp(t, body)} {
		t.Run(name, func(t *testing.T) {
			cmd, out := fetchCommand(t, url, digest(body), dir)
			cmd.Env = append(cmd.Env, "MEDIA_TEST_DISK=1M")
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			said, _ := io.ReadAll(out)
			_ = cmd.Wait()
			if cmd.ProcessState.ExitCode() != 1 {
				t.Fatalf("exit code %d, said %s", cmd.ProcessState.ExitCode(), said)
			}
			for _, want := range []string{"no room left", dir, "free some space"} {
				if !strings.Contains(string(said), want) {
					t.Errorf("error does not say %q: %s", want, said)
				}
			}
		})
	}
	if len(o.requests) != 1 {
		t.Errorf("%d requests, want 1: a full disk does not empty itself", len(o.requests))
	}
}

func writeTemp(t *testing.T, b []byte) string {
	t.Helper()
	path := t.TempDir() + "/file"
	write(t, path, b)
	return path
}
