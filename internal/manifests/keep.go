package manifests

import (
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/rhizome-dev/rhizome/internal/inventory"
)

// keep puts an object into the inventory. What is of the wrong type is left out
// of it, so that one bad field does not hide the object from the rules between
// objects; it was found already.
func (r *reader) keep(path, kind string, value map[string]any, errs field.ErrorList, l lines) {
	for _, e := range errs {
		if e.Type == field.ErrorTypeTypeInvalid {
			remove(value, strings.TrimPrefix(e.Field, "<nil>"))
		}
	}
	inv := &r.result.Inventory
	var err error
	var n int
	switch kind {
	case "Cluster":
		inv.Clusters, n, err = convert(inv.Clusters, value)
	case "OperatingSystem":
		inv.OperatingSystems, n, err = convert(inv.OperatingSystems, value)
	case "Node":
		inv.Nodes, n, err = convert(inv.Nodes, value)
	case "GitOps":
		inv.GitOps, n, err = convert(inv.GitOps, value)
	}
	if err != nil && len(errs) == 0 {
		head := typeOf(value)
		r.find(Finding{Rule: ruleSchema, Object: head.String(), File: path, Line: l.first, Message: "cannot be understood: " + err.Error(), Fix: "correct the field"})
	}
	inv.Origins[inventory.Key{Kind: kind, Index: n}] = l.origin(path)
}

// convert appends an object to its kind's list, with as much of it as can be
// understood, and tells its place.
func convert[T any](list []T, value map[string]any) ([]T, int, error) {
	var object T
	err := runtime.DefaultUnstructuredConverter.FromUnstructured(value, &object)
	return append(list, object), len(list), err
}

// remove takes the field at a path out of a value.
func remove(value any, path string) {
	head, rest := path, ""
	if i := strings.IndexAny(path, ".["); i >= 0 {
		head, rest = path[:i], path[i:]
	}
	m, ok := value.(map[string]any)
	if !ok {
		return
	}
	child, ok := m[head]
	if !ok {
		return
	}
	// What is wrong inside a list is taken out with the list's item emptied: to
	// shorten the list would shift the places of the others.
	for strings.HasPrefix(rest, "[") {
		number, after, _ := strings.Cut(rest[1:], "]")
		n, err := strconv.Atoi(number)
		items, isList := child.([]any)
		if err != nil || !isList || n < 0 || n >= len(items) {
			break
		}
		if after == "" {
			delete(m, head)
			return
		}
		child, rest = items[n], after
	}
	if rest = strings.TrimPrefix(rest, "."); rest == "" || strings.HasPrefix(rest, "[") {
		delete(m, head)
		return
	}
	remove(child, rest)
}
