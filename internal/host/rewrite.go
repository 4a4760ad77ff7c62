// Package host is what the cluster's binary does on a machine itself, in a pod
// that the operator makes for a moment: it takes the founding out of a server's
// config, and it restarts the machine.
package host

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"

	"go.yaml.in/yaml/v3"
)

// The keys of k3s' config that say how a server begins.
const (
	keyClusterInit = "cluster-init"
	keyServer      = "server"
)

// Join returns a k3s config file that founds no cluster: without cluster-init and,
// unless server is empty or the file names one, with the server to join by.
// Everything else stays, comments too. changed is false if the file is so already.
//
// What cannot be kept for certain is an error, and the file is to be left alone:
// more than one document, keys that are there twice, a merged or aliased
// cluster-init.
func Join(config []byte, server string) (out []byte, changed bool, err error) {
	before, doc, err := parse(config)
	if err != nil {
		return nil, false, err
	}
	want := maps.Clone(before)
	delete(want, keyClusterInit)
	if _, named := want[keyServer]; server != "" && !named {
		want[keyServer] = server
	}
	if reflect.DeepEqual(before, want) {
		return config, false, nil
	}
	root := mapping(doc)
	if root == nil {
		// An empty file, but perhaps for comments.
		out = bytes.Clone(bytes.TrimRight(config, "\n"))
		if len(out) > 0 {
			out = append(out, '\n')
		}
		out = append(out, (keyServer + ": " + server + "\n")...)
	} else {
		edit(root, want)
		if out, err = encode(doc); err != nil {
			return nil, false, err
		}
	}
	// The proof: what comes out says what went in, but for the two keys.
	after, _, err := parse(out)
	if err != nil {
		return nil, false, fmt.Errorf("the rewritten file cannot be read: %w", err)
	}
	if !reflect.DeepEqual(after, want) {
		return nil, false, errors.New("the file cannot be rewritten without changing more: take the key cluster-init out of it by hand")
	}
	return out, true, nil
}

// NamesServer says whether a config file names a server to join by.
func NamesServer(config []byte) (bool, error) {
	values, _, err := parse(config)
	_, named := values[keyServer]
	return named, err
}

func parse(config []byte) (map[string]any, *yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(config))
	var doc yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return map[string]any{}, &doc, nil
	case err != nil:
		return nil, nil, fmt.Errorf("it is no YAML: %w", err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, nil, errors.New("it holds more than one document")
	}
	values := map[string]any{}
	if err := doc.Decode(&values); err != nil {
		return nil, nil, fmt.Errorf("it does not hold one set of keys: %w", err)
	}
	if values == nil {
		values = map[string]any{}
	}
	return values, &doc, nil
}

// mapping is the set of keys of a document; nil: it is empty.
func mapping(doc *yaml.Node) *yaml.Node {
	if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 && doc.Content[0].Kind == yaml.MappingNode {
		return doc.Content[0]
	}
	return nil
}

func edit(root *yaml.Node, want map[string]any) {
	var kept []*yaml.Node
	named := false
	for i := 0; i+1 < len(root.Content); i += 2 {
		key := root.Content[i].Value
		if key == keyClusterInit {
			continue
		}
		named = named || key == keyServer
		kept = append(kept, root.Content[i], root.Content[i+1])
	}
	root.Content = kept
	if server, ok := want[keyServer].(string); ok && !named {
		root.Content = append(root.Content,
			&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: keyServer},
			&yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: server})
	}
}

func encode(doc *yaml.Node) ([]byte, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(doc); err != nil {
		return nil, fmt.Errorf("cannot write it as YAML: %w", err)
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("cannot write it as YAML: %w", err)
	}
	return out.Bytes(), nil
}
