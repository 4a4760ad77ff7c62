//go:build linux

package gitops

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	argo "github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"github.com/rhizome-dev/rhizome/chart"
	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/test/argocd"
	argochart "github.com/rhizome-dev/rhizome/test/argocd/chart"
	"github.com/rhizome-dev/rhizome/test/gitea"
	"github.com/rhizome-dev/rhizome/test/gitserver"
	"github.com/rhizome-dev/rhizome/test/kube"
	"github.com/rhizome-dev/rhizome/test/program"
)

func TestMain(m *testing.M) { kube.Main(m) }

// patience bounds waiting for what never comes. No test measures time with it.
const patience = 8 * time.Minute

// layerNames are the default layers, of which each has one directory at first.
var layerNames = []string{"bootstrap", "system", "platform", "apps"}

func configMap(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: %s\n  labels: {rhizome.test/counted: \"\"}\ndata:\n  value: %q\n", name, value)
}

// firstFiles is what the seed has at first.
func firstFiles() map[string]string {
	files := map[string]string{"README.md": "the lab\n"}
	for _, l := range layerNames {
		files[l+"/"+l+"-one/config.yaml"] = configMap(l, "1")
	}
	return files
}

// scene is a cluster with the operator's GitOps controller, the real Argo CD, the
// real Gitea and a git server that plays GitHub.
type scene struct {
	t *testing.T
	// config and client are a person's, who may do anything; operator is what the
	// operator's account may do, by the rights of its chart.
	config   *rest.Config
	operator *rest.Config
	client   client.WithWatch
	hub      *gitserver.Server
	seed     *gitserver.Clone
	gitea    *gitea.Gitea
	argo     *argocd.Argo
	// stop ends the operator.
	stop    func()
	options Options
	hookAt  string
	// argoNamespace and release are namespaces of this scene's own: tests share the API
	// server.
	argoNamespace, release string

	mu      sync.Mutex
	deleted []string // objects that were counted and are gone
}

// charts serves Argo CD's Helm chart, made of Argo CD's own manifests: the real chart
// repository is not to be had here.
func charts(t *testing.T) *httptest.Server {
	t.Helper()
	dir := t.TempDir()
	if err := argochart.Write(dir, argocd.Manifests(t), false); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(s.Close)
	return s
}

// account makes the accounts of the operator's chart, with their rights, and returns
// the access that the operator has.
func (s *scene) account() *rest.Config {
	s.t.Helper()
	release := s.release // a name of its own, for what is in no namespace
	text, err := chart.Render(release, s.release, map[string]any{"pxe": map[string]any{"namespace": s.release + "-pxe"}})
	s.must(err)
	for document := range strings.SplitSeq("\n"+text, "\n---\n") {
		o := &unstructured.Unstructured{}
		s.must(yaml.Unmarshal([]byte(document), &o.Object))
		if o.GetKind() == "ServiceAccount" || o.GetKind() == "Namespace" || o.GroupVersionKind().Group == "rbac.authorization.k8s.io" {
			s.must(s.client.Patch(s.t.Context(), o, client.Apply, client.FieldOwner("test"), client.ForceOwnership))
		}
	}
	return kube.As(s.t, s.config, s.release, release+"-operator")
}

var scenes atomic.Int32

// setUp makes everything but the operator. Gitea is stopped.
func setUp(t *testing.T) *scene {
	t.Helper()
	n := scenes.Add(1)
	s := &scene{
		t: t, config: kube.Start(t), hub: gitserver.Start(t),
		argoNamespace: fmt.Sprintf("argocd-%d", n), release: fmt.Sprintf("rhizome-system-%d", n),
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, v1alpha1.AddToScheme, argo.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if s.client, err = client.NewWithWatch(s.config, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	s.hub.Repository(t, "lab")
	s.seed = s.hub.Clone(t, "lab")
	s.seed.Commit(t, "first", firstFiles())
	s.gitea = gitea.Start(t)
	s.gitea.Stop()
	s.hookAt = fmt.Sprintf("127.0.0.1:%d", program.Port(t))
	s.must(s.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.release}}))
	s.operator = s.account()
	live, err := liveClient(s.operator)
	s.must(err)
	s.options = Options{
		Now: time.Now, Live: live, Namespace: s.release, InstallAs: "system:serviceaccount:" + s.release + ":rhizome-installer", Poll: time.Second, HookAddress: s.hookAt, HookURL: "http://" + s.hookAt + HookPath,
		FallBackAfter: time.Hour, HoldOff: time.Hour,
	}
	s.must(s.client.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "gitea-admin", Namespace: s.release},
		Data:       map[string][]byte{"username": []byte(gitea.Admin), "password": []byte(s.gitea.Password)},
	}))
	s.must(s.client.Create(t.Context(), &v1alpha1.GitOps{
		ObjectMeta: metav1.ObjectMeta{Name: "homelab"},
		Spec: v1alpha1.GitOpsSpec{
			ArgoCD: v1alpha1.ArgoCDSpec{
				Repository: charts(t).URL, Namespace: s.argoNamespace,
				// They are the cluster's, and scenes share one.
				Values: &runtime.RawExtension{Raw: []byte(`{"createClusterRoles": false}`)},
			},
			Seed: v1alpha1.GitSource{URL: s.hub.URL("lab")},
			Home: &v1alpha1.HomeSource{URL: s.gitea.URL, Owner: "home", Repository: "lab", Credentials: v1alpha1.SecretReference{Name: "gitea-admin"}},
		},
	}))
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		for _, err := range []error{
			s.client.Delete(ctx, &v1alpha1.GitOps{ObjectMeta: metav1.ObjectMeta{Name: "homelab"}}),
			s.eachLayerNamespace(func(ns string) error {
				return s.client.DeleteAllOf(ctx, &corev1.ConfigMap{}, client.InNamespace(ns), client.HasLabels{"rhizome.test/counted"})
			}),
		} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

// liveClient is the operator's. Its scheme is its own: the operator adds to it.
func liveClient(access *rest.Config) (client.Client, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	return client.New(access, client.Options{Scheme: scheme})
}

func (s *scene) eachLayerNamespace(do func(string) error) error {
	for _, name := range appNames() {
		if err := do(name); err != nil {
			return err
		}
	}
	return nil
}

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// operate runs the operator's controller until stop, or the test's end.
func (s *scene) operate() {
	s.t.Helper()
	ended, end, err := s.run(s.operator, s.options)
	s.must(err)
	s.stop = sync.OnceFunc(func() {
		end()
		if err := <-ended; err != nil {
			s.t.Errorf("the operator ended: %v", err)
		}
	})
	s.t.Cleanup(s.stop)
}

// run runs the operator's controller with an access until end.
func (s *scene) run(access *rest.Config, options Options) (ended <-chan error, end func(), err error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, nil, err
		}
	}
	log := logr.FromSlogHandler(slog.NewTextHandler(s.t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
	ctrl.SetLogger(log)
	mgr, err := ctrl.NewManager(access, ctrl.Options{
		Scheme: scheme, Logger: log, Metrics: metricsserver.Options{BindAddress: "0"}, Controller: config.Controller{SkipNameValidation: ptr.To(true)},
	})
	if err != nil {
		return nil, nil, err
	}
	if err := Setup(mgr, options); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	return done, cancel, nil
}

// argoCD plays the nodes on which Argo CD's pods run: its programs run beside the
// API server, and what would be said of the pods is said by the test.
func (s *scene) argoCD(environment ...string) {
	s.t.Helper()
	s.partsReady()
	s.argo = argocd.Run(s.t, s.config, argocd.InNamespace(s.argoNamespace), argocd.Environment(environment...))
}

// partsReady waits until every part of Argo CD is installed, and says of each that its
// pods run.
func (s *scene) partsReady() {
	s.t.Helper()
	s.until("Argo CD is installed", func(ctx context.Context) string {
		for name, o := range map[string]client.Object{
			"argocd-repo-server": &appsv1.Deployment{}, "argocd-applicationset-controller": &appsv1.Deployment{}, "argocd-application-controller": &appsv1.StatefulSet{},
		} {
			if err := s.client.Get(ctx, client.ObjectKey{Namespace: s.argoNamespace, Name: name}, o); err != nil {
				return err.Error()
			}
			switch o := o.(type) {
			case *appsv1.Deployment:
				o.Status = appsv1.DeploymentStatus{ObservedGeneration: o.Generation, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1}
			case *appsv1.StatefulSet:
				o.Status = appsv1.StatefulSetStatus{ObservedGeneration: o.Generation, Replicas: 1, ReadyReplicas: 1}
			}
			if err := s.client.Status().Update(ctx, o); err != nil {
				return err.Error()
			}
		}
		return ""
	})
}

// until asks until there is nothing left to say.
func (s *scene) until(what string, lacks func(context.Context) string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	for {
		last := lacks(ctx)
		if last == "" {
			return
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("%s: still %s", what, last)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (s *scene) gitops() *v1alpha1.GitOps {
	s.t.Helper()
	g := &v1alpha1.GitOps{}
	s.must(s.client.Get(s.t.Context(), client.ObjectKey{Name: "homelab"}, g))
	return g
}

// says waits until the conditions are as given, as "type" to "status reason".
func (s *scene) says(what string, source v1alpha1.SourceName, want map[string]string) {
	s.t.Helper()
	s.until(what, func(context.Context) string {
		g := s.gitops()
		if g.Status.ActiveSource != source {
			return fmt.Sprintf("the source is %q, not %q: %s", g.Status.ActiveSource, source, conditions(g))
		}
		for kind, w := range want {
			c := meta.FindStatusCondition(g.Status.Conditions, kind)
			if c == nil || string(c.Status)+" "+c.Reason != w {
				return fmt.Sprintf("%s is not %s: %s", kind, w, conditions(g))
			}
		}
		return ""
	})
}

func conditions(g *v1alpha1.GitOps) string {
	var all []string
	for _, c := range g.Status.Conditions {
		all = append(all, fmt.Sprintf("%s=%s %s (%s)", c.Type, c.Status, c.Reason, c.Message))
	}
	return strings.Join(all, "\n  ")
}

// count watches what must live: every Application of a layer, and every object that
// they applied. What is deleted is written down.
func (s *scene) count() {
	s.t.Helper()
	for _, list := range []client.ObjectList{&argo.ApplicationList{}, &corev1.ConfigMapList{}} {
		options := []client.ListOption{client.HasLabels{layerLabel}, client.InNamespace(s.argoNamespace)}
		if _, ok := list.(*corev1.ConfigMapList); ok {
			options = []client.ListOption{client.HasLabels{"rhizome.test/counted"}}
		}
		w, err := s.client.Watch(context.WithoutCancel(s.t.Context()), list, options...)
		s.must(err)
		s.t.Cleanup(w.Stop)
		go func() {
			for e := range w.ResultChan() {
				o, ok := e.Object.(client.Object)
				if !ok || e.Type != watch.Deleted {
					continue
				}
				s.mu.Lock()
				s.deleted = append(s.deleted, fmt.Sprintf("%T %s", o, client.ObjectKeyFromObject(o)))
				s.mu.Unlock()
			}
		}()
	}
}

// nothingIsLost checks that nothing was deleted, and that the same objects are there
// as before; it returns their identities.
func (s *scene) nothingIsLost(before map[string]types.UID) map[string]types.UID {
	s.t.Helper()
	s.mu.Lock()
	if len(s.deleted) > 0 {
		s.t.Errorf("deleted, and should live: %v", s.deleted)
	}
	s.mu.Unlock()
	now := map[string]types.UID{}
	var apps argo.ApplicationList
	var maps_ corev1.ConfigMapList
	s.must(s.client.List(s.t.Context(), &apps, client.HasLabels{layerLabel}, client.InNamespace(s.argoNamespace)))
	s.must(s.client.List(s.t.Context(), &maps_, client.HasLabels{"rhizome.test/counted"}))
	for _, a := range apps.Items {
		now["Application "+a.Name] = a.UID
	}
	for _, m := range maps_.Items {
		now["ConfigMap "+m.Namespace+"/"+m.Name] = m.UID
	}
	for name, uid := range before {
		if now[name] != uid {
			s.t.Errorf("%s was %s and is %s", name, uid, now[name])
		}
	}
	if len(now) < 2*len(layerNames) {
		s.t.Errorf("only %d objects are counted: %v", len(now), slices.Sorted(maps.Keys(now)))
	}
	return now
}

// names of the Applications of the first directories.
func appNames() []string {
	var all []string
	for _, l := range layerNames {
		all = append(all, l+"-one")
	}
	return all
}

// pin says which source a person wants.
func (s *scene) pin(to v1alpha1.SourcePin) {
	s.t.Helper()
	s.until("the pin is set", func(ctx context.Context) string {
		g := s.gitops()
		g.Spec.Source = to
		if err := s.client.Update(ctx, g); err != nil {
			return err.Error()
		}
		return ""
	})
}

// copySeed makes the home's branch a commit of the seed's, as a person does by hand.
func (s *scene) copySeed(commit string) {
	s.t.Helper()
	dir := s.t.TempDir()
	for _, args := range [][]string{
		{"clone", "--quiet", "--bare", s.hub.URL("lab"), dir},
		{"push", "--quiet", "--force", s.gitea.PushURL(s.t, "home", "lab"), commit + ":refs/heads/main"},
	} {
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			s.t.Fatalf("git %s: %v\n%s", args[0], err, out)
		}
	}
}

func errorText(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}
