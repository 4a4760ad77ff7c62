// Package power turns machines on whose board management controller, or webhook,
// only the operator may speak to, when they are to be installed. Those that are woken
// by LAN are the PXE pods'.
package power

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/claims"
	"github.com/rhizome-dev/rhizome/internal/plaintext"
	"github.com/rhizome-dev/rhizome/internal/power"
	"github.com/rhizome-dev/rhizome/internal/status"
)

// Manager is the field manager of what this controller writes.
const Manager = "rhizome-power"

// atOnce is how many machines are turned on at once. Each may take minutes.
const atOnce = 8

// +kubebuilder:rbac:groups=rhizome.dev,resources=nodes;clusters,verbs=get;list;watch
// +kubebuilder:rbac:groups=rhizome.dev,resources=nodes/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=events,verbs=create;patch,namespace=default
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list,namespace=pxe

// Options are what the controller is told of its surroundings. All must be set.
type Options struct {
	// Now is the clock.
	Now func() time.Time
	// Live reads and writes past the manager's cache.
	Live client.Client
	// PXENamespace is where claims are.
	PXENamespace string
	// Driver is the way to a Node's power.
	Driver func(*v1alpha1.Node) (power.Driver, error)
}

type reconciler struct {
	Options
	cached client.Reader
	store  *claims.Store // reads the API server: a claim may have been consumed just now
	events record.EventRecorder
}

// Setup adds the controller to a manager.
func Setup(mgr ctrl.Manager, o Options) error {
	if o.Now == nil || o.Live == nil || o.PXENamespace == "" || o.Driver == nil {
		return errors.New("cannot set up the power controller: its options lack the clock, the client, the namespace or the drivers")
	}
	r := &reconciler{
		Options: o, cached: mgr.GetClient(), store: claims.New(o.Live, o.Live, o.PXENamespace), events: mgr.GetEventRecorderFor(Manager),
	}
	ours := predicate.NewPredicateFuncs(isOurs)
	err := ctrl.NewControllerManagedBy(mgr).
		Named("power").
		For(&v1alpha1.Node{}, builder.WithPredicates(ours)).
		Watches(&v1alpha1.Cluster{}, handler.EnqueueRequestsFromMapFunc(r.waking), builder.WithPredicates(predicate.AnnotationChangedPredicate{})).
		WithOptions(controller.Options{MaxConcurrentReconciles: atOnce}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("cannot set up the power controller: %w", err)
	}
	return nil
}

// isOurs says whether anything may have to be done or said about a Node.
func isOurs(o client.Object) bool {
	n := o.(*v1alpha1.Node)
	return power.MeansOf(n) != power.MeansWakeOnLAN || meta.FindStatusCondition(n.Status.Conditions, v1alpha1.ConditionPower) != nil
}

// waking are the Nodes that are to be turned on.
func (r *reconciler) waking(ctx context.Context, _ client.Object) []reconcile.Request {
	var list v1alpha1.NodeList
	if err := r.cached.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "cannot list Nodes")
		return nil
	}
	var requests []reconcile.Request
	for i := range list.Items {
		if n := &list.Items[i]; n.Status.Phase == v1alpha1.PhaseWaking && isOurs(n) {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(n)})
		}
	}
	return requests
}

// Reconcile decides about one machine's power and does what follows.
func (r *reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	f, err := r.gather(ctx, r.cached, req.Name)
	if err != nil || f == nil {
		return reconcile.Result{}, err
	}
	v := decide(*f)
	if v.act || v.restore || v.forget || v.condition != nil {
		// What follows from old news is decided again on what is so now.
		if f, err = r.gather(ctx, r.Live, req.Name); err != nil || f == nil {
			return reconcile.Result{}, err
		}
		v = decide(*f)
	}
	switch {
	case v.act:
		return r.turnOn(ctx, f, v.again)
	case v.restore:
		return r.turnBackOn(ctx, f)
	case v.forget:
		return reconcile.Result{}, quietly(status.Apply(ctx, r.Live, f.node, &v1alpha1.NodeStatus{}, Manager))
	case v.condition != nil:
		return r.say(ctx, f, *v.condition)
	case !v.look.IsZero():
		return reconcile.Result{RequeueAfter: max(v.look.Sub(f.now), 100*time.Millisecond)}, nil
	}
	return reconcile.Result{}, nil
}

// gather reads what is decided on; nil: the Node is gone.
func (r *reconciler) gather(ctx context.Context, reader client.Reader, name string) (*facts, error) {
	var n v1alpha1.Node
	if err := reader.Get(ctx, client.ObjectKey{Name: name}, &n); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	f := &facts{now: r.Now(), node: &n}
	if power.MeansOf(&n) == power.MeansWakeOnLAN {
		return f, nil
	}
	var clusters v1alpha1.ClusterList
	if err := reader.List(ctx, &clusters); err != nil {
		return nil, fmt.Errorf("cannot list Clusters: %w", err)
	}
	f.paused = pausedBy(&n, clusters.Items)
	if n.Status.Phase != v1alpha1.PhaseWaking {
		return f, nil
	}
	claim, ok, err := r.store.OfNode(ctx, name)
	if err != nil {
		return nil, err
	}
	if ok {
		f.claim = &claim
	}
	return f, nil
}

// turnOn writes down that it is being done, does it, and writes what came of it.
func (r *reconciler) turnOn(ctx context.Context, f *facts, again bool) (reconcile.Result, error) {
	means := power.MeansOf(f.node)
	log := ctrl.LoggerFrom(ctx).WithValues("means", means)
	intent := *condition(metav1.ConditionFalse, v1alpha1.ReasonTurningOn, fmt.Sprintf("being turned on by %s", means))
	if err := r.write(ctx, f.node, intent); err != nil {
		return conflictLater(err)
	}
	id := f.claim.ID
	permit := func(ctx context.Context) error {
		now, err := r.stillTouchable(ctx, f)
		if err != nil {
			return err
		}
		if now.node.Status.Phase != v1alpha1.PhaseWaking {
			return fmt.Errorf("%w: the machine is not to be turned on any more", errHeld)
		}
		if rule, why := held(*now); rule != "" {
			return fmt.Errorf("%w by %s: %s", errHeld, rule, why)
		}
		if now.claim.ID != id {
			return fmt.Errorf("%w: the claim is another one by now", errHeld)
		}
		return nil
	}
	var result *metav1.Condition
	d, err := r.Driver(f.node)
	if err == nil {
		result, err = turnOn(ctx, d, again, permit, r.resume(f))
	}
	switch {
	case ctx.Err() != nil:
		return reconcile.Result{}, ctx.Err() // the next operator sees the intent
	case errors.Is(err, errHeld):
		log.Info("not turned on", "reason", err.Error())
		return reconcile.Result{RequeueAfter: time.Second}, nil
	case err != nil:
		result = condition(metav1.ConditionFalse, power.ReasonOf(err), err.Error())
	}
	return r.tell(ctx, f, result)
}

// turnBackOn is for a machine that boots and was perhaps turned off.
func (r *reconciler) turnBackOn(ctx context.Context, f *facts) (reconcile.Result, error) {
	d, err := r.Driver(f.node)
	var result *metav1.Condition
	if err == nil {
		result, err = turnBackOn(ctx, d, r.resume(f))
	}
	switch {
	case ctx.Err() != nil:
		return reconcile.Result{}, ctx.Err()
	case errors.Is(err, errHeld):
		return reconcile.Result{RequeueAfter: time.Second}, nil
	case err != nil:
		result = condition(metav1.ConditionFalse, power.ReasonOf(err), err.Error())
	}
	return r.tell(ctx, f, result)
}

// stillTouchable are the facts as they are now; errHeld: the Node is gone, or another
// one, or paused.
func (r *reconciler) stillTouchable(ctx context.Context, f *facts) (*facts, error) {
	now, err := r.gather(ctx, r.Live, f.node.Name)
	switch {
	case err != nil:
		return nil, err
	case now == nil || now.node.UID != f.node.UID:
		return nil, fmt.Errorf("%w: the Node is gone", errHeld)
	case now.paused != "":
		return nil, fmt.Errorf("%w by %s: %s", errHeld, v1alpha1.ReasonPaused, now.paused)
	}
	return now, nil
}

// resume says whether a machine may be turned on that we turned off.
func (r *reconciler) resume(f *facts) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := r.stillTouchable(ctx, f)
		return err
	}
}

// tell writes down what came of it.
func (r *reconciler) tell(ctx context.Context, f *facts, result *metav1.Condition) (reconcile.Result, error) {
	name, means := f.node.Name, power.MeansOf(f.node)
	ctrl.LoggerFrom(ctx).Info("power", "means", means, "reason", result.Reason, "message", result.Message)
	actions.WithLabelValues(string(means), result.Reason).Inc()
	kind := corev1.EventTypeNormal
	if result.Status == metav1.ConditionFalse {
		kind = corev1.EventTypeWarning
	}
	r.events.Event(f.node, kind, result.Reason, plaintext.Clip(result.Message, 1000))
	// The time is what the next try waits from: a lost write would let it come at
	// once.
	var err error
	for range 5 {
		var n v1alpha1.Node
		if err := r.Live.Get(ctx, client.ObjectKey{Name: name}, &n); err != nil {
			return reconcile.Result{}, client.IgnoreNotFound(err)
		}
		if n.UID != f.node.UID {
			return reconcile.Result{}, nil
		}
		if err = r.write(ctx, &n, *result); !apierrors.IsConflict(err) {
			break
		}
	}
	return conflictLater(err)
}

// say writes why nothing is done, once.
func (r *reconciler) say(ctx context.Context, f *facts, c metav1.Condition) (reconcile.Result, error) {
	was := meta.FindStatusCondition(f.node.Status.Conditions, v1alpha1.ConditionPower)
	if was != nil && was.Reason == c.Reason && was.Message == c.Message && was.ObservedGeneration == f.node.Generation {
		return reconcile.Result{}, nil
	}
	if err := r.write(ctx, f.node, c); err != nil {
		return conflictLater(err)
	}
	if c.Status == metav1.ConditionFalse {
		r.events.Event(f.node, corev1.EventTypeWarning, c.Reason, plaintext.Clip(c.Message, 1000))
	}
	return reconcile.Result{}, nil
}

func (r *reconciler) write(ctx context.Context, n *v1alpha1.Node, c metav1.Condition) error {
	next := &v1alpha1.NodeStatus{Conditions: []metav1.Condition{stamped(c, n.Generation, r.Now())}}
	return status.Apply(ctx, r.Live, n, next, Manager)
}

// quietly: what has changed, or is gone, comes back by itself.
func quietly(err error) error {
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func conflictLater(err error) (reconcile.Result, error) {
	if apierrors.IsConflict(err) {
		return reconcile.Result{RequeueAfter: time.Second}, nil
	}
	return reconcile.Result{}, client.IgnoreNotFound(err)
}
