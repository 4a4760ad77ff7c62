package install

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/action"
	helmchart "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/test/kube"
)

func TestMain(m *testing.M) { kube.Main(m) }

// connect makes our client of the tests' API server, from a kubeconfig as a seed
// does.
func connect(t *testing.T) *Client {
	t.Helper()
	config := kube.Start(t)
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters["c"] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	if !strings.HasPrefix(config.Host, "http") {
		kubeconfig.Clusters["c"].Server = "https://" + config.Host
	}
	kubeconfig.AuthInfos["c"] = &clientcmdapi.AuthInfo{ClientCertificateData: config.CertData, ClientKeyData: config.KeyData, Token: config.BearerToken}
	kubeconfig.Contexts["c"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "c"}
	kubeconfig.CurrentContext = "c"
	content, err := clientcmd.Write(*kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(content)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestDefinitionsAppliedTwiceChangeNothing(t *testing.T) {
	c, ctx := connect(t), limited(t)
	if _, err := c.Definitions(ctx); err != nil {
		t.Fatal(err)
	}
	again, err := c.Definitions(ctx)
	if diff := cmp.Diff(Applied{Unchanged: 4}, again); err != nil || diff != "" {
		t.Errorf("the second time: %v (-want +got):\n%s", err, diff)
	}
}

func testInventory() inventory.Inventory {
	system := v1alpha1.OperatingSystem{Spec: v1alpha1.OperatingSystemSpec{Format: v1alpha1.FormatImage, Media: []v1alpha1.Medium{{
		Architecture: v1alpha1.AMD64,
		File:         v1alpha1.File{URL: "https://example.org/disk.raw.zst", SHA256: v1alpha1.SHA256(strings.Repeat("0", 64))},
	}}}}
	system.Name = "debian"
	cluster := v1alpha1.Cluster{Spec: v1alpha1.ClusterSpec{
		Network:         v1alpha1.NetworkSpec{CIDR: "10.77.0.0/24", Gateway: "10.77.0.1"},
		Kubernetes:      v1alpha1.KubernetesSpec{Version: "v1.33.5+k3s1"},
		OperatingSystem: "debian",
	}}
	cluster.Name = "home"
	node := v1alpha1.Node{Spec: v1alpha1.NodeSpec{Role: v1alpha1.ControlPlane, MAC: "52:54:00:00:00:01", Address: "10.77.0.10"}}
	node.Name = "alpha"
	gitops := v1alpha1.GitOps{Spec: v1alpha1.GitOpsSpec{Seed: v1alpha1.GitSource{URL: "https://github.com/example/home"}}}
	gitops.Name = "gitops"
	return inventory.Inventory{Clusters: []v1alpha1.Cluster{cluster}, OperatingSystems: []v1alpha1.OperatingSystem{system},
		Nodes: []v1alpha1.Node{node}, GitOps: []v1alpha1.GitOps{gitops}}
}

// versions are the resource versions of all our objects.
func versions(t *testing.T, c *Client) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, kind := range []string{"Cluster", "OperatingSystem", "Node", "GitOps"} {
		list, err := c.dynamic.Resource(resourceOf(kind)).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range list.Items {
			out[kind+"/"+o.GetName()] = o.GetResourceVersion()
		}
	}
	return out
}

func TestManifestsAppliedTwiceChangeNothingAndTakeNothingFromOthers(t *testing.T) {
	c, ctx, inv := connect(t), limited(t), testInventory()
	if _, err := c.Definitions(ctx); err != nil {
		t.Fatal(err)
	}
	first, err := c.Manifests(ctx, inv)
	if diff := cmp.Diff(Applied{Created: 4}, first); err != nil || diff != "" {
		t.Fatalf("the first time: %v (-want +got):\n%s", err, diff)
	}
	before := versions(t, c)
	second, err := c.Manifests(ctx, inv)
	if diff := cmp.Diff(Applied{Unchanged: 4}, second); err != nil || diff != "" {
		t.Errorf("the second time: %v (-want +got):\n%s", err, diff)
	}
	if diff := cmp.Diff(before, versions(t, c)); diff != "" {
		t.Errorf("resource versions (-before +after):\n%s", diff)
	}

	// What others set beside us stays ours and theirs.
	nodes := c.dynamic.Resource(resourceOf("Node"))
	patch := func(manager, body string) {
		t.Helper()
		if _, err := nodes.Patch(ctx, "alpha", types.MergePatchType, []byte(body), metav1.PatchOptions{FieldManager: manager}); err != nil {
			t.Fatal(err)
		}
	}
	patch("argocd", `{"metadata":{"labels":{"team":"home"}}}`)
	third, err := c.Manifests(ctx, inv)
	if diff := cmp.Diff(Applied{Unchanged: 4}, third); err != nil || diff != "" {
		t.Errorf("after a label of somebody else's: %v (-want +got):\n%s", err, diff)
	}

	// What others changed is theirs: it is not changed back.
	clusters := c.dynamic.Resource(resourceOf("Cluster"))
	if _, err := clusters.Patch(ctx, "home", types.MergePatchType, []byte(`{"spec":{"kubernetes":{"version":"v1.33.6+k3s1"}}}`), metav1.PatchOptions{FieldManager: "argocd"}); err != nil {
		t.Fatal(err)
	}
	_, err = c.Manifests(ctx, inv)
	var conflict *ConflictError
	if !errors.As(err, &conflict) || conflict.Object != "Cluster/home" || !strings.Contains(err.Error(), "argocd") {
		t.Errorf("error = %v, want a conflict with argocd over Cluster/home", err)
	}
}

const deployment = `
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .Release.Name }}-%s
  namespace: {{ .Release.Namespace }}
  labels: {app.kubernetes.io/instance: {{ .Release.Name }}}
spec:
  replicas: 1
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec: {containers: [{name: c, image: "{{ .Values.image.repository }}:{{ .Values.image.tag }}"}]}
`

func operatorChart(version string) *helmchart.Chart {
	return &helmchart.Chart{
		Metadata: &helmchart.Metadata{APIVersion: "v2", Name: "rhizome", Version: version},
		Values:   map[string]any{"image": map[string]any{"repository": "example.org/rhizome", "tag": "v1"}, "count": 1},
		Templates: []*helmchart.File{
			{Name: "templates/one.yaml", Data: []byte(fmt.Sprintf(deployment, "one"))},
			{Name: "templates/two.yaml", Data: []byte(fmt.Sprintf(deployment, "two"))},
		},
	}
}

func TestTheChartIsInstalledOnceWhateverInterruptsIt(t *testing.T) {
	c, ctx, logger := connect(t), limited(t), slog.New(slog.DiscardHandler)
	put := func(chart *helmchart.Chart, values map[string]any, want ReleaseStatus) {
		t.Helper()
		got, err := c.Chart(ctx, chart, values, logger)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Fatalf("%v (-want +got):\n%s", err, diff)
		}
	}
	put(operatorChart("1.0.0"), nil, ReleaseStatus{Installed, 1, "1.0.0"})
	put(operatorChart("1.0.0"), nil, ReleaseStatus{Kept, 1, "1.0.0"})

	// Killed in the middle: the release is pending, and part of it is not there.
	helm, last, err := c.release(logger)
	if err != nil {
		t.Fatal(err)
	}
	last.SetStatus(release.StatusPendingInstall, "killed")
	if err := helm.Releases.Update(last); err != nil {
		t.Fatal(err)
	}
	deployments := c.core.AppsV1().Deployments(Namespace)
	if err := deployments.Delete(ctx, "rhizome-two", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	put(operatorChart("1.0.0"), nil, ReleaseStatus{Upgraded, 2, "1.0.0"})
	if _, err := deployments.Get(ctx, "rhizome-two", metav1.GetOptions{}); err != nil {
		t.Errorf("what an interruption kept from being made: %v", err)
	}

	// Killed before the release was written down: the parts are there.
	if _, err := helm.Releases.Delete(Release, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := helm.Releases.Delete(Release, 2); err != nil {
		t.Fatal(err)
	}
	put(operatorChart("1.0.0"), nil, ReleaseStatus{Installed, 1, "1.0.0"})

	tag := map[string]any{"image": map[string]any{"tag": "v2"}}
	put(operatorChart("1.0.0"), tag, ReleaseStatus{Upgraded, 2, "1.0.0"})
	put(operatorChart("1.0.0"), tag, ReleaseStatus{Kept, 2, "1.0.0"})
	put(operatorChart("1.0.0"), nil, ReleaseStatus{Kept, 2, "1.0.0"})

	// A person's own value survives our upgrade.
	upgrade := action.NewUpgrade(helm)
	upgrade.Namespace, upgrade.ReuseValues = Namespace, true
	if _, err := upgrade.Run(Release, operatorChart("1.0.0"), map[string]any{"count": 2}); err != nil {
		t.Fatal(err)
	}
	put(operatorChart("1.1.0"), tag, ReleaseStatus{Upgraded, 4, "1.1.0"})
	if _, last, err = c.release(logger); err != nil || fmt.Sprint(last.Config["count"]) != "2" {
		t.Errorf("the person's value is %v (%v), want 2", last.Config["count"], err)
	}
	put(operatorChart("1.0.0"), tag, ReleaseStatus{Newer, 4, "1.1.0"})
	if theirs, err := c.NewerChart(operatorChart("1.0.0"), logger); err != nil || theirs != "1.1.0" {
		t.Errorf("NewerChart = %q, %v", theirs, err)
	}
	if theirs, err := c.NewerChart(operatorChart("1.1.0"), logger); err != nil || theirs != "" {
		t.Errorf("NewerChart of the same = %q, %v", theirs, err)
	}

	waitForDeployments(t, c)
}

// waitForDeployments plays the parts that do not run here, the Deployment
// controller and the kubelet: it writes the status that they would.
func waitForDeployments(t *testing.T, c *Client) {
	t.Helper()
	said := make(chan string, 16)
	result := make(chan error, 1)
	ctx := limited(t)
	go func() { result <- c.Available(ctx, func(why string) { said <- why }) }()
	if why := <-said; !strings.Contains(why, "rhizome-one") {
		t.Errorf("said %q, want what rhizome-one waits for", why)
	}
	deployments := c.core.AppsV1().Deployments(Namespace)
	for _, name := range []string{"rhizome-one", "rhizome-two"} {
		d, err := deployments.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1}
		if _, err := deployments.UpdateStatus(ctx, d, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-result; err != nil {
		t.Errorf("Available: %v", err)
	}
}

func TestANodeIsReadyWhenItsKubeletSaysSo(t *testing.T) {
	c, ctx := connect(t), limited(t)
	says := func(want string) {
		t.Helper()
		if got, err := c.NodeReady(ctx, "kilo"); err != nil || (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("NodeReady = %q, %v; want %q", got, err, want)
		}
	}
	says("no Node has registered")
	nodes := c.core.CoreV1().Nodes()
	node, err := nodes.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "kilo"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	says("has not said yet")
	for _, status := range []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue} {
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.77.0.10"}}
		node.Status.NodeInfo.KubeletVersion = "v1.33.5+k3s1"
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status, Message: "container runtime network not ready"}}
		if node, err = nodes.UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		says(map[corev1.ConditionStatus]string{corev1.ConditionFalse: "network not ready", corev1.ConditionTrue: ""}[status])
	}
	members, err := c.Members(ctx)
	if diff := cmp.Diff([]Member{{Name: "kilo", Address: "10.77.0.10", Version: "v1.33.5+k3s1", Ready: true}}, members); err != nil || diff != "" {
		t.Errorf("Members: %v (-want +got):\n%s", err, diff)
	}
}

func TestWhatTheClusterHoldsIsReadWithItsStatus(t *testing.T) {
	c, ctx := connect(t), limited(t)
	if _, err := c.Definitions(ctx); err != nil {
		t.Fatal(err)
	}
	inv := testInventory()
	inv.Clusters[0].Name, inv.Nodes[0].Name, inv.OperatingSystems[0].Name = "read", "read", "read"
	objects, err := objectsOf(inventory.Inventory{Clusters: inv.Clusters, Nodes: inv.Nodes, OperatingSystems: inv.OperatingSystems})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if _, err := c.apply(ctx, resourceOf(o.GetKind()), o); err != nil {
			t.Fatal(err)
		}
	}
	body := `{"status":{"discovered":[{"mac":"52:54:00:00:00:99","firmware":"UEFI","firstSeen":"2026-01-02T03:04:05Z","lastSeen":"2026-01-02T03:04:05Z"}]}}`
	if _, err := c.dynamic.Resource(resourceOf("Cluster")).Patch(ctx, "read", types.MergePatchType, []byte(body), metav1.PatchOptions{}, "status"); err != nil {
		t.Fatal(err)
	}
	got, err := c.Declared(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var seen []v1alpha1.DiscoveredMachine
	for _, cluster := range got.Clusters {
		if cluster.Name == "read" {
			seen = cluster.Status.Discovered
		}
	}
	if len(seen) != 1 || seen[0].MAC != "52:54:00:00:00:99" || seen[0].Firmware != "UEFI" {
		t.Errorf("discovered are %v", seen)
	}
	if n, ok := got.Node("read"); !ok || n.Spec.Address != inv.Nodes[0].Spec.Address || len(got.OperatingSystems) == 0 {
		t.Errorf("the rest is not there: %+v", got)
	}
}

func TestAClusterIsReadyWhenTheOperatorSaidSoOfThisGeneration(t *testing.T) {
	c, ctx := connect(t), limited(t)
	if _, err := c.Definitions(ctx); err != nil {
		t.Fatal(err)
	}
	inv := testInventory()
	inv.Clusters[0].Name = "generations"
	objects, err := objectsOf(inventory.Inventory{Clusters: inv.Clusters})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.apply(ctx, resourceOf("Cluster"), objects[0]); err != nil {
		t.Fatal(err)
	}
	clusters := c.dynamic.Resource(resourceOf("Cluster"))
	say := func(generation int64, status, message string) {
		t.Helper()
		body := fmt.Sprintf(`{"status":{"conditions":[{"type":"Ready","status":%q,"reason":"R","message":%q,"observedGeneration":%d,"lastTransitionTime":"2026-01-02T03:04:05Z"}]}}`, status, message, generation)
		if _, err := clusters.Patch(ctx, "generations", types.MergePatchType, []byte(body), metav1.PatchOptions{}, "status"); err != nil {
			t.Fatal(err)
		}
	}
	said, result := make(chan string, 16), make(chan error, 1)
	go func() {
		_, err := c.ClusterReady(ctx, "generations", func(why string) { said <- why })
		result <- err
	}()
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-said:
			if !strings.Contains(got, want) {
				t.Errorf("said %q, want %q", got, want)
			}
		case err := <-result:
			t.Fatalf("ended (%v) before it said %q", err, want)
		}
	}
	expect("has not looked")
	say(0, "True", "of an older generation")
	expect("has not seen the change")
	say(1, "False", "no Node has joined")
	expect("R: no Node has joined")
	say(1, "True", "all is well")
	if err := <-result; err != nil {
		t.Errorf("ClusterReady: %v", err)
	}
}
