package status_test

import (
	"context"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/status"
	"github.com/rhizome-dev/rhizome/test/kube"
)

func TestMain(m *testing.M) { kube.Main(m) }

func TestAStatusIsWrittenToTheVeryObjectThatWasRead(t *testing.T) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	c, err := client.New(kube.Start(t), client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	declare := func() *v1alpha1.Node {
		n := &v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: "alpha"}, Spec: v1alpha1.NodeSpec{
			Role: v1alpha1.Worker, MAC: "52:54:00:00:00:01", Address: "192.168.1.10",
		}}
		if err := c.Create(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	read := func() *v1alpha1.Node {
		n := &v1alpha1.Node{}
		if err := c.Get(t.Context(), client.ObjectKey{Name: "alpha"}, n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	apply := func(to *v1alpha1.Node, manager string, owned v1alpha1.NodeStatus) {
		t.Helper()
		if err := status.Apply(t.Context(), c, to, &owned, manager); err != nil {
			t.Fatal(err)
		}
	}

	first := declare()
	apply(first, "test", v1alpha1.NodeStatus{Phase: v1alpha1.PhaseReady, NodeRef: &v1alpha1.CoreNodeReference{Name: "alpha", UID: "1"}})
	if got := read().Status; got.Phase != v1alpha1.PhaseReady || got.NodeRef == nil {
		t.Errorf("the status is %+v", got)
	}
	if err := status.Apply(t.Context(), c, first, &v1alpha1.NodeStatus{}, "test"); !apierrors.IsConflict(err) {
		t.Errorf("the status of an object that has changed: %v, want a conflict", err)
	}

	// A field that the manager speaks of no more goes; one of another stays.
	apply(read(), "other", v1alpha1.NodeStatus{Attempts: 3})
	apply(read(), "test", v1alpha1.NodeStatus{Phase: v1alpha1.PhaseDeclared})
	last := read()
	if got := last.Status; got.Phase != v1alpha1.PhaseDeclared || got.NodeRef != nil || got.Attempts != 3 {
		t.Errorf("the status is %+v", got)
	}

	if err := c.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if err := status.Apply(t.Context(), c, last, &v1alpha1.NodeStatus{}, "test"); !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		t.Errorf("the status of an object that is gone: %v, want not found or a conflict", err)
	}
	second := declare()
	t.Cleanup(func() {
		if err := c.Delete(context.WithoutCancel(t.Context()), second); err != nil {
			t.Error(err)
		}
	})
	if err := status.Apply(t.Context(), c, last, &v1alpha1.NodeStatus{Attempts: 9}, "test"); !apierrors.IsConflict(err) {
		t.Errorf("the status of an object of the same name that came later: %v, want a conflict", err)
	}
	if got := read().Status; got.Attempts != 0 {
		t.Errorf("the later object has the status of the earlier: %+v", got)
	}
}
