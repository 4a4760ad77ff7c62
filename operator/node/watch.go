package node

import (
	"context"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// Indexes of the cache: declared Nodes by their address, core Nodes by their
// internal ones.
const (
	byAddress    = "spec.address"
	byInternalIP = "status.addresses.InternalIP"
)

// watch registers what brings the controller to look at a machine.
func (r *reconciler) watch(mgr ctrl.Manager) error {
	indexes := mgr.GetFieldIndexer()
	ctx := context.Background() // only registers; nothing is awaited
	if err := indexes.IndexField(ctx, &v1alpha1.Node{}, byAddress, func(o client.Object) []string {
		return []string{string(o.(*v1alpha1.Node).Spec.Address)}
	}); err != nil {
		return err
	}
	if err := indexes.IndexField(ctx, &corev1.Node{}, byInternalIP, func(o client.Object) []string {
		return internalIPs(o.(*corev1.Node))
	}); err != nil {
		return err
	}
	everyNode := handler.EnqueueRequestsFromMapFunc(r.nodes(func(*v1alpha1.Node) bool { return true }))
	waiting := handler.EnqueueRequestsFromMapFunc(r.nodes(isWaiting))
	// First everywhere: whoever is enqueued by an event finds it counted.
	counted := r.counted()
	return ctrl.NewControllerManagedBy(mgr).
		Named("node").
		For(&v1alpha1.Node{}, builder.WithPredicates(counted)).
		Watches(&v1alpha1.Node{}, waiting, builder.WithPredicates(counted, updates(fleetChanged))).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(r.declaredOf), builder.WithPredicates(counted, updates(coreChanged))).
		Watches(&corev1.Node{}, waiting, builder.WithPredicates(counted, updates(serverChanged))).
		Watches(&v1alpha1.Cluster{}, everyNode, builder.WithPredicates(counted, updates(declarationChanged))).
		Watches(&v1alpha1.Cluster{}, waiting, builder.WithPredicates(counted, updates(pxeChanged))).
		Watches(&v1alpha1.OperatingSystem{}, everyNode, builder.WithPredicates(counted, updates(declarationChanged))).
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.ofSecret), builder.WithPredicates(counted)).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(ofPod), builder.WithPredicates(counted)).
		// The rules between machines need one decider.
		WithOptions(controller.Options{MaxConcurrentReconciles: 1}).
		Complete(r)
}

// counted lets all events pass and counts them.
func (r *reconciler) counted() predicate.Predicate {
	return predicate.NewPredicateFuncs(func(client.Object) bool { r.changes.Add(1); return true })
}

// updates lets those updates pass of which changed says so, and all else.
func updates(changed func(before, after client.Object) bool) predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool { return changed(e.ObjectOld, e.ObjectNew) }}
}

func declarationChanged(before, after client.Object) bool {
	return before.GetGeneration() != after.GetGeneration() || !maps.Equal(before.GetAnnotations(), after.GetAnnotations())
}

// fleetChanged says whether a Node changed in a way that other Nodes may have
// waited for.
func fleetChanged(before, after client.Object) bool {
	a, b := before.(*v1alpha1.Node), after.(*v1alpha1.Node)
	return declarationChanged(a, b) || a.Status.Phase != b.Status.Phase || a.DeletionTimestamp.IsZero() != b.DeletionTimestamp.IsZero() ||
		saidOf(a, v1alpha1.ConditionAdmitted) != saidOf(b, v1alpha1.ConditionAdmitted) ||
		saidOf(a, v1alpha1.ConditionRemoval) != saidOf(b, v1alpha1.ConditionRemoval)
}

func saidOf(n *v1alpha1.Node, kind string) string {
	if c := meta.FindStatusCondition(n.Status.Conditions, kind); c != nil {
		return string(c.Status) + c.Reason
	}
	return ""
}

// coreChanged says whether a core Node changed in a way that matters to its own
// machine: a heartbeat does not.
func coreChanged(before, after client.Object) bool {
	a, b := before.(*corev1.Node), after.(*corev1.Node)
	x, y := memberOf(a), memberOf(b)
	return x.ready != y.ready || x.message != y.message || !slices.Equal(x.addresses, y.addresses) ||
		!maps.Equal(a.Labels, b.Labels) || !maps.Equal(a.Annotations, b.Annotations) ||
		!equality.Semantic.DeepEqual(a.Spec, b.Spec) || a.DeletionTimestamp.IsZero() != b.DeletionTimestamp.IsZero()
}

// serverChanged says whether more, or less, is known of a server.
func serverChanged(before, after client.Object) bool {
	a, b := before.(*corev1.Node), after.(*corev1.Node)
	if !isServer(a) && !isServer(b) {
		return false
	}
	return memberOf(a).ready != memberOf(b).ready || isServer(a) != isServer(b) || voted(a) != voted(b)
}

// voted is what a server last said of its vote, and when.
func voted(n *corev1.Node) string {
	for _, c := range n.Status.Conditions {
		if c.Type == conditionVoter {
			return string(c.Status) + c.LastHeartbeatTime.String()
		}
	}
	return ""
}

func pxeChanged(before, after client.Object) bool {
	return !equality.Semantic.DeepEqual(before.(*v1alpha1.Cluster).Status.PXE, after.(*v1alpha1.Cluster).Status.PXE)
}

// isWaiting says whether a rule holds the machine, or it waits for a PXE pod.
func isWaiting(n *v1alpha1.Node) bool {
	held := func(kind string) bool {
		c := meta.FindStatusCondition(n.Status.Conditions, kind)
		return c != nil && (c.Status == metav1.ConditionFalse || kind == v1alpha1.ConditionRemoval)
	}
	return held(v1alpha1.ConditionAdmitted) || held(v1alpha1.ConditionRemoval) ||
		n.Status.Phase == v1alpha1.PhaseClaimed || n.Status.Phase == v1alpha1.PhaseWaking || !n.DeletionTimestamp.IsZero()
}

// nodes maps anything to the Nodes of which which says so.
func (r *reconciler) nodes(which func(*v1alpha1.Node) bool) handler.MapFunc {
	return func(ctx context.Context, _ client.Object) []reconcile.Request {
		var list v1alpha1.NodeList
		if err := r.cached.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "cannot list Nodes")
			return nil
		}
		var requests []reconcile.Request
		for i := range list.Items {
			if which(&list.Items[i]) {
				requests = append(requests, request(list.Items[i].Name))
			}
		}
		return requests
	}
}

func request(node string) reconcile.Request {
	return reconcile.Request{NamespacedName: types.NamespacedName{Name: node}}
}

// declaredOf are the declared Nodes that a core Node may be: by name or address.
func (r *reconciler) declaredOf(ctx context.Context, o client.Object) []reconcile.Request {
	requests := []reconcile.Request{request(o.GetName())}
	for _, address := range internalIPs(o.(*corev1.Node)) {
		var declared v1alpha1.NodeList
		if err := r.cached.List(ctx, &declared, client.MatchingFields{byAddress: address}, client.UnsafeDisableDeepCopy); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "cannot list the Nodes with an address", "address", address)
			continue
		}
		for i := range declared.Items {
			if name := declared.Items[i].Name; name != o.GetName() {
				requests = append(requests, request(name))
			}
		}
	}
	return requests
}

// ofSecret is the Node of a claim; the Secret of the founding concerns all that
// wait.
func (r *reconciler) ofSecret(ctx context.Context, o client.Object) []reconcile.Request {
	if node := o.GetLabels()[v1alpha1.LabelClaim]; node != "" && o.GetNamespace() == r.PXENamespace {
		return []reconcile.Request{request(node)}
	}
	if o.GetNamespace() == r.Namespace {
		return r.nodes(isWaiting)(ctx, o)
	}
	return nil
}

// ofPod is the Node that a pod works on.
func ofPod(_ context.Context, o client.Object) []reconcile.Request {
	if node := o.GetLabels()[labelHost]; node != "" {
		return []reconcile.Request{request(node)}
	}
	return nil
}
