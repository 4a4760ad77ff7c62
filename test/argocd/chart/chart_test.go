package chart

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/repo"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// manifests are those of the module that the operator reads Applications with.
func manifests(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/argoproj/argo-cd/v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "manifests")
}

// render writes the repository, takes the chart that its index names, and renders it.
func render(t *testing.T, values map[string]any) (*release.Release, map[string]*unstructured.Unstructured) {
	t.Helper()
	dir := t.TempDir()
	if err := Write(dir, manifests(t), false); err != nil {
		t.Fatal(err)
	}
	index, err := repo.LoadIndexFile(filepath.Join(dir, "index.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	entry, err := index.Get(Name, Version)
	if err != nil {
		t.Fatal(err)
	}
	c, err := loader.LoadFile(filepath.Join(dir, entry.URLs[0]))
	if err != nil {
		t.Fatal(err)
	}
	install := action.NewInstall(&action.Configuration{Capabilities: chartutil.DefaultCapabilities})
	install.DryRun, install.ClientOnly, install.ReleaseName, install.Namespace = true, true, "argocd", "elsewhere"
	r, err := install.Run(c, values)
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string]*unstructured.Unstructured{}
	for document := range strings.SplitSeq(r.Manifest, "\n---\n") {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &o.Object); err != nil {
			t.Fatalf("%v in\n%s", err, document)
		}
		objects[o.GetKind()+"/"+o.GetName()] = o
	}
	return r, objects
}

func at(t *testing.T, o *unstructured.Unstructured, fields ...string) any {
	t.Helper()
	if o == nil {
		t.Fatal("the object is missing")
	}
	value, _, err := unstructured.NestedFieldNoCopy(o.Object, fields...)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func container(t *testing.T, o *unstructured.Unstructured) map[string]any {
	t.Helper()
	all, _ := at(t, o, "spec", "template", "spec", "containers").([]any)
	if len(all) != 1 {
		t.Fatalf("%s has %d containers", o.GetName(), len(all))
	}
	first, _ := all[0].(map[string]any)
	return first
}

func TestTheChartHasWhatArgoCDsManifestsHave(t *testing.T) {
	r, objects := render(t, nil)
	for _, name := range []string{
		"Deployment/argocd-repo-server", "Deployment/argocd-applicationset-controller", "Deployment/argocd-redis", "StatefulSet/argocd-application-controller",
		"ConfigMap/argocd-cm", "ConfigMap/argocd-cmd-params-cm", "Secret/argocd-secret", "Secret/argocd-redis", "AppProject/default",
		"Service/argocd-redis", "Service/argocd-repo-server", "Role/argocd-applicationset-controller", "ClusterRole/argocd-application-controller",
	} {
		if objects[name] == nil {
			t.Errorf("there is no %s", name)
		}
	}
	if crds := r.Chart.CRDObjects(); len(crds) != 3 {
		t.Errorf("%d definitions", len(crds))
	}
	for name, o := range objects {
		if strings.Contains(o.GetKind(), "RoleBinding") {
			subjects, _ := at(t, o, "subjects").([]any)
			for _, s := range subjects {
				if got := s.(map[string]any)["namespace"]; got != "elsewhere" {
					t.Errorf("%s is of an account of the namespace %v, not of the release's", name, got)
				}
			}
		}
	}
	if image := container(t, objects["Deployment/argocd-repo-server"])["image"]; !strings.HasPrefix(image.(string), "quay.io/argoproj/argocd:v2.14.") {
		t.Errorf("the repo-server's image is %v", image)
	}
}

func TestTheChartDoesWhatItsValuesSay(t *testing.T) {
	_, objects := render(t, map[string]any{
		"createClusterRoles": false,
		"global":             map[string]any{"image": map[string]any{"repository": "example.test/argocd", "tag": "v1"}},
		"redis":              map[string]any{"command": []any{"redis-server"}, "clusterIP": "10.43.0.101", "image": map[string]any{"repository": "example.test/redis", "tag": "v2"}},
		"repoServer":         map[string]any{"livenessProbe": map[string]any{"failureThreshold": 9}},
		"configs": map[string]any{
			"cm":     map[string]any{"application.resourceTrackingMethod": "annotation"},
			"params": map[string]any{"applicationsetcontroller.enable.policy.override": "true", "redis.server": "10.43.0.101:6379"},
		},
	})
	for name := range objects {
		if strings.HasPrefix(name, "ClusterRole") {
			t.Errorf("%s is there", name)
		}
	}
	redis := container(t, objects["Deployment/argocd-redis"])
	command, _ := redis["command"].([]any)
	if redis["image"] != "example.test/redis:v2" || len(command) != 1 || command[0] != "redis-server" {
		t.Errorf("Redis is %v, run as %v", redis["image"], command)
	}
	if image := container(t, objects["StatefulSet/argocd-application-controller"])["image"]; image != "example.test/argocd:v1" {
		t.Errorf("the controller's image is %v", image)
	}
	probe, _ := container(t, objects["Deployment/argocd-repo-server"])["livenessProbe"].(map[string]any)
	get, _ := probe["httpGet"].(map[string]any)
	if fmt.Sprintf("%v %v %v %v", probe["failureThreshold"], probe["periodSeconds"], get["path"], get["port"]) != "9 30 /healthz?full=true 8084" {
		t.Errorf("the repo-server's probe is %v", probe)
	}
	for name, want := range map[string]string{"Service/argocd-redis": "10.43.0.101", "Service/argocd-repo-server": ""} {
		if got := at(t, objects[name], "spec", "clusterIP"); got != want {
			t.Errorf("the address of %s is %v, want %q", name, got, want)
		}
	}
	for _, want := range []struct{ object, key, value string }{
		{"ConfigMap/argocd-cm", "application.resourceTrackingMethod", "annotation"},
		{"ConfigMap/argocd-cmd-params-cm", "applicationsetcontroller.enable.policy.override", "true"},
		{"ConfigMap/argocd-cmd-params-cm", "redis.server", "10.43.0.101:6379"},
	} {
		if got := at(t, objects[want.object], "data", want.key); got != want.value {
			t.Errorf("%s has %v for %s, want %q", want.object, got, want.key, want.value)
		}
	}
}

func TestADirectoryWithoutManifestsIsRefused(t *testing.T) {
	if err := Write(t.TempDir(), t.TempDir(), false); err == nil {
		t.Error("a chart was made of nothing")
	}
}
