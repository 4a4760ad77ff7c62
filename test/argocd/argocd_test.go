//go:build linux

package argocd_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	sdk "code.gitea.io/sdk/gitea"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/test/argocd"
	"github.com/rhizome-dev/rhizome/test/gitea"
	"github.com/rhizome-dev/rhizome/test/gitserver"
	"github.com/rhizome-dev/rhizome/test/kube"
)

func TestMain(m *testing.M) { kube.Main(m) }

// configMap is a manifest.
func configMap(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: %s\ndata:\n  value: %q\n", name, value)
}

// values are the values of the ConfigMaps in a namespace, by name.
func values(t *testing.T, c client.Client, namespace string) map[string]string {
	t.Helper()
	list := &corev1.ConfigMapList{}
	if err := c.List(t.Context(), list, client.InNamespace(namespace)); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, m := range list.Items {
		out[m.Name] = m.Data["value"]
	}
	return out
}

// layer is an ApplicationSet over the directories of a repository, as the
// operator makes them.
func layer(namespace, name, repository, directories, target string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": argocd.GroupVersion.String(), "kind": "ApplicationSet",
		"metadata": map[string]any{"name": name, "namespace": namespace},
		"spec": map[string]any{
			"goTemplate": true,
			"generators": []any{map[string]any{"git": map[string]any{
				"repoURL": repository, "revision": "main", "directories": []any{map[string]any{"path": directories}}}}},
			"template": map[string]any{
				"metadata": map[string]any{"name": name + "-{{.path.basename}}"},
				"spec": map[string]any{
					"project":     "default",
					"source":      map[string]any{"repoURL": repository, "targetRevision": "main", "path": "{{.path.path}}"},
					"destination": map[string]any{"server": argocd.InCluster, "namespace": target},
					"syncPolicy": map[string]any{"automated": map[string]any{"prune": true, "selfHeal": true},
						"syncOptions": []any{"CreateNamespace=true"}},
				}}}}}
}

func TestAnApplicationSetOverAGitServerBecomesReady(t *testing.T) {
	config := kube.Start(t)
	hub := gitserver.Start(t)
	hub.Repository(t, "lab")
	clone := hub.Clone(t, "lab")
	first := clone.Commit(t, "first", map[string]string{
		"apps/plain/config.yaml": configMap("plain", "1"),
		// Through the tools that the repo-server calls.
		"apps/kustomized/kustomization.yaml": "namePrefix: my-\nresources: [config.yaml]\n",
		"apps/kustomized/config.yaml":        configMap("kustomized", "1"),
		"apps/chart/Chart.yaml":              "apiVersion: v2\nname: chart\nversion: 1.0.0\n",
		"apps/chart/values.yaml":             "value: from the values\n",
		"apps/chart/templates/config.yaml":   "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}'}\ndata: {value: '{{ .Values.value }}'}\n",
	})
	// The credentials go through the repo-server's helper for git.
	hub.Require("reader", "secret")
	argo := argocd.Start(t, config)
	if err := argo.Credentials(t.Context(), "hub", hub.URL("lab"), "reader", "secret"); err != nil {
		t.Fatal(err)
	}
	if err := argo.Apply(t.Context(), layer(argo.Namespace, "apps", hub.URL("lab"), "apps/*", "target")); err != nil {
		t.Fatal(err)
	}
	argo.Await(t, first, "apps-plain", "apps-kustomized", "apps-chart")
	want := map[string]string{"plain": "1", "my-kustomized": "1", "apps-chart": "from the values"}
	if diff := cmp.Diff(want, values(t, argo.Client, "target")); diff != "" {
		t.Errorf("ConfigMaps, -want +got:\n%s", diff)
	}

	// A commit arrives when Argo CD is told to look, although a program was killed.
	second := clone.Commit(t, "second", map[string]string{"apps/plain/config.yaml": configMap("plain", "2")})
	argo.RepoServer().Kill()
	argo.ApplicationController().Kill()
	argo.Restart(t)
	if err := argo.Refresh(t.Context(), "Application", "apps-plain"); err != nil {
		t.Fatal(err)
	}
	argo.Await(t, second, "apps-plain")
	if got := values(t, argo.Client, "target")["plain"]; got != "2" {
		t.Errorf("the value is %q after the second commit", got)
	}
	if hub.Fetches("lab") == 0 {
		t.Error("the git server was not asked: what did Argo CD read?")
	}

	// As an Argo CD that something else has installed.
	argo.Stop()
	argo = argocd.Run(t, config)

	// Neither what could not be read nor what has nothing in it is Ready, although
	// both read Healthy.
	third := clone.Commit(t, "third", map[string]string{
		"apps/broken/config.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {\n",
		"apps/nothing/notes.md":   "no manifest\n",
	})
	for name, want := range map[string][]string{
		"apps-broken":  {`it is at commit ""`, `sync is "Unknown"`, "it has no resource", "ComparisonError"},
		"apps-nothing": {"it has no resource"},
	} {
		argo.Until(t, name+" to lack what it should", func(ctx context.Context) []string {
			all, err := argo.Applications(ctx)
			if err == nil && all[name] == nil {
				// A controller that is just looking takes away a wish that comes meanwhile.
				err = argo.Refresh(ctx, "ApplicationSet", "apps")
			}
			if err != nil || all[name] == nil {
				return []string{fmt.Sprint("not there, ", err)}
			}
			health, _, _ := unstructured.NestedString(all[name].Object, "status", "health", "status")
			lacks := argocd.Lacks(all[name], third)
			same := len(lacks) == len(want) && health == "Healthy"
			for i := range lacks {
				same = same && strings.Contains(lacks[i], want[i])
			}
			if same {
				return nil
			}
			return append(lacks, "health is "+health)
		})
	}
}

func TestTheSameRepositoryIsReadyFromGiteaAfterMigration(t *testing.T) {
	const namespace = "argocd-gitea"
	config := kube.Start(t)
	hub := gitserver.Start(t)
	hub.Repository(t, "lab")
	first := hub.Clone(t, "lab").Commit(t, "first", map[string]string{"apps/one/config.yaml": configMap("one", "1")})

	home := gitea.Start(t)
	api := home.Client(t)
	if _, _, err := api.CreateOrg(sdk.CreateOrgOption{Name: "lab", Visibility: sdk.VisibleTypePrivate}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := api.MigrateRepo(sdk.MigrateRepoOption{RepoOwner: "lab", RepoName: "home", CloneAddr: hub.URL("lab"), Service: sdk.GitServicePlain, Private: true}); err != nil {
		t.Fatalf("cannot migrate: %v", err)
	}
	branch, _, err := api.GetRepoBranch("lab", "home", "main")
	if err != nil {
		t.Fatal(err)
	}
	if branch.Commit.ID != first {
		t.Fatalf("Gitea has %s, want %s", branch.Commit.ID, first)
	}

	argo := argocd.Start(t, config, argocd.InNamespace(namespace))
	if err := argo.Apply(t.Context(), layer(namespace, "moved", hub.URL("lab"), "apps/*", "moved")); err != nil {
		t.Fatal(err)
	}
	argo.Await(t, first, "moved-one")
	before, err := argo.Applications(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	url := home.Repository("lab", "home")
	if err := argo.Credentials(t.Context(), "home", url, gitea.Admin, home.Token(t, "argocd", "read:repository")); err != nil {
		t.Fatal(err)
	}
	if err := argo.Apply(t.Context(), layer(namespace, "moved", url, "apps/*", "moved")); err != nil {
		t.Fatal(err)
	}
	argo.Until(t, "the Application to be Ready from Gitea", func(ctx context.Context) []string {
		all, err := argo.Applications(ctx)
		if err != nil || all["moved-one"] == nil {
			return []string{fmt.Sprint("it is not there, ", err)}
		}
		if got, _, _ := unstructured.NestedString(all["moved-one"].Object, "spec", "source", "repoURL"); got != url {
			return []string{"its source is " + got}
		}
		return argocd.Lacks(all["moved-one"], first)
	})
	hub.Stop()
	second := gitserver.NewClone(t, home.PushURL(t, "lab", "home")).Commit(t, "second", map[string]string{"apps/one/config.yaml": configMap("one", "2")})
	if err := argo.Refresh(t.Context(), "Application", "moved-one"); err != nil {
		t.Fatal(err)
	}
	argo.Await(t, second, "moved-one")
	if diff := cmp.Diff(map[string]string{"one": "2"}, values(t, argo.Client, "moved")); diff != "" {
		t.Errorf("ConfigMaps, -want +got:\n%s", diff)
	}
	after, err := argo.Applications(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := after["moved-one"].GetUID(), before["moved-one"].GetUID(); got != want {
		t.Errorf("the Application was made anew: its UID was %s and is %s", want, got)
	}
}

func TestBuildPutsTheToolsBesideTheProgram(t *testing.T) {
	dir := filepath.Dir(argocd.Manifests(t))
	for name, want := range map[string]string{"helm": "version", "kustomize": "version"} {
		if out, err := exec.CommandContext(t.Context(), filepath.Join(dir, name), want).CombinedOutput(); err != nil {
			t.Errorf("%s %s: %v\n%s", name, want, err, out)
		}
	}
}
