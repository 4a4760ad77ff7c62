// Package node follows the life of one machine. So far: it matches each declared
// Node to the core Node that the machine became, and says what is so.
package node

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/status"
)

// Manager is the field manager of what this controller writes.
const Manager = "rhizome-node"

// Indexes of the cache: declared Nodes by their address, core Nodes by their
// internal ones.
const (
	byAddress    = "spec.address"
	byInternalIP = "status.addresses.InternalIP"
)

// +kubebuilder:rbac:groups=rhizome.dev,resources=nodes,verbs=get;list;watch
// +kubebuilder:rbac:groups=rhizome.dev,resources=nodes/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=nodes,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=events,verbs=create;patch,namespace=default

type reconciler struct {
	client client.Client
	events record.EventRecorder
	now    func() time.Time
}

// Setup adds the controller to a manager. now is the clock.
func Setup(mgr ctrl.Manager, now func() time.Time) error {
	indexes := mgr.GetFieldIndexer()
	ctx := context.Background() // only registers; nothing is awaited
	if err := indexes.IndexField(ctx, &v1alpha1.Node{}, byAddress, func(o client.Object) []string {
		return []string{string(o.(*v1alpha1.Node).Spec.Address)}
	}); err != nil {
		return fmt.Errorf("cannot index Nodes by address: %w", err)
	}
	if err := indexes.IndexField(ctx, &corev1.Node{}, byInternalIP, func(o client.Object) []string {
		return internalIPs(o.(*corev1.Node))
	}); err != nil {
		return fmt.Errorf("cannot index core Nodes by address: %w", err)
	}
	r := &reconciler{client: mgr.GetClient(), events: mgr.GetEventRecorderFor(Manager), now: now}
	err := ctrl.NewControllerManagedBy(mgr).
		Named("node").
		For(&v1alpha1.Node{}).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(r.declaredOf)).
		Complete(r)
	if err != nil {
		return fmt.Errorf("cannot set up the node controller: %w", err)
	}
	return nil
}

// declaredOf are the declared Nodes that a core Node may be: by name or address.
func (r *reconciler) declaredOf(ctx context.Context, o client.Object) []reconcile.Request {
	requests := []reconcile.Request{{NamespacedName: types.NamespacedName{Name: o.GetName()}}}
	for _, address := range internalIPs(o.(*corev1.Node)) {
		var declared v1alpha1.NodeList
		if err := r.client.List(ctx, &declared, client.MatchingFields{byAddress: address}); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "cannot list the Nodes with an address", "address", address)
			continue
		}
		for i := range declared.Items {
			if name := declared.Items[i].Name; name != o.GetName() {
				requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Name: name}})
			}
		}
	}
	return requests
}

// Reconcile looks at one declared Node and the core Nodes that it may be, and
// writes down the verdict.
func (r *reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	var declared v1alpha1.Node
	if err := r.client.Get(ctx, req.NamespacedName, &declared); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	named, others, err := r.members(ctx, &declared)
	if err != nil {
		return reconcile.Result{}, err
	}
	next := r.status(&declared, judge(&declared, named, others))
	if holds(declared.Status, next) {
		return reconcile.Result{}, nil
	}
	if err := status.Apply(ctx, r.client, &declared, &next, Manager); err != nil {
		if apierrors.IsConflict(err) {
			// It has changed: the change brings the controller back, to look again.
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, err
	}
	ctrl.LoggerFrom(ctx).Info("status", "phase", next.Phase, "message", next.Conditions[1].Message)
	r.tell(&declared, next)
	return reconcile.Result{}, nil
}

// members are the core Node of the declared name, and those of other names that
// have the declared address.
func (r *reconciler) members(ctx context.Context, declared *v1alpha1.Node) (*member, []member, error) {
	var named *member
	var core corev1.Node
	switch err := r.client.Get(ctx, client.ObjectKeyFromObject(declared), &core); {
	case err == nil:
		m := memberOf(&core)
		named = &m
	case !apierrors.IsNotFound(err):
		return nil, nil, fmt.Errorf("cannot read the core Node %s: %w", declared.Name, err)
	}
	var list corev1.NodeList
	address := string(declared.Spec.Address)
	if err := r.client.List(ctx, &list, client.MatchingFields{byInternalIP: address}); err != nil {
		return nil, nil, fmt.Errorf("cannot list the core Nodes with the address %s: %w", address, err)
	}
	var others []member
	for i := range list.Items {
		if list.Items[i].Name != declared.Name {
			others = append(others, memberOf(&list.Items[i]))
		}
	}
	return named, others, nil
}

// status is what this controller writes: its own fields and conditions.
func (r *reconciler) status(declared *v1alpha1.Node, v verdict) v1alpha1.NodeStatus {
	now := r.now()
	since := declared.Status.PhaseSince
	if declared.Status.Phase != v.phase || since == nil {
		t := metav1.NewTime(now).Rfc3339Copy()
		since = &t
	}
	return v1alpha1.NodeStatus{
		ObservedGeneration: declared.Generation,
		Phase:              v.phase,
		PhaseSince:         since,
		NodeRef:            v.nodeRef,
		Conditions: status.Conditions(declared.Status.Conditions,
			[]metav1.Condition{v.joined, v.ready}, declared.Generation, now),
	}
}

// holds says whether the status says already what this controller has to say.
func holds(current, next v1alpha1.NodeStatus) bool {
	return current.ObservedGeneration == next.ObservedGeneration &&
		current.Phase == next.Phase &&
		current.PhaseSince.Equal(next.PhaseSince) &&
		equality.Semantic.DeepEqual(current.NodeRef, next.NodeRef) &&
		status.Same(current.Conditions, next.Conditions)
}

// tell tells, once the status is saved, what happened.
func (r *reconciler) tell(declared *v1alpha1.Node, next v1alpha1.NodeStatus) {
	if meta.IsStatusConditionTrue(next.Conditions, v1alpha1.ConditionJoined) &&
		!meta.IsStatusConditionTrue(declared.Status.Conditions, v1alpha1.ConditionJoined) {
		r.events.Eventf(declared, corev1.EventTypeNormal, "Joined", "became the core Node %s", next.NodeRef.Name)
	}
}
