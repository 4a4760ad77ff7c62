// Package lock pins the media of OperatingSystem manifests: it downloads each file
// whose digest is missing, checks it against what its publisher says, and writes the
// digest into the manifest.
package lock

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	yaml3 "go.yaml.in/yaml/v3"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// placeholder stands where a person, or this package, has to fill something in.
const placeholder = "FILL-IN"

// place is a file of a medium in the text of a manifest.
type place struct {
	system string   // the OperatingSystem's name
	url    string   // of the file
	sums   []string // URLs of the publisher's checksums
	digest string   // what stands there; empty: nothing
	// Lines and columns count from 1. at is the digest's, if there is one; after is the
	// line of the URL, with the column where keys of the mapping begin.
	line, column  int
	after, indent int
}

// missing says whether the digest is to be filled in.
func (p place) missing() bool { return p.digest == "" || strings.HasPrefix(p.digest, placeholder) }

// places finds the files of the media in a manifest with any number of documents.
func places(content []byte) ([]place, error) {
	decoder := yaml3.NewDecoder(bytes.NewReader(content))
	var all []place
	for {
		var doc yaml3.Node
		err := decoder.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read it as YAML: %w", err)
		}
		if len(doc.Content) == 0 {
			continue
		}
		root := doc.Content[0]
		if text(root, "kind") != "OperatingSystem" || !strings.HasPrefix(text(root, "apiVersion"), "rhizome.dev/") {
			continue
		}
		base := place{system: text(child(root, "metadata"), "name")}
		base.sums = strings.Fields(text(child(child(root, "metadata"), "annotations"), v1alpha1.AnnotationChecksums))
		for _, medium := range items(child(child(root, "spec"), "media")) {
			files := append([]*yaml3.Node{medium}, items(child(medium, "files"))...)
			for _, file := range files {
				found, ok, err := placeOf(file, base)
				if err != nil {
					return nil, err
				}
				if ok {
					all = append(all, found)
				}
			}
		}
	}
}

// placeOf is the file that a mapping with a URL stands for.
func placeOf(n *yaml3.Node, base place) (place, bool, error) {
	url := child(n, "url")
	if url == nil || url.Kind != yaml3.ScalarNode {
		return place{}, false, nil
	}
	base.url = url.Value
	if n.Style&yaml3.FlowStyle != 0 || url.Style&(yaml3.LiteralStyle|yaml3.FoldedStyle) != 0 {
		return place{}, false, fmt.Errorf("line %d: write the medium with one key a line: a digest cannot be put into this form", n.Line)
	}
	base.after, base.indent = url.Line, n.Column
	if digest := child(n, "sha256"); digest != nil {
		if digest.Kind != yaml3.ScalarNode {
			return place{}, false, fmt.Errorf("line %d: sha256 is no text", digest.Line)
		}
		base.digest, base.line, base.column = digest.Value, digest.Line, digest.Column
		if base.digest == "" {
			return place{}, false, fmt.Errorf("line %d: sha256 is empty: remove the line", digest.Line)
		}
	}
	return base, true, nil
}

// fill writes digests into the text, by place. Every other byte stays as it is.
func fill(content []byte, digests map[position]string, all []place) ([]byte, error) {
	lines := bytes.SplitAfter(content, []byte("\n"))
	for _, p := range all {
		digest, ok := digests[p.key()]
		if !ok {
			continue
		}
		if p.line > 0 {
			line := lines[p.line-1]
			from := p.column - 1
			for from < len(line) && (line[from] == '"' || line[from] == '\'') {
				from++
			}
			if !bytes.HasPrefix(line[from:], []byte(p.digest)) {
				return nil, fmt.Errorf("line %d: sha256 is no plain word", p.line)
			}
			lines[p.line-1] = bytes.Join([][]byte{line[:from], []byte(digest), line[from+len(p.digest):]}, nil)
			continue
		}
		line := lines[p.after-1]
		end := "\n"
		if bytes.HasSuffix(line, []byte("\r\n")) {
			end = "\r\n"
		}
		if !bytes.HasSuffix(line, []byte("\n")) {
			line = append(bytes.Clone(line), end...)
		}
		lines[p.after-1] = fmt.Appendf(bytes.Clone(line), "%ssha256: %s%s", strings.Repeat(" ", p.indent-1), digest, end)
	}
	return bytes.Join(lines, nil), nil
}

// position is what tells places of one text apart.
type position struct{ after, indent int }

func (p place) key() position { return position{p.after, p.indent} }

func child(n *yaml3.Node, key string) *yaml3.Node {
	if n == nil || n.Kind != yaml3.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func text(n *yaml3.Node, key string) string {
	if c := child(n, key); c != nil && c.Kind == yaml3.ScalarNode {
		return c.Value
	}
	return ""
}

func items(n *yaml3.Node) []*yaml3.Node {
	if n == nil || n.Kind != yaml3.SequenceNode {
		return nil
	}
	return n.Content
}
