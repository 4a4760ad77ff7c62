package host

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const server = "https://192.168.1.12:6443"

func TestAConfigFoundsNoClusterAnyMore(t *testing.T) {
	for _, c := range []struct {
		reason, before, server, after string
	}{
		{"the founding goes, a server comes, the rest stays",
			"cluster-init: true\nnode-name: alpha\ntls-san:\n  - 192.168.1.5\n  - k8s.example.org\ntoken: K10abc::server:x\n", server,
			"node-name: alpha\ntls-san:\n  - 192.168.1.5\n  - k8s.example.org\ntoken: K10abc::server:x\nserver: https://192.168.1.12:6443\n"},
		{"comments stay", "# written by hand\ncluster-init: true # once\n# the rack\nnode-label: [\"rack=1\"]\n", server,
			"# the rack\nnode-label: [\"rack=1\"]\nserver: https://192.168.1.12:6443\n"},
		{"a server that is named stays", "server: https://192.168.1.99:6443\ncluster-init: true\n", server, "server: https://192.168.1.99:6443\n"},
		{"a config that founds none and names a server stays as it is", "server: https://192.168.1.99:6443\ntoken:   x\n", server, "server: https://192.168.1.99:6443\ntoken:   x\n"},
		{"a false founding goes too", "cluster-init: false\ntoken: x\n", server, "token: x\nserver: https://192.168.1.12:6443\n"},
		{"a quoted key is the key", "\"cluster-init\": true\ntoken: x\n", server, "token: x\nserver: https://192.168.1.12:6443\n"},
		{"keys that add to others stay", "cluster-init: true\ntls-san+:\n  - a\n", server, "tls-san+:\n  - a\nserver: https://192.168.1.12:6443\n"},
		{"an empty file gets a server", "", server, "server: https://192.168.1.12:6443\n"},
		{"a file of comments gets a server", "# nothing yet", server, "# nothing yet\nserver: https://192.168.1.12:6443\n"},
		{"a further file gets none", "cluster-init: true\ntoken: x\n", "", "token: x\n"},
		{"a further file that is empty stays empty", "", "", ""},
		{"a further file that only founds", "cluster-init: true\n", "", "{}\n"},
	} {
		out, changed, err := Join([]byte(c.before), c.server)
		if err != nil {
			t.Errorf("%s: %v", c.reason, err)
			continue
		}
		if diff := cmp.Diff(c.after, string(out)); diff != "" && c.reason != "comments stay" {
			t.Errorf("%s (-want +got):\n%s", c.reason, diff)
		}
		if changed != (c.before != c.after) {
			t.Errorf("%s: changed is %v", c.reason, changed)
		}
		again, changed, err := Join(out, c.server)
		if err != nil || changed || !bytes.Equal(again, out) {
			t.Errorf("%s: done again it changes: %v, %v\n%s", c.reason, changed, err, again)
		}
		if c.reason == "comments stay" && (!strings.Contains(string(out), "# the rack") || strings.Contains(string(out), "cluster-init")) {
			t.Errorf("%s:\n%s", c.reason, out)
		}
	}
}

func TestWhatCannotBeKeptIsLeftAlone(t *testing.T) {
	for reason, config := range map[string]string{
		"no YAML":                     "cluster-init: [true",
		"a list":                      "- cluster-init\n",
		"a word":                      "cluster-init",
		"two documents":               "cluster-init: true\n---\ntoken: x\n",
		"a key twice":                 "cluster-init: true\ncluster-init: true\n",
		"merged in":                   "base: &base\n  cluster-init: true\n<<: *base\n",
		"its value is used elsewhere": "cluster-init: &yes true\ndisable-cloud-controller: *yes\n",
	} {
		if out, _, err := Join([]byte(config), server); err == nil {
			t.Errorf("%s is rewritten to\n%s", reason, out)
		}
	}
}

func FuzzJoin(f *testing.F) {
	for _, seed := range []string{
		"", "cluster-init: true\ntoken: x\n", "# c\ncluster-init: true # d\ntls-san:\n- a\n", "a: &x 1\nb: *x\n", "? [a]\n: b\n", "%YAML 1.1\n---\na: b\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, config []byte) {
		out, changed, err := Join(config, server)
		if err != nil {
			return
		}
		if !changed && !bytes.Equal(out, config) {
			t.Fatal("unchanged, and different")
		}
		before, _, err := parse(config)
		if err != nil {
			t.Fatal(err)
		}
		after, _, err := parse(out)
		if err != nil {
			t.Fatal(err)
		}
		if _, founds := after[keyClusterInit]; founds || after[keyServer] == nil && before[keyServer] == nil {
			t.Fatalf("it still founds, or joins nobody:\n%s", out)
		}
		for _, key := range []string{keyClusterInit, keyServer} {
			delete(before, key)
			delete(after, key)
		}
		if !reflect.DeepEqual(before, after) && !strings.Contains(string(out), ".nan") && !strings.Contains(strings.ToLower(string(out)), "nan") {
			t.Fatalf("more changed:\n%s", out)
		}
		if _, changed, err := Join(out, server); err != nil || changed {
			t.Fatalf("done again it changes: %v", err)
		}
	})
}
