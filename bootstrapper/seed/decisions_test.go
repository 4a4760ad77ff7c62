package seed

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/rhizome-dev/rhizome/bootstrapper/state"
	"github.com/rhizome-dev/rhizome/chart"
	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe/media"
)

func archive(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, name := range []string{"oci-layout", "index.json", "./index.json"} {
		content, ok := files[name]
		if !ok {
			continue
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func index(annotations ...string) string {
	var manifests []string
	for _, a := range annotations {
		manifests = append(manifests, fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"sha256:%064d","annotations":{%s}}`, 1, a))
	}
	return `{"schemaVersion":2,"manifests":[` + strings.Join(manifests, ",") + `]}`
}

func TestTheArchivesIndexNamesTheImage(t *testing.T) {
	const full, bare = `"io.containerd.image.name":"ghcr.io/rhizome-dev/rhizome:v1"`, `"org.opencontainers.image.ref.name":"v1"`
	for _, c := range []struct {
		name, index, want, wrong string
	}{
		{name: "containerd's annotation", index: index(full), want: "ghcr.io/rhizome-dev/rhizome:v1"},
		{name: "both annotations", index: index(full + "," + bare), want: "ghcr.io/rhizome-dev/rhizome:v1"},
		{name: "a full reference in the specification's", index: index(`"org.opencontainers.image.ref.name":"rhizome/operator:v1"`), want: "index.docker.io/rhizome/operator:v1"},
		{name: "one image for two platforms", index: index(full, full), want: "ghcr.io/rhizome-dev/rhizome:v1"},
		{name: "a bare tag", index: index(bare), wrong: "full reference"},
		{name: "no name", index: index(""), wrong: "does not name"},
		{name: "two images", index: index(full, `"io.containerd.image.name":"ghcr.io/other:v1"`), wrong: "2 images"},
		{name: "no JSON", index: "{", wrong: "index.json"},
		{name: "not a reference", index: index(`"io.containerd.image.name":"ghcr.io/Upper Case:v1"`), wrong: "index.json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := referenceIn(bytes.NewReader(archive(t, map[string]string{"oci-layout": "{}", "index.json": c.index})), "image.tar")
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Errorf("error = %v, want one about %q", err, c.wrong)
				}
				return
			}
			if err != nil || got != c.want {
				t.Errorf("reference = %q, %v; want %q", got, err, c.want)
			}
		})
	}
}

func TestOperatorImagesInEveryForm(t *testing.T) {
	dir := t.TempDir()
	plain := archive(t, map[string]string{"./index.json": index(`"io.containerd.image.name":"ghcr.io/rhizome-dev/rhizome:v1"`)})
	var zipped, squeezed bytes.Buffer
	gz := gzip.NewWriter(&zipped)
	zs, err := zstd.NewWriter(&squeezed)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range []interface {
		Write([]byte) (int, error)
		Close() error
	}{gz, zs} {
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	digest := "sha256:" + strings.Repeat("ab", 32)
	for _, c := range []struct {
		given  string
		values map[string]any
		file   string
		wrong  bool
	}{
		{given: ""},
		{given: "ghcr.io/rhizome-dev/rhizome:v2", values: map[string]any{"repository": "ghcr.io/rhizome-dev/rhizome", "tag": "v2", "pullPolicy": "IfNotPresent"}},
		{given: "localhost:5000/rhizome@" + digest, values: map[string]any{"repository": "localhost:5000/rhizome", "digest": digest, "pullPolicy": "IfNotPresent"}},
		{given: write("a.tar", plain), values: map[string]any{"repository": "ghcr.io/rhizome-dev/rhizome", "tag": "v1", "pullPolicy": "IfNotPresent"}, file: "rhizome-operator-a.tar"},
		{given: write("b.tar.gz", zipped.Bytes()), values: map[string]any{"repository": "ghcr.io/rhizome-dev/rhizome", "tag": "v1", "pullPolicy": "IfNotPresent"}, file: "rhizome-operator-b.tar.gz"},
		{given: write("c.tar.zst", squeezed.Bytes()), values: map[string]any{"repository": "ghcr.io/rhizome-dev/rhizome", "tag": "v1", "pullPolicy": "IfNotPresent"}, file: "rhizome-operator-c.tar.zst"},
		{given: filepath.Join(dir, "absent.tar"), wrong: true},
		{given: "./image.tar", wrong: true},
		{given: "Not A Reference", wrong: true},
		{given: write("d.tar", []byte("no archive")), wrong: true},
		{given: write("e.tar", archive(t, map[string]string{"oci-layout": "{}"})), wrong: true},
	} {
		got, err := readOperatorImage(c.given)
		if c.wrong {
			if err == nil {
				t.Errorf("%q was taken as %+v", c.given, got)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.given, err)
			continue
		}
		var want map[string]any
		if c.values != nil {
			want = map[string]any{"image": c.values}
		}
		if diff := cmp.Diff(want, got.values(nil)); diff != "" {
			t.Errorf("%q: values (-want +got):\n%s", c.given, diff)
		}
		if c.file != "" && got.fileName() != c.file {
			t.Errorf("%q travels as %q, want %q", c.given, got.fileName(), c.file)
		}
	}
}

// The run that installs the chart may be a later one than the run that installed the
// machine, on which the operator's archive lies.
func TestTheArchiveThatTravelledIsToldByALaterRun(t *testing.T) {
	d, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	const mac = "52:54:00:00:00:01"
	run := func(digest string, claim *provision.Claim, living bool) *state.Archive {
		t.Helper()
		f := &flow{Options: Options{Now: func() time.Time { return at }}, state: d,
			first: &v1alpha1.Node{Spec: v1alpha1.NodeSpec{MAC: mac}}, claims: provision.NewLedger(nil, nil)}
		f.first.Name = "alpha"
		if claim != nil {
			f.claims = provision.NewLedger([]provision.Claim{*claim}, nil)
		}
		if digest != "" {
			f.operator.source = media.Source{Name: "operator.tar", SHA256: digest}
		}
		if living {
			err = f.knownArchive()
		} else {
			err = f.keepArchive()
		}
		if err != nil {
			t.Fatal(err)
		}
		return f.archive
	}
	first, second := strings.Repeat("1", 64), strings.Repeat("2", 64)
	if got := run(first, nil, false); got == nil || got.SHA256 != first {
		t.Errorf("the first run has %v", got)
	}
	if got := run(second, &provision.Claim{Node: "alpha", MAC: mac, Expires: at.Add(time.Hour)}, false); got == nil || got.SHA256 != second {
		t.Errorf("a run before the machine was installed has %v: it serves the newer one", got)
	}
	done := &provision.Claim{Node: "alpha", MAC: mac, ConsumedAt: at, InstalledAt: at, ExchangedAt: at, Expires: at.Add(time.Hour)}
	if got := run(first, done, false); got == nil || got.SHA256 != second {
		t.Errorf("a run after the machine got its files has %v", got)
	}
	if got := run("", nil, true); got == nil || *got != (state.Archive{Name: "operator.tar", SHA256: second}) {
		t.Errorf("a run on a living cluster has %v", got)
	}
	values := operatorImage{reference: "ghcr.io/a/b:v1"}.values(&state.Archive{Name: "operator.tar", SHA256: first})
	want := map[string]any{"image": map[string]any{"repository": "ghcr.io/a/b", "tag": "v1", "pullPolicy": "IfNotPresent",
		"archives": []any{map[string]any{"name": "operator.tar", "sha256": first}}}}
	if diff := cmp.Diff(want, values); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	if _, err := chart.Render("rhizome", "rhizome-system", values); err != nil {
		t.Errorf("the chart refuses them: %v", err)
	}
}

func TestAForeignKubeconfigIsNeverOurs(t *testing.T) {
	d, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	secrets, _, err := d.Secrets(at)
	if err != nil {
		t.Fatal(err)
	}
	other, err := provision.NewFounding(func() time.Time { return at })
	if err != nil {
		t.Fatal(err)
	}
	const server = "https://10.0.0.1:6443"
	ca := secrets.Founding.Authorities.Server.Certificate
	config := func(s state.Secrets, server string, ttl time.Duration) []byte {
		content, err := s.Kubeconfig("home", server, "admin", at, ttl)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	for _, c := range []struct {
		name    string
		content []byte
		want    kubeconfigState
	}{
		{"no file", nil, kubeconfigAbsent},
		{"ours", config(secrets, server, kubeconfigLife), kubeconfigGood},
		{"ours, about to end", config(secrets, server, kubeconfigRenew-time.Hour), kubeconfigStale},
		{"ours, another endpoint", config(secrets, "https://10.0.0.2:6443", kubeconfigLife), kubeconfigStale},
		{"another cluster's", config(state.Secrets{Founding: other}, server, kubeconfigLife), kubeconfigForeign},
		{"an empty file", []byte{}, kubeconfigForeign},
		{"something else", []byte("shopping list"), kubeconfigForeign},
		{"ours among others", bytes.Replace(config(secrets, server, kubeconfigLife), []byte("clusters:\n"),
			[]byte("clusters:\n- cluster:\n    server: https://other\n  name: other\n"), 1), kubeconfigForeign},
	} {
		if got := judgeKubeconfig(c.content, ca, server, at); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestWhatAPersonMayAskToTryAgain(t *testing.T) {
	claim := provision.Claim{Node: "alpha", Opened: at, Expires: at.Add(time.Hour)}
	with := func(change func(*provision.Claim)) *provision.Claim {
		c := claim
		change(&c)
		return &c
	}
	for _, c := range []struct {
		name  string
		claim *provision.Claim
		want  bool
	}{
		{"never tried", nil, false},
		{"open", &claim, false},
		{"expired, never booted", with(func(c *provision.Claim) { c.Expires = at }), false},
		{"being installed", with(func(c *provision.Claim) { c.ConsumedAt = at }), true},
		{"installed, no credentials", with(func(c *provision.Claim) { c.ConsumedAt, c.InstalledAt = at, at }), true},
		{"failed", with(func(c *provision.Claim) { c.ConsumedAt, c.FailedAt = at, at }), true},
		{"has its credentials", with(func(c *provision.Claim) { c.ConsumedAt, c.InstalledAt, c.ExchangedAt = at, at, at }), false},
	} {
		if got := mayRetry(c.claim, at); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestFailuresSayWhatToDo(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		name        string
		ctx         context.Context
		err         error
		cause, fix  string
		interrupted bool
	}{
		{"an error", context.Background(), errors.New("broken"), "broken", goOn, false},
		{"an error that knows better", context.Background(), fmt.Errorf("here: %w", withFix(errors.New("broken"), "mend %s", "it")), "here: broken", "mend it", false},
		{"the time limit", context.Background(), context.DeadlineExceeded, "not done within 1m0s", "--timeout boot=2m0s", false},
		{"interrupted", ended, fmt.Errorf("reading: %w", context.Canceled), "interrupted", goOn, true},
	} {
		f := failureOf(c.ctx, phaseBoot, time.Minute, c.err)
		if f.Phase != phaseBoot || f.Interrupted != c.interrupted || !strings.Contains(f.Cause.Error(), c.cause) || !strings.Contains(f.Fix, c.fix) {
			t.Errorf("%s: %+v", c.name, f)
		}
	}
}

func TestTheFirstNodeNeverChanges(t *testing.T) {
	node := func(name string) v1alpha1.Node {
		n := v1alpha1.Node{Spec: v1alpha1.NodeSpec{Role: v1alpha1.ControlPlane}}
		n.Name = name
		return n
	}
	cluster := &v1alpha1.Cluster{}
	cluster.Name = "home"
	for _, c := range []struct {
		name   string
		asked  string
		intent *state.Intent
		fresh  bool // nothing had a claim yet
		want   string
		wrong  string
	}{
		{name: "by name", want: "alpha"},
		{name: "as asked", asked: "beta", want: "beta"},
		{name: "as before", intent: &state.Intent{Cluster: "home", Node: "beta"}, want: "beta"},
		{name: "as before and asked", asked: "beta", intent: &state.Intent{Cluster: "home", Node: "beta"}, want: "beta"},
		{name: "another than before", asked: "alpha", intent: &state.Intent{Cluster: "home", Node: "beta"}, wrong: "begun with beta"},
		{name: "before was removed", intent: &state.Intent{Cluster: "home", Node: "gone"}, wrong: "gone"},
		{name: "removed from a finished cluster", intent: &state.Intent{Cluster: "home", Node: "gone", Finished: at}, want: "alpha"},
		{name: "renamed before anything was done", intent: &state.Intent{Cluster: "home", Node: "gone"}, fresh: true, want: "alpha"},
		{name: "another asked for before anything was done", asked: "beta", intent: &state.Intent{Cluster: "home", Node: "alpha"}, fresh: true, want: "beta"},
		{name: "no claims are left of a finished cluster", asked: "alpha", intent: &state.Intent{Cluster: "home", Node: "beta", Finished: at}, fresh: true, wrong: "begun with beta"},
		{name: "another cluster's state", intent: &state.Intent{Cluster: "away", Node: "alpha"}, wrong: "away"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := state.Open(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			f := &flow{Options: Options{Node: c.asked, Now: func() time.Time { return at }}, state: d, cluster: cluster,
				inv: inventory.Inventory{Nodes: []v1alpha1.Node{node("beta"), node("alpha")}}}
			f.claims = provision.NewLedger(nil, nil)
			if c.intent != nil && !c.fresh {
				f.claims = provision.NewLedger([]provision.Claim{{Node: c.intent.Node, MAC: "52:54:00:00:00:01"}}, nil)
			}
			intent := state.Intent{}
			if c.intent != nil {
				intent = *c.intent
			}
			err = f.chooseFirst(intent, c.intent != nil)
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Errorf("error = %v, want one about %q", err, c.wrong)
				}
				return
			}
			if err != nil || f.first.Name != c.want {
				t.Fatalf("first = %v, %v; want %s", f.first, err, c.want)
			}
			if kept, known, err := d.Intent(); (c.intent == nil || c.fresh) && (err != nil || !known || kept.Node != c.want) {
				t.Errorf("written down: %+v, %v, %v", kept, known, err)
			}
		})
	}
}

func TestAKubeconfigInTheDirectoryOfWhoCalledSudoIsTheirs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: a directory of another user needs root; run the tests as root")
	}
	theirs, ours := t.TempDir(), t.TempDir()
	if err := os.Chown(theirs, 1234, 5678); err != nil {
		t.Fatal(err)
	}
	sudo := map[string]string{"SUDO_UID": "1234", "SUDO_GID": "5678"}
	for _, c := range []struct {
		name string
		env  map[string]string
		euid int
		dir  string
		ok   bool
	}{
		{"sudo, into their directory", sudo, 0, theirs, true},
		{"sudo, into root's directory", sudo, 0, ours, false},
		{"sudo to another user", sudo, 99, theirs, false},
		{"no sudo", nil, 0, theirs, false},
		{"nonsense", map[string]string{"SUDO_UID": "x", "SUDO_GID": "1"}, 0, theirs, false},
		{"root by sudo", map[string]string{"SUDO_UID": "0", "SUDO_GID": "0"}, 0, ours, false},
		{"no directory", sudo, 0, filepath.Join(theirs, "none"), false},
	} {
		uid, gid, ok := sudoer(func(key string) string { return c.env[key] }, c.euid, c.dir)
		if ok != c.ok || ok && (uid != 1234 || gid != 5678) {
			t.Errorf("%s: %d, %d, %v; want %v", c.name, uid, gid, ok, c.ok)
		}
	}
	path := filepath.Join(theirs, "kubeconfig")
	if err := state.WriteFileAs(path, []byte("x"), 1234, 5678); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if owner := info.Sys().(*syscall.Stat_t); owner.Uid != 1234 || owner.Gid != 5678 || info.Mode().Perm() != 0o600 {
		t.Errorf("the file is of %d:%d with mode %v", owner.Uid, owner.Gid, info.Mode())
	}
}
