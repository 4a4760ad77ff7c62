package chart_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/test/kube"
)

func TestMain(m *testing.M) { kube.Main(m) }

// TestTheAPIServerTakesTheChart applies what the chart makes, of values that turn
// on all there is, strictly: an unknown field is an error. The namespace enforces
// the restricted Pod Security Standard, so a pod of the Deployment that asked for
// more than it needs would be refused.
func TestTheAPIServerTakesTheChart(t *testing.T) {
	c, err := client.New(kube.Start(t), client.Options{Scheme: clientgoscheme.Scheme})
	if err != nil {
		t.Fatal(err)
	}
	c = client.WithFieldValidation(c, metav1.FieldValidationStrict)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name:   namespace,
		Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
	}}
	if err := c.Create(t.Context(), ns); err != nil {
		t.Fatal(err)
	}
	// What is in it is only tried out below, so it has to be there before.
	pxe := one(t, objects(t, `{}`), "Namespace")
	if err := c.Patch(t.Context(), pxe, client.Apply, client.FieldOwner("test")); err != nil {
		t.Fatal(err)
	}
	for _, values := range []string{
		`{}`,
		`{pxe: {imagePullSecrets: [{name: registry}], resources: {requests: {cpu: 1}}},
		  image: {archives: [{name: operator.tar, sha256: "` + strings.Repeat("0", 64) + `"}]},
		  replicas: 2, imagePullSecrets: [{name: registry}], podAnnotations: {a: b}, podLabels: {c: d},
		  serviceAccount: {create: true, name: mine, annotations: {e: f}},
		  networkPolicy: {enabled: true, apiServerPorts: [6443], metricsFrom: [{podSelector: {}}], pushesFrom: [{podSelector: {}}]},
		  gitops: {enabled: true, pushPort: 9090},
		  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}}`,
		`{gitops: {enabled: false}, metrics: {enabled: false, port: 8443}, networkPolicy: {enabled: false, apiServerPorts: [443]}, tolerations: [], nodeSelector: {}, priorityClassName: ""}`,
	} {
		t.Run(values, func(t *testing.T) {
			all := objects(t, values)
			for _, o := range all {
				if err := c.Patch(t.Context(), o, client.Apply, client.FieldOwner("test"), client.ForceOwnership, client.DryRunAll); err != nil {
					t.Errorf("%s: %v", key(o), err)
				}
			}
			if err := c.Create(t.Context(), podOf(t, one(t, all, "Deployment")), client.DryRunAll); err != nil {
				t.Errorf("a pod of the Deployment: %v", err)
			}
		})
	}

	t.Run("a pod that asks for more is refused", func(t *testing.T) {
		pod := podOf(t, one(t, objects(t, `{}`), "Deployment"))
		if err := unstructured.SetNestedField(pod.Object, true, "spec", "hostNetwork"); err != nil {
			t.Fatal(err)
		}
		if err := c.Create(t.Context(), pod, client.DryRunAll); err == nil || !strings.Contains(err.Error(), "restricted") {
			t.Errorf("the API server answered %v: does it enforce anything?", err)
		}
	})
}

// podOf is a pod as the Deployment's ReplicaSet would make it.
func podOf(t *testing.T, deployment *unstructured.Unstructured) *unstructured.Unstructured {
	t.Helper()
	template, _, err := unstructured.NestedMap(deployment.Object, "spec", "template")
	if err != nil {
		t.Fatal(err)
	}
	pod := &unstructured.Unstructured{Object: template}
	pod.SetAPIVersion("v1")
	pod.SetKind("Pod")
	pod.SetName("pod")
	pod.SetNamespace(namespace)
	return pod
}
