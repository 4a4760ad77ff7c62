package image

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

const (
	version = "v9.8.7-test"
	name    = "ghcr.io/rhizome-dev/rhizome:" + version
)

// build runs build.sh over a directory of boot files and returns the archive.
func build(t *testing.T, boot string) string {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "image.tar")
	cmd := exec.CommandContext(t.Context(), "./build.sh", archive, boot)
	cmd.Env = append(os.Environ(), "VERSION="+version, "REVISION=test", "SOURCE_DATE_EPOCH=1700000000",
		"CONTEXT="+filepath.Join(t.TempDir(), "context"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build.sh: %v\n%s", err, out)
	}
	return archive
}

func TestTheImageIsWhatAClusterCanRun(t *testing.T) {
	boot := t.TempDir()
	if err := os.MkdirAll(filepath.Join(boot, "loader"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(boot, "loader", "LICENSES.txt"), []byte("licences\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	archive := build(t, boot)

	t.Run("the same inputs give the same archive", func(t *testing.T) {
		first, err := os.ReadFile(archive)
		if err != nil {
			t.Fatal(err)
		}
		second, err := os.ReadFile(build(t, boot))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, second) {
			t.Error("two builds differ")
		}
	})

	index, err := layout.ImageIndexFromPath(unpack(t, archive))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 {
		t.Fatalf("the archive holds %d images, want 1", len(manifest.Manifests))
	}
	t.Run("containerd imports it by its full name", func(t *testing.T) {
		want := map[string]string{"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
		if diff := cmp.Diff(want, manifest.Manifests[0].Annotations); diff != "" {
			t.Errorf("annotations (-want +got):\n%s", diff)
		}
	})

	image, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("it runs the operator as nobody in particular", func(t *testing.T) {
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		got := []string{config.OS, config.Config.User, strings.Join(config.Config.Entrypoint, " "), strings.Join(config.Config.Cmd, " "),
			config.Config.Labels["org.opencontainers.image.version"]}
		want := []string{"linux", "65532:65532", "/rhizome", "operator", version}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("config (-want +got):\n%s", diff)
		}
	})

	files := contents(t, image)
	t.Run("it holds the binary, the boot files and the licences", func(t *testing.T) {
		var names []string
		for name, file := range files {
			if file.header.Typeflag == tar.TypeDir {
				continue
			}
			names = append(names, name)
			if file.header.Uid != 0 || file.header.Mode&0o022 != 0 || file.header.Mode&0o004 == 0 {
				t.Errorf("%s belongs to user %d with mode %o: it must be root's, and readable by all", name, file.header.Uid, file.header.Mode)
			}
		}
		slices.Sort(names)
		want := []string{"boot/loader/LICENSES.txt", "licenses/LICENSE", "rhizome"}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("files (-want +got):\n%s", diff)
		}
	})
	t.Run("the binary is static and knows its version", func(t *testing.T) {
		program, err := elf.NewFile(bytes.NewReader(files["rhizome"].content))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range program.Progs {
			if p.Type == elf.PT_INTERP {
				t.Error("the binary wants a dynamic linker, which an image from scratch lacks")
			}
		}
		path := filepath.Join(t.TempDir(), "rhizome")
		if err := os.WriteFile(path, files["rhizome"].content, 0o700); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), path, "--version").CombinedOutput()
		if err != nil || !strings.Contains(string(out), version) {
			t.Errorf("rhizome --version: %v, %q; want %s in it", err, out, version)
		}
	})
}

// unpack unpacks the archive into an image layout.
func unpack(t *testing.T, archive string) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "tar", "-xf", archive, "-C", dir).CombinedOutput(); err != nil {
		t.Fatalf("cannot unpack the archive: %v\n%s", err, out)
	}
	return dir
}

type file struct {
	header  *tar.Header
	content []byte
}

// contents are the files of all layers, by path.
func contents(t *testing.T, image v1.Image) map[string]file {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]file{}
	for _, layer := range layers {
		r, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for tr := tar.NewReader(r); ; {
			header, err := tr.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(tr)
			if err != nil {
				t.Fatal(err)
			}
			files[strings.TrimPrefix(header.Name, "./")] = file{header, content}
		}
	}
	return files
}
