package modules

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
	"github.com/rhizome-dev/rhizome/pxe/installer/stream"
)

// OpenRunning opens the modules of the running kernel, below /lib/modules.
func OpenRunning() (*Loader, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return nil, fmt.Errorf("cannot ask for the kernel's release: %w", err)
	}
	dir := filepath.Join("/lib/modules", unix.ByteSliceToString(u.Release[:]))
	tree, err := Open(os.DirFS(dir))
	if err != nil {
		return nil, fmt.Errorf("cannot use the modules in %s (kernel and initrd must be of one build): %w", dir, err)
	}
	return &Loader{Tree: tree, Insert: func(path string) error { return insert(filepath.Join(dir, path)) }}, nil
}

// insert hands a module to the kernel, unpacked first if its name says that it
// is compressed, because not every kernel unpacks modules itself.
func insert(path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var compression string
	switch {
	case strings.HasSuffix(path, ".gz"):
		compression = plan.Gzip
	case strings.HasSuffix(path, ".xz"):
		compression = plan.XZ
	case strings.HasSuffix(path, ".zst"):
		compression = plan.Zstd
	default:
		return unix.FinitModule(int(f.Fd()), "", 0)
	}
	r, err := stream.Decompress(compression, f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	image, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return unix.InitModule(image, "")
}
