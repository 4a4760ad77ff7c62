package boot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/internal/provision"
)

// missingSums are the releases whose checksums are to be read now.
func (f *files) missingSums() map[release]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	begin := map[release]string{}
	for r, address := range f.want.sums {
		key := sumsKey(r)
		if !f.working[key] && !f.now().Before(f.retry[key]) {
			f.working[key] = true
			begin[r] = address
		}
	}
	return begin
}

func sumsKey(r release) string { return fmt.Sprintf("sha256sum-%s-%s.txt", r.version, r.arch) }

// fetchSums reads the checksums of a release: from where they were kept, else from
// the k3s project over HTTPS, which vouches for them.
func (f *files) fetchSums(ctx context.Context, r release, address string) {
	key := sumsKey(r)
	kept := filepath.Join(f.sumsDir, key)
	sums, err := os.ReadFile(kept)
	if err == nil {
		_, err = k3s.ParseSums(sums)
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			f.logger.Warn("cannot use the kept checksums", "path", kept, "error", err)
		}
		if sums, err = provision.FetchSums(ctx, address); err == nil {
			if _, err = k3s.ParseSums(sums); err == nil {
				err = keep(kept, sums)
			}
		}
	}
	f.mu.Lock()
	delete(f.working, key)
	if err != nil && ctx.Err() == nil {
		f.failures[key]++
		wait := min(15*time.Second<<min(f.failures[key]-1, 5), 5*time.Minute)
		f.retry[key] = f.now().Add(wait)
		f.logger.Error("cannot read the checksums of a k3s release", "version", r.version, "architecture", r.arch, "error", err,
			"again in", wait.String(), "fix", "check spec.kubernetes.version and the way to the internet, or declare spec.kubernetes.files")
	}
	f.mu.Unlock()
	if err == nil {
		f.declared.setSums(r, sums)
	}
}

// keep writes a file in one step.
func keep(path string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".sums-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := tmp.Write(content); err != nil {
		_ = tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
