package host

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func configured(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		all[name] = string(b)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has the mode %v", name, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestAServerIsAdopted(t *testing.T) {
	for _, c := range []struct {
		reason        string
		before, after map[string]string
	}{
		{
			"the founding is taken out of all files, and one server is named",
			map[string]string{
				"config.yaml":               "cluster-init: true\ntoken: x\n",
				"config.yaml.d/10-more.yml": "cluster-init: true\nnode-ip: 1.2.3.4\n", "config.yaml.d/README": "cluster-init: true\n",
				"k3s.yaml": "cluster-init: true\n",
			},
			map[string]string{
				"config.yaml":               "token: x\nserver: https://192.168.1.12:6443\n",
				"config.yaml.d/10-more.yml": "node-ip: 1.2.3.4\n", "config.yaml.d/README": "cluster-init: true\n",
				"k3s.yaml": "cluster-init: true\n",
			},
		},
		{
			"a server that another file names is not named twice",
			map[string]string{"config.yaml": "cluster-init: true\ntoken: x\n", "config.yaml.d/s.yaml": "server: https://10.0.0.1:6443\n"},
			map[string]string{"config.yaml": "token: x\n", "config.yaml.d/s.yaml": "server: https://10.0.0.1:6443\n"},
		},
	} {
		dir := configured(t, c.before)
		changed, err := Adopt(dir, server)
		if err != nil || len(changed) == 0 {
			t.Errorf("%s: %v, %v", c.reason, changed, err)
		}
		if diff := cmp.Diff(c.after, read(t, dir)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.reason, diff)
		}
		if changed, err := Adopt(dir, server); err != nil || len(changed) > 0 {
			t.Errorf("%s: done again it changes %v, %v", c.reason, changed, err)
		}
	}
}

func TestAServerThatCannotBeAdoptedIsNotTouched(t *testing.T) {
	for reason, files := range map[string]map[string]string{
		"no config":          {"other": "cluster-init: true\n"},
		"one broken file":    {"config.yaml": "cluster-init: true\ntoken: x\n", "config.yaml.d/z.yaml": "a: [\n"},
		"a second document":  {"config.yaml": "cluster-init: true\n---\nb: c\n"},
		"an alias to follow": {"config.yaml": "cluster-init: &t true\nb: *t\n"},
	} {
		dir := configured(t, files)
		if _, err := Adopt(dir, server); err == nil {
			t.Errorf("%s: no error", reason)
		}
		if diff := cmp.Diff(files, read(t, dir)); diff != "" {
			t.Errorf("%s: files changed (-want +got):\n%s", reason, diff)
		}
	}
	link := configured(t, map[string]string{"real": "cluster-init: true\n"})
	if err := os.Symlink(filepath.Join(link, "real"), filepath.Join(link, "config.yaml")); err != nil {
		t.Fatal(err)
	}
	if _, err := Adopt(link, server); err == nil || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("a link is followed: %v", err)
	}
	for _, bad := range []string{"", "192.168.1.12:6443", "http://192.168.1.12:6443", "https://server:6443", "https://192.168.1.12"} {
		if _, err := Adopt(configured(t, map[string]string{"config.yaml": "a: b\n"}), bad); err == nil {
			t.Errorf("the server %q is taken", bad)
		}
	}
}

func TestOnlySystemdIsToldToRestart(t *testing.T) {
	for _, c := range []struct {
		comm string
		err  error
		told bool
	}{
		{"systemd\n", nil, true},
		{"rhizome\n", nil, false},
		{"init\n", nil, false},
		{"", errors.New("no /proc"), false},
	} {
		var order []string
		err := restart(
			func(string) ([]byte, error) { return []byte(c.comm), c.err },
			func() { order = append(order, "sync") },
			func(pid int, s syscall.Signal) error {
				if pid != 1 || s != 39 {
					t.Errorf("signal %d to %d", s, pid)
				}
				order = append(order, "signal")
				return nil
			})
		want := []string(nil)
		if c.told {
			want = []string{"sync", "signal"}
		}
		if diff := cmp.Diff(want, order); diff != "" || (err == nil) != c.told {
			t.Errorf("%q: %v, %v", c.comm, order, err)
		}
	}
	if err := restart(func(string) ([]byte, error) { return []byte("systemd"), nil }, func() {}, func(int, syscall.Signal) error { return syscall.EPERM }); err == nil {
		t.Error("a signal that is refused is no error")
	}
}
