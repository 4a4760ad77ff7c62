//go:build linux

package gitserver

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// lsRemote asks a server for the head of main, as a client without credentials
// or with those in the URL.
func lsRemote(t *testing.T, url string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), "git", "ls-remote", "--exit-code", url, "refs/heads/main")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0"}
	out, err := cmd.Output()
	hash, _, _ := strings.Cut(string(out), "\t")
	return hash, err
}

func TestWhatIsCommittedIsServed(t *testing.T) {
	s := Start(t)
	s.Repository(t, "home/lab")
	want := s.Clone(t, "home/lab").Commit(t, "first", map[string]string{"apps/a/config.yaml": "a: 1\n"})
	if got, err := lsRemote(t, s.URL("home/lab")); err != nil || got != want {
		t.Errorf("the branch is at %q, %v, want %q", got, err, want)
	}
	if got := s.Head(t, "home/lab"); got != want {
		t.Errorf("the repository is at %q, want %q", got, want)
	}
	if got := s.Fetches("home/lab"); got != 1 {
		t.Errorf("%d fetches were counted, want 1", got)
	}
}

func TestPushesOverHTTPArriveAlsoWhenTheyAreLarge(t *testing.T) {
	s := Start(t)
	s.Repository(t, "lab")
	first := NewClone(t, s.URL("lab"))
	first.Commit(t, "first", map[string]string{"a": "1\n", "b": "2\n"})
	// More than http.postBuffer (1 MiB): git sends it in chunks. Noise does not
	// shrink when it is packed.
	noise, state := make([]byte, 3<<20), uint32(1)
	for i := range noise {
		state = state*1664525 + 1013904223
		noise[i] = byte(state >> 24)
	}
	want := first.Commit(t, "large", map[string]string{"noise": string(noise), "b": ""})
	second := NewClone(t, s.URL("lab"))
	if got := second.Head(t); got != want {
		t.Errorf("a clone is at %q, want %q", got, want)
	}
	if _, err := os.Stat(second.dir + "/b"); !os.IsNotExist(err) {
		t.Errorf("the removed file: %v", err)
	}
	if got, err := os.ReadFile(second.dir + "/noise"); err != nil || string(got) != string(noise) {
		t.Errorf("the large file came as %d bytes, %v", len(got), err)
	}
}

func TestAStoppedServerRefusesAndComesBackAtItsAddress(t *testing.T) {
	s := Start(t)
	s.Repository(t, "lab")
	c := s.Clone(t, "lab")
	c.Commit(t, "first", map[string]string{"a": "1\n"})
	s.Stop()
	want := c.Commit(t, "second, while nobody can read", map[string]string{"a": "2\n"})
	if got, err := lsRemote(t, s.URL("lab")); err == nil {
		t.Errorf("a stopped server says %q", got)
	}
	s.Restart(t)
	if got, err := lsRemote(t, s.URL("lab")); err != nil || got != want {
		t.Errorf("the branch is at %q, %v, want %q", got, err, want)
	}
}

func TestCredentialsAreAskedFor(t *testing.T) {
	s := Start(t)
	s.Repository(t, "lab")
	want := s.Clone(t, "lab").Commit(t, "first", map[string]string{"a": "1\n"})
	s.Require("reader", "secret")
	address, err := url.Parse(s.URL("lab"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		reason string
		user   *url.Userinfo
		served bool
	}{
		{"no credentials", nil, false},
		{"a wrong password", url.UserPassword("reader", "guess"), false},
		{"another user", url.UserPassword("writer", "secret"), false},
		{"the credentials", url.UserPassword("reader", "secret"), true},
	} {
		address.User = c.user
		got, err := lsRemote(t, address.String())
		if served := err == nil && got == want; served != c.served {
			t.Errorf("%s: %q, %v", c.reason, got, err)
		}
	}
	s.Require("", "")
	if got, err := lsRemote(t, s.URL("lab")); err != nil || got != want {
		t.Errorf("once credentials are no more asked for: %q, %v", got, err)
	}
}

func TestAClonedRepositoryMayBeHeldUp(t *testing.T) {
	s := Start(t)
	s.Repository(t, "lab")
	want := s.Clone(t, "lab").Commit(t, "first", map[string]string{"a": "1\n"})
	waiting, release := s.Hold(t, ClonedByGit)
	head := make(chan string, 1)
	go func() {
		cmd := exec.CommandContext(context.Background(), "git", "clone", "--quiet", s.URL("lab"), ".")
		cmd.Dir = t.TempDir()
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0"}
		if out, err := cmd.CombinedOutput(); err != nil {
			head <- string(out)
			return
		}
		out, err := exec.CommandContext(context.Background(), "git", "-C", cmd.Dir, "rev-parse", "HEAD").Output()
		if err != nil {
			head <- err.Error()
			return
		}
		head <- strings.TrimSpace(string(out))
	}()
	<-waiting
	select {
	case got := <-head:
		t.Fatalf("it was not held up: %s", got)
	default:
	}
	release()
	if got := <-head; got != want {
		t.Errorf("the clone has %q, want %q", got, want)
	}
}
