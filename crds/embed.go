// Package crds holds the generated CustomResourceDefinitions of the API group
// rhizome.dev.
package crds

import (
	"embed"
	"fmt"
	"io/fs"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// FS holds the CustomResourceDefinitions, one file a kind.
//
//go:embed *.yaml
var FS embed.FS

// Definitions returns the CustomResourceDefinitions, sorted by name. The caller
// may change what it gets.
func Definitions() ([]*apiextensionsv1.CustomResourceDefinition, error) {
	var all []*apiextensionsv1.CustomResourceDefinition
	err := each(func(content []byte) error {
		var crd apiextensionsv1.CustomResourceDefinition
		if err := yaml.UnmarshalStrict(content, &crd); err != nil {
			return err
		}
		all = append(all, &crd)
		return nil
	})
	return all, err
}

// Objects returns the CustomResourceDefinitions as they stand in their files, to
// be applied: without the empty fields that a typed one would have. They are
// sorted by name. The caller may change what it gets.
func Objects() ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	err := each(func(content []byte) error {
		var object map[string]any
		if err := yaml.Unmarshal(content, &object); err != nil {
			return err
		}
		all = append(all, &unstructured.Unstructured{Object: object})
		return nil
	})
	return all, err
}

func each(do func(content []byte) error) error {
	names, err := fs.Glob(FS, "*.yaml")
	if err != nil {
		return fmt.Errorf("cannot list the embedded CustomResourceDefinitions: %w", err)
	}
	for _, name := range names {
		content, err := FS.ReadFile(name)
		if err != nil {
			return fmt.Errorf("cannot read the embedded CustomResourceDefinition %s: %w", name, err)
		}
		if err := do(content); err != nil {
			return fmt.Errorf("cannot decode the embedded CustomResourceDefinition %s: %w", name, err)
		}
	}
	return nil
}
