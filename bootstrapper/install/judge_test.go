package install

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	helmchart "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
)

func testChart(version, template string) *helmchart.Chart {
	return &helmchart.Chart{
		Metadata:  &helmchart.Metadata{APIVersion: "v2", Name: "rhizome", Version: version},
		Values:    map[string]any{"replicas": 1},
		Templates: []*helmchart.File{{Name: "templates/a.yaml", Data: []byte(template)}},
	}
}

func deployed(chart *helmchart.Chart, values map[string]any) *release.Release {
	return &release.Release{Name: Release, Version: 3, Chart: chart, Config: values, Info: &release.Info{Status: release.StatusDeployed}}
}

func TestAReleaseIsTouchedOnlyWhenItDiffers(t *testing.T) {
	chart := testChart("1.2.0", "a")
	image := map[string]any{"image": map[string]any{"tag": "v1"}}
	persons := map[string]any{"image": map[string]any{"tag": "v1"}, "resources": map[string]any{"memory": "1Gi"}}
	older := map[string]any{"image": map[string]any{"tag": "v0"}, "resources": map[string]any{"memory": "1Gi"}}
	failed := deployed(chart, image)
	failed.Info.Status = release.StatusFailed
	// As it comes back from JSON.
	stored := testChart("1.2.0", "a")
	stored.Values = map[string]any{"replicas": float64(1)}
	for _, c := range []struct {
		name   string
		last   *release.Release
		values map[string]any
		want   verdict
		merged map[string]any
	}{
		{"none", nil, image, doInstall, image},
		{"the same", deployed(stored, image), image, keep, nil},
		{"the same and nothing asked for", deployed(chart, nil), nil, keep, nil},
		{"a person's values stay", deployed(chart, persons), image, keep, nil},
		{"a person's values stay when the image changes", deployed(chart, older), image, doUpgrade, persons},
		{"another template", deployed(testChart("1.2.0", "b"), image), image, doUpgrade, image},
		{"an older chart", deployed(testChart("1.1.9", "a"), image), image, doUpgrade, image},
		{"a newer chart", deployed(testChart("1.10.0", "a"), image), image, keepNewer, nil},
		{"a newer chart, nothing asked for", deployed(testChart("2.0.0-rc.1", "a"), nil), nil, keepNewer, nil},
		{"a failed one", failed, image, doUpgrade, image},
	} {
		got, merged := judge(c.last, chart, c.values)
		if got != c.want {
			t.Errorf("%s: verdict %v, want %v", c.name, got, c.want)
		}
		if diff := cmp.Diff(c.merged, merged); diff != "" {
			t.Errorf("%s: values (-want +got):\n%s", c.name, diff)
		}
	}
}

func TestJudgingChangesNobodysValues(t *testing.T) {
	last := deployed(testChart("1.0.0", "a"), map[string]any{"image": map[string]any{"tag": "v0"}})
	values := map[string]any{"image": map[string]any{"tag": "v1"}}
	judge(last, testChart("1.2.0", "a"), values)
	if diff := cmp.Diff(map[string]any{"image": map[string]any{"tag": "v0"}}, last.Config); diff != "" {
		t.Errorf("the release's values changed:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{"image": map[string]any{"tag": "v1"}}, values); diff != "" {
		t.Errorf("our values changed:\n%s", diff)
	}
}

func TestWhyADeploymentIsNotAvailable(t *testing.T) {
	two := int32(2)
	for _, c := range []struct {
		name     string
		replicas *int32
		seen     int64
		status   appsv1.DeploymentStatus
		want     string
	}{
		{"not seen by its controller", nil, 1, appsv1.DeploymentStatus{UpdatedReplicas: 1, Replicas: 1, AvailableReplicas: 1}, "has not seen it"},
		{"no pod yet", nil, 2, appsv1.DeploymentStatus{}, "0 of 1 pods are up to date"},
		{"old pods", &two, 2, appsv1.DeploymentStatus{UpdatedReplicas: 2, Replicas: 3, AvailableReplicas: 2}, "1 old pods"},
		{"half", &two, 2, appsv1.DeploymentStatus{UpdatedReplicas: 2, Replicas: 2, AvailableReplicas: 1}, "1 of 2 pods are available"},
		{"all", &two, 2, appsv1.DeploymentStatus{UpdatedReplicas: 2, Replicas: 2, AvailableReplicas: 2}, ""},
	} {
		d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "operator", Generation: 2}, Spec: appsv1.DeploymentSpec{Replicas: c.replicas}, Status: c.status}
		d.Status.ObservedGeneration = c.seen
		if got := unavailable(d); (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestWhatPodsSayAboutTheirTrouble(t *testing.T) {
	waiting := func(reason, message string) corev1.ContainerStatus {
		return corev1.ContainerStatus{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}}
	}
	pod := func(name string, status corev1.PodStatus) corev1.Pod {
		return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: status}
	}
	got := podTrouble([]corev1.Pod{
		pod("a", corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{waiting("ImagePullBackOff", "no such image")}}),
		pod("b", corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{waiting("ContainerCreating", "")}}),
		pod("c", corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "a taint"}}}),
		pod("d", corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 2}}}}}),
		pod("e", corev1.PodStatus{InitContainerStatuses: []corev1.ContainerStatus{waiting("CrashLoopBackOff", "")}}),
	})
	want := "pod a: ImagePullBackOff: no such image; pod c: Unschedulable: a taint; pod d ended with exit code 2; pod e: CrashLoopBackOff"
	if got != want {
		t.Errorf("podTrouble = %q, want %q", got, want)
	}
}

func TestOnlyWhatWasDeclaredIsApplied(t *testing.T) {
	node := v1alpha1.Node{Spec: v1alpha1.NodeSpec{Role: v1alpha1.Worker, MAC: "52:54:00:00:00:01"}}
	node.Name, node.Status.Phase = "alpha", v1alpha1.PhaseReady
	cluster := v1alpha1.Cluster{}
	cluster.Name = "home"
	objects, err := objectsOf(inventory.Inventory{Nodes: []v1alpha1.Node{node}, Clusters: []v1alpha1.Cluster{cluster},
		OperatingSystems: []v1alpha1.OperatingSystem{{}}, GitOps: []v1alpha1.GitOps{{}}})
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, o := range objects {
		kinds = append(kinds, o.GetKind())
		if _, ok := o.Object["status"]; ok {
			t.Errorf("%s has a status", o.GetKind())
		}
		if _, ok := o.Object["metadata"].(map[string]any)["creationTimestamp"]; ok {
			t.Errorf("%s has a creation timestamp", o.GetKind())
		}
		if resourceOf(o.GetKind()).Resource == "" {
			t.Errorf("%s has no path in the API", o.GetKind())
		}
	}
	if diff := cmp.Diff([]string{"OperatingSystem", "Cluster", "Node", "GitOps"}, kinds); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}
