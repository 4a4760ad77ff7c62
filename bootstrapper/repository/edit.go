package repository

import (
	"bytes"
	"fmt"
	"strings"

	yaml3 "go.yaml.in/yaml/v3"
)

// set replaces one scalar of a YAML document in its text, so that every comment
// and every blank line stays where it is. The path's steps are keys.
func set(content []byte, value string, path ...string) ([]byte, error) {
	var root yaml3.Node
	if err := yaml3.Unmarshal(content, &root); err != nil {
		return nil, err
	}
	n := root.Content[0]
	for _, key := range path {
		if n.Kind == yaml3.SequenceNode && len(n.Content) == 1 {
			n = n.Content[0]
		}
		next := child(n, key)
		if next == nil {
			return nil, fmt.Errorf("the example has no %s", strings.Join(path, "."))
		}
		n = next
	}
	lines := bytes.SplitAfter(content, []byte("\n"))
	line := lines[n.Line-1]
	before, old := line[:n.Column-1], []byte(n.Value)
	if !bytes.HasPrefix(line[n.Column-1:], old) {
		return nil, fmt.Errorf("the example's %s is not a plain word", strings.Join(path, "."))
	}
	text, err := scalar(value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", strings.Join(path, "."), err)
	}
	lines[n.Line-1] = bytes.Join([][]byte{before, text, line[n.Column-1+len(old):]}, nil)
	return bytes.Join(lines, nil), nil
}

// scalar writes a text so that it is read as that text, and as no number, truth
// value or comment.
func scalar(value string) ([]byte, error) {
	text, err := yaml3.Marshal(value)
	if err != nil {
		return nil, err
	}
	text = bytes.TrimSuffix(text, []byte("\n"))
	switch {
	case bytes.ContainsAny(text, "\n"):
		return nil, fmt.Errorf("%q is not one line", value)
	case text[0] != '"' && text[0] != '\'' && strings.Count(value, ":") > 1:
		text = []byte(`"` + value + `"`) // a MAC address looks like a base-60 number to old YAML
	}
	return text, nil
}

func child(n *yaml3.Node, key string) *yaml3.Node {
	if n.Kind != yaml3.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}
