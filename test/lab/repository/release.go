//go:build linux

package repository

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/pxe/media"
)

// arch of the lab's machines.
const arch = "amd64"

// File is a URL and its digest, as manifests have it.
type File struct{ URL, SHA256 string }

// Release is what the cluster's machines run.
type Release struct {
	Version string
	Binary  File
	Images  []File
}

// Paths are the release's files on this host.
func (r Release) Paths() []string {
	paths := []string{strings.TrimPrefix(r.Binary.URL, "file://")}
	for _, image := range r.Images {
		paths = append(paths, strings.TrimPrefix(image.URL, "file://"))
	}
	return paths
}

// StandIn is the stand-in for k3s, as a release. script is the path of
// test/k3s/build.sh, which builds it unless it is built.
func StandIn(ctx context.Context, script string) (Release, error) {
	build := exec.CommandContext(ctx, script)
	build.Stderr = os.Stderr
	out, err := build.Output()
	if err != nil {
		return Release{}, fmt.Errorf("cannot build the stand-in for k3s with %s: %w", script, err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return BuiltStandIn(ctx, lines[len(lines)-1])
}

// BuiltStandIn is a stand-in that is built, with the archive of its images beside
// it.
func BuiltStandIn(ctx context.Context, binary string) (Release, error) {
	said, err := exec.CommandContext(ctx, binary, "--version").Output()
	if err != nil {
		return Release{}, fmt.Errorf("%s --version: %w", binary, err)
	}
	version, err := releaseVersion(string(said))
	if err != nil {
		return Release{}, fmt.Errorf("%s --version: %w", binary, err)
	}
	return localRelease(version, binary, filepath.Join(filepath.Dir(binary), k3s.AirgapName(arch)))
}

// releaseVersion finds a release such as v1.33.5+k3s1 in what k3s says of itself.
func releaseVersion(said string) (string, error) {
	version := regexp.MustCompile(`v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?\+[0-9A-Za-z.-]+`).FindString(said)
	if version == "" {
		return "", fmt.Errorf("no release in %q", said)
	}
	return version, nil
}

func localRelease(version, binary, images string) (Release, error) {
	r := Release{Version: version}
	for _, path := range []string{binary, images} {
		digest, err := digestOf(path)
		if err != nil {
			return Release{}, err
		}
		f := File{URL: "file://" + path, SHA256: digest}
		if path == binary {
			r.Binary = f
		} else {
			r.Images = append(r.Images, f)
		}
	}
	return r, nil
}

func digestOf(path string) (string, error) {
	in, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer in.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, in); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// Real downloads a release of the k3s project, such as v1.33.5+k3s1. The lab's
// network has no way out, so this is done beforehand, from the host.
func Real(ctx context.Context, version string) (Release, error) {
	user, err := os.UserCacheDir()
	if err != nil {
		return Release{}, err
	}
	cache, err := media.Open(filepath.Join(user, "rhizome", "lab", "k3s"))
	if err != nil {
		return Release{}, err
	}
	sums, err := releaseSums(ctx, k3s.ReleaseURL(version, k3s.SumsName(arch)))
	if err != nil {
		return Release{}, fmt.Errorf("k3s %s: %w", version, err)
	}
	fetch := func(name string) (File, error) {
		digest, err := sums.Digest(name)
		if err != nil {
			return File{}, fmt.Errorf("k3s %s: %w", version, err)
		}
		fmt.Printf("Fetching %s of %s\n", name, version)
		got, err := cache.Fetch(ctx, media.Source{URL: k3s.ReleaseURL(version, name), SHA256: digest, Name: name}, nil)
		if err != nil {
			return File{}, fmt.Errorf("k3s %s: %w", version, err)
		}
		return File{URL: "file://" + got.Path, SHA256: digest}, nil
	}
	r := Release{Version: version}
	if r.Binary, err = fetch(k3s.BinaryName(arch)); err != nil {
		return Release{}, err
	}
	images, err := fetch(k3s.AirgapName(arch))
	if err != nil {
		return Release{}, err
	}
	r.Images = []File{images}
	return r, nil
}

func releaseSums(ctx context.Context, from string) (k3s.Sums, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", from, response.Status)
	}
	list, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	return k3s.ParseSums(list)
}
