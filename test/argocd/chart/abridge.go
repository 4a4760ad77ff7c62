package chart

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// wordy are the fields of Argo CD's definitions that make almost all of their 1.3 MB,
// by the plural name of the kind. An API server checks a definition whole at every
// change of it, its own notes of the definition's state included. On an emulated
// processor that takes longer for these than a request may, so it never ends.
var wordy = map[string][][]string{
	"applicationsets": {{"spec", "properties", "generators", "items"}},
	"applications":    {{"status"}, {"operation"}},
}

// abridge lets the wordy fields of a definition hold anything. The rest stays as it is.
func abridge(definition []byte) ([]byte, error) {
	var d unstructured.Unstructured
	if err := yaml.Unmarshal(definition, &d.Object); err != nil {
		return nil, err
	}
	plural, _, err := unstructured.NestedString(d.Object, "spec", "names", "plural")
	if err != nil {
		return nil, err
	}
	versions, _, err := unstructured.NestedSlice(d.Object, "spec", "versions")
	if err != nil {
		return nil, err
	}
	for _, entry := range versions {
		version, ok := entry.(map[string]any)
		if !ok {
			return nil, errors.New("a version is no object")
		}
		for _, field := range wordy[plural] {
			path := append([]string{"schema", "openAPIV3Schema", "properties"}, field...)
			if _, found, err := unstructured.NestedMap(version, path...); err != nil || !found {
				return nil, errors.Join(fmt.Errorf("the definition of %s has no field %v any more", plural, field), err)
			}
			anything := map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}
			if err := unstructured.SetNestedMap(version, anything, path...); err != nil {
				return nil, err
			}
		}
	}
	if err := unstructured.SetNestedSlice(d.Object, versions, "spec", "versions"); err != nil {
		return nil, err
	}
	return yaml.Marshal(d.Object)
}
