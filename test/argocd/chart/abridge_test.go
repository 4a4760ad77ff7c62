package chart

import (
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func TestAbridgedDefinitionsAreSmallAndKeepWhatIsSaidOfThem(t *testing.T) {
	whole, err := fromManifests(manifests(t), false)
	if err != nil {
		t.Fatal(err)
	}
	short, err := fromManifests(manifests(t), true)
	if err != nil {
		t.Fatal(err)
	}
	const enough = 200 << 10
	sum := 0
	for _, f := range short.Files {
		sum += len(f.Data)
	}
	if len(short.Files) != len(whole.Files) || sum > enough {
		t.Errorf("%d definitions of %d bytes, of %d; want at most %d bytes", len(short.Files), sum, len(whole.Files), enough)
	}
	for _, name := range []string{"application-crd.yaml", "applicationset-crd.yaml"} {
		content, err := os.ReadFile(filepath.Join(manifests(t), "crds", name))
		if err != nil {
			t.Fatal(err)
		}
		shortened, err := abridge(content)
		if err != nil {
			t.Fatal(err)
		}
		properties := func(b []byte) map[string]any {
			var d unstructured.Unstructured
			if err := yaml.Unmarshal(b, &d.Object); err != nil {
				t.Fatal(err)
			}
			versions, _, _ := unstructured.NestedSlice(d.Object, "spec", "versions")
			all, _, _ := unstructured.NestedMap(versions[0].(map[string]any), "schema", "openAPIV3Schema", "properties")
			return all
		}
		before, after := properties(content), properties(shortened)
		if len(before) == 0 || len(before) != len(after) {
			t.Errorf("%s has %d fields, abridged %d", name, len(before), len(after))
		}
	}
}

func TestADefinitionThatChangedIsNotAbridgedInSilence(t *testing.T) {
	_, err := abridge([]byte(`{"spec": {"names": {"plural": "applications"}, "versions": [{"name": "v2"}]}}`))
	if err == nil {
		t.Error("a field that is not there was abridged")
	}
}
