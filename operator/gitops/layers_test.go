//go:build linux

package gitops

import (
	"context"
	"fmt"
	"strings"
	"testing"

	argo "github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	"github.com/argoproj/gitops-engine/pkg/sync/common"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// widgets is a definition that nobody else has.
const widgets = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.test.rhizome.dev}
spec:
  group: test.rhizome.dev
  names: {kind: Widget, listKind: WidgetList, plural: widgets, singular: widget}
  scope: Namespaced
  versions:
    - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
`

const widget = "apiVersion: test.rhizome.dev/v1\nkind: Widget\nmetadata: {name: first}\n"

// balanced is a Service that is healthy as soon as it has an address.
const balanced = "apiVersion: v1\nkind: Service\nmetadata: {name: balanced}\nspec: {type: LoadBalancer, ports: [{port: 80}], selector: {app: none}}\n"

// has says which layers have an ApplicationSet.
func (s *scene) has() string {
	s.t.Helper()
	var sets argo.ApplicationSetList
	s.must(s.client.List(s.t.Context(), &sets, client.InNamespace(s.argoNamespace)))
	var all []string
	for _, l := range layerNames {
		for i := range sets.Items {
			if sets.Items[i].Name == setName(l) {
				all = append(all, l)
			}
		}
	}
	return strings.Join(all, " ")
}

// giveUp makes Argo CD end a sync that fails again and again, as it does by itself after
// minutes.
func (s *scene) giveUp(name string) {
	s.t.Helper()
	s.until("the sync of "+name+" is given up", func(ctx context.Context) string {
		app := &argo.Application{ObjectMeta: metav1.ObjectMeta{Namespace: s.argoNamespace, Name: name}}
		if err := s.client.Get(ctx, client.ObjectKeyFromObject(app), app); err != nil {
			return err.Error()
		}
		o := app.Status.OperationState
		switch {
		case o == nil:
			return "no sync has begun"
		case o.Phase == common.OperationFailed || o.Phase == common.OperationError:
			return ""
		case o.RetryCount == 0 && o.FinishedAt == nil:
			return "it has not failed yet: " + o.Message
		case o.Phase == common.OperationTerminating:
			return "it is being given up"
		}
		// Only what was read is ended: one that Argo CD has given up meanwhile would be
		// Terminating for ever, since nothing goes on that it could terminate.
		patch := fmt.Sprintf(`{"metadata":{"resourceVersion":%q},"status":{"operationState":{"phase":"Terminating"}}}`, app.ResourceVersion)
		return or(errorText(s.client.Patch(ctx, app, client.RawPatch("application/merge-patch+json", []byte(patch)))), "it is being given up")
	})
}

// addressed gives the Service an address, or takes it away.
func (s *scene) addressed(address ...corev1.LoadBalancerIngress) {
	s.t.Helper()
	s.until("the Service is there", func(ctx context.Context) string {
		service := &corev1.Service{}
		if err := s.client.Get(ctx, client.ObjectKey{Namespace: "widgets", Name: "balanced"}, service); err != nil {
			return err.Error()
		}
		service.Status.LoadBalancer.Ingress = address
		return errorText(s.client.Status().Update(ctx, service))
	})
}

// A layer starts when those below it are ready, and stays when they degrade. What Argo CD
// gave up, because something was missing, is asked for again when it has come. Then Argo
// CD takes itself over: from there on the operator upgrades nothing, and puts back what is
// gone, and nothing else.
func TestLayersAndTheHandOverOfArgoCD(t *testing.T) {
	s := setUp(t)
	first := s.seed.Commit(t, "a definition is missing", map[string]string{
		"system/widgets/config.yaml": configMap("widgets", "1"), "system/widgets/widget.yaml": widget, "system/widgets/service.yaml": balanced,
	})
	t.Cleanup(func() {
		definition := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(widgets), &definition.Object); err != nil {
			t.Error(err)
		}
		if err := client.IgnoreNotFound(s.client.Delete(context.WithoutCancel(t.Context()), definition)); err != nil {
			t.Error(err)
		}
	})
	s.operate()
	s.argoCD("ARGOCD_RECONCILIATION_TIMEOUT=1h")
	s.giveUp("widgets")
	s.says("a layer waits", seed, map[string]string{"Ready": "False ApplicationsNotReady", "LayersReady": "False ApplicationsNotReady"})
	if got := s.has(); got != "bootstrap system" {
		t.Errorf("the layers %s have started, and system is not ready", got)
	}
	s.until("the status says of each layer how far it is", func(context.Context) string {
		g := s.gitops()
		if len(g.Status.Layers) != 4 {
			return fmt.Sprintf("%d layers", len(g.Status.Layers))
		}
		system, platform := g.Status.Layers[1], g.Status.Layers[2]
		if system.Revision != first || system.Ready != 1 || system.Total != 2 || len(system.NotReady) != 1 || system.NotReady[0].Name != "widgets" ||
			// As its own operation says it, or as the condition does that Argo CD makes of it.
			system.NotReady[0].Reason != v1alpha1.ReasonAppSyncFailed && system.NotReady[0].Reason != v1alpha1.ReasonAppError || platform.Started || platform.Reason != v1alpha1.ReasonLayerWaits {
			return fmt.Sprintf("%+v", g.Status.Layers)
		}
		return ""
	})

	definition := &unstructured.Unstructured{}
	s.must(yaml.Unmarshal([]byte(widgets), &definition.Object))
	s.must(s.client.Create(t.Context(), definition))
	s.until("the sync is asked for again", func(ctx context.Context) string {
		app := &argo.Application{}
		if err := s.client.Get(ctx, client.ObjectKey{Namespace: s.argoNamespace, Name: "widgets"}, app); err != nil {
			return err.Error()
		}
		if o := app.Status.OperationState; !o.Phase.Successful() || rearmed(o) == 0 {
			return fmt.Sprintf("%s: %s, asked for again %d times", o.Phase, o.Message, rearmed(o))
		}
		return ""
	})
	s.addressed(corev1.LoadBalancerIngress{IP: "192.0.2.1"})
	s.says("the layers above start", seed, map[string]string{"Ready": "True GitOpsReady"})
	if got := s.has(); got != strings.Join(layerNames, " ") {
		t.Errorf("the layers %s have started", got)
	}
	s.count()
	before := s.nothingIsLost(nil)

	// A lower layer degrades. The others stay, and follow.
	s.addressed()
	s.says("a lower layer degrades", seed, map[string]string{"LayersReady": "False ApplicationsNotReady"})
	second := s.seed.Commit(t, "second", map[string]string{"platform/platform-one/more.yaml": configMap("more", "1")})
	s.argo.Await(t, second, "bootstrap-one", "system-one", "platform-one", "apps-one")
	if got := s.has(); got != strings.Join(layerNames, " ") {
		t.Errorf("the layers %s are left", got)
	}
	before = s.nothingIsLost(before)
	s.addressed(corev1.LoadBalancerIngress{IP: "192.0.2.1"})
	s.says("it is well again", seed, map[string]string{"Ready": "True GitOpsReady", "ArgoCDReady": "True Running"})

	s.handOver()
	s.nothingIsLost(before)
}

// handOver has Argo CD take itself over, with another image than it was installed with.
func (s *scene) handOver() {
	s.t.Helper()
	t, ctx := s.t, s.t.Context()
	const newer = "quay.io/argoproj/argocd:v9.9.9"
	key := client.ObjectKey{Namespace: s.argoNamespace, Name: "argocd-applicationset-controller"}
	own := &appsv1.Deployment{}
	s.must(s.client.Get(ctx, key, own))
	uid := own.UID
	own.Spec.Template.Spec.Containers[0].Image = newer
	spec, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&own.Spec)
	s.must(err)
	content, err := yaml.Marshal(map[string]any{
		"apiVersion": "apps/v1", "kind": "Deployment", "spec": spec,
		"metadata": map[string]any{"name": own.Name, "namespace": own.Namespace, "labels": own.Labels},
	})
	s.must(err)
	commit := s.seed.Commit(t, "Argo CD manages itself", map[string]string{"bootstrap/argocd/parts.yaml": string(content)})
	s.until("Argo CD upgrades itself", func(ctx context.Context) string {
		if err := s.client.Get(ctx, key, own); err != nil {
			return err.Error()
		}
		return strings.TrimPrefix(own.Spec.Template.Spec.Containers[0].Image, newer)
	})
	s.partsReady()
	s.argo.Await(t, commit, "argocd")
	s.says("it is handed over", seed, map[string]string{"Ready": "True GitOpsReady", "ArgoCDReady": "True SelfManaged"})
	itself := &argo.Application{}
	s.must(s.client.Get(ctx, client.ObjectKey{Namespace: s.argoNamespace, Name: argoRelease}, itself))
	if itself.Spec.SyncPolicy.Automated.Prune || len(itself.Finalizers) > 0 {
		t.Errorf("the Application of Argo CD itself would take it away: %+v, finalizers %v", itself.Spec.SyncPolicy.Automated, itself.Finalizers)
	}

	// Another version is declared, and then a part is lost.
	s.until("another version is declared", func(ctx context.Context) string {
		g := s.gitops()
		g.Spec.ArgoCD.Version = "99.0.0"
		return errorText(s.client.Update(ctx, g))
	})
	s.until("it is read", func(context.Context) string {
		g := s.gitops()
		if g.Status.ObservedGeneration != g.Generation {
			return "not yet"
		}
		return ""
	})
	s.says("it is not upgraded", seed, map[string]string{"ArgoCDReady": "True SelfManaged"})
	changes := s.watchGitOps()
	lost := &appsv1.Deployment{}
	s.must(s.client.Get(ctx, client.ObjectKey{Namespace: s.argoNamespace, Name: "argocd-repo-server"}, lost))
	s.must(s.client.Delete(ctx, lost))
	told, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for said := false; !said; {
		select {
		case e := <-changes.ResultChan():
			if g, ok := e.Object.(*v1alpha1.GitOps); ok {
				c := meta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionArgoCDReady)
				said = c != nil && c.Status == metav1.ConditionFalse && strings.Contains(c.Message, "repairing")
			}
		case <-told.Done():
			t.Fatalf("that Argo CD is repaired is not said: %s", conditions(s.gitops()))
		}
	}
	s.partsReady()
	s.says("it is put back", seed, map[string]string{"Ready": "True GitOpsReady", "ArgoCDReady": "True SelfManaged"})
	back := &appsv1.Deployment{}
	s.must(s.client.Get(ctx, client.ObjectKeyFromObject(lost), back))
	if diff := cmp.Diff(lost.Spec, back.Spec); diff != "" {
		t.Errorf("the part that was lost (-it +what was put back):\n%s", diff)
	}
	s.must(s.client.Get(ctx, key, own))
	if image := own.Spec.Template.Spec.Containers[0].Image; image != newer || own.UID != uid {
		t.Errorf("a part that was there is now %s, %s; want %s as Argo CD made it", own.UID, image, newer)
	}
	var releases corev1.SecretList
	s.must(s.client.List(ctx, &releases, client.InNamespace(s.argoNamespace), client.MatchingLabels{"owner": "helm", "name": argoRelease}))
	if len(releases.Items) != 1 {
		t.Errorf("Helm has %d releases of Argo CD: it was upgraded", len(releases.Items))
	}
}
