package boot

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rhizome-dev/rhizome/pxe/media"
)

// hostFiles finds files of the host by their digests: those that travelled with the
// installation.
type hostFiles struct {
	dirs   []string
	logger *slog.Logger

	mu      sync.Mutex
	digests map[string]looked // by path
}

// looked is a file's digest, as long as it looks as it did.
type looked struct {
	size     int64
	modified time.Time
	digest   string
}

func newHostFiles(dirs []string, logger *slog.Logger) *hostFiles {
	return &hostFiles{dirs: dirs, logger: logger, digests: map[string]looked{}}
}

// find is the path of a file with the source's digest. One of its name is looked at
// first; the others are read once.
func (h *hostFiles) find(ctx context.Context, source media.Source) (string, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var named, others []string
	infos := map[string]fs.FileInfo{}
	for _, dir := range h.dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			h.logger.Debug("cannot look for files", "directory", dir, "error", err)
			continue
		}
		for _, e := range entries {
			path := filepath.Join(dir, e.Name())
			info, err := os.Stat(path)
			if err != nil || !info.Mode().IsRegular() {
				continue
			}
			infos[path] = info
			if e.Name() == source.Name {
				named = append(named, path)
			} else {
				others = append(others, path)
			}
		}
	}
	for _, path := range append(named, others...) {
		if h.digest(ctx, path, infos[path]) == source.SHA256 {
			return path, true
		}
	}
	return "", false
}

func (h *hostFiles) digest(ctx context.Context, path string, info fs.FileInfo) string {
	if l, ok := h.digests[path]; ok && l.size == info.Size() && l.modified.Equal(info.ModTime()) {
		return l.digest
	}
	digest, err := media.Digest(ctx, path)
	if err != nil {
		h.logger.Debug("cannot read a file of this host", "path", path, "error", err)
		return ""
	}
	h.digests[path] = looked{info.Size(), info.ModTime(), digest}
	return digest
}
