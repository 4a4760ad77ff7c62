package cluster

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// nodeMatters passes over what a boot writes into a Node's status, which is much:
// the verdict on the Cluster does not rest on it.
var nodeMatters = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	old, ok := e.ObjectOld.(*v1alpha1.Node)
	if !ok {
		return true
	}
	n, ok := e.ObjectNew.(*v1alpha1.Node)
	return !ok || old.Generation != n.Generation ||
		old.DeletionTimestamp.IsZero() != n.DeletionTimestamp.IsZero() ||
		!equality.Semantic.DeepEqual(old.Annotations, n.Annotations) ||
		!equality.Semantic.DeepEqual(old.Status.Conditions, n.Status.Conditions) ||
		!equality.Semantic.DeepEqual(old.Status.Honoured, n.Status.Honoured) ||
		!equality.Semantic.DeepEqual(old.Status.Installed, n.Status.Installed)
}}

// coreNodeMatters passes over heartbeats.
var coreNodeMatters = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	old, ok := e.ObjectOld.(*corev1.Node)
	if !ok {
		return true
	}
	n, ok := e.ObjectNew.(*corev1.Node)
	return !ok || coreReady(old) != coreReady(n) ||
		old.DeletionTimestamp.IsZero() != n.DeletionTimestamp.IsZero() ||
		!equality.Semantic.DeepEqual(old.Spec, n.Spec) ||
		!equality.Semantic.DeepEqual(old.Labels, n.Labels) ||
		!equality.Semantic.DeepEqual(old.Status.Addresses, n.Status.Addresses)
}}

// pxePod passes over other pods of the namespace.
var pxePod = predicate.NewPredicateFuncs(func(o client.Object) bool {
	return o.GetLabels()["app.kubernetes.io/component"] == selector["app.kubernetes.io/component"]
})

func named(names ...string) predicate.Predicate {
	return predicate.NewPredicateFuncs(func(o client.Object) bool { return slices.Contains(names, o.GetName()) })
}
