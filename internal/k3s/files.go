package k3s

import (
	"archive/tar"
	"bytes"
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// The paths that k3s documents (https://docs.k3s.io/advanced,
// https://docs.k3s.io/installation/airgap,
// https://docs.k3s.io/cli/certificate).
const (
	BinaryPath       = "/usr/local/bin/k3s"
	ConfigPath       = "/etc/rancher/k3s/config.yaml"
	KubeconfigPath   = "/etc/rancher/k3s/k3s.yaml"
	NodePasswordPath = "/etc/rancher/node/password"
	DataDir          = "/var/lib/rancher/k3s"
	ServerTLSDir     = DataDir + "/server/tls"
	ManifestsDir     = DataDir + "/server/manifests"
	ImagesDir        = DataDir + "/agent/images"
	PodManifestsDir  = DataDir + "/agent/pod-manifests"
)

// File is a file of a machine. Path is absolute; Mode holds the permission bits,
// zero meaning 0644.
type File struct {
	Path    string `json:"path"`
	Content []byte `json:"content"`
	Mode    uint32 `json:"mode,omitempty"`
}

// archiveEndings are what k3s imports from ImagesDir; it ignores other names
// without a word (https://docs.k3s.io/installation/airgap).
var archiveEndings = []string{
	".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.lz4", ".tar.bz2", ".tbz",
}

// ImagePath is where an archive of container images must lie to be imported at
// the start of k3s. It is an error if k3s would ignore a file of this name.
func ImagePath(name string) (string, error) {
	if name == "" || name != path.Base(name) || strings.HasPrefix(name, ".") {
		return "", fmt.Errorf("cannot import image archive %q: want a plain file name", name)
	}
	for _, ending := range archiveEndings {
		if strings.HasSuffix(name, ending) {
			return path.Join(ImagesDir, name), nil
		}
	}
	return "", fmt.Errorf("cannot import image archive %q: k3s imports only names that end in %s",
		name, strings.Join(archiveEndings, ", "))
}

// Tar packs files into a tar archive that is unpacked at the root directory. The
// same files give the same bytes. Parent directories are left to the unpacker, so
// that no directory of the machine changes its mode.
func Tar(files []File) ([]byte, error) {
	sorted := slices.Clone(files)
	slices.SortFunc(sorted, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for i, f := range sorted {
		if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || f.Path == "/" {
			return nil, fmt.Errorf("cannot pack %q: want a clean absolute path", f.Path)
		}
		if i > 0 && sorted[i-1].Path == f.Path {
			return nil, fmt.Errorf("cannot pack %q twice", f.Path)
		}
		mode := f.Mode
		if mode == 0 {
			mode = 0o644
		}
		header := &tar.Header{
			Typeflag: tar.TypeReg,
			Name:     strings.TrimPrefix(f.Path, "/"),
			Mode:     int64(mode & 0o7777),
			Size:     int64(len(f.Content)),
			ModTime:  time.Unix(0, 0),
			Format:   tar.FormatPAX,
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("cannot pack %q: %w", f.Path, err)
		}
		if _, err := w.Write(f.Content); err != nil {
			return nil, fmt.Errorf("cannot pack %q: %w", f.Path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("cannot close the archive: %w", err)
	}
	return out.Bytes(), nil
}
