// Package cluster looks after what must be so of the cluster as a whole: it says
// whether its API is healthy, its first node joined, its declaration sound and its
// members declared, and runs the PXE pods while machines wait for them.
package cluster

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/internal/status"
)

// Manager is the field manager of what this controller writes.
const Manager = "rhizome-cluster"

// lookAgain is how often the API server is asked for its health: it tells nobody
// by itself. Between, askAgain bounds how often events make it be asked.
const (
	lookAgain = 30 * time.Second
	askAgain  = 10 * time.Second
)

// +kubebuilder:rbac:groups=rhizome.dev,resources=clusters;nodes;operatingsystems,verbs=get;list;watch
// +kubebuilder:rbac:groups=rhizome.dev,resources=clusters/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=nodes,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=events,verbs=create;patch,namespace=default

// The PXE pods, and the certificate that they serve.
//
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch;create;patch,namespace=pxe
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch,namespace=pxe
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get;list;watch;create;update,namespace=pxe

// The cluster's tokens, of which this controller only looks whether they are
// there, and the authority of the PXE service, which it makes.
//
// +kubebuilder:rbac:groups="",resources=secrets,resourceNames=rhizome-founding,verbs=get;list;watch,namespace=release
// +kubebuilder:rbac:groups="",resources=secrets,resourceNames=rhizome-pxe-ca,verbs=get,namespace=release
// +kubebuilder:rbac:groups="",resources=secrets,verbs=create,namespace=release

// Options are what the controller is told of its surroundings.
type Options struct {
	// Now is the clock.
	Now func() time.Time
	// Live reads and writes past the manager's cache, for what is not watched.
	Live client.Client
	// Namespace is the release's, and PXENamespace that of the PXE pods.
	Namespace, PXENamespace string
	// PXEImage is the image of the PXE pods. Empty: none can be run.
	PXEImage string
	// PXEArgs are further arguments of the PXE pods' command, such as their log's
	// level.
	PXEArgs []string
	// PXEResources are what a PXE pod asks for.
	PXEResources corev1.ResourceRequirements
	// Archives are the image archives that travelled with the installation, each as
	// NAME:SHA256. PXE pods serve them to new members.
	Archives []string
}

type reconciler struct {
	Options
	client    client.Client
	readyz    func(context.Context) string
	events    record.EventRecorder
	announcer announcer

	mu     sync.Mutex
	health health
	// wrote is the Deployment as it was when it was last applied.
	wrote deploymentVersion
}

// health is what the API server last said of itself.
type health struct {
	at   time.Time
	said string
}

// Setup adds the controller to a manager.
func Setup(mgr ctrl.Manager, o Options) error {
	ask, err := readyz(mgr.GetConfig())
	if err != nil {
		return err
	}
	r := &reconciler{
		Options: o, client: mgr.GetClient(), readyz: ask, events: mgr.GetEventRecorderFor(Manager),
		announcer: announcer{client: o.Live, told: map[types.NamespacedName]bool{}},
	}
	everyCluster := handler.EnqueueRequestsFromMapFunc(r.clusters)
	err = ctrl.NewControllerManagedBy(mgr).
		Named("cluster").
		For(&v1alpha1.Cluster{}).
		// Which Cluster is in force may change with any of them.
		Watches(&v1alpha1.Cluster{}, everyCluster).
		Watches(&v1alpha1.Node{}, everyCluster, builder.WithPredicates(nodeMatters)).
		Watches(&v1alpha1.OperatingSystem{}, everyCluster).
		Watches(&corev1.Node{}, everyCluster, builder.WithPredicates(coreNodeMatters)).
		Watches(&appsv1.Deployment{}, everyCluster, builder.WithPredicates(named(names.PXEDeployment))).
		Watches(&corev1.Pod{}, everyCluster, builder.WithPredicates(pxePod)).
		Watches(&corev1.Secret{}, everyCluster, builder.WithPredicates(named(names.FoundingSecret, names.ServingSecret))).
		Complete(r)
	if err != nil {
		return fmt.Errorf("cannot set up the cluster controller: %w", err)
	}
	return nil
}

func (r *reconciler) clusters(ctx context.Context, _ client.Object) []reconcile.Request {
	var all v1alpha1.ClusterList
	if err := r.client.List(ctx, &all); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "cannot list Clusters")
		return nil
	}
	var requests []reconcile.Request
	for i := range all.Items {
		requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Name: all.Items[i].Name}})
	}
	return requests
}

// Reconcile gathers the facts of one Cluster, does what follows from them for the
// PXE pods, and writes down the verdict.
func (r *reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	f, err := r.facts(ctx, req.Name)
	if err != nil || f.cluster == nil {
		return reconcile.Result{}, err
	}
	again := lookAgain
	var failed error
	if inForce(f.clusters).Name == f.cluster.Name {
		var left time.Duration
		f.pxe, left, failed = r.runPXE(ctx, f)
		if left > 0 {
			again = min(again, left)
		}
		if err := r.dropGone(ctx, &f); err != nil {
			return settled(err)
		}
		if err := r.announcer.tell(ctx, f.cluster, news(f.cluster, f.nodes, r.Now()), r.Now()); err != nil && failed == nil {
			failed = err
		}
	}
	next := r.status(f.cluster, judge(f))
	if !holds(f.cluster.Status, next) {
		if err := status.Apply(ctx, r.client, f.cluster, &next, Manager); err != nil {
			return settled(err)
		}
		ready := next.Conditions[0]
		ctrl.LoggerFrom(ctx).Info("status", "ready", ready.Status, "reason", ready.Reason, "message", ready.Message)
	}
	return reconcile.Result{RequeueAfter: again}, failed
}

// settled: after a conflict the change that caused it brings the controller back,
// to look again.
func settled(err error) (reconcile.Result, error) {
	if apierrors.IsConflict(err) {
		return reconcile.Result{RequeueAfter: lookAgain}, nil
	}
	return reconcile.Result{}, err
}

// facts gathers what the verdict rests on; a Cluster that is gone is nil.
func (r *reconciler) facts(ctx context.Context, name string) (facts, error) {
	var (
		clusters v1alpha1.ClusterList
		nodes    v1alpha1.NodeList
		systems  v1alpha1.OperatingSystemList
		cores    corev1.NodeList
		pods     corev1.PodList
	)
	inPXE := client.InNamespace(r.PXENamespace)
	for _, all := range []struct {
		what    string
		list    client.ObjectList
		options []client.ListOption
	}{
		{"Clusters", &clusters, nil},
		{"Nodes", &nodes, nil},
		{"OperatingSystems", &systems, nil},
		{"core Nodes", &cores, nil},
		{"PXE pods", &pods, []client.ListOption{inPXE, client.MatchingLabels(selector)}},
	} {
		if err := r.client.List(ctx, all.list, all.options...); err != nil {
			return facts{}, fmt.Errorf("cannot list %s: %w", all.what, err)
		}
	}
	f := facts{clusters: clusters.Items, nodes: nodes.Items, systems: systems.Items, cores: cores.Items, pods: pods.Items, now: r.Now()}
	i := slices.IndexFunc(f.clusters, func(c v1alpha1.Cluster) bool { return c.Name == name })
	if i < 0 {
		return facts{}, nil
	}
	f.cluster = &f.clusters[i]
	f.unhealthy = r.ask(ctx)
	return f, nil
}

// ask is what the API server says against its health, which is as old as askAgain
// at most.
func (r *reconciler) ask(ctx context.Context) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := r.Now(); r.health.at.IsZero() || now.Sub(r.health.at) >= askAgain || now.Before(r.health.at) {
		r.health = health{at: now, said: r.readyz(ctx)}
	}
	return r.health.said
}

// status is what this controller writes: all of the status but what the PXE pods
// say, of themselves and of machines that they discovered.
func (r *reconciler) status(c *v1alpha1.Cluster, v verdict) v1alpha1.ClusterStatus {
	return v1alpha1.ClusterStatus{
		ObservedGeneration: c.Generation,
		Endpoint:           v.endpoint,
		LoadBalancerPool:   v.pool,
		Nodes:              v.nodes,
		ReadyNodes:         v.ready,
		Conditions:         status.Conditions(c.Status.Conditions, v.conditions, c.Generation, r.Now()),
	}
}

// holds says whether the status says already what this controller has to say.
func holds(current, next v1alpha1.ClusterStatus) bool {
	return status.Same(current.Conditions, next.Conditions) &&
		current.ObservedGeneration == next.ObservedGeneration &&
		current.Endpoint == next.Endpoint && current.LoadBalancerPool == next.LoadBalancerPool &&
		current.Nodes == next.Nodes && current.ReadyNodes == next.ReadyNodes
}
