package chart

import (
	"fmt"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/releaseutil"
)

// Render returns the manifests that the chart makes of the values, in the order
// in which they are to be applied: YAML documents, each after a line of three
// dashes. The definitions are not among them. Values that the chart's schema
// refuses are an error.
func Render(release, namespace string, values map[string]any) (string, error) {
	c, err := Load()
	if err != nil {
		return "", err
	}
	options := chartutil.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(c, values, options, nil)
	if err != nil {
		return "", fmt.Errorf("cannot take these values for the chart: %w", err)
	}
	files, err := engine.Render(c, all)
	if err != nil {
		return "", fmt.Errorf("cannot render the chart: %w", err)
	}
	for name := range files {
		if strings.HasSuffix(name, "NOTES.txt") {
			delete(files, name)
		}
	}
	_, manifests, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	if err != nil {
		return "", fmt.Errorf("cannot sort what the chart renders: %w", err)
	}
	// SortManifests leaves objects of one kind in the order of a map.
	slices.SortStableFunc(manifests, func(a, b releaseutil.Manifest) int {
		if a.Head.Kind != b.Head.Kind {
			return 0
		}
		return strings.Compare(a.Name+a.Content, b.Name+b.Content)
	})
	var out strings.Builder
	for _, m := range manifests {
		fmt.Fprintf(&out, "---\n%s\n", strings.TrimSpace(m.Content))
	}
	return out.String(), nil
}
