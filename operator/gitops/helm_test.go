//go:build linux

package gitops

import (
	"strings"
	"testing"

	argo "github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	"github.com/go-logr/logr"
	"helm.sh/helm/v3/pkg/release"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/test/kube"
)

// Of an Argo CD that manages itself only what is gone is made, and of one whose
// installation was cut off all that is missing.
func TestArgoCDIsInstalledToItsEndAndRepairedByWhatIsGone(t *testing.T) {
	config := kube.Start(t)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, argo.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	spec := v1alpha1.ArgoCDSpec{
		Repository: charts(t).URL, Chart: "argo-cd", Version: "7.9.1", Namespace: "argocd-repaired",
		// They are the cluster's, and tests share one.
		Values: &runtime.RawExtension{Raw: []byte(`{"createClusterRoles": false}`)},
	}
	installed := func(handedOver bool) *release.Release {
		t.Helper()
		h, err := helm(config, spec.Namespace, logr.Discard())
		must(err)
		must(installChart(t.Context(), h, spec, handedOver))
		last, err := lastRelease(h)
		must(err)
		return last
	}
	object := func(name string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: spec.Namespace, Name: name}
	}
	if first := installed(false); first.Version != 1 || first.Info.Status != release.StatusDeployed {
		t.Fatalf("the release %d is %s", first.Version, first.Info.Status)
	}

	// It has a newer image of its own by now, another version is declared that is not to be
	// had, and three things are gone.
	const newer = "example.test/argocd:v9"
	own := &appsv1.Deployment{ObjectMeta: object("argocd-applicationset-controller")}
	must(c.Get(t.Context(), client.ObjectKeyFromObject(own), own))
	own.Spec.Template.Spec.Containers[0].Image = newer
	must(c.Update(t.Context(), own))
	gone := func() []client.Object {
		return []client.Object{
			&appsv1.Deployment{ObjectMeta: object("argocd-repo-server")}, &corev1.ConfigMap{ObjectMeta: object("argocd-cm")}, &argo.AppProject{ObjectMeta: object("default")},
		}
	}
	for _, o := range gone() {
		must(c.Delete(t.Context(), o))
	}
	spec.Version = "99.0.0"
	if last := installed(true); last.Version != 1 {
		t.Errorf("the repair was an upgrade, to release %d", last.Version)
	}
	for _, o := range gone() {
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			t.Errorf("not put back: %v", err)
		}
	}
	was := own.UID
	must(c.Get(t.Context(), client.ObjectKeyFromObject(own), own))
	if image := own.Spec.Template.Spec.Containers[0].Image; image != newer || own.UID != was {
		t.Errorf("a part that was there has the image %s, want %s", image, newer)
	}

	// As an operator leaves it that died in the midst of the installation.
	spec.Version = "7.9.1"
	h, err := helm(config, spec.Namespace, logr.Discard())
	must(err)
	last, err := lastRelease(h)
	must(err)
	last.SetStatus(release.StatusPendingInstall, "")
	must(h.Releases.Update(last))
	for _, o := range gone() {
		must(c.Delete(t.Context(), o))
	}
	if last := installed(false); last.Info.Status != release.StatusDeployed {
		t.Errorf("the release is %s", last.Info.Status)
	}
	for _, o := range gone() {
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			t.Errorf("not installed: %v", err)
		}
	}
	must(c.Get(t.Context(), client.ObjectKeyFromObject(own), own))
	if image := own.Spec.Template.Spec.Containers[0].Image; !strings.HasPrefix(image, "quay.io/argoproj/argocd:") {
		t.Errorf("before the hand-over Helm has the last word, and the image is %s", image)
	}
}
