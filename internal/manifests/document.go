package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	yaml3 "go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// document is one YAML document of a file.
type document struct {
	text  []byte
	first int // line of the file that text begins on, counted from 1
}

// split cuts a file at its document markers: a line that begins with "---" and
// goes on with white space or ends (YAML 1.2 section 9.1.2). What stands behind
// the marker belongs to the document.
func split(content []byte) []document {
	content = bytes.TrimPrefix(content, []byte("\xef\xbb\xbf"))
	var all []document
	start, first, line := 0, 1, 1
	for at := 0; at < len(content); line++ {
		end := len(content)
		if i := bytes.IndexByte(content[at:], '\n'); i >= 0 {
			end = at + i + 1
		}
		if isMarker(content[at:end]) {
			if at > start {
				all = append(all, document{content[start:at], first})
			}
			start, first = at, line
		}
		at = end
	}
	if start < len(content) {
		all = append(all, document{content[start:], first})
	}
	return all
}

func isMarker(line []byte) bool {
	rest, ok := bytes.CutPrefix(line, []byte("---"))
	return ok && (len(rest) == 0 || bytes.IndexByte([]byte(" \t\r\n"), rest[0]) >= 0)
}

// group is how a document that may be ours looks: cheap, and right for
// every manifest that a person writes.
var (
	group      = []byte(v1alpha1.GroupVersion.Group)
	kindLine   = regexp.MustCompile(`(?m)^kind:[ \t]*["']?([A-Za-z]+)`)
	apiVersion = regexp.MustCompile(`(?m)^\s*"?apiVersion"?\s*:\s*["']?` + regexp.QuoteMeta(v1alpha1.GroupVersion.Group) + `/`)
)

// document reads one document and adds what it holds to the result.
func (r *reader) document(path string, d document) {
	if blank(d.text) {
		return
	}
	if !bytes.Contains(d.text, group) {
		r.result.Skipped++
		r.refuseNameless(path, d)
		return
	}
	if r.full {
		return
	}
	if r.result.Objects == maxObjects {
		r.full = true
		r.find(Finding{Rule: ruleTooLarge, File: path, Line: d.first, Message: "is beyond the first 10000 objects: it and the rest were not read", Fix: "name the directory that holds the manifests of one cluster"})
		return
	}
	var root yaml3.Node
	value, err := decode(d.text, &root)
	if err != nil {
		if !apiVersion.Match(d.text) {
			r.result.Skipped++
			return
		}
		rule, message, line := syntax(err)
		fix := "correct the YAML"
		if rule == ruleDuplicateKey {
			fix = "remove one of the two"
		}
		r.result.Objects++
		r.find(Finding{Rule: rule, File: path, Line: d.first + max(line, 1) - 1, Message: message, Fix: fix})
		return
	}
	head := typeOf(value)
	gv, err := schema.ParseGroupVersion(head.apiVersion)
	if err != nil || gv.Group != v1alpha1.GroupVersion.Group {
		r.result.Skipped++
		r.refuseItems(path, d, value, &root)
		return
	}
	r.result.Objects++
	lines := fieldLines(&root, d.first)
	at := func(rule, field, message, fix string) {
		r.find(Finding{Rule: rule, Object: head.String(), File: path, Line: lines.at(field), Field: field, Message: message, Fix: fix})
	}
	if gv.Version != v1alpha1.GroupVersion.Version {
		at(ruleVersion, "apiVersion", fmt.Sprintf("%s is not a version of this release", head.apiVersion), "write "+v1alpha1.GroupVersion.String())
		return
	}
	kind, err := kindNamed(head.kind)
	if err != nil {
		at(ruleKind, "kind", err.Error(), "write one of "+strings.Join(kindNames(), ", "))
		return
	}
	r.object(path, kind, head, value, lines)
}

// refuseNameless finds objects that say no apiVersion and are else one of ours: they
// would be missed.
func (r *reader) refuseNameless(path string, d document) {
	kind := kindLine.FindSubmatch(d.text)
	if kind == nil || !slices.Contains(kindNames(), string(kind[1])) {
		return
	}
	var root yaml3.Node
	value, err := decode(d.text, &root)
	if err != nil {
		return // whatever it is, it is not known to be ours
	}
	head := typeOf(value)
	_, spec := value["spec"].(map[string]any)
	if _, said := value["apiVersion"]; said || !spec || head.name == "" || head.kind != string(kind[1]) {
		return
	}
	r.find(Finding{Rule: ruleVersion, Object: head.String(), File: path, Line: fieldLines(&root, d.first).at("kind"), Field: "apiVersion",
		Message: "is missing", Fix: "write " + v1alpha1.GroupVersion.String()})
}

// refuseItems finds objects of our group that would be missed inside a List.
func (r *reader) refuseItems(path string, d document, value map[string]any, root *yaml3.Node) {
	items, _ := value["items"].([]any)
	for i, item := range items {
		m, _ := item.(map[string]any)
		if head := typeOf(m); strings.HasPrefix(head.apiVersion, v1alpha1.GroupVersion.Group+"/") {
			field := fmt.Sprintf("items[%d]", i)
			r.find(Finding{Rule: ruleList, Object: head.String(), File: path, Line: fieldLines(root, d.first).at(field), Field: field,
				Message: "is an item of a List", Fix: "make it a document of its own, set apart by ---"})
		}
	}
}

// decode reads a document twice: with the YAML reader that kubectl and the API
// server use, for its value, and with one that keeps lines.
func decode(text []byte, root *yaml3.Node) (map[string]any, error) {
	asJSON, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, err
	}
	if err := yaml3.Unmarshal(text, root); err != nil {
		return nil, err
	}
	var value any
	if err := utiljson.Unmarshal(asJSON, &value); err != nil {
		return nil, err
	}
	m, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("the document is not an object: it must have apiVersion, kind, metadata and spec")
	}
	return m, nil
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

// syntax takes a YAML error apart: which rule, what in words, which line of the
// document (0 when it is not told).
func syntax(err error) (rule, message string, line int) {
	message = strings.TrimPrefix(strings.TrimPrefix(err.Error(), "error converting YAML to JSON: "), "yaml: ")
	message = strings.TrimPrefix(strings.TrimSpace(message), "unmarshal errors:\n")
	message, _, _ = strings.Cut(strings.TrimSpace(message), "\n")
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		line, _ = strconv.Atoi(m[1])
		message = strings.Replace(message, m[0], "", 1)
	}
	rule = ruleSyntax
	if strings.Contains(message, "already set in map") || strings.Contains(message, "already defined at line") {
		rule = ruleDuplicateKey
	}
	return rule, message, line
}

// typeMeta is what an object says it is.
type typeMeta struct{ apiVersion, kind, name string }

func (t typeMeta) String() string {
	if t.name == "" {
		return t.kind
	}
	return t.kind + "/" + t.name
}

func typeOf(value map[string]any) typeMeta {
	text := func(m map[string]any, key string) string { s, _ := m[key].(string); return s }
	metadata, _ := value["metadata"].(map[string]any)
	return typeMeta{text(value, "apiVersion"), text(value, "kind"), text(metadata, "name")}
}

// blank says whether a document is nothing but comments and markers.
func blank(text []byte) bool {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && !bytes.Equal(line, []byte("---")) && !bytes.Equal(line, []byte("...")) {
			return false
		}
	}
	return true
}
