package manifests

import (
	"strconv"

	yaml3 "go.yaml.in/yaml/v3"

	"github.com/rhizome-dev/rhizome/internal/inventory"
)

// lines tells where the fields of one document stand.
type lines struct {
	first  int
	fields map[string]int
}

func (l lines) at(field string) int {
	return inventory.Origin{Line: l.first, Fields: l.fields}.At(field)
}

// What is remembered of one document is bounded: no object of ours comes near.
const (
	maxFields = 20_000
	maxDepth  = 50
)

// fieldLines notes the line of every field of a document by its path. Aliases
// are not followed: their fields stand elsewhere, and following them could go on
// for long.
func fieldLines(root *yaml3.Node, first int) lines {
	l := lines{first: first, fields: map[string]int{}}
	if root.Kind == yaml3.DocumentNode && len(root.Content) == 1 {
		root = root.Content[0]
	}
	if root.Line > 0 {
		l.first = first + root.Line - 1
	}
	l.walk(root, "", first-1, 0)
	return l
}

func (l lines) walk(n *yaml3.Node, path string, before, depth int) {
	if len(l.fields) >= maxFields || depth > maxDepth {
		return
	}
	switch n.Kind {
	case yaml3.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			child := key.Value
			if path != "" {
				child = path + "." + key.Value
			}
			l.fields[child] = before + key.Line
			l.walk(n.Content[i+1], child, before, depth+1)
		}
	case yaml3.SequenceNode:
		for i, item := range n.Content {
			child := path + "[" + strconv.Itoa(i) + "]"
			l.fields[child] = before + item.Line
			l.walk(item, child, before, depth+1)
		}
	}
}
