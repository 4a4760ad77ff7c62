//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	yaml "go.yaml.in/yaml/v3"
)

// set writes fields of the first object of a kind in a file of manifests, by their
// paths such as spec.healing, and leaves all else as it is, comments included.
func set(path, kind string, fields map[string]any) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	found := false
	for decoder := yaml.NewDecoder(bytes.NewReader(content)); ; {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if object := root(&document); !found && object != nil && isOf(object, kind) {
			found = true
			for _, field := range slices.Sorted(maps.Keys(fields)) {
				if err := put(object, strings.Split(field, "."), fields[field]); err != nil {
					return fmt.Errorf("%s: %s of the %s: %w", path, field, kind, err)
				}
			}
		}
		if err := encoder.Encode(&document); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	if !found {
		return fmt.Errorf("%s declares no %s", path, kind)
	}
	if err := encoder.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, out.Bytes(), 0o600)
}

// root is the object of a document; nil: it has none.
func root(document *yaml.Node) *yaml.Node {
	if document.Kind != yaml.DocumentNode || len(document.Content) == 0 || document.Content[0].Kind != yaml.MappingNode {
		return nil
	}
	return document.Content[0]
}

func isOf(object *yaml.Node, kind string) bool {
	value := child(object, "kind")
	return value != nil && value.Value == kind
}

// put writes a value at a path below a mapping, and makes the mappings between.
func put(in *yaml.Node, path []string, value any) error {
	if in.Kind != yaml.MappingNode {
		return errors.New("a part of the path is no mapping")
	}
	next := child(in, path[0])
	if next == nil {
		next = &yaml.Node{Kind: yaml.MappingNode}
		in.Content = append(in.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: path[0]}, next)
	}
	if len(path) > 1 {
		return put(next, path[1:], value)
	}
	var to yaml.Node
	if err := to.Encode(value); err != nil {
		return err
	}
	*next = to
	return nil
}

// child is the value of a mapping's key; nil: it has none.
func child(in *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(in.Content); i += 2 {
		if in.Content[i].Value == key {
			return in.Content[i+1]
		}
	}
	return nil
}
