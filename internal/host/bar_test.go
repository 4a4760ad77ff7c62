package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBarAndLift(t *testing.T) {
	for _, c := range []struct {
		reason        string
		files         map[string]string
		bar           bool
		want          map[string]string
		says, failure string
	}{
		{"a server leaves", map[string]string{"config.yaml": "a"}, true, map[string]string{"config.yaml.barred": "a"}, "put aside", ""},
		{"it was done before", map[string]string{"config.yaml.barred": "a"}, true, map[string]string{"config.yaml.barred": "a"}, "before", ""},
		{"a person wrote a new one", map[string]string{"config.yaml": "b", "config.yaml.barred": "a"}, true, map[string]string{"config.yaml.barred": "b"}, "put aside", ""},
		{"the rest of the config stays", map[string]string{"config.yaml": "a", "config.yaml.d/x.yaml": "x", "k3s.yaml": "k"}, true,
			map[string]string{"config.yaml.barred": "a", "config.yaml.d/x.yaml": "x", "k3s.yaml": "k"}, "put aside", ""},
		{"k3s is configured in another way", map[string]string{"k3s.yaml": "k"}, true, map[string]string{"k3s.yaml": "k"}, "", "by hand"},

		{"a server stays after all", map[string]string{"config.yaml.barred": "a"}, false, map[string]string{"config.yaml": "a"}, "put back", ""},
		{"it was never barred", map[string]string{"config.yaml": "a"}, false, map[string]string{"config.yaml": "a"}, "is there", ""},
		{"a person wrote a new one, which stays", map[string]string{"config.yaml": "b", "config.yaml.barred": "a"}, false, map[string]string{"config.yaml": "b", "config.yaml.barred": "a"}, "is there", ""},
		{"there was nothing to put aside", map[string]string{"k3s.yaml": "k"}, false, map[string]string{"k3s.yaml": "k"}, "none was put aside", ""},
	} {
		dir := configured(t, c.files)
		do := LiftBar
		if c.bar {
			do = Bar
		}
		for range 2 {
			said, err := do(dir)
			if err == nil != (c.failure == "") || err != nil && !strings.Contains(err.Error(), c.failure) {
				t.Errorf("%s: %v, want %q", c.reason, err, c.failure)
			}
			if diff := cmp.Diff(c.want, read(t, dir)); diff != "" {
				t.Errorf("%s: files (-want +got):\n%s", c.reason, diff)
			}
			if !strings.Contains(said, c.says) {
				t.Errorf("%s: it says %q, want %q", c.reason, said, c.says)
			}
			if c.bar && c.says == "put aside" {
				c.says = "before" // the second time
			}
			if !c.bar && c.says == "put back" {
				c.says = "is there"
			}
		}
	}
}

// What cannot be done is said, and nothing is lost.
func TestBarFailsLoudly(t *testing.T) {
	dir := configured(t, map[string]string{"config.yaml": "a", "config.yaml.barred/x": "a directory in the way"})
	if _, err := Bar(dir); err == nil || !strings.Contains(err.Error(), "cannot keep k3s from starting") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "config.yaml")); err != nil {
		t.Error("the config is gone")
	}
}
