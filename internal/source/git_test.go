package source

import (
	"errors"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/google/go-cmp/cmp"
)

// repository is a bare repository that a real git serves over HTTP on loopback, and
// a clone to commit in.
type repository struct {
	t          *testing.T
	bare, work string
	server     *httptest.Server
	// password, if set, is asked for.
	password string
}

func serve(t *testing.T, filter bool) *repository {
	t.Helper()
	dir := t.TempDir()
	r := &repository{t: t, bare: filepath.Join(dir, "lab.git"), work: filepath.Join(dir, "work")}
	r.run(dir, "init", "-q", "--bare", "-b", "main", r.bare)
	r.run(dir, "init", "-q", "-b", "main", r.work)
	if filter {
		r.run(r.bare, "config", "uploadpack.allowFilter", "true")
	}
	out, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatalf("the Debian package git is needed: %v", err)
	}
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(out)), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1"},
	}
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if _, password, _ := req.BasicAuth(); r.password != "" && password != r.password {
			w.Header().Set("WWW-Authenticate", "Basic")
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, req)
	}))
	t.Cleanup(r.server.Close)
	return r
}

func (r *repository) url() string { return r.server.URL + "/lab.git" }

func (r *repository) run(dir string, args ...string) string {
	r.t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_SYSTEM=/dev/null", "GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@example.org",
		"GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@example.org")
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit writes files, commits them and returns the commit.
func (r *repository) commit(files ...string) string {
	r.t.Helper()
	for _, f := range files {
		full := filepath.Join(r.work, f)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			r.t.Fatal(err)
		}
		old, err := os.ReadFile(full)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(full, append(old, f...), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
	r.run(r.work, "add", "-A")
	r.run(r.work, "commit", "-q", "-m", "change")
	return r.run(r.work, "rev-parse", "HEAD")
}

func (r *repository) push() {
	r.t.Helper()
	r.run(r.work, "push", "-q", "-f", r.bare, "HEAD:refs/heads/main")
}

func look(t *testing.T, b *Branch) Tree {
	t.Helper()
	tree, err := b.Look(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestALookShowsTheBranchAsItIs(t *testing.T) {
	for name, filter := range map[string]bool{"of a server that filters": true, "of a server that does not": false} {
		t.Run(name, func(t *testing.T) {
			r := serve(t, filter)
			b := NewBranch(r.url(), "main")
			if _, err := b.Look(t.Context(), nil); !errors.Is(err, ErrNoBranch) {
				t.Errorf("an empty repository: %v, want that there is no branch", err)
			}
			first := r.commit("README.md", "system/metallb/pool.yaml", "system/metallb/base/x.yaml", "system/.hidden/x.yaml", "apps/web/web.yaml")
			r.push()
			want := Tree{Head: first, Files: 1, Directories: []string{"apps", "apps/web", "system", "system/metallb", "system/metallb/base"}}
			if diff := cmp.Diff(want, look(t, b)); diff != "" {
				t.Errorf("the branch (-want +got):\n%s", diff)
			}
			second := r.commit("platform/gitea/gitea.yaml")
			r.push()
			tree := look(t, b)
			if diff := cmp.Diff([]string{"platform/gitea"}, tree.Matching("platform/*")); tree.Head != second || diff != "" {
				t.Errorf("after a push it is at %s, want %s; platform (-want +got):\n%s", tree.Head, second, diff)
			}
			if got := tree.Matching("none/*"); got != nil {
				t.Errorf("what is not there matches %v", got)
			}
			blobs := 0
			for range b.store.Blobs {
				blobs++
			}
			if filter && blobs > 0 {
				t.Errorf("%d files were fetched, that nobody looks at", blobs)
			}
			if _, err := NewBranch(r.url(), "other").Look(t.Context(), nil); !errors.Is(err, ErrNoBranch) {
				t.Errorf("another branch: %v, want that there is none", err)
			}
		})
	}
}

func TestHowABranchStandsToACommit(t *testing.T) {
	seed, home := serve(t, true), serve(t, true)
	base := seed.commit("README.md")
	seed.push()
	home.run(home.work, "pull", "-q", seed.bare, "main")
	home.push()
	atSeed, atHome := NewBranch(seed.url(), "main"), NewBranch(home.url(), "main")
	check := func(reason string, b *Branch, commit string, want Relation, others ...*Branch) {
		t.Helper()
		if got := b.Relate(commit, others...); got != want {
			t.Errorf("%s: %d, want %d", reason, got, want)
		}
	}
	check("before any look", atHome, base, Unknown)
	look(t, atSeed)
	look(t, atHome)
	check("its own head", atHome, base, Contains)
	check("nonsense", atHome, "nonsense", Unknown)
	check("a commit that nobody has", atHome, "1111111111111111111111111111111111111111", Unknown, atSeed)

	newer := seed.commit("a/x")
	seed.push()
	look(t, atSeed)
	check("the seed went on, and nobody is asked", atHome, newer, Unknown)
	check("the seed went on", atHome, newer, Behind, atSeed)
	check("the seed has what the home has", atSeed, base, Contains)

	other := home.commit("b/x")
	home.push()
	look(t, atHome)
	check("both went on", atHome, newer, Diverged, atSeed)
	check("both went on, seen from the seed", atSeed, other, Diverged, atHome)

	// A merge has both.
	home.run(home.work, "pull", "-q", "--no-rebase", "--no-edit", seed.bare, "main")
	home.push()
	look(t, atHome)
	check("after a merge", atHome, newer, Contains)
	check("after a merge, its own", atHome, other, Contains)

	// The seed is pushed back: what is gone is known to have been built on it.
	seed.run(seed.work, "reset", "-q", "--hard", base)
	seed.push()
	look(t, atSeed)
	check("pushed back", atSeed, newer, Behind)
}

func TestAServerIsShownWhoAsks(t *testing.T) {
	r := serve(t, true)
	r.commit("README.md")
	r.push()
	r.password = "open sesame"
	b := NewBranch(strings.Replace(r.url(), "://", "://me:leaked@", 1), "main")
	_, err := b.Look(t.Context(), nil)
	if err == nil || strings.Contains(err.Error(), "leaked") {
		t.Errorf("with a wrong password: %v; want an error that does not tell it", err)
	}
	auth, err := Auth(r.url(), map[string][]byte{KeyUsername: []byte("me"), KeyPassword: []byte("open sesame")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewBranch(r.url(), "main").Look(t.Context(), auth); err != nil {
		t.Errorf("with the right password: %v", err)
	}
	r.server.Close()
	if _, err := NewBranch(r.url(), "main").Look(t.Context(), auth); err == nil || errors.Is(err, ErrNoBranch) {
		t.Errorf("a server that is down: %v, want an error that is not about branches", err)
	}
}

func TestAuthNamesWhatIsMissing(t *testing.T) {
	tests := []struct {
		reason, url string
		data        map[string][]byte
		says        string
	}{
		{"SSH without a key", "git@github.com:you/lab.git", nil, KeyPrivateKey},
		{"SSH with something that is no key", "ssh://git@github.com/you/lab.git", map[string][]byte{KeyPrivateKey: []byte("hunter2")}, KeyPrivateKey},
	}
	for _, tc := range tests {
		_, err := Auth(tc.url, tc.data)
		if err == nil || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", tc.reason, err)
		}
	}
	if auth, err := Auth("https://github.com/you/lab.git", nil); auth != nil || err != nil {
		t.Errorf("nobody over https: %v, %v", auth, err)
	}
}

func TestAPackThatIsTooLargeIsRefused(t *testing.T) {
	r := serve(t, true)
	r.commit("README.md", "a/x", "b/x")
	r.push()
	b := NewBranch(r.url(), "main")
	b.maxPack = 64
	if _, err := b.Look(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("the look says %v, want that it is too large", err)
	}
	if b.head != plumbing.ZeroHash {
		t.Error("half a repository was taken for one")
	}
}
