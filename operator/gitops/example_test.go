package gitops

import (
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/examples"
	"github.com/rhizome-dev/rhizome/internal/manifests"
	"github.com/rhizome-dev/rhizome/internal/source"
)

// example is a file of the repository to copy.
func example(t *testing.T, name string) []byte {
	t.Helper()
	content, err := fs.ReadFile(examples.Homelab, path.Join("homelab", name))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// exampleGitOps is the GitOps of the example, with the API's defaults.
func exampleGitOps(t *testing.T) v1alpha1.GitOpsSpec {
	t.Helper()
	text := strings.Replace(string(example(t, "bootstrap/cluster/gitops.yaml")), "FILL-IN", "https://github.com/you/homelab.git", 1)
	r := manifests.Parse("gitops.yaml", []byte(text))
	if len(r.Findings) > 0 || len(r.Inventory.GitOps) != 1 {
		t.Fatalf("%d GitOps, %v", len(r.Inventory.GitOps), r.Findings)
	}
	return r.Inventory.GitOps[0].Spec
}

// What Argo CD takes over is what the operator installed: otherwise the first thing
// that it did to itself would be an upgrade, or to switch a part off.
func TestTheExampleHandsArgoCDOverAsItWasInstalled(t *testing.T) {
	spec := exampleGitOps(t)
	var chart struct {
		Name         string
		Dependencies []struct{ Name, Repository, Version string }
	}
	if err := yaml.Unmarshal(example(t, "bootstrap/argocd/Chart.yaml"), &chart); err != nil {
		t.Fatal(err)
	}
	want := []struct{ Name, Repository, Version string }{{spec.ArgoCD.Chart, spec.ArgoCD.Repository, spec.ArgoCD.Version}}
	if diff := cmp.Diff(want, chart.Dependencies); diff != "" || chart.Name != argoRelease {
		t.Errorf("the chart %s (-installed +handed over):\n%s", chart.Name, diff)
	}
	values := map[string]any{}
	if err := yaml.Unmarshal(example(t, "bootstrap/argocd/values.yaml"), &values); err != nil {
		t.Fatal(err)
	}
	installed, err := argoValues(spec.ArgoCD)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{spec.ArgoCD.Chart: installed}, values); diff != "" {
		t.Errorf("the values (-installed +handed over):\n%s", diff)
	}
	if spec.ArgoCD.Namespace != argoRelease {
		t.Errorf("it is installed in %s, and its Application would install it in %s", spec.ArgoCD.Namespace, argoRelease)
	}
}

// Each layer of the example finds directories, no two of which make the same
// Application, and Gitea's is in the layer that the home names.
func TestTheExampleHasEveryLayer(t *testing.T) {
	spec := exampleGitOps(t)
	var tree source.Tree
	err := fs.WalkDir(examples.Homelab, "homelab", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			tree.Directories = append(tree.Directories, strings.TrimPrefix(name, "homelab/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, l := range spec.Layers {
		got[l.Name] = tree.Matching(l.Path)
	}
	want := map[string][]string{
		"bootstrap": {"bootstrap/argocd", "bootstrap/cluster"},
		"system":    {"system/ingress", "system/metallb", "system/storage"},
		"platform":  {"platform/gitea"},
		"apps":      {"apps/hello"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("directories (-want +got):\n%s", diff)
	}
	if same := sameNames(spec.Layers, tree.Matching); len(same) > 0 {
		t.Error(same)
	}
	if spec.Home == nil || spec.Home.Layer != "platform" || !strings.HasPrefix(spec.Home.URL, "http://gitea-http.gitea:") {
		t.Errorf("the home is %+v: its Service is gitea-http in the namespace of its directory, gitea", spec.Home)
	}
	var gitea struct {
		Gitea struct {
			Strategy struct{ Type string }
			Gitea    struct {
				Admin struct{ ExistingSecret string }
			}
		}
	}
	if err := yaml.Unmarshal(example(t, "platform/gitea/values.yaml"), &gitea); err != nil {
		t.Fatal(err)
	}
	if got := gitea.Gitea.Gitea.Admin.ExistingSecret; got != spec.Home.Credentials.Name {
		t.Errorf("Gitea reads its password from the Secret %q, the operator from %q", got, spec.Home.Credentials.Name)
	}
	if gitea.Gitea.Strategy.Type != "Recreate" {
		t.Error("two Giteas would open one SQLite database")
	}
	// What git must not take away on its own.
	for _, name := range []string{"cluster.yaml", "gitops.yaml", "nodes/node1.yaml", "operatingsystems/debian-12.yaml"} {
		if !strings.Contains(string(example(t, "bootstrap/cluster/"+name)), "argocd.argoproj.io/sync-options: Prune=false,Delete=false") {
			t.Errorf("%s may be pruned or deleted", name)
		}
		if !strings.Contains(string(example(t, "bootstrap/cluster/kustomization.yaml")), "- "+name+"\n") {
			t.Errorf("kustomization.yaml does not name %s", name)
		}
	}
}
