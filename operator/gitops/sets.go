package gitops

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	argo "github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// layerLabel names the layer of an ApplicationSet and of its Applications.
const layerLabel = "rhizome.dev/layer"

// argoRelease is the name of Argo CD's Helm release, of the directory from which it
// manages itself, and so of its Application.
const argoRelease = "argocd"

// place is a branch of a repository.
type place struct{ url, branch string }

// setName is the name of a layer's ApplicationSet.
func setName(layer string) string { return "rhizome-" + layer }

// keepPruned makes the Application of Argo CD itself one that never prunes: it would
// take away what prunes.
const keepPruned = `{{ if eq .path.basenameNormalized "` + argoRelease + `" }}
spec:
  syncPolicy:
    automated:
      prune: false
{{ end }}`

// applicationSet is the ApplicationSet of a layer that follows a source. It never
// deletes an Application: see removable.
func applicationSet(g *v1alpha1.GitOps, layer v1alpha1.Layer, at place) *argo.ApplicationSet {
	return &argo.ApplicationSet{
		TypeMeta: metav1.TypeMeta{APIVersion: argo.SchemeGroupVersion.String(), Kind: "ApplicationSet"},
		ObjectMeta: metav1.ObjectMeta{
			Name: setName(layer.Name), Namespace: g.Spec.ArgoCD.Namespace,
			Labels: map[string]string{layerLabel: layer.Name, "app.kubernetes.io/managed-by": Manager},
		},
		Spec: argo.ApplicationSetSpec{
			GoTemplate:        true,
			GoTemplateOptions: []string{"missingkey=error"},
			Generators: []argo.ApplicationSetGenerator{{Git: &argo.GitGenerator{
				RepoURL: at.url, Revision: at.branch,
				Directories: []argo.GitDirectoryGeneratorItem{{Path: layer.Path}},
			}}},
			SyncPolicy: &argo.ApplicationSetSyncPolicy{
				PreserveResourcesOnDeletion: layer.Removal != v1alpha1.LayerRemovalDelete,
				ApplicationsSync:            ptr.To(argo.ApplicationsSyncPolicyCreateUpdate),
			},
			Template: argo.ApplicationSetTemplate{
				ApplicationSetTemplateMeta: argo.ApplicationSetTemplateMeta{
					Name:   "{{ .path.basenameNormalized }}",
					Labels: map[string]string{layerLabel: layer.Name},
				},
				Spec: argo.ApplicationSpec{
					Project:     argo.DefaultAppProjectName,
					Source:      &argo.ApplicationSource{RepoURL: at.url, TargetRevision: at.branch, Path: "{{ .path.path }}"},
					Destination: argo.ApplicationDestination{Server: argo.KubernetesInternalAPIServerAddr, Namespace: "{{ .path.basenameNormalized }}"},
					SyncPolicy: &argo.SyncPolicy{
						Automated:   &argo.SyncPolicyAutomated{Prune: true, SelfHeal: true},
						SyncOptions: argo.SyncOptions{"CreateNamespace=true", "ServerSideApply=true"},
						Retry:       &argo.RetryStrategy{Limit: 5, Backoff: &argo.Backoff{Duration: "5s", Factor: ptr.To(int64(2)), MaxDuration: "3m"}},
					},
				},
			},
			TemplatePatch: ptr.To(keepPruned),
		},
	}
}

// applied turns an object into what a server-side apply sends: only what is said.
func applied(object runtime.Object) (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, fmt.Errorf("cannot encode an object to apply: %w", err)
	}
	delete(content, "status")
	compact(content)
	return &unstructured.Unstructured{Object: content}, nil
}

// compact takes empty strings, objects and lists away, and nulls.
func compact(content map[string]any) {
	for key, value := range content {
		switch v := value.(type) {
		case nil:
			delete(content, key)
		case string:
			if v == "" {
				delete(content, key)
			}
		case map[string]any:
			if compact(v); len(v) == 0 {
				delete(content, key)
			}
		case []any:
			for _, entry := range v {
				if m, ok := entry.(map[string]any); ok {
					compact(m)
				}
			}
			if len(v) == 0 {
				delete(content, key)
			}
		}
	}
}

// follows is the place that an ApplicationSet follows: that of its generator, if its
// template agrees.
func follows(set *argo.ApplicationSet) (at place, whole bool) {
	if len(set.Spec.Generators) != 1 || set.Spec.Generators[0].Git == nil {
		return place{}, false
	}
	git, source := set.Spec.Generators[0].Git, set.Spec.Template.Spec.GetSource()
	at = place{git.RepoURL, git.Revision}
	return at, at == place{source.RepoURL, source.TargetRevision}
}

var notInNames = regexp.MustCompile("[^-a-z0-9.]")

// applicationName is the name of the Application of a directory, as Argo CD's
// basenameNormalized makes it.
func applicationName(directory string) string {
	name := notInNames.ReplaceAllString(strings.ToLower(path.Base(directory)), "-")
	return strings.Trim(name[:min(len(name), 253)], "-.")
}

// sameNames finds, for each layer, two directories that would make the same
// Application: only one of them would be applied.
func sameNames(layers []v1alpha1.Layer, directories func(pattern string) []string) map[string]string {
	first, all := map[string]string{}, map[string]string{}
	for _, l := range layers {
		for _, d := range directories(l.Path) {
			name := applicationName(d)
			if other, ok := first[name]; ok && other != d {
				all[l.Name] = fmt.Sprintf("the directories %s and %s would both be the Application %s: rename one", other, d, name)
				continue
			}
			first[name] = d
		}
	}
	return all
}

// waits names, for each layer that was not started, a layer that it waits for. What
// is not named may start, and what was started stays, whatever becomes of those that
// it depends on.
func waits(layers []v1alpha1.Layer, started map[string]bool, ready func(name string) bool) map[string]string {
	all := map[string]string{}
	for _, l := range layers {
		if started[l.Name] {
			continue
		}
		for _, d := range l.DependsOn {
			if !started[d] || !ready(d) {
				all[l.Name] = d
				break
			}
		}
	}
	return all
}
