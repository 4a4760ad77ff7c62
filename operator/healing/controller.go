package healing

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/power"
)

// Manager is the field manager of what this controller writes.
const Manager = "rhizome-healing"

// +kubebuilder:rbac:groups=rhizome.dev,resources=nodes;clusters,verbs=get;list;watch
// +kubebuilder:rbac:groups=rhizome.dev,resources=nodes/status;clusters/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=nodes,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups="",resources=events,verbs=create;patch,namespace=default

// The defaults of Options.
const (
	// DefaultInterval is how often members are looked at while one is sick.
	DefaultInterval = 15 * time.Second
	// DefaultSettle lies between the writing of an intent and its doing.
	DefaultSettle = 10 * time.Second
	// DefaultBackOff is the pause after the first step of a day, which doubles with
	// every further one.
	DefaultBackOff = time.Minute
	// DefaultReachLife is how long what a PXE pod found counts.
	DefaultReachLife = 3 * time.Minute
	// DefaultGap is how long nobody may have looked until nothing is known of what was
	// in between.
	DefaultGap = 5 * time.Minute
)

// Options are what the controller is told of its surroundings. Now, Live and
// PXENamespace must be set.
type Options struct {
	// Now is the clock.
	Now func() time.Time
	// Live reads and writes past the manager's cache.
	Live client.Client
	// PXENamespace is where pods that work on a machine are made.
	PXENamespace string
	// Node is the member that the operator runs on. Empty: it is not known, and nothing
	// is repaired.
	Node string
	// Image is the operator's own, for pods that work on a machine. Empty: there are
	// none, and what needs them fails.
	Image string
	// Driver is the way to the power of a machine that has more than Wake-on-LAN.
	Driver func(*v1alpha1.Node) (power.Driver, error)
	// Gateway tries to reach the router. Nil: by an echo and by TCP.
	Gateway func(context.Context, netip.Addr) error
	// Interval, Settle, Gap, BackOff and ReachLife: zero are the defaults.
	Interval, Settle, Gap, BackOff, ReachLife time.Duration
}

type reconciler struct {
	Options
	cached client.Reader
	events record.EventRecorder

	// One worker decides: nothing of this is used by several goroutines.
	watch watch
	// intents are those that this very operator wrote down and did nothing about yet.
	intents map[string]time.Time
	// told is what was last refused, so that it is counted once.
	told map[string]string
}

// Setup adds the controller to a manager.
func Setup(mgr ctrl.Manager, o Options) error {
	if o.Now == nil || o.Live == nil || o.PXENamespace == "" {
		return errors.New("cannot set up the healing controller: its options lack the clock, the client or the namespace")
	}
	// The live client speaks of storage drivers.
	if err := storagev1.AddToScheme(o.Live.Scheme()); err != nil {
		return fmt.Errorf("cannot set up the healing controller: %w", err)
	}
	if o.Gateway == nil {
		o.Gateway = reachGateway
	}
	for _, d := range []struct {
		of        *time.Duration
		otherwise time.Duration
	}{
		{&o.Interval, DefaultInterval}, {&o.Settle, DefaultSettle}, {&o.Gap, DefaultGap}, {&o.BackOff, DefaultBackOff}, {&o.ReachLife, DefaultReachLife},
	} {
		if *d.of <= 0 {
			*d.of = d.otherwise
		}
	}
	r := &reconciler{
		Options: o, cached: mgr.GetClient(), events: mgr.GetEventRecorderFor(Manager),
		watch: watch{gap: o.Gap}, intents: map[string]time.Time{}, told: map[string]string{},
	}
	reader := client.Reader(mgr.GetClient())
	census.reader.Store(&reader)
	if err := r.watches(mgr); err != nil {
		return fmt.Errorf("cannot set up the healing controller: %w", err)
	}
	return nil
}

// Repairing names the member that an action was begun for, as the cache knows it;
// empty: none. It is for those who must not begin anything meanwhile.
func Repairing(reader client.Reader) func() string {
	return func() string {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		var nodes v1alpha1.NodeList
		if err := reader.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
			return ""
		}
		for i := range nodes.Items {
			if r := nodes.Items[i].Status.Repair; r != nil && r.Action != "" {
				return nodes.Items[i].Name
			}
		}
		return ""
	}
}

// untouched says whether this very operator wrote an intent down and did nothing
// about it yet.
func (r *reconciler) untouched(node string, intended *metav1.Time) bool {
	at, ok := r.intents[node]
	return ok && intended != nil && intended.Time.Equal(at)
}

// Reconcile looks at all members, and does one thing at most.
func (r *reconciler) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	w, err := r.gather(ctx, r.cached)
	if err != nil {
		return reconcile.Result{}, err
	}
	if w.cluster == nil {
		return reconcile.Result{}, nil
	}
	r.look(w)
	if r.matters(w) {
		// What is done, and what is refused, rests on what is so now.
		if w, err = r.gather(ctx, r.Live); err != nil {
			return reconcile.Result{}, err
		}
		if w.cluster == nil {
			return reconcile.Result{}, nil
		}
		r.look(w)
		w.self.gateway = r.gateway(ctx, w.cluster)
	}
	trouble := r.treat(ctx, w)
	if err := r.report(ctx, w); err != nil {
		trouble = errors.Join(trouble, err)
	}
	if apierrors.IsConflict(trouble) {
		return reconcile.Result{RequeueAfter: time.Second}, nil
	}
	if trouble != nil {
		return reconcile.Result{}, trouble
	}
	if !r.awake(w) {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{RequeueAfter: r.Interval}, nil
}

// look has our own clock see all members, and tells each since when it is sick.
func (r *reconciler) look(w *world) {
	all := make([]seen, 0, len(w.members))
	for _, m := range w.members {
		one := seen{name: m.name, sick: m.sick != ""}
		if core := w.cores[m.name]; core != nil {
			one.uid = string(core.UID)
		}
		all = append(all, one)
	}
	r.watch.look(w.now, all)
	for _, m := range w.members {
		m.since = r.watch.since(m.name)
	}
}

// matters says whether anything may have to be done: a member has been sick for
// long enough, or something was begun.
func (r *reconciler) matters(w *world) bool {
	return slices.ContainsFunc(w.members, func(m *member) bool {
		due := m.sick != "" && m.mode != v1alpha1.HealingDisabled && !w.now.Before(m.since.Add(w.settings.unhealthyAfter))
		f := fence(m, w.facts)
		return due || m.busy() || f.taint || f.untaint || f.proof != nil || decide(m, w.facts).move == clear
	})
}

// awake says whether time alone may change something.
func (r *reconciler) awake(w *world) bool {
	h := w.cluster.Status.Healing
	return h != nil && h.Storm != nil || w.now.Before(w.stormEnded.Add(w.settings.coolDown)) ||
		slices.ContainsFunc(w.members, func(m *member) bool { return m.sick != "" || m.busy() || m.fenced })
}

// treat decides about every member in turn and does what follows. What was begun
// comes first; then servers, without which there is no cluster.
func (r *reconciler) treat(ctx context.Context, w *world) error {
	all := slices.Clone(w.members)
	slices.SortStableFunc(all, func(a, b *member) int { return rank(a) - rank(b) })
	var trouble error
	for _, m := range all {
		if !concerns(m, w) {
			continue
		}
		trouble = errors.Join(trouble, r.treatOne(ctx, w, m))
	}
	return trouble
}

// concerns says whether there is anything to decide or to write about a member.
func concerns(m *member, w *world) bool {
	s := &w.nodes[m.name].Status
	return m.busy() || m.fenced || s.Repair != nil || meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionHealthy) != nil ||
		w.settings.mode != v1alpha1.HealingDisabled && (m.sick != "" || m.poweredOff != "")
}

func rank(m *member) int {
	switch {
	case m.busy():
		return 0
	case m.controlPlane:
		return 1
	}
	return 2
}

// treatOne decides about one member, does what follows, and writes it down.
func (r *reconciler) treatOne(ctx context.Context, w *world, m *member) error {
	n := w.nodes[m.name]
	if action, _, ok := nextAction(m, w.facts); m.sick != "" && (ok && action == v1alpha1.RepairReinstall || m.repair.Action == v1alpha1.RepairReinstall) &&
		!w.now.Before(m.since.Add(w.settings.unhealthyAfter)) {
		m.storage = r.storage(ctx, n, w)
	}
	c := &patient{m: m, n: n, w: w}
	if err := r.fenceIt(ctx, c); err != nil {
		return err
	}
	v := decide(m, w.facts)
	if v.move == act {
		var err error
		if v, err = r.act(ctx, c, v); err != nil {
			return err
		}
	}
	repair, repairs := recorded(m, v, w.now)
	if v.move == begin {
		r.intents[m.name] = repair.Intended.Time
	}
	if err := r.write(ctx, c, v, repair, repairs); err != nil {
		return err
	}
	if v.move == finish || v.move == withdraw {
		delete(r.intents, m.name)
		return r.tidy(ctx, m.name)
	}
	return nil
}

// patient is one member under treatment: what it is decided about, and the objects.
type patient struct {
	m *member
	n *v1alpha1.Node
	w *world
}

// core is the member's core Node; nil: it is gone.
func (c *patient) core() *corev1.Node { return c.w.cores[c.m.name] }
