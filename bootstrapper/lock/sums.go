package lock

import (
	"bufio"
	"bytes"
	"net/url"
	"path"
	"regexp"
	"strings"
)

// published is what a publisher says of a file: a digest of one kind or of both, as
// hexadecimal digits.
type published struct{ sha256, sha512 string }

// The two ways to write checksums down: that of sha256sum(1), and that of BSD's
// programs, which Fedora and its relatives use.
var (
	gnuSum = regexp.MustCompile(`^([0-9a-fA-F]{64}|[0-9a-fA-F]{128})[ \t]+\*?(\S.*)$`)
	bsdSum = regexp.MustCompile(`^SHA(?:256|512) \((.+)\) = ([0-9a-fA-F]{64}|[0-9a-fA-F]{128})$`)
)

// lookUp finds a file in a publisher's checksums, by the longest path that ends the
// file's URL as a whole: the checksums of Debian's installer name files of one name in
// many directories. The zero value: they do not name it, or say two things of it.
func lookUp(sums []byte, address string) published {
	u, err := url.Parse(address)
	if err != nil {
		return published{}
	}
	var found published
	longest := 0
	lines := bufio.NewScanner(bytes.NewReader(sums))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		var digest, name string
		if m := gnuSum.FindStringSubmatch(line); m != nil {
			digest, name = m[1], m[2]
		} else if m := bsdSum.FindStringSubmatch(line); m != nil {
			digest, name = m[2], m[1]
		} else {
			continue
		}
		name = strings.TrimPrefix(path.Clean("/"+name), "/")
		if name == "" || !strings.HasSuffix(u.Path, "/"+name) || len(name) < longest {
			continue
		}
		if len(name) > longest {
			found, longest = published{}, len(name)
		}
		digest = strings.ToLower(digest)
		at := &found.sha256
		if len(digest) == 128 {
			at = &found.sha512
		}
		if *at != "" && *at != digest {
			return published{}
		}
		*at = digest
	}
	if lines.Err() != nil {
		return published{}
	}
	return found
}
