// Package crds holds the generated CustomResourceDefinitions of the API group
// rhizome.dev.
package crds

import "embed"

// FS holds the CustomResourceDefinitions, one file a kind.
//
//go:embed *.yaml
var FS embed.FS
