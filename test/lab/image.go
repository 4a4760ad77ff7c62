//go:build linux

package lab

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

//go:embed all:image
var imageSource embed.FS

// OSImage is the lab's operating system image: a generic Debian cloud image for
// x86-64, bootable by UEFI and BIOS, configured by cloud-init from a partition
// labelled CIDATA. There is nothing of Rhizome in it.
type OSImage struct {
	// Path of the image, a GPT disk compressed with zstd.
	Path string
	// SHA256 of the compressed file, in hexadecimal.
	SHA256 string
	// Size in bytes of the unpacked image.
	Size int64
	// Kernel is the image's kernel, as a file.
	Kernel string
}

// Image is BuildImage for a test.
func Image(t TB) OSImage {
	t.Helper()
	needsRoot(t)
	image, err := BuildImage(t.Context(), os.Stderr)
	if err != nil {
		t.Fatalf("cannot build the operating system image: %v", err)
	}
	return image
}

// BuildImage returns the cached image, after building it where what it is made
// from has changed: a few minutes, with packages from the system's own apt
// sources. Several processes may ask at once; one builds. What the build says
// goes to progress.
func BuildImage(ctx context.Context, progress io.Writer) (OSImage, error) {
	cache, err := cacheDir()
	if err != nil {
		return OSImage{}, err
	}
	key, err := imageKey()
	if err != nil {
		return OSImage{}, err
	}
	dir := filepath.Join(cache, key)
	if image, err := openImage(dir); err == nil {
		return image, nil
	}
	unlock, err := lock(ctx, filepath.Join(cache, "image.lock"))
	if err != nil {
		return OSImage{}, err
	}
	defer unlock()
	if image, err := openImage(dir); err == nil {
		return image, nil
	}
	if err := buildImage(ctx, cache, dir, progress); err != nil {
		return OSImage{}, err
	}
	return openImage(dir)
}

func openImage(dir string) (OSImage, error) {
	image := OSImage{Path: filepath.Join(dir, "os.raw.zst"), Kernel: filepath.Join(dir, "vmlinuz")}
	sum, err := os.ReadFile(image.Path + ".sha256")
	if err != nil {
		return OSImage{}, err
	}
	digest, _, ok := strings.Cut(string(sum), " ")
	if raw, err := hex.DecodeString(digest); !ok || err != nil || len(raw) != sha256.Size {
		return OSImage{}, fmt.Errorf("%s.sha256 holds no digest", image.Path)
	}
	image.SHA256 = digest
	size, err := os.ReadFile(filepath.Join(dir, "os.raw.size"))
	if err != nil {
		return OSImage{}, err
	}
	image.Size, err = strconv.ParseInt(strings.TrimSpace(string(size)), 10, 64)
	return image, err
}

func buildImage(ctx context.Context, cache, dir string, progress io.Writer) (err error) {
	// Under the lock nobody else builds: what lies about is of builds that died.
	stale, _ := filepath.Glob(filepath.Join(cache, "building-*"))
	for _, old := range stale {
		_ = os.RemoveAll(old)
	}
	work, err := os.MkdirTemp(cache, "building-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()

	source, out := filepath.Join(work, "source"), filepath.Join(work, "out")
	if err := writeImageSource(source); err != nil {
		return err
	}
	if err := os.Mkdir(out, 0o755); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(source, "build.sh"), out)
	cmd.Stdout, cmd.Stderr = progress, progress
	// In a mount namespace of its own, and as one process group, a build that is
	// interrupted leaves neither mounts nor processes.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM, Unshareflags: syscall.CLONE_NEWNS}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cannot build the operating system image: %w", errors.Join(err, ctx.Err()))
	}
	if err := os.Rename(out, dir); err != nil {
		return err
	}
	return removeOldImages(cache, dir)
}

// removeOldImages removes images of earlier sources that are a week old: another
// checkout may still use younger ones.
func removeOldImages(cache, current string) error {
	images, err := filepath.Glob(filepath.Join(cache, "image-*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, image := range images {
		info, err := os.Stat(image)
		if err != nil || !info.IsDir() || image == current || time.Since(info.ModTime()) < 7*24*time.Hour {
			continue
		}
		errs = append(errs, os.RemoveAll(image))
	}
	return errors.Join(errs...)
}

// imageKey changes when anything that the image is made from does, except the
// distribution's packages.
func imageKey() (string, error) {
	hash := sha256.New()
	err := fs.WalkDir(imageSource, "image", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := imageSource.ReadFile(path)
		fmt.Fprintf(hash, "%s %d\n%s", path, len(content), content)
		return err
	})
	return "image-" + hex.EncodeToString(hash.Sum(nil))[:16], err
}

// writeImageSource writes the embedded files. Scripts are executable.
func writeImageSource(dir string) error {
	return fs.WalkDir(imageSource, "image", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(dir, strings.TrimPrefix(path, "image"))
		if entry.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		content, err := imageSource.ReadFile(path)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if strings.HasPrefix(string(content), "#!") {
			mode = 0o755
		}
		return os.WriteFile(target, content, mode)
	})
}

// Unpack writes the image to a new file of the given size in bytes, sparsely,
// with the second partition table at its end: a disk on which the image has just
// been installed, as yet without configuration.
func (i OSImage) Unpack(ctx context.Context, path string, size int64) error {
	if size < i.Size {
		return fmt.Errorf("the image needs %d bytes, a disk of %d is too small", i.Size, size)
	}
	for _, step := range [][]string{
		{"zstd", "--quiet", "--decompress", "--sparse", i.Path, "-o", path},
		{"truncate", "--size=" + strconv.FormatInt(size, 10), path},
		{"sgdisk", "--move-second-header", path},
	} {
		if out, err := exec.CommandContext(ctx, step[0], step[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("cannot unpack the image: %s: %w: %s", step[0], err, out)
		}
	}
	return nil
}
