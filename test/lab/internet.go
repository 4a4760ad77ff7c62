//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Internet is what the lab's machines reach by their router: a web server, on the
// router itself, with the files that it was given. It stands in for the places
// that a cluster's files come from.
type Internet struct {
	base string

	mu    sync.RWMutex
	files map[string]string // by name
	sites map[string]http.Handler
}

// Serve starts the lab's internet. It ends with the lab.
func (l *Lab) Serve() (*Internet, error) {
	address := netip.AddrPortFrom(l.Network.Gateway, 80)
	listener, err := l.Router.host.Listen("tcp4", address.String())
	if err != nil {
		return nil, fmt.Errorf("cannot start the lab's internet: %w", err)
	}
	i := &Internet{base: "http://" + l.Network.Gateway.String() + "/", files: map[string]string{}, sites: map[string]http.Handler{}}
	server := &http.Server{Handler: i, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			l.logger.Error("the lab's internet ended", "error", err)
		}
	}()
	go func() {
		<-l.ctx.Done()
		_ = server.Close()
	}()
	return i, nil
}

// Add makes a file of the host known and returns its URL. Its name must not be
// another file's.
func (i *Internet) Add(path string) (string, error) {
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("the lab's internet: %w", err)
	}
	name := filepath.Base(path)
	i.mu.Lock()
	defer i.mu.Unlock()
	if other, ok := i.files[name]; ok && other != path {
		return "", fmt.Errorf("the lab's internet has another %s already: %s", name, other)
	}
	i.files[name] = path
	return i.base + name, nil
}

// AddSite makes a handler known and returns its URL, which ends with the name. The
// handler sees what follows the name in a request's path. A site goes before files.
func (i *Internet) AddSite(name string, site http.Handler) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.sites[name] = http.StripPrefix("/"+name, site)
	return i.base + name
}

// ServeHTTP implements http.Handler.
func (i *Internet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.mu.RLock()
	name, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	site := i.sites[name]
	path, ok := i.files[filepath.Base(r.URL.Path)]
	i.mu.RUnlock()
	if site != nil {
		site.ServeHTTP(w, r)
		return
	}
	if !ok {
		http.NotFound(w, r)
		return
	}
	http.ServeFile(w, r, path)
}
