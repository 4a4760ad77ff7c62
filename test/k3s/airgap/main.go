// Command airgap writes the archive that takes the place of k3s'
// k3s-airgap-images-<arch>.tar.zst in the lab: the pause image, under the
// name by which k3s asks for it.
package main

import (
	"archive/tar"
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/zstd"
)

func main() {
	pause := flag.String("pause", "", "the static pause program")
	arch := flag.String("arch", "amd64", "its architecture")
	out := flag.String("out", "", "the archive to write (.tar.zst)")
	reference := flag.String("name", "docker.io/rancher/mirrored-pause:3.6", "the image's name")
	flag.Parse()
	if err := write(*out, *pause, *arch, *reference); err != nil {
		fmt.Fprintln(os.Stderr, "airgap:", err)
		os.Exit(1)
	}
}

func write(out, pause, arch, reference string) error {
	program, err := os.ReadFile(pause)
	if err != nil {
		return err
	}
	image, err := pauseImage(program, arch)
	if err != nil {
		return err
	}
	tag, err := name.NewTag(reference, name.StrictValidation)
	if err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := zstd.NewWriter(f)
	if err != nil {
		return err
	}
	if err := tarball.Write(tag, image, z); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return f.Close()
}

func pauseImage(program []byte, arch string) (v1.Image, error) {
	var b bytes.Buffer
	t := tar.NewWriter(&b)
	if err := t.WriteHeader(&tar.Header{Name: "pause", Mode: 0o755, Size: int64(len(program)), Typeflag: tar.TypeReg}); err != nil {
		return nil, err
	}
	if _, err := t.Write(program); err != nil {
		return nil, err
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b.Bytes())), nil
	})
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	conf, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	conf = conf.DeepCopy()
	conf.OS, conf.Architecture = "linux", arch
	conf.Config = v1.Config{Entrypoint: []string{"/pause"}, User: "65535:65535"}
	return mutate.ConfigFile(image, conf)
}
