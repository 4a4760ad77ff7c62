// Package node leads every declared machine through its life: from declared to
// member, and out of the cluster again.
//
// Facts are gathered in one place (gather.go), decided on by pure functions (a
// table of situations, and chains of rules), done by small acts that may be done
// again, and written down in one place (record.go). Where a machine is in its life
// is derived from the world every time.
package node

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/claims"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/internal/status"
)

// Manager is the field manager of what this controller writes.
const Manager = "rhizome-node"

// +kubebuilder:rbac:groups=rhizome.dev,resources=nodes,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=rhizome.dev,resources=nodes/status,verbs=patch
// +kubebuilder:rbac:groups=rhizome.dev,resources=clusters;operatingsystems,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=nodes,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=events,verbs=create;patch,namespace=default

// DefaultSettle is how long a deletion is held to see whether others come with it.
const DefaultSettle = 30 * time.Second

// Options are what the controller is told of its surroundings. Now, Live,
// Namespace and PXENamespace must be set.
type Options struct {
	// Now is the clock.
	Now func() time.Time
	// Live reads and writes past the manager's cache.
	Live client.Client
	// Namespace is the release's, and PXENamespace that of the PXE pods. The
	// manager's cache holds the Secret of the founding in the one, and the Secrets and
	// pods of the other.
	Namespace, PXENamespace string
	// Image is the operator's own, for the pods that adopt the first server and
	// restart machines. Empty: neither is done, and said.
	Image string
	// Founding reads what joins further members. Nil: the Secret in Namespace.
	Founding func(context.Context) (provision.JoinSecrets, error)
	// Repairing names the member that is being repaired, if any. Nil: none ever.
	Repairing func() string
	// Settle is how long a deletion is held to see whether others come with it. Zero:
	// DefaultSettle.
	Settle time.Duration
	// SilentPatience is how long the kubelet of a member that is not Ready may take to
	// keep k3s there from starting again, and EtcdSettle how long a member's core Node
	// stays after it has left etcd. Zero: the defaults.
	SilentPatience, EtcdSettle time.Duration
}

type reconciler struct {
	Options
	cached client.Reader
	store  *claims.Store // reads the cache, and writes
	live   view
	events record.EventRecorder

	// changes counts the events that were heard; the fleet is gathered anew when it
	// grew. It alone is used by several goroutines: one worker decides.
	changes   atomic.Uint64
	memo      *fleet
	memoOf    uint64
	checked   []inventory.Finding
	checkedOf uint64

	// swept says that what a former operator left was looked for. traces are the
	// machines that may have tokens or credentials, offers what was offered last.
	swept  bool
	traces map[string]bool
	offers map[string]offered

	// began is when this operator did. refusals are the last ones that were told of.
	began    time.Time
	refusals map[string]time.Time
}

// Setup adds the controller to a manager.
func Setup(mgr ctrl.Manager, o Options) error {
	if o.Now == nil || o.Live == nil || o.Namespace == "" || o.PXENamespace == "" {
		return errors.New("cannot set up the node controller: its options lack the clock, the client or a namespace")
	}
	// The live client speaks of evictions.
	if err := policyv1.AddToScheme(o.Live.Scheme()); err != nil {
		return fmt.Errorf("cannot set up the node controller: %w", err)
	}
	if o.Founding == nil {
		o.Founding = func(ctx context.Context) (provision.JoinSecrets, error) {
			return readFounding(ctx, mgr.GetClient(), o.Namespace)
		}
	}
	if o.Repairing == nil {
		o.Repairing = func() string { return "" }
	}
	if o.Settle == 0 {
		o.Settle = DefaultSettle
	}
	if o.SilentPatience == 0 {
		o.SilentPatience = DefaultSilentPatience
	}
	if o.EtcdSettle == 0 {
		o.EtcdSettle = DefaultEtcdSettle
	}
	r := &reconciler{
		Options: o, cached: mgr.GetClient(), events: mgr.GetEventRecorderFor(Manager),
		store:  claims.New(mgr.GetClient(), o.Live, o.PXENamespace),
		live:   view{reader: o.Live, store: claims.New(o.Live, o.Live, o.PXENamespace), live: true},
		traces: map[string]bool{}, offers: map[string]offered{}, began: o.Now(), refusals: map[string]time.Time{},
	}
	reader := client.Reader(mgr.GetClient())
	census.reader.Store(&reader)
	if err := r.watch(mgr); err != nil {
		return fmt.Errorf("cannot set up the node controller: %w", err)
	}
	return nil
}

func (r *reconciler) caches() view { return view{reader: r.cached, store: r.store} }

// Reconcile decides about one machine and does what follows.
func (r *reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	if err := r.sweep(ctx); err != nil {
		return reconcile.Result{}, err
	}
	d, err := r.consult(ctx, r.caches(), req.Name)
	if err == nil && d != nil && d.o.isGrave() {
		d, err = r.consult(ctx, r.live, req.Name)
	}
	if err != nil || d == nil {
		return reconcile.Result{}, err
	}
	r.tellRefusal(d.m.node)
	return r.carryOut(ctx, d)
}

// consult gathers the facts about a machine and decides; nil: the Node is gone.
func (r *reconciler) consult(ctx context.Context, v view, name string) (*deed, error) {
	m, err := r.machine(ctx, v, name)
	if err != nil || m == nil {
		return nil, err
	}
	f, err := r.alone(ctx)
	if err != nil {
		return nil, err
	}
	if !atRest(m, f) {
		if f, err = r.fleet(ctx, v); err != nil {
			return nil, err
		}
	}
	o := decide(m, f)
	return &deed{reconciler: r, m: m, f: f, o: &o}, nil
}

// atRest says whether nothing but the machine itself matters: it is a member with
// nothing under way. So a thousand of them cost little.
func atRest(m *machine, f *fleet) bool {
	if m.claim != nil || m.unreadable != "" || m.isLeaving() || situationOf(m, f) != present {
		return false
	}
	return m.node.Status.Installed != nil || !m.isControlPlane()
}

// carryOut does what was decided, saves the record, and tells.
func (r *reconciler) carryOut(ctx context.Context, d *deed) (reconcile.Result, error) {
	log := ctrl.LoggerFrom(ctx)
	trouble := d.do(ctx, d.o.acts)
	if apierrors.IsConflict(trouble) {
		// What was decided on is so no more: the change brings the controller back.
		return reconcile.Result{RequeueAfter: time.Second}, nil
	}
	before := d.m.node.Status
	if d.released {
		r.forget(d.m.node.Name)
		result := resultGone
		switch {
		case d.m.isKept() && !tooLate(d.m):
			result = resultKept
		case d.m.isMember(), removedHere(d.m):
			result = resultRemoved
		}
		log.Info("released", "result", result)
		r.tell(d.m.node, []news{{
			corev1.EventTypeNormal, "Removed", "the Node goes: " + result,
			func(c *counters) { c.removals.WithLabelValues(result).Inc() },
		}})
		return reconcile.Result{}, nil
	}
	next := recorded(d, trouble)
	if !holds(before, next) {
		if err := status.Apply(ctx, r.Live, d.m.node, &next, Manager); err != nil {
			if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
				return reconcile.Result{RequeueAfter: time.Second}, errors.Join(trouble, client.IgnoreNotFound(ignoreConflict(err)))
			}
			return reconcile.Result{}, errors.Join(trouble, err)
		}
		log.Info("status", "phase", next.Phase, "message", messageOf(next, v1alpha1.ConditionReady), "acts", d.o.acts)
		r.tell(d.m.node, newsOf(before, next, d.f.now))
	}
	if trouble != nil {
		return reconcile.Result{}, trouble
	}
	if err := d.do(ctx, d.o.then); err != nil {
		if apierrors.IsConflict(err) {
			return reconcile.Result{RequeueAfter: time.Second}, nil
		}
		return reconcile.Result{}, err
	}
	return reconcile.Result{RequeueAfter: again(d.f.now, d.o.look)}, nil
}

// recorded is the record of what was done, or of what could not be.
func recorded(d *deed, trouble error) v1alpha1.NodeStatus {
	if trouble != nil {
		return troubled(d, trouble)
	}
	return recordOf(d)
}

func ignoreConflict(err error) error {
	if apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// forget drops what is remembered of a machine that is gone.
func (r *reconciler) forget(name string) {
	delete(r.traces, name)
	delete(r.offers, name)
	delete(r.refusals, name)
}
