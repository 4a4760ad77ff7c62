// Package gitops looks after what applies the rest: it installs Argo CD, makes the
// layers one after another, gives the load balancer its pool, and moves the source of
// truth from the seed to the home and back.
package gitops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	argo "github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/status"
)

// Manager is the field manager of what this controller writes.
const Manager = "rhizome-gitops"

// +kubebuilder:rbac:groups=rhizome.dev,resources=gitops,verbs=get;list;watch
// +kubebuilder:rbac:groups=rhizome.dev,resources=gitops/status,verbs=patch
// +kubebuilder:rbac:groups=rhizome.dev,resources=clusters;nodes,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=events,verbs=create;patch,namespace=default

// The layers, wherever Argo CD is.
//
// +kubebuilder:rbac:groups=argoproj.io,resources=applicationsets,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=argoproj.io,resources=applications,verbs=get;list;watch;create;patch;delete

// The pool of the load balancer.
//
// +kubebuilder:rbac:groups=metallb.io,resources=ipaddresspools;l2advertisements,verbs=get;create;patch

// The secret of the webhook, which this controller makes.
//
// +kubebuilder:rbac:groups="",resources=secrets,resourceNames=rhizome-gitops-webhook,verbs=get,namespace=release
// +kubebuilder:rbac:groups="",resources=secrets,verbs=create,namespace=release

// What Argo CD consists of.
//
// +kubebuilder:rbac:groups=apps,resources=deployments;statefulsets,verbs=list
// +kubebuilder:rbac:groups="",resources=configmaps,resourceNames=argocd-cmd-params-cm,verbs=get
// +kubebuilder:rbac:groups=apiextensions.k8s.io,resources=customresourcedefinitions,verbs=get

// Argo CD is installed in the name of another account: its chart makes all rights in
// the cluster, and only who has them may give them. That account reads the
// credentials that the GitOps names, too, and gives Argo CD its own, so that the
// operator itself has no right to the Secrets of Argo CD's namespace. It is used for
// nothing else.
//
// +kubebuilder:rbac:groups="",resources=serviceaccounts,resourceNames=rhizome-installer,verbs=impersonate,namespace=release

// Options are what the controller is told of its surroundings. Now, Live and
// Namespace must be set.
type Options struct {
	// Now is the clock.
	Now func() time.Time
	// Live reads and writes past the manager's cache. Argo CD's types are added to its
	// scheme.
	Live client.Client
	// Namespace is the release's, with the Secrets that the GitOps names.
	Namespace string
	// InstallAs is the user in whose name Argo CD is installed, and credentials are
	// read and handed over, such as system:serviceaccount:rhizome-system:rhizome-installer.
	// Empty: the operator itself.
	InstallAs string
	// HookAddress is where pushes to Gitea are heard of. Empty: nowhere, and the
	// sources are looked at now and then.
	HookAddress string
	// HookURL is HookAddress as Gitea reaches it, with HookPath. Empty: Gitea is not
	// told of it.
	HookURL string
	// Poll is how often the sources are looked at. Zero: 30 seconds.
	Poll time.Duration
	// SwitchTimeout is how long the Applications may take to be ready from the home
	// before the switch is rolled back. Zero: ten minutes.
	SwitchTimeout time.Duration
	// FallBackAfter is how long a home must not have been sound before the layers may
	// go back to the seed. Zero: half an hour.
	FallBackAfter time.Duration
	// TryAgain is how long an installation or a migration that failed is left alone.
	// Zero: a minute.
	TryAgain time.Duration
	// MigrationStale is how long an empty repository of a migration whose end nobody
	// knows is left alone. Zero: an hour.
	MigrationStale time.Duration
	// HoldOff is how long the switch waits after one that was rolled back; it doubles
	// with each, up to a day. Zero: ten minutes.
	HoldOff time.Duration
}

func (o *Options) complete() error {
	if o.Now == nil || o.Live == nil || o.Namespace == "" {
		return errors.New("cannot set up the GitOps controller: its options lack the clock, the client or the namespace")
	}
	for _, d := range []struct {
		of *time.Duration
		is time.Duration
	}{{&o.Poll, 30 * time.Second}, {&o.SwitchTimeout, 10 * time.Minute}, {&o.FallBackAfter, 30 * time.Minute}, {&o.HoldOff, 10 * time.Minute}, {&o.TryAgain, time.Minute}, {&o.MigrationStale, time.Hour}} {
		if *d.of == 0 {
			*d.of = d.is
		}
	}
	return nil
}

type reconciler struct {
	Options
	// installer and argo have the rights of InstallAs.
	installer *rest.Config
	argo      client.Client
	cached    client.Reader // of GitOps, which is watched

	events   record.EventRecorder
	observer observer
	// kick brings the controller back at once.
	kick chan event.TypedGenericEvent[*v1alpha1.GitOps]

	// watch begins to watch Applications and ApplicationSets, once they are defined.
	watch func() error

	// What follows is used by one worker alone, but for tasks.
	watching bool
	absent   map[string]int          // Applications whose directory is gone
	looks    int                     // that removable has counted
	told     string                  // the head that Argo CD was told of
	asked    map[types.UID]time.Time // when Argo CD was asked to look again at an Application
	hooked   place                   // the home whose webhook was made
	mirrored time.Time               // when Gitea was last asked about its push mirror,
	pushing  bool                    // what was wanted of it,
	// and why it could not be had
	mirrorFailed string
	tasks        tasks
}

// tasks are what takes long and is done beside: one at a time of a name.
type tasks struct {
	mu      sync.Mutex
	running map[string]bool
	failed  map[string]string
	at      map[string]time.Time
}

func (t *tasks) state(name string) (running bool, failure string, at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.running[name], t.failed[name], t.at[name]
}

// begin does something in the background unless it is being done, or failed less
// than a wait ago.
func (t *tasks) begin(name string, now func() time.Time, wait time.Duration, do func() error, done func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running == nil {
		t.running, t.failed, t.at = map[string]bool{}, map[string]string{}, map[string]time.Time{}
	}
	if t.running[name] || t.failed[name] != "" && now().Sub(t.at[name]) < wait && !now().Before(t.at[name]) {
		return
	}
	t.running[name] = true
	go func() {
		err := do()
		t.mu.Lock()
		t.running[name], t.failed[name], t.at[name] = false, "", now()
		if err != nil {
			t.failed[name] = err.Error()
		}
		t.mu.Unlock()
		done()
	}()
}

// Setup adds the controller to a manager.
func Setup(mgr ctrl.Manager, o Options) error {
	if err := o.complete(); err != nil {
		return err
	}
	for _, add := range []error{argo.AddToScheme(o.Live.Scheme()), argo.AddToScheme(mgr.GetScheme())} {
		if add != nil {
			return fmt.Errorf("cannot set up the GitOps controller: %w", add)
		}
	}
	r := &reconciler{
		Options: o, cached: mgr.GetClient(), events: mgr.GetEventRecorderFor(Manager), absent: map[string]int{},
		observer: observer{poll: o.Poll}, kick: make(chan event.TypedGenericEvent[*v1alpha1.GitOps], 1),
	}
	r.installer, r.argo = rest.CopyConfig(mgr.GetConfig()), o.Live
	if o.InstallAs != "" {
		r.installer.Impersonate.UserName = o.InstallAs
		var err error
		if r.argo, err = client.New(r.installer, client.Options{Scheme: o.Live.Scheme(), Mapper: o.Live.RESTMapper()}); err != nil {
			return fmt.Errorf("cannot set up the GitOps controller: %w", err)
		}
	}
	every := handler.TypedEnqueueRequestsFromMapFunc(r.every)
	c, err := ctrl.NewControllerManagedBy(mgr).
		Named("gitops").
		For(&v1alpha1.GitOps{}).
		Watches(&v1alpha1.Cluster{}, handler.EnqueueRequestsFromMapFunc(r.every)).
		WatchesRawSource(source.Channel(r.kick, handler.TypedEnqueueRequestsFromMapFunc(func(ctx context.Context, g *v1alpha1.GitOps) []reconcile.Request { return r.every(ctx, g) }))).
		WithOptions(controller.Options{MaxConcurrentReconciles: 1}).
		Build(r)
	if err != nil {
		return fmt.Errorf("cannot set up the GitOps controller: %w", err)
	}
	// Of Applications and their sets, which are large, only their metadata is kept: that
	// one has changed brings the controller back, which reads them itself. Of a set only
	// an edit is of interest, which is put right before much has followed from it.
	r.watch = func() error {
		app, set := &metav1.PartialObjectMetadata{}, &metav1.PartialObjectMetadata{}
		app.SetGroupVersionKind(argo.ApplicationSchemaGroupVersionKind)
		set.SetGroupVersionKind(argo.ApplicationSetSchemaGroupVersionKind)
		return errors.Join(
			c.Watch(source.Kind[client.Object](mgr.GetCache(), app, every)),
			c.Watch(source.Kind[client.Object](mgr.GetCache(), set, every, predicate.TypedGenerationChangedPredicate[client.Object]{})),
		)
	}
	if o.HookAddress != "" {
		h := &hook{address: o.HookAddress, now: o.Now, secret: r.hookSecret, pushed: r.pushed}
		if err := mgr.Add(h); err != nil {
			return fmt.Errorf("cannot set up the webhook: %w", err)
		}
	}
	return nil
}

func (r *reconciler) every(ctx context.Context, _ client.Object) []reconcile.Request {
	var all v1alpha1.GitOpsList
	if err := r.cached.List(ctx, &all, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "cannot list GitOps")
		return nil
	}
	var requests []reconcile.Request
	for i := range all.Items {
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Name: all.Items[i].Name}})
	}
	return requests
}

// again brings the controller back at once, from wherever it is called.
func (r *reconciler) again() {
	select {
	case r.kick <- event.TypedGenericEvent[*v1alpha1.GitOps]{Object: &v1alpha1.GitOps{}}:
	default: // one is on its way
	}
}

// Reconcile looks at the world, decides and does one step: a step that moves the
// source is only written down here, and done by the next pass from what is written.
func (r *reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	var all v1alpha1.GitOpsList
	if err := r.Live.List(ctx, &all); err != nil {
		return reconcile.Result{}, fmt.Errorf("cannot list GitOps: %w", err)
	}
	i := slices.IndexFunc(all.Items, func(g v1alpha1.GitOps) bool { return g.Name == req.Name })
	if i < 0 || all.Items[i].DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	g := &all.Items[i]
	if first := inForce(all.Items); first.Name != g.Name {
		next := g.Status.DeepCopy()
		next.ObservedGeneration = g.Generation
		next.Conditions = status.Conditions(g.Status.Conditions, []metav1.Condition{condition(v1alpha1.ConditionReady, metav1.ConditionFalse,
			v1alpha1.ReasonSecondGitOps, fmt.Sprintf("the older GitOps %q is in force: delete one of the two", first.Name))}, g.Generation, r.Now())
		return r.save(ctx, g, next, 0)
	}
	w, err := r.gather(ctx, g)
	if err != nil {
		return reconcile.Result{}, err
	}
	next, after, trouble := r.act(ctx, w)
	if trouble != nil {
		// It stands in the status, and is tried again soon: no queue that waits longer each
		// time, for others go on meanwhile.
		ctrl.LoggerFrom(ctx).Error(trouble, "cannot do all that is to be done")
	}
	return r.save(ctx, g, next, after)
}

// save writes the status if it says something new, and tells what happened.
func (r *reconciler) save(ctx context.Context, g *v1alpha1.GitOps, next *v1alpha1.GitOpsStatus, after time.Duration) (reconcile.Result, error) {
	result := reconcile.Result{RequeueAfter: after}
	if same(&g.Status, next) {
		return result, nil
	}
	if err := status.Apply(ctx, r.Live, g, next, Manager); err != nil {
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return reconcile.Result{RequeueAfter: time.Second}, nil
		}
		return reconcile.Result{}, err
	}
	for _, n := range newsOf(&g.Status, next) {
		r.events.Event(g, n.kind, n.reason, n.message)
		ctrl.LoggerFrom(ctx).Info("source of truth", "what", n.reason, "message", n.message)
	}
	return result, nil
}

type news struct{ kind, reason, message string }

// newsOf are what happened between two records.
func newsOf(before, after *v1alpha1.GitOpsStatus) []news {
	var all []news
	if before.ActiveSource != after.ActiveSource {
		all = append(all, news{corev1.EventTypeNormal, "SourceChanged", fmt.Sprintf("the layers follow the %s", strings.ToLower(string(after.ActiveSource)))})
	}
	was, is := or0(before.Switch), or0(after.Switch)
	if was.To == "" && is.To != "" {
		all = append(all, news{corev1.EventTypeNormal, "SwitchStarted", fmt.Sprintf("the layers are pointed at the %s, from commit %s", strings.ToLower(string(is.To)), short(is.Revision))})
	}
	if is.Failures > was.Failures {
		all = append(all, news{corev1.EventTypeWarning, "SwitchRolledBack", is.Message})
	}
	return all
}

func or0(s *v1alpha1.SourceSwitch) v1alpha1.SourceSwitch {
	if s == nil {
		return v1alpha1.SourceSwitch{}
	}
	return *s
}

// inForce is the oldest GitOps; of equally old ones the first by name.
func inForce(all []v1alpha1.GitOps) *v1alpha1.GitOps {
	first := &all[0]
	for i := range all {
		g := &all[i]
		if older := g.CreationTimestamp.Time.Compare(first.CreationTimestamp.Time); older < 0 || older == 0 && g.Name < first.Name {
			first = g
		}
	}
	return first
}

var crdKind = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}
