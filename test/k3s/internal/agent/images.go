package agent

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// importArchives loads every image archive in dir into containerd. An archive
// that cannot be loaded is logged and passed over, as in k3s.
func importArchives(ctx context.Context, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	for _, name := range names {
		if err := importArchive(ctx, filepath.Join(dir, name)); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			log.Printf("images: %s: %v", name, err)
			continue
		}
		log.Printf("images: %s: imported", name)
	}
	return nil
}

func importArchive(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := decompress(path, f)
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := ctr(ctx, "images", "import", "-")
	cmd.Stdin = r
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

// decompress goes by the file's name, as k3s does.
func decompress(name string, f io.Reader) (io.ReadCloser, error) {
	buffered := bufio.NewReaderSize(f, 1<<20)
	switch {
	case strings.HasSuffix(name, ".tar"):
		return io.NopCloser(buffered), nil
	case strings.HasSuffix(name, ".tar.gz"), strings.HasSuffix(name, ".tgz"):
		return gzip.NewReader(buffered)
	case strings.HasSuffix(name, ".tar.zst"), strings.HasSuffix(name, ".tzst"):
		z, err := zstd.NewReader(buffered)
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return nil, fmt.Errorf("not an archive that the stand-in reads (.tar, .tar.gz, .tar.zst)")
}
