package seed

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rhizome-dev/rhizome/bootstrapper/state"
	"github.com/rhizome-dev/rhizome/chart"
)

func TestTheValuesFileIsCheckedByTheChartsSchema(t *testing.T) {
	loaded, err := chart.Load()
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		reason, content string
		want            map[string]any
		wrong           []string // what the error names
	}{
		{"what the chart knows", "replicas: 2\nextraArgs: [--lease=5m]\n", map[string]any{"replicas": 2.0, "extraArgs": []any{"--lease=5m"}}, nil},
		{"an empty file says nothing", "", map[string]any{}, nil},
		{"a word that the chart has not", "extraArguments: []\n", nil, []string{"values.yaml", "extraArguments"}},
		{"a value of another type", "replicas: many\n", nil, []string{"values.yaml", "replicas"}},
		{"a list in the place of the values", "- replicas\n", nil, []string{"values.yaml", "no table in YAML"}},
		{"no YAML", "a: [", nil, []string{"values.yaml", "no table in YAML"}},
	}
	for _, tc := range cases {
		t.Run(tc.reason, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "values.yaml")
			if err := os.WriteFile(path, []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := readValues(path, loaded)
			if (err != nil) != (tc.wrong != nil) {
				t.Fatalf("readValues: %v", err)
			}
			for _, word := range tc.wrong {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("the error does not name %q: %v", word, err)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
	if _, err := readValues(filepath.Join(t.TempDir(), "gone.yaml"), loaded); err == nil || !strings.Contains(err.Error(), "gone.yaml") {
		t.Errorf("a file that is not there: %v", err)
	}
	if got, err := readValues("", loaded); got != nil || err != nil {
		t.Errorf("no file: %v, %v", got, err)
	}
}

func TestTheImageOfTheFlagGoesBeforeThatOfTheValuesFile(t *testing.T) {
	file := map[string]any{"replicas": 2.0, "image": map[string]any{"digest": "sha256:0"}}
	f := &flow{values: file}
	if diff := cmp.Diff(file, f.chartValues()); diff != "" {
		t.Errorf("without the flag (-want +got)\n%s", diff)
	}
	f.operator.reference = "example.org/operator:v1"
	f.archive = &state.Archive{Name: "operator.tar", SHA256: "1"}
	want := map[string]any{"replicas": 2.0, "image": map[string]any{
		"repository": "example.org/operator", "tag": "v1", "pullPolicy": "IfNotPresent",
		"archives": []any{map[string]any{"name": "operator.tar", "sha256": "1"}},
	}}
	if diff := cmp.Diff(want, f.chartValues()); diff != "" {
		t.Errorf("with the flag (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{"digest": "sha256:0"}, file["image"]); diff != "" {
		t.Errorf("what was read was changed (-want +got)\n%s", diff)
	}
}
