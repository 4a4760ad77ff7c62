package healing

import (
	"context"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// watches registers what brings the controller to look at all members. A boot, a
// heartbeat, and what it writes itself do not.
func (r *reconciler) watches(mgr ctrl.Manager) error {
	all := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: "members"}}}
	})
	return ctrl.NewControllerManagedBy(mgr).
		Named("healing").
		Watches(&v1alpha1.Node{}, all, builder.WithPredicates(updates(nodeMatters))).
		Watches(&corev1.Node{}, all, builder.WithPredicates(updates(coreMatters))).
		Watches(&v1alpha1.Cluster{}, all, builder.WithPredicates(updates(clusterMatters))).
		// One decider: one member at a time.
		WithOptions(controller.Options{MaxConcurrentReconciles: 1}).
		Complete(r)
}

// updates lets those updates pass of which changed says so, and all else.
func updates(changed func(before, after client.Object) bool) predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool { return changed(e.ObjectOld, e.ObjectNew) }}
}

func declarationChanged(before, after client.Object) bool {
	return before.GetGeneration() != after.GetGeneration() || !maps.Equal(before.GetAnnotations(), after.GetAnnotations()) ||
		before.GetDeletionTimestamp().IsZero() != after.GetDeletionTimestamp().IsZero()
}

func nodeMatters(before, after client.Object) bool {
	a, b := before.(*v1alpha1.Node), after.(*v1alpha1.Node)
	return declarationChanged(a, b) || a.Status.Phase != b.Status.Phase
}

func coreMatters(before, after client.Object) bool {
	a, b := before.(*corev1.Node), after.(*corev1.Node)
	return isReady(a) != isReady(b) || conditionOf(a, corev1.NodeReady).Status != conditionOf(b, corev1.NodeReady).Status ||
		conditionOf(a, conditionVoter).Status != conditionOf(b, conditionVoter).Status ||
		!maps.Equal(a.Annotations, b.Annotations) || !equality.Semantic.DeepEqual(a.Spec, b.Spec)
}

func clusterMatters(before, after client.Object) bool {
	return declarationChanged(before, after)
}
