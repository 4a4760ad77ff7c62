// Package operator wires the controllers of the cluster's binary together and
// runs them.
package operator

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/flags"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/operator/cluster"
	"github.com/rhizome-dev/rhizome/operator/gitops"
	"github.com/rhizome-dev/rhizome/operator/healing"
	"github.com/rhizome-dev/rhizome/operator/node"
	"github.com/rhizome-dev/rhizome/operator/power"
)

// Leader election: one replica acts, gives the lease back when it stops, and
// tells both in an event.
//
// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,verbs=create,namespace=release
// +kubebuilder:rbac:groups=coordination.k8s.io,resources=leases,resourceNames=rhizome-operator,verbs=get;update,namespace=release
// +kubebuilder:rbac:groups="",resources=events,verbs=create;patch,namespace=release

// Metrics: who asks for them, and whether they may.
//
// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create

// Off as an address means that nothing listens.
const Off = "0"

// Options are what a person may set of the operator.
type Options struct {
	// MetricsAddress is where metrics are served, over HTTPS, to those whom the
	// API server allows to get /metrics: they name machines. Off: nowhere.
	MetricsAddress string
	// HealthAddress is where /healthz and /readyz are served, over HTTP. Off:
	// nowhere.
	HealthAddress string
	// LeaderElection lets one of several replicas act.
	LeaderElection bool
	// Namespace of the release: of the Lease, and of the Secrets that only the
	// operator reads. Empty: the one that the operator runs in, or rhizome-system
	// outside of a cluster.
	Namespace string
	// NodeName is the member that the operator runs on. Empty: it is not known, and no
	// member is repaired.
	NodeName string
	// PXENamespace is that of the PXE pods. Empty: rhizome-pxe.
	PXENamespace string
	// PXEImage is the image of the PXE pods. Empty: none are run.
	PXEImage string
	// PXEArgs are further arguments of the PXE pods' command.
	PXEArgs []string
	// PXEResources are what a PXE pod asks for.
	PXEResources corev1.ResourceRequirements
	// Archives are the image archives that travelled with the installation.
	Archives flags.Archives
	// WithoutGitOps leaves the controller of the resource GitOps out.
	WithoutGitOps bool
	// InstallAs is the user in whose name Argo CD is installed. Empty: the operator
	// itself.
	InstallAs string
	// PushAddress is where Gitea tells of pushes, over HTTP. Empty: nowhere.
	PushAddress string
	// PushURL is PushAddress as Gitea reaches it. Empty: Gitea is not told of it.
	PushURL string
	// Pauses lie between what is done.
	Pauses Pauses
	// ShutdownTimeout bounds how long controllers may go on when ctx has ended.
	ShutdownTimeout time.Duration
	// Logger takes what is logged; it must be set.
	Logger *slog.Logger
	// Now is the clock. Nil: the system's.
	Now func() time.Time
}

// Run runs the operator until ctx ends or it cannot go on: when it has lost the
// lease, above all. It returns nil when ctx ended and all has stopped.
func Run(ctx context.Context, cfg *rest.Config, o Options) error {
	ctrl.SetLogger(logr.FromSlogHandler(o.Logger.Handler()))
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := o.Pauses.complete(); err != nil {
		return err
	}
	if o.Namespace == "" {
		o.Namespace = ownNamespace()
	}
	if o.PXENamespace == "" {
		o.PXENamespace = names.DefaultPXENamespace
	}
	mgr, err := newManager(cfg, o)
	if err != nil {
		return err
	}
	// For what is not watched, and for reading what was just written.
	live, err := client.New(mgr.GetConfig(), client.Options{HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper()})
	if err != nil {
		return fmt.Errorf("cannot make a client: %w", err)
	}
	var archives []string
	for _, a := range o.Archives {
		archives = append(archives, a.String())
	}
	err = cluster.Setup(mgr, cluster.Options{
		Now: o.Now, Live: live, Namespace: o.Namespace, PXENamespace: o.PXENamespace,
		PXEImage: o.PXEImage, PXEArgs: append(slices.Clone(o.PXEArgs), "--reach-interval="+o.Pauses.ReachInterval.String()), PXEResources: o.PXEResources, Archives: archives,
	})
	if err != nil {
		return err
	}
	if err := node.Setup(mgr, node.Options{
		Now: o.Now, Live: live, Namespace: o.Namespace, PXENamespace: o.PXENamespace, Image: o.PXEImage,
		Repairing:      healing.Repairing(mgr.GetClient()),
		SilentPatience: o.Pauses.SilentPatience, EtcdSettle: o.Pauses.EtcdSettle,
	}); err != nil {
		return err
	}
	if err := healing.Setup(mgr, healing.Options{
		Now: o.Now, Live: live, PXENamespace: o.PXENamespace, Node: o.NodeName, Image: o.PXEImage, Driver: drivers(live, o.Namespace),
		Interval: o.Pauses.HealingInterval, Settle: o.Pauses.HealingSettle, BackOff: o.Pauses.HealingBackOff, ReachLife: reachLives * o.Pauses.ReachInterval,
	}); err != nil {
		return err
	}
	if err := power.Setup(mgr, power.Options{
		Now: o.Now, Live: live, PXENamespace: o.PXENamespace, Driver: drivers(live, o.Namespace),
	}); err != nil {
		return err
	}
	if !o.WithoutGitOps {
		err = gitops.Setup(mgr, gitops.Options{
			Now: o.Now, Live: live, Namespace: o.Namespace, InstallAs: o.InstallAs, HookAddress: o.PushAddress, HookURL: o.PushURL,
		})
		if err != nil {
			return err
		}
	}
	if o.LeaderElection && o.NodeName != "" {
		if err := mgr.Add(&stepDown{reader: mgr.GetClient(), node: o.NodeName, now: o.Now, after: 2 * o.Pauses.Lease}); err != nil {
			return fmt.Errorf("cannot set up the stepping down: %w", err)
		}
	}
	if err := mgr.Start(ctx); err != nil {
		return fmt.Errorf("the operator stopped: %w", err)
	}
	return nil
}

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("cannot build the scheme: %w", err)
		}
	}
	return scheme, nil
}

// watched restricts what is kept in memory to what the controllers may read: in
// the release's namespace one Secret, and of what runs in the cluster the PXE pods'
// namespace.
func watched(o Options) cache.Options {
	ofPXE := cache.ByObject{Namespaces: map[string]cache.Config{o.PXENamespace: {}}}
	secrets := cache.ByObject{Namespaces: map[string]cache.Config{
		o.Namespace:    {FieldSelector: fields.OneTermEqualSelector("metadata.name", names.FoundingSecret)},
		o.PXENamespace: {},
	}}
	return cache.Options{
		DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}: secrets, &corev1.Pod{}: ofPXE, &appsv1.Deployment{}: ofPXE,
		},
	}
}

func newManager(cfg *rest.Config, o Options) (ctrl.Manager, error) {
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	cfg = rest.AddUserAgent(rest.CopyConfig(cfg), "rhizome-operator")
	// Each of a thousand members costs a write when the operator first sees it.
	cfg.QPS, cfg.Burst = 100, 200
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme: scheme,
		Cache:  watched(o),
		Logger: logr.FromSlogHandler(o.Logger.Handler()),
		// The names are those of this package. The check is of the whole process, in
		// which Run may be called again.
		Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		Metrics: metricsserver.Options{
			BindAddress:    o.MetricsAddress,
			SecureServing:  true,
			FilterProvider: filters.WithAuthenticationAndAuthorization,
		},
		HealthProbeBindAddress:        o.HealthAddress,
		LeaderElection:                o.LeaderElection,
		LeaderElectionID:              names.LeaseName,
		LeaderElectionNamespace:       o.Namespace,
		LeaderElectionReleaseOnCancel: true, // the process ends after Run
		// In the usual proportions.
		LeaseDuration:           ptr.To(o.Pauses.Lease),
		RenewDeadline:           ptr.To(o.Pauses.Lease * 2 / 3),
		RetryPeriod:             ptr.To(o.Pauses.Lease * 2 / 15),
		GracefulShutdownTimeout: &o.ShutdownTimeout,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot set up the operator: %w", err)
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, fmt.Errorf("cannot set up the liveness probe: %w", err)
	}
	if err := mgr.AddReadyzCheck("informers", synced(mgr)); err != nil {
		return nil, fmt.Errorf("cannot set up the readiness probe: %w", err)
	}
	return mgr, nil
}
