//go:build linux

package gitserver

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Backend is git itself behind HTTP (git http-backend, the smart protocol). It
// serves the repositories below a directory, and may be used from several goroutines
// at once.
type Backend struct {
	root, program string
	log           io.Writer
}

// NewBackend serves the repositories below the directory root; log takes what git says.
func NewBackend(root string, log io.Writer) (*Backend, error) {
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		return nil, fmt.Errorf("git --exec-path: %w (Debian's package git has it)", err)
	}
	return &Backend{root: root, program: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"), log: log}, nil
}

// ServeHTTP answers one request of a git client. The URL's path is that of the
// repository below the root, and what git asks of it.
func (b *Backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// CGI says the length of a body beforehand (RFC 3875 section 4.1.2), and git
	// sends large packs without one.
	if r.ContentLength < 0 {
		spool, err := os.CreateTemp("", "git-body-")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer os.Remove(spool.Name())
		defer spool.Close()
		if r.ContentLength, err = io.Copy(spool, r.Body); err == nil {
			_, err = spool.Seek(0, io.SeekStart)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body, r.TransferEncoding = spool, nil
	}
	env := []string{"GIT_PROJECT_ROOT=" + b.root, "GIT_HTTP_EXPORT_ALL=1", "HOME=" + b.root}
	(&cgi.Handler{Path: b.program, Root: "/", Dir: b.root, Env: env, Stderr: b.log}).ServeHTTP(w, r)
}
