//go:build linux

// Package gitserver is a git server for tests: bare repositories over HTTP on
// loopback, served by git itself (git http-backend, the smart protocol).
//
// It plays GitHub, which tests cannot reach, as far as git is concerned: clone,
// fetch and push, with credentials or without. It has none of GitHub's API, web
// pages, webhooks or limits.
package gitserver

import (
	"context"
	"crypto/subtle"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Server serves git repositories. Its methods may be called from any goroutine
// but those that take a testing.TB, which the test's own goroutine calls.
type Server struct {
	dir     string // of the bare repositories
	backend *Backend
	address string // of the listener, the same after every Start
	log     *os.File

	mu             sync.Mutex
	http           *http.Server // nil: stopped
	user, password string       // user empty: anybody may read and write
	fetches        map[string]int
	hold           *hold // nil: nobody waits
}

// hold is where requests wait.
type hold struct {
	of       func(*http.Request) bool
	waiting  chan struct{} // closed when the first one waits
	first    sync.Once
	released chan struct{}
}

// Start starts a server without repositories, that asks for no credentials. It
// ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{dir: t.TempDir(), address: "127.0.0.1:0", fetches: map[string]int{}}
	var err error
	if s.log, err = os.Create(filepath.Join(t.TempDir(), "backend.log")); err != nil {
		t.Fatal(err)
	}
	if s.backend, err = NewBackend(s.dir, s.log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Stop()
		if content, err := os.ReadFile(s.log.Name()); t.Failed() && err == nil && len(content) > 0 {
			t.Logf("what git http-backend said:\n%s", content)
		}
		s.log.Close()
	})
	s.Restart(t)
	return s
}

// URL is the address of a repository, without credentials. It is valid while the
// server is stopped, too.
func (s *Server) URL(repository string) string {
	return "http://" + s.address + "/" + repository + ".git"
}

// Stop takes the server off the network: connections are closed, further ones
// refused, until Restart. Repositories stay.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil {
		_ = s.http.Close() // what it could not close is closed
		s.http = nil
	}
}

// Restart brings a stopped server back, at the same address. A server that runs
// is left as it is.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil {
		return
	}
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		t.Fatalf("the git server cannot listen: %v", err)
	}
	s.address = l.Addr().String()
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
	go s.http.Serve(l) //nolint:errcheck // it ends when it is closed
}

// Require makes the server ask for these credentials from now on, for reading
// and writing; an empty user ends that.
func (s *Server) Require(user, password string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.user, s.password = user, password
}

// Hold makes the requests that it is shown wait, as a slow line does, until they are
// released; a test that ends releases them. What is returned is closed when the first
// one waits.
func (s *Server) Hold(t testing.TB, of func(*http.Request) bool) (waiting <-chan struct{}, release func()) {
	t.Helper()
	h := &hold{of: of, waiting: make(chan struct{}), released: make(chan struct{})}
	s.mu.Lock()
	s.hold = h
	s.mu.Unlock()
	release = sync.OnceFunc(func() {
		s.mu.Lock()
		if s.hold == h {
			s.hold = nil
		}
		s.mu.Unlock()
		close(h.released)
	})
	t.Cleanup(release)
	return h.waiting, release
}

// ClonedByGit shows requests for commits by git itself, as a Gitea that migrates runs
// it: neither questions where the branches are, nor those of programs that speak git's
// protocol by themselves.
func ClonedByGit(r *http.Request) bool {
	return strings.HasSuffix(r.URL.Path, "/git-upload-pack") && strings.HasPrefix(r.UserAgent(), "git/")
}

// Fetches is how often the repository's branches were asked for by those who
// mean to read it.
func (s *Server) Fetches(repository string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fetches[repository]
}

// ServeHTTP answers one request of a git client.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	user, password, hold := s.user, s.password, s.hold
	s.mu.Unlock()
	if hold != nil && hold.of(r) {
		hold.first.Do(func() { close(hold.waiting) })
		select {
		case <-hold.released:
		case <-r.Context().Done():
		}
	}
	givenUser, givenPassword, _ := r.BasicAuth()
	if user != "" && (givenUser != user || subtle.ConstantTimeCompare([]byte(givenPassword), []byte(password)) != 1) {
		w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
		http.Error(w, "this repository takes a name and a password", http.StatusUnauthorized)
		return
	}
	if name, isInfo := strings.CutSuffix(r.URL.Path, ".git/info/refs"); isInfo && r.URL.Query().Get("service") == "git-upload-pack" {
		s.mu.Lock()
		s.fetches[strings.TrimPrefix(name, "/")]++
		s.mu.Unlock()
	}
	s.backend.ServeHTTP(w, r)
}

// Repository makes an empty repository with the branch main.
func (s *Server) Repository(t testing.TB, name string) {
	t.Helper()
	dir := s.path(name)
	run(t, s.dir, "init", "--quiet", "--bare", "--initial-branch=main", dir)
	run(t, dir, "config", "http.receivepack", "true")
}

// Head is the commit at the head of the repository's branch main; empty while the
// repository is.
func (s *Server) Head(t testing.TB, name string) string {
	t.Helper()
	return run(t, s.path(name), "for-each-ref", "--format=%(objectname)", "refs/heads/main")
}

// Clone is a checkout of the repository, to commit to it. It goes past HTTP: the
// server may be stopped and may ask for credentials.
func (s *Server) Clone(t testing.TB, name string) *Clone {
	t.Helper()
	return NewClone(t, s.path(name))
}

func (s *Server) path(name string) string { return filepath.Join(s.dir, name+".git") }

// run runs git, without the configuration of whoever runs the test, and returns
// what it prints.
func run(t testing.TB, dir string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=Test", "GIT_AUTHOR_EMAIL=test@example.org", "GIT_COMMITTER_NAME=Test", "GIT_COMMITTER_EMAIL=test@example.org"}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", args[0], err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}
