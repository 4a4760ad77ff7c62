package seed

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/rhizome-dev/rhizome/bootstrapper/state"
	"github.com/rhizome-dev/rhizome/pxe/media"
)

// operatorImage is the image that the operator runs from. The zero value is the
// chart's own.
type operatorImage struct {
	reference string // as the chart is told; empty: not at all
	path      string // of the OCI archive that travels; empty: none
	source    media.Source
}

// readOperatorImage understands --operator-image: a path is a file that is there,
// everything else a reference.
func readOperatorImage(given string) (operatorImage, error) {
	if given == "" {
		return operatorImage{}, nil
	}
	info, err := os.Stat(given)
	if err != nil || info.IsDir() {
		if looksLikePath(given) {
			return operatorImage{}, fmt.Errorf("the operator image %s is no file", given)
		}
		if _, err := name.ParseReference(given); err != nil {
			return operatorImage{}, fmt.Errorf("the operator image %q is neither a file nor an image reference: %w", given, err)
		}
		return operatorImage{reference: given}, nil
	}
	f, err := os.Open(given)
	if err != nil {
		return operatorImage{}, fmt.Errorf("cannot read the operator image: %w", err)
	}
	defer f.Close()
	reference, err := referenceIn(f, given)
	if err != nil {
		return operatorImage{}, fmt.Errorf("cannot read the operator image %s: %w", given, err)
	}
	return operatorImage{reference: reference, path: given}, nil
}

// looksLikePath: an image reference begins with neither a slash nor a dot, and
// none ends in .tar.
func looksLikePath(s string) bool {
	return strings.HasPrefix(s, "/") || strings.HasPrefix(s, ".") || strings.Contains(path.Base(s), ".tar")
}

// The annotations of an index that name its images: containerd's own, and the
// specification's (OCI image layout, annotations).
const (
	annotationImageName = "io.containerd.image.name"
	annotationRefName   = "org.opencontainers.image.ref.name"
)

// maxIndex bounds an archive's index.
const maxIndex = 4 << 20

// referenceIn is the reference under which containerd will know the image of an
// OCI archive, which may be compressed as k3s imports it: by gzip or zstd.
func referenceIn(archive io.Reader, filename string) (string, error) {
	switch {
	case strings.HasSuffix(filename, ".gz"), strings.HasSuffix(filename, ".tgz"):
		unzipped, err := gzip.NewReader(archive)
		if err != nil {
			return "", err
		}
		archive = unzipped
	case strings.HasSuffix(filename, ".zst"), strings.HasSuffix(filename, ".tzst"):
		unpacked, err := zstd.NewReader(archive, zstd.WithDecoderMaxMemory(256<<20))
		if err != nil {
			return "", err
		}
		defer unpacked.Close()
		archive = unpacked
	}
	for entries := tar.NewReader(archive); ; {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return "", errors.New("it holds no index.json: want an OCI archive (docker buildx build --output type=oci, skopeo copy ... oci-archive:FILE, make image)")
		}
		if err != nil {
			return "", fmt.Errorf("it is no tar archive: %w", err)
		}
		if path.Clean(header.Name) != "index.json" {
			continue
		}
		index, err := v1.ParseIndexManifest(io.LimitReader(entries, maxIndex))
		if err != nil {
			return "", fmt.Errorf("index.json: %w", err)
		}
		return referenceOf(index)
	}
}

// referenceOf finds the one full reference that an index names its image by. A
// bare tag, as some tools write it, names nothing that a kubelet could ask for.
func referenceOf(index *v1.IndexManifest) (string, error) {
	names := map[string]bool{}
	var found string
	for _, manifest := range index.Manifests {
		given := manifest.Annotations[annotationImageName]
		if given == "" {
			given = manifest.Annotations[annotationRefName]
		}
		if given == "" {
			continue
		}
		if !strings.ContainsAny(given, "/:@") {
			return "", fmt.Errorf("index.json names the image only %q: annotate it with its full reference (%s)", given, annotationImageName)
		}
		reference, err := name.ParseReference(given)
		if err != nil {
			return "", fmt.Errorf("index.json: %w", err)
		}
		names[reference.Name()], found = true, reference.Name()
	}
	switch len(names) {
	case 0:
		return "", fmt.Errorf("index.json does not name its image: annotate it with its full reference (%s)", annotationImageName)
	case 1:
		return found, nil
	}
	return "", fmt.Errorf("it holds %d images: want the operator's alone", len(names))
}

// fileName is the archive's name on the machine.
func (o operatorImage) fileName() string { return "rhizome-operator-" + filepath.Base(o.path) }

// sources are the archives that travel.
func (o operatorImage) sources() []media.Source {
	if o.source.SHA256 == "" {
		return nil
	}
	return []media.Source{o.source}
}

// values are the chart's values for the image. An archive was imported by the
// node: nothing needs to be pulled, and nothing must be, where there is no
// registry. archive is the one that travelled, nil when none did.
func (o operatorImage) values(archive *state.Archive) map[string]any {
	if o.reference == "" {
		return nil
	}
	reference, err := name.ParseReference(o.reference)
	if err != nil {
		return nil // it was parsed before
	}
	image := map[string]any{"repository": reference.Context().Name(), "pullPolicy": "IfNotPresent"}
	if digest, ok := reference.(name.Digest); ok {
		image["digest"] = digest.DigestStr()
	} else {
		image["tag"] = reference.Identifier()
	}
	if archive != nil {
		image["archives"] = []any{map[string]any{"name": archive.Name, "sha256": archive.SHA256}}
	}
	return map[string]any{"image": image}
}
