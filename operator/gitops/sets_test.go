package gitops

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// The ApplicationSets as they are applied, as files that a person can read.
func TestApplicationSetsAreAsTheyAreWrittenDown(t *testing.T) {
	g := &v1alpha1.GitOps{ObjectMeta: metav1.ObjectMeta{Name: "homelab"}, Spec: v1alpha1.GitOpsSpec{ArgoCD: v1alpha1.ArgoCDSpec{Namespace: "argocd"}}}
	for _, layer := range []v1alpha1.Layer{
		{Name: "system", Path: "system/*"},
		{Name: "apps", Path: "apps/*", Removal: v1alpha1.LayerRemovalDelete},
	} {
		set := applicationSet(g, layer, place{"https://github.com/you/lab.git", "main"})
		if at, whole := follows(set); !whole || at != (place{"https://github.com/you/lab.git", "main"}) {
			t.Errorf("the set follows %v, %t", at, whole)
		}
		u, err := applied(set)
		if err != nil {
			t.Fatal(err)
		}
		got, err := yaml.Marshal(u.Object)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join("testdata", layer.Name+".yaml")
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

func TestASetThatWasEditedHalfIsNotWhole(t *testing.T) {
	g := &v1alpha1.GitOps{}
	set := applicationSet(g, v1alpha1.Layer{Name: "system", Path: "system/*"}, place{"https://a/b.git", "main"})
	set.Spec.Template.Spec.Source.RepoURL = "https://other/b.git"
	if _, whole := follows(set); whole {
		t.Error("a set whose template follows another repository was taken for whole")
	}
	set.Spec.Generators = nil
	if _, whole := follows(set); whole {
		t.Error("a set without a generator was taken for whole")
	}
}
