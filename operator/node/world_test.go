package node_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/claims"
	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/operator/node"
	"github.com/rhizome-dev/rhizome/test/kube"
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard()) // each manager has its own
	kube.Main(m)
}

const (
	system = names.SystemNamespace
	pxeNS  = names.DefaultPXENamespace
	image  = "registry.example/rhizome:test"
)

// world is an API server on which the node controller runs, and everything that
// is not the controller: the test plays the machines and their kubelets, the PXE
// pods and k3s.
type world struct {
	client.Client
	t       *testing.T
	cfg     *rest.Config
	store   *claims.Store // as a PXE pod has it
	founded provision.Founding

	mu  sync.Mutex
	now time.Time

	change func(*node.Options)
	stop   func()
	log    *record
}

var founding = sync.OnceValues(func() (provision.Founding, error) { return provision.NewFounding(time.Now) })

func newWorld(t *testing.T) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t, cfg: kube.Start(t), now: time.Now().Truncate(time.Second)}
	var err error
	if w.Client, err = client.New(w.cfg, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	if w.founded, err = founding(); err != nil {
		t.Fatal(err)
	}
	w.store = claims.New(w, w, pxeNS)
	for _, ns := range []string{system, pxeNS} {
		if err := client.IgnoreAlreadyExists(w.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})); err != nil {
			t.Fatal(err)
		}
	}
	secrets, err := w.founded.JoinSecrets()
	if err != nil {
		t.Fatal(err)
	}
	w.make(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: names.FoundingSecret}, Type: names.FoundingType,
		Data: map[string][]byte{
			names.KeyServerToken: []byte(secrets.ServerToken), names.KeyAgentToken: []byte(secrets.AgentToken),
			names.KeyNodeKey: secrets.NodeKey, names.KeyServerAuthority: secrets.ServerCA,
		},
	})
	t.Cleanup(w.clean)
	return w
}

// clean stops the operator and deletes everything that a test may have left.
func (w *world) clean() {
	w.kill()
	ctx := context.Background()
	var nodes v1alpha1.NodeList
	if err := w.List(ctx, &nodes); err != nil {
		w.t.Error(err)
	}
	for i := range nodes.Items {
		n := &nodes.Items[i]
		if controllerutil.RemoveFinalizer(n, v1alpha1.FinalizerMember) {
			if err := client.IgnoreNotFound(w.Update(ctx, n)); err != nil {
				w.t.Error(err)
			}
		}
	}
	now := client.GracePeriodSeconds(0)
	for _, all := range []struct {
		object  client.Object
		options []client.DeleteAllOfOption
	}{
		{&v1alpha1.Node{}, nil}, {&v1alpha1.Cluster{}, nil}, {&v1alpha1.OperatingSystem{}, nil}, {&corev1.Node{}, nil},
		{&corev1.Secret{}, []client.DeleteAllOfOption{client.InNamespace(pxeNS)}},
		{&corev1.Secret{}, []client.DeleteAllOfOption{client.InNamespace(system)}},
		{&corev1.Secret{}, []client.DeleteAllOfOption{client.InNamespace("kube-system")}},
		{&corev1.Pod{}, []client.DeleteAllOfOption{client.InNamespace(pxeNS), now}},
		{&corev1.Pod{}, []client.DeleteAllOfOption{client.InNamespace("default"), now}},
		{&policyv1.PodDisruptionBudget{}, []client.DeleteAllOfOption{client.InNamespace("default")}},
		{&corev1.Event{}, []client.DeleteAllOfOption{client.InNamespace("default")}},
	} {
		if err := w.DeleteAllOf(ctx, all.object, all.options...); err != nil {
			w.t.Errorf("%T: %v", all.object, err)
		}
	}
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// pass lets time pass, and has all Nodes looked at: a timer of the controller runs
// on the real clock.
func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	w.now = w.now.Add(d)
	w.mu.Unlock()
	w.nudge()
}

func (w *world) nudge() {
	w.t.Helper()
	var nodes v1alpha1.NodeList
	if err := w.List(w.t.Context(), &nodes); err != nil {
		w.t.Fatal(err)
	}
	for i := range nodes.Items {
		w.annotate(nodes.Items[i].Name, "test/now", w.clock().Format(time.RFC3339Nano))
	}
}

func (w *world) annotate(name, key, value string) {
	w.t.Helper()
	n := &v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	text := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, key, value)
	if value == "" {
		text = fmt.Sprintf(`{"metadata":{"annotations":{%q:null}}}`, key)
	}
	if err := w.Patch(w.t.Context(), n, client.RawPatch("application/merge-patch+json", []byte(text))); client.IgnoreNotFound(err) != nil {
		w.t.Fatal(err)
	}
}

// run runs the controller until kill.
func (w *world) run() {
	w.t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			w.t.Fatal(err)
		}
	}
	if w.log == nil {
		w.log = &record{}
	}
	logger := logr.FromSlogHandler(slog.NewTextHandler(w.log, nil))
	mgr, err := ctrl.NewManager(w.cfg, ctrl.Options{
		Scheme: scheme, Logger: logger,
		Cache: cache.Options{ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}: {Namespaces: map[string]cache.Config{system: {}, pxeNS: {}}},
			&corev1.Pod{}:    {Namespaces: map[string]cache.Config{pxeNS: {}}},
		}},
		Controller:              config.Controller{SkipNameValidation: ptr.To(true)},
		Metrics:                 metricsserver.Options{BindAddress: "0"},
		GracefulShutdownTimeout: ptr.To(10 * time.Second),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	live, err := client.New(w.cfg, client.Options{Scheme: scheme})
	if err != nil {
		w.t.Fatal(err)
	}
	o := node.Options{Now: w.clock, Live: live, Namespace: system, PXENamespace: pxeNS}
	if w.change != nil {
		w.change(&o)
	}
	if err := node.Setup(mgr, o); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("the manager ended with %v", err)
		}
	}
}

func (w *world) kill() {
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
	if w.t.Failed() && w.log != nil {
		w.t.Logf("the operator's log:\n%s", w.log)
		w.log = nil
	}
}

// restart is the operator's death and its successor.
func (w *world) restart() { w.kill(); w.run() }

// record is a log that may be read while it is written.
type record struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) { r.mu.Lock(); defer r.mu.Unlock(); return r.b.Write(p) }

func (r *record) String() string { r.mu.Lock(); defer r.mu.Unlock(); return r.b.String() }

func (w *world) make(objects ...client.Object) {
	w.t.Helper()
	for _, o := range objects {
		if err := w.Create(w.t.Context(), o); err != nil {
			w.t.Fatal(err)
		}
	}
}

type coreNode = corev1.Node

func contentOf(files []k3s.File, path string) string {
	for _, f := range files {
		if f.Path == path {
			return string(f.Content)
		}
	}
	return ""
}
