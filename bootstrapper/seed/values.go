package seed

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"

	helmchart "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
)

// readValues reads a file of values for the operator's chart and checks it by the
// chart's schema, so that a wrong word is found before a machine is turned on. No
// file, no values.
func readValues(path string, chart *helmchart.Chart) (map[string]any, error) {
	if path == "" {
		return nil, nil
	}
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, withFix(fmt.Errorf("the values file %s does not exist", path), "name it with --values, or leave the flag out")
	}
	if err != nil {
		return nil, withFix(fmt.Errorf("cannot read the values file: %w", err), "make it a file that this program may read")
	}
	values, err := chartutil.ReadValues(content)
	if err != nil {
		return nil, withFix(fmt.Errorf("the values file %s is no table in YAML: %w", path, err), "mend it; chart/values.yaml shows the form")
	}
	whole, err := chartutil.CoalesceValues(chart, values)
	if err != nil {
		return nil, fmt.Errorf("the values file %s: %w", path, err)
	}
	if err := chartutil.ValidateAgainstSchema(chart, whole); err != nil {
		return nil, withFix(fmt.Errorf("the values file %s: %w", path, err), "mend it; chart/values.yaml lists what there is")
	}
	return values, nil
}

// chartValues are what the chart is told: what the values file says, with the image
// of --operator-image, if there is one, in place of the file's.
func (f *flow) chartValues() map[string]any {
	told := maps.Clone(f.values)
	if image := f.operator.values(f.archive); image != nil {
		if told == nil {
			told = map[string]any{}
		}
		maps.Copy(told, image)
	}
	return told
}
