package k3s

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// releases is where the k3s project publishes its files.
const releases = "https://github.com/k3s-io/k3s/releases/download/"

// ReleaseURL is the URL of one file of a release such as v1.33.5+k3s1. A plus
// sign in a URL's path is written %2B.
func ReleaseURL(version, name string) string {
	return releases + strings.ReplaceAll(version, "+", "%2B") + "/" + name
}

// BinaryName is the name of the executable in a release: k3s on amd64, else
// k3s-ARCH.
func BinaryName(arch string) string {
	if arch == "amd64" {
		return "k3s"
	}
	return "k3s-" + arch
}

// AirgapName is the name of the archive of the release's container images.
func AirgapName(arch string) string { return "k3s-airgap-images-" + arch + ".tar.zst" }

// SumsName is the name of the file of the release's checksums.
func SumsName(arch string) string { return "sha256sum-" + arch + ".txt" }

// Sums are the SHA-256 digests of a release's files by file name, each 64
// lower-case hexadecimal digits.
type Sums map[string]string

var sumLine = regexp.MustCompile(`^([0-9a-fA-F]{64}) [ *](\S.*)$`)

// maxSums bounds what is read of a checksum file; k3s' have about ten lines.
const maxSums = 1 << 20

// ParseSums reads a file as written by sha256sum. A line that is not of that form
// makes it useless: better none than a digest that was misread.
func ParseSums(data []byte) (Sums, error) {
	if len(data) > maxSums {
		return nil, fmt.Errorf("cannot read the checksums: %d bytes, want at most %d", len(data), maxSums)
	}
	sums := Sums{}
	scanner := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; scanner.Scan(); n++ {
		line := strings.TrimRight(scanner.Text(), " \t\r")
		if line == "" {
			continue
		}
		m := sumLine.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("cannot read the checksums: line %d is not of the form <64 hexadecimal digits>  <name>: %.80q", n, line)
		}
		digest, name := strings.ToLower(m[1]), m[2]
		if old, ok := sums[name]; ok && old != digest {
			return nil, fmt.Errorf("cannot read the checksums: line %d gives %q a second digest", n, name)
		}
		sums[name] = digest
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("cannot read the checksums: %w", err)
	}
	if len(sums) == 0 {
		return nil, errors.New("cannot read the checksums: the file is empty")
	}
	return sums, nil
}

// Digest is the digest of the named file, or an error that names the files that
// there are.
func (s Sums) Digest(name string) (string, error) {
	if digest, ok := s[name]; ok {
		return digest, nil
	}
	return "", fmt.Errorf("the release has no file %q; it has %s", name, strings.Join(slices.Sorted(maps.Keys(s)), ", "))
}
