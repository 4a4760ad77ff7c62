// Package cluster looks after what must be so of the cluster as a whole. So far:
// whether its API is healthy, its first node joined and its declaration sound.
package cluster

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/status"
)

// Manager is the field manager of what this controller writes.
const Manager = "rhizome-cluster"

// lookAgain is how often the API server is asked for its health: it tells nobody
// by itself.
const lookAgain = 30 * time.Second

// +kubebuilder:rbac:groups=rhizome.dev,resources=clusters;nodes;operatingsystems,verbs=get;list;watch
// +kubebuilder:rbac:groups=rhizome.dev,resources=clusters/status,verbs=patch

type reconciler struct {
	client client.Client
	readyz func(context.Context) string
	now    func() time.Time
}

// Setup adds the controller to a manager. now is the clock.
func Setup(mgr ctrl.Manager, now func() time.Time) error {
	ask, err := readyz(mgr.GetConfig())
	if err != nil {
		return err
	}
	r := &reconciler{client: mgr.GetClient(), readyz: ask, now: now}
	everyCluster := handler.EnqueueRequestsFromMapFunc(r.clusters)
	err = ctrl.NewControllerManagedBy(mgr).
		Named("cluster").
		For(&v1alpha1.Cluster{}).
		// Which Cluster is in force may change with any of them.
		Watches(&v1alpha1.Cluster{}, everyCluster).
		Watches(&v1alpha1.Node{}, everyCluster).
		Watches(&v1alpha1.OperatingSystem{}, everyCluster).
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

// Reconcile gathers the facts of one Cluster and writes down the verdict.
func (r *reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	f, err := r.facts(ctx, req.Name)
	if err != nil || f.cluster == nil {
		return reconcile.Result{}, err
	}
	next := r.status(f.cluster, judge(f))
	if !holds(f.cluster.Status, next) {
		if err := status.Apply(ctx, r.client, f.cluster, &next, Manager); err != nil {
			if apierrors.IsConflict(err) {
				// It has changed: the change brings the controller back, to look again.
				return reconcile.Result{RequeueAfter: lookAgain}, nil
			}
			return reconcile.Result{}, err
		}
		ready := next.Conditions[0]
		ctrl.LoggerFrom(ctx).Info("status", "ready", ready.Status, "reason", ready.Reason, "message", ready.Message)
	}
	return reconcile.Result{RequeueAfter: lookAgain}, nil
}

// facts gathers what the verdict rests on; a Cluster that is gone is nil.
func (r *reconciler) facts(ctx context.Context, name string) (facts, error) {
	var f facts
	var clusters v1alpha1.ClusterList
	if err := r.client.List(ctx, &clusters); err != nil {
		return f, fmt.Errorf("cannot list Clusters: %w", err)
	}
	var nodes v1alpha1.NodeList
	if err := r.client.List(ctx, &nodes); err != nil {
		return f, fmt.Errorf("cannot list Nodes: %w", err)
	}
	var systems v1alpha1.OperatingSystemList
	if err := r.client.List(ctx, &systems); err != nil {
		return f, fmt.Errorf("cannot list OperatingSystems: %w", err)
	}
	f = facts{clusters: clusters.Items, nodes: nodes.Items, systems: systems.Items}
	for i := range f.clusters {
		if f.clusters[i].Name == name {
			f.cluster = &f.clusters[i]
			f.unhealthy = r.readyz(ctx)
		}
	}
	return f, nil
}

// status is what this controller writes. It owns the whole status.
func (r *reconciler) status(c *v1alpha1.Cluster, v verdict) v1alpha1.ClusterStatus {
	return v1alpha1.ClusterStatus{
		ObservedGeneration: c.Generation,
		Endpoint:           v.endpoint,
		LoadBalancerPool:   v.pool,
		Nodes:              v.nodes,
		ReadyNodes:         v.ready,
		Conditions:         status.Conditions(c.Status.Conditions, v.conditions, c.Generation, r.now()),
	}
}

// holds says whether the status says already what this controller has to say.
func holds(current, next v1alpha1.ClusterStatus) bool {
	return status.Same(current.Conditions, next.Conditions) &&
		current.ObservedGeneration == next.ObservedGeneration &&
		current.Endpoint == next.Endpoint && current.LoadBalancerPool == next.LoadBalancerPool &&
		current.Nodes == next.Nodes && current.ReadyNodes == next.ReadyNodes
}
