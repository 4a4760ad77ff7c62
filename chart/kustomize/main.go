// Command kustomize renders the chart with its default values for the
// kustomization at the top of the repository: into kustomize/operator.yaml, seen
// from the chart's directory, where `go generate` runs it.
package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/releaseutil"

	"github.com/rhizome-dev/rhizome/chart"
)

// The names that the bootstrapper installs the chart by.
const (
	release   = "rhizome"
	namespace = "rhizome-system"
)

func main() {
	text, err := render()
	if err == nil {
		err = os.WriteFile("kustomize/operator.yaml", text, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kustomize:", err)
		os.Exit(1)
	}
}

func render() ([]byte, error) {
	c, err := chart.Load()
	if err != nil {
		return nil, err
	}
	values, err := chartutil.ToRenderValues(c, nil, chartutil.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}, nil)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(c, values)
	if err != nil {
		return nil, err
	}
	for name := range files {
		if strings.HasSuffix(name, "NOTES.txt") {
			delete(files, name)
		}
	}
	_, manifests, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return nil, err
	}
	// SortManifests leaves objects of one kind in the order of a map.
	slices.SortStableFunc(manifests, func(a, b releaseutil.Manifest) int {
		if a.Head.Kind != b.Head.Kind {
			return 0
		}
		return strings.Compare(a.Name+a.Content, b.Name+b.Content)
	})
	var out bytes.Buffer
	out.WriteString("# Generated from the chart with its default values by `make generate`.\n")
	for _, m := range manifests {
		fmt.Fprintf(&out, "---\n%s\n", strings.TrimSpace(m.Content))
	}
	return out.Bytes(), nil
}
