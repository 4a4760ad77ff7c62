// Package chart holds the operator's Helm chart, for programs that install it.
package chart

import (
	"embed"
	"fmt"
	"io/fs"

	helmchart "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
)

// FS holds the chart's files: what `helm package` would pack.
//
//go:embed Chart.yaml values.yaml values.schema.json all:templates crds rbac monitoring
var FS embed.FS

// Load returns the chart. The caller may change what it gets.
func Load() (*helmchart.Chart, error) {
	var files []*loader.BufferedFile
	err := fs.WalkDir(FS, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := FS.ReadFile(path)
		if err != nil {
			return err
		}
		files = append(files, &loader.BufferedFile{Name: path, Data: content})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the embedded chart: %w", err)
	}
	chart, err := loader.LoadFiles(files)
	if err != nil {
		return nil, fmt.Errorf("cannot load the embedded chart: %w", err)
	}
	return chart, nil
}
