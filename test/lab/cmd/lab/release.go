//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/rhizome-dev/rhizome/pxe/media"
)

// Names of the two files of a k3s release that a machine without internet needs.
const (
	k3sBinary = "k3s"
	k3sImages = "k3s-airgap-images-amd64.tar.zst"
)

// standIn is the stand-in for k3s of test/k3s, as a release. The build script is
// found beside this program's sources, unless binary names a built stand-in.
func standIn(ctx context.Context, script, binary string) (release, error) {
	if binary == "" {
		build := exec.CommandContext(ctx, script)
		build.Stderr = os.Stderr
		out, err := build.Output()
		if err != nil {
			return release{}, fmt.Errorf("cannot build the stand-in for k3s with %s: %w", script, err)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		binary = lines[len(lines)-1]
	}
	said, err := exec.CommandContext(ctx, binary, "--version").Output()
	if err != nil {
		return release{}, fmt.Errorf("%s --version: %w", binary, err)
	}
	version, err := releaseVersion(string(said))
	if err != nil {
		return release{}, fmt.Errorf("%s --version: %w", binary, err)
	}
	return localRelease(version, binary, filepath.Join(filepath.Dir(binary), k3sImages))
}

// releaseVersion finds a release such as v1.33.5+k3s1 in what k3s says of itself.
func releaseVersion(said string) (string, error) {
	version := regexp.MustCompile(`v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?\+[0-9A-Za-z.-]+`).FindString(said)
	if version == "" {
		return "", fmt.Errorf("no release in %q", said)
	}
	return version, nil
}

func localRelease(version, binary, images string) (release, error) {
	r := release{Version: version}
	for _, path := range []string{binary, images} {
		digest, err := digestOf(path)
		if err != nil {
			return release{}, err
		}
		f := file{URL: "file://" + path, SHA256: digest}
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

// realK3s downloads a release of the k3s project. The lab's network has no way
// out, so this is done beforehand, from the host.
func realK3s(ctx context.Context, version string) (release, error) {
	user, err := os.UserCacheDir()
	if err != nil {
		return release{}, err
	}
	dir := filepath.Join(user, "rhizome", "lab", "k3s")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return release{}, err
	}
	cache, err := media.Open(dir)
	if err != nil {
		return release{}, err
	}
	base := "https://github.com/k3s-io/k3s/releases/download/" + url.PathEscape(version) + "/"
	base = strings.ReplaceAll(base, "+", "%2B")
	digests, err := releaseDigests(ctx, base+"sha256sum-amd64.txt")
	if err != nil {
		return release{}, fmt.Errorf("K3S_VERSION=%s: %w", version, err)
	}
	paths := map[string]string{}
	for _, name := range []string{k3sBinary, k3sImages} {
		if digests[name] == "" {
			return release{}, fmt.Errorf("K3S_VERSION=%s: the release lists no %s", version, name)
		}
		fmt.Printf("Fetching %s of %s\n", name, version)
		got, err := cache.Fetch(ctx, media.Source{URL: base + name, SHA256: digests[name], Name: name}, nil)
		if err != nil {
			return release{}, fmt.Errorf("K3S_VERSION=%s: %w", version, err)
		}
		paths[name] = got.Path
	}
	return release{
		Version: version,
		Binary:  file{URL: "file://" + paths[k3sBinary], SHA256: digests[k3sBinary]},
		Images:  []file{{URL: "file://" + paths[k3sImages], SHA256: digests[k3sImages]}},
	}, nil
}

func releaseDigests(ctx context.Context, from string) (map[string]string, error) {
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
	return parseDigests(list)
}

// parseDigests reads what sha256sum prints: digest and file name on each line.
func parseDigests(list []byte) (map[string]string, error) {
	digests := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(list))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 {
			continue
		}
		if raw, err := hex.DecodeString(fields[0]); err != nil || len(raw) != sha256.Size || len(fields) != 2 {
			return nil, errors.New("the list of digests has a line that is none")
		}
		digests[strings.TrimPrefix(fields[1], "*")] = fields[0]
	}
	return digests, lines.Err()
}
