package boot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// Files that nothing names any more are taken off the host: mediaGrace after they
// were last named or served, looked at every sweepAgain.
const (
	mediaGrace = 24 * time.Hour
	sweepFirst = time.Minute
	sweepAgain = 10 * time.Minute
)

// sweep cleans the cache until ctx ends.
func (f *files) sweep(ctx context.Context) {
	for next := time.After(sweepFirst); ; next = time.After(sweepAgain) {
		select {
		case <-ctx.Done():
			return
		case <-next:
		}
		gone, err := f.sweepOnce(f.declared.current.Load())
		for _, digest := range gone {
			f.logger.Info("a file that nothing names any more was removed", "sha256", digest)
		}
		if err != nil {
			f.logger.Warn("the media cache is not cleaned", "error", err)
		}
	}
}

// sweepOnce removes what is of no use. While it is not known what is declared,
// nothing goes.
func (f *files) sweepOnce(s *snapshot) ([]string, error) {
	if s == nil || s.cluster == nil {
		return nil, nil
	}
	named, err := f.named(s)
	if err != nil {
		return nil, err
	}
	now := f.now()
	f.mu.Lock()
	for digest := range f.standings {
		named[digest] = true
	}
	for digest, at := range f.opened {
		if now.Sub(at) < mediaGrace {
			named[digest] = true
		} else {
			delete(f.opened, digest)
		}
	}
	f.mu.Unlock()
	return f.cache.Sweep(now, mediaGrace, func(digest string) bool { return named[digest] })
}

var digests = regexp.MustCompile(`\b[0-9a-f]{64}\b`)

// named are the digests of all files that an OperatingSystem, the Cluster, its k3s
// release or an image archive names: wherever in them one stands, so that one that
// is not understood is kept, too.
func (f *files) named(s *snapshot) (map[string]bool, error) {
	out := map[string]bool{}
	add := func(text []byte) {
		for _, digest := range digests.FindAll(text, -1) {
			out[string(digest)] = true
		}
	}
	specs := []any{s.cluster.Spec, s.inventory.Clusters}
	for i := range s.inventory.OperatingSystems {
		specs = append(specs, s.inventory.OperatingSystems[i].Spec)
	}
	for _, spec := range specs {
		text, err := json.Marshal(spec)
		if err != nil {
			return nil, fmt.Errorf("cannot read what is declared: %w", err)
		}
		add(text)
	}
	for _, archive := range f.archives {
		out[archive.SHA256] = true
	}
	// The checksums of a release are kept before the first of its files is fetched.
	for _, arch := range []v1alpha1.Architecture{v1alpha1.AMD64, v1alpha1.ARM64} {
		path := filepath.Join(f.sumsDir, sumsKey(release{s.cluster.Spec.Kubernetes.Version, arch}))
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("cannot read the kept checksums: %w", err)
		}
		add(text)
	}
	return out, nil
}
