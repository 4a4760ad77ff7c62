package operator_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/rhizome-dev/rhizome/chart"
	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/operator"
	"github.com/rhizome-dev/rhizome/test/kube"
)

func TestMain(m *testing.M) { kube.Main(m) }

const (
	release   = "rhizome"
	namespace = "rhizome-system"
	account   = "rhizome-operator"
)

// world is an API server with the chart's objects, on which the operator runs as
// its service account, with no more rights than the chart gives it. There is no
// kubelet: where a test makes a core Node, or changes its status, it plays the
// kubelet's part.
type world struct {
	client.Client
	admin    *rest.Config
	operator *rest.Config
}

func newWorld(t *testing.T) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	admin := kube.Start(t)
	c, err := client.New(admin, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{Client: c, admin: admin}
	w.installChart(t)
	w.operator = w.as(t, account)
	return w
}

// installChart makes the chart's objects, the Deployment included, which nothing
// runs here: the test runs its program.
func (w *world) installChart(t *testing.T) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if err := client.IgnoreAlreadyExists(w.Create(t.Context(), ns)); err != nil {
		t.Fatal(err)
	}
	text, err := chart.Render(release, namespace, nil)
	if err != nil {
		t.Fatal(err)
	}
	for document := range strings.SplitSeq("\n"+text, "\n---\n") {
		var u unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(document), &u.Object); err != nil {
			t.Fatal(err)
		}
		if len(u.Object) == 0 {
			continue
		}
		if err := w.Patch(t.Context(), &u, client.Apply, client.FieldOwner("test"), client.ForceOwnership); err != nil {
			t.Fatalf("%s %s: %v", u.GetKind(), u.GetName(), err)
		}
	}
}

// as is a configuration with the token of a service account, and nothing else.
func (w *world) as(t *testing.T, name string) *rest.Config {
	t.Helper()
	return w.asIn(t, namespace, name)
}

func (w *world) asIn(t *testing.T, namespace, name string) *rest.Config {
	t.Helper()
	return kube.As(t, w.admin, namespace, name)
}

// run runs the operator until the test ends, or until the returned function is
// called, which waits for its end.
func (w *world) run(t *testing.T, change func(*operator.Options)) (log *record, stop func()) {
	t.Helper()
	log = &record{}
	options := operator.Options{
		MetricsAddress: operator.Off, HealthAddress: operator.Off,
		LeaderElection: true, Namespace: namespace,
		ShutdownTimeout: 10 * time.Second,
		Logger:          slog.New(slog.NewTextHandler(log, nil)),
	}
	if change != nil {
		change(&options)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- operator.Run(ctx, w.operator, options) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the operator ended with %v", err)
		}
		if t.Failed() {
			t.Logf("the operator's log:\n%s", log)
		}
	})
	t.Cleanup(stop)
	return log, stop
}

// record is a log that may be read while it is written.
type record struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.String()
}

// eventually asks again and again until check has nothing to say, for a time that
// only a fault exceeds.
func eventually(t *testing.T, what string, check func() string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		why := check()
		if why == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %s", what, why)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// make creates objects and deletes them when the test ends.
func (w *world) make(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if err := w.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			ctx := context.WithoutCancel(t.Context())
			if err := client.IgnoreNotFound(w.Delete(ctx, o)); err != nil {
				t.Error(err)
			}
			if _, declared := o.(*v1alpha1.Node); declared {
				// The operator lets no member go; the test's next one begins anew.
				free := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
				if err := client.IgnoreNotFound(w.Patch(ctx, o, free)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func cluster(name string) *v1alpha1.Cluster {
	return &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.ClusterSpec{
		Network:         v1alpha1.NetworkSpec{CIDR: "192.168.1.0/24", Gateway: "192.168.1.1"},
		Kubernetes:      v1alpha1.KubernetesSpec{Version: "v1.33.5+k3s1", PodCIDR: "10.42.0.0/16", ServiceCIDR: "10.43.0.0/16"},
		OperatingSystem: "debian",
	}}
}

func debian() *v1alpha1.OperatingSystem {
	return &v1alpha1.OperatingSystem{ObjectMeta: metav1.ObjectMeta{Name: "debian"}, Spec: v1alpha1.OperatingSystemSpec{
		Format: v1alpha1.FormatImage,
		Media: []v1alpha1.Medium{{Architecture: v1alpha1.AMD64, File: v1alpha1.File{
			URL: "https://example.org/debian.raw", SHA256: v1alpha1.SHA256(strings.Repeat("0", 64)),
		}}},
	}}
}

func machine(name string, mac v1alpha1.MAC, address v1alpha1.Address) *v1alpha1.Node {
	return &v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.NodeSpec{
		Role: v1alpha1.ControlPlane, MAC: mac, Address: address,
	}}
}

// kubelet sets the status of a core Node, as its kubelet would.
func (w *world) kubelet(t *testing.T, node *corev1.Node, address string, ready corev1.ConditionStatus) {
	t.Helper()
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, Reason: "Test", Message: "says the test"}}
	if err := w.Status().Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
}

// awaitNode waits until a declared Node has the phase, and its conditions Joined
// and Ready the status and reason.
func (w *world) awaitNode(t *testing.T, name string, phase v1alpha1.Phase, joined, ready string) *v1alpha1.Node {
	t.Helper()
	var n v1alpha1.Node
	eventually(t, "Node "+name, func() string {
		if err := w.Get(t.Context(), client.ObjectKey{Name: name}, &n); err != nil {
			return err.Error()
		}
		got := []string{string(n.Status.Phase), said(n.Status.Conditions, v1alpha1.ConditionJoined), said(n.Status.Conditions, v1alpha1.ConditionReady)}
		if want := []string{string(phase), joined, ready}; !slices.Equal(got, want) {
			return "it is " + strings.Join(got, ", ") + ", want " + strings.Join(want, ", ")
		}
		return ""
	})
	if n.Status.ObservedGeneration != n.Generation || n.Status.PhaseSince == nil {
		t.Errorf("Node %s: observed generation %d of %d, phase since %v", name, n.Status.ObservedGeneration, n.Generation, n.Status.PhaseSince)
	}
	return &n
}

// awaitCluster waits until the conditions of a Cluster have the status and reason.
func (w *world) awaitCluster(t *testing.T, name string, want map[string]string) *v1alpha1.Cluster {
	t.Helper()
	var c v1alpha1.Cluster
	eventually(t, "Cluster "+name, func() string {
		if err := w.Get(t.Context(), client.ObjectKey{Name: name}, &c); err != nil {
			return err.Error()
		}
		for condition, want := range want {
			if got := said(c.Status.Conditions, condition); got != want {
				return condition + " is " + got + ", want " + want
			}
		}
		return ""
	})
	return &c
}

func said(conditions []metav1.Condition, kind string) string {
	c := meta.FindStatusCondition(conditions, kind)
	if c == nil {
		return "not said"
	}
	return string(c.Status) + " " + c.Reason
}

func TestTheFirstNodeJoinsAndTheClusterIsReady(t *testing.T) {
	w := newWorld(t)
	log, stop := w.run(t, nil)
	w.make(t, debian(), cluster("home"), machine("alpha", "52:54:00:00:00:01", "192.168.1.10"))

	w.awaitNode(t, "alpha", v1alpha1.PhaseDeclared, "False NotJoined", "False NotJoined")
	home := w.awaitCluster(t, "home", map[string]string{
		"Ready": "False NoNodeMatched", "APIHealthy": "True APIReady", "FirstNodeJoined": "False NoNodeMatched", "Valid": "True NoRuleBroken",
	})
	if home.Status.Endpoint != "https://192.168.1.10:6443" || home.Status.LoadBalancerPool != "192.168.1.224/27" {
		t.Errorf("endpoint %q, pool %q", home.Status.Endpoint, home.Status.LoadBalancerPool)
	}

	// Another machine calls itself so.
	core := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "alpha"}}
	w.make(t, core)
	w.kubelet(t, core, "192.168.1.99", corev1.ConditionTrue)
	w.awaitNode(t, "alpha", v1alpha1.PhaseJoining, "False AddressMismatch", "False AddressMismatch")

	w.kubelet(t, core, "192.168.1.10", corev1.ConditionFalse)
	joining := w.awaitNode(t, "alpha", v1alpha1.PhaseJoining, "True Matched", "False MemberNotReady")
	if ref := joining.Status.NodeRef; ref == nil || ref.Name != "alpha" || ref.UID != string(core.UID) {
		t.Errorf("nodeRef is %v, want the core Node %s", ref, core.UID)
	}

	w.kubelet(t, core, "192.168.1.10", corev1.ConditionTrue)
	w.awaitNode(t, "alpha", v1alpha1.PhaseReady, "True Matched", "True MemberReady")
	home = w.awaitCluster(t, "home", map[string]string{
		"Ready": "True ClusterReady", "APIHealthy": "True APIReady", "FirstNodeJoined": "True NodeMatched", "Valid": "True NoRuleBroken",
	})
	eventually(t, "the count of ready nodes", func() string {
		if home = w.awaitCluster(t, "home", nil); home.Status.ReadyNodes != 1 || home.Status.Nodes != 1 {
			return "not 1 of 1"
		}
		return ""
	})

	t.Run("what happened is told once, and nothing else", func(t *testing.T) {
		eventually(t, "the event", func() string {
			var events corev1.EventList
			if err := w.List(t.Context(), &events, client.InNamespace(metav1.NamespaceDefault)); err != nil {
				return err.Error()
			}
			var told []string
			for _, e := range events.Items {
				if e.InvolvedObject.APIVersion == v1alpha1.GroupVersion.String() {
					told = append(told, e.Reason+" "+e.InvolvedObject.Name)
				}
			}
			if !slices.Equal(told, []string{"Joined alpha"}) {
				return strings.Join(told, ", ")
			}
			return ""
		})
	})

	t.Run("a controller owns no more of the status than it knows", func(t *testing.T) {
		other := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{
			"attempts":   int64(2),
			"conditions": []any{map[string]any{"type": "Other", "status": "True", "reason": "Test", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z"}},
		}}}
		other.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Node"))
		other.SetName("alpha")
		if err := w.Status().Patch(t.Context(), other, client.Apply, client.FieldOwner("other")); err != nil {
			t.Fatal(err)
		}
		w.kubelet(t, core, "192.168.1.10", corev1.ConditionUnknown)
		n := w.awaitNode(t, "alpha", v1alpha1.PhaseNotReady, "True Matched", "Unknown MemberUnknown")
		if n.Status.Attempts != 2 || said(n.Status.Conditions, "Other") != "True Test" {
			t.Errorf("another manager's fields are gone: %+v", n.Status)
		}
		var managers []string
		for _, f := range n.ManagedFields {
			if f.Subresource == "status" {
				managers = append(managers, f.Manager+" "+string(f.Operation))
			}
		}
		slices.Sort(managers)
		if want := []string{"other Apply", "rhizome-healing Apply", "rhizome-node Apply"}; !slices.Equal(managers, want) {
			t.Errorf("the status is managed by %v, want %v", managers, want)
		}
	})

	t.Run("a member whose core Node is deleted is declared again", func(t *testing.T) {
		if err := w.Delete(t.Context(), core); err != nil {
			t.Fatal(err)
		}
		n := w.awaitNode(t, "alpha", v1alpha1.PhaseDeclared, "False NotJoined", "False NotJoined")
		if ref := n.Status.NodeRef; ref == nil || ref.UID != string(core.UID) {
			t.Errorf("nodeRef is %v: what it was is to be remembered, since etcd may count it still", ref)
		}
		w.awaitCluster(t, "home", map[string]string{"Ready": "False NoNodeMatched"})
	})

	t.Run("a core Node with the address and another name is told", func(t *testing.T) {
		stranger := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "localhost"}}
		w.make(t, stranger)
		w.kubelet(t, stranger, "192.168.1.10", corev1.ConditionTrue)
		w.awaitNode(t, "alpha", v1alpha1.PhaseDeclared, "False NameMismatch", "False NameMismatch")
	})

	// As it is told to stop it may be in the middle of something, and says so.
	running := log.String()
	stop()
	t.Run("the chart's rights are enough", func(t *testing.T) {
		for line := range strings.Lines(running) {
			if strings.Contains(line, "forbidden") || strings.Contains(line, "level=ERROR") {
				t.Error(line)
			}
		}
	})
	t.Run("the lease is given back", func(t *testing.T) {
		var lease coordinationv1.Lease
		if err := w.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: names.LeaseName}, &lease); err != nil {
			t.Fatal(err)
		}
		if lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity != "" {
			t.Errorf("it is still held by %s", *lease.Spec.HolderIdentity)
		}
	})
}

func TestTheOlderOfTwoClustersIsInForce(t *testing.T) {
	w := newWorld(t)
	w.make(t, debian(), machine("alpha", "52:54:00:00:00:01", "192.168.1.10"))
	older := cluster("zzz")
	w.make(t, older)
	// Creation times are in whole seconds.
	eventually(t, "the next second", func() string {
		if time.Now().Unix() == older.CreationTimestamp.Unix() {
			return "not yet"
		}
		return ""
	})
	w.make(t, cluster("aaa"))

	w.run(t, nil)
	w.awaitCluster(t, "zzz", map[string]string{"Valid": "True NoRuleBroken", "APIHealthy": "True APIReady"})
	newer := w.awaitCluster(t, "aaa", map[string]string{"Ready": "False SecondCluster", "Valid": "False SecondCluster"})
	if newer.Status.Endpoint != "" {
		t.Errorf("the ignored Cluster has the endpoint %s", newer.Status.Endpoint)
	}
	if err := w.Delete(t.Context(), older); err != nil {
		t.Fatal(err)
	}
	w.awaitCluster(t, "aaa", map[string]string{"Valid": "True NoRuleBroken", "APIHealthy": "True APIReady"})
}

func TestABrokenRuleBetweenObjectsIsACondition(t *testing.T) {
	w := newWorld(t)
	w.run(t, nil)
	second := machine("beta", "52:54:00:00:00:02", "192.168.1.10")
	w.make(t, debian(), cluster("home"), machine("alpha", "52:54:00:00:00:01", "192.168.1.10"), second)
	home := w.awaitCluster(t, "home", map[string]string{"Valid": "False DuplicateAddress"})
	if message := meta.FindStatusCondition(home.Status.Conditions, "Valid").Message; !strings.Contains(message, "Node/beta") {
		t.Errorf("the message names no Node: %s", message)
	}
	if err := w.Delete(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	w.awaitCluster(t, "home", map[string]string{"Valid": "True NoRuleBroken"})
}

func TestAnotherReplicaTakesOver(t *testing.T) {
	w := newWorld(t)
	_, stopFirst := w.run(t, nil)
	w.make(t, debian(), cluster("home"), machine("alpha", "52:54:00:00:00:01", "192.168.1.10"))
	w.awaitNode(t, "alpha", v1alpha1.PhaseDeclared, "False NotJoined", "False NotJoined")

	log, _ := w.run(t, nil)
	stopFirst()
	core := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "alpha"}}
	w.make(t, core)
	w.kubelet(t, core, "192.168.1.10", corev1.ConditionTrue)
	w.awaitNode(t, "alpha", v1alpha1.PhaseReady, "True Matched", "True MemberReady")
	if !strings.Contains(log.String(), "Starting workers") {
		t.Errorf("it was not the second replica that acted:\n%s", log)
	}
}

func TestMetricsAreForThoseWhoMayReadThem(t *testing.T) {
	w := newWorld(t)
	metrics, health := freeAddress(t), freeAddress(t)
	w.run(t, func(o *operator.Options) { o.MetricsAddress, o.HealthAddress = metrics, health })

	for _, path := range []string{"/healthz", "/readyz"} {
		eventually(t, path, func() string {
			code, body := get(t, "http://"+health+path, "")
			if code != http.StatusOK {
				return http.StatusText(code) + ": " + body
			}
			return ""
		})
	}

	scraper, stranger := w.as(t, "scraper"), w.as(t, "stranger")
	w.make(t, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "scraper"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: release + "-metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: "scraper"}},
	})
	eventually(t, "metrics for the scraper", func() string {
		code, body := get(t, "https://"+metrics+"/metrics", scraper.BearerToken)
		if code != http.StatusOK || !strings.Contains(body, `controller_runtime_active_workers{controller="node"}`) {
			return http.StatusText(code) + ": " + body
		}
		return ""
	})
	if code, _ := get(t, "https://"+metrics+"/metrics", ""); code != http.StatusUnauthorized {
		t.Errorf("whoever names nobody is answered %d, want 401", code)
	}
	if code, _ := get(t, "https://"+metrics+"/metrics", stranger.BearerToken); code != http.StatusForbidden {
		t.Errorf("whoever has no right is answered %d, want 403", code)
	}
}

// TestTheOperatorMayDoNoMore asks the API server what the operator's service
// account may do beyond what it needs.
func TestTheOperatorMayDoNoMore(t *testing.T) {
	w := newWorld(t)
	mine, err := client.New(w.operator, client.Options{Scheme: w.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	may := asker(t, mine)
	if !may("list", "", "nodes", "", "", "") || !may("patch", "rhizome.dev", "nodes", "status", "", "alpha") {
		t.Error("it may not even do what it needs: is it the right account?")
	}
	for _, no := range [][6]string{
		// Of its own namespace it reads those that Nodes name, for power controllers.
		{"get", "", "secrets", "", "default", ""},
		{"list", "", "secrets", "", "", ""},
		{"list", "", "secrets", "", namespace, ""},
		{"update", "", "secrets", "", namespace, names.FoundingSecret},
		{"update", "", "secrets", "", namespace, names.PXECASecret},
		{"delete", "", "secrets", "", namespace, names.FoundingSecret},
		{"create", "apps", "deployments", "", namespace, ""},
		{"create", "apps", "deployments", "", "kube-system", ""},
		{"create", "", "namespaces", "", "", ""},
		{"get", "", "secrets", "", "kube-system", "k3s-serving"},
		{"update", "", "secrets", "", "kube-system", ""},
		{"delete", "", "pods", "", "default", ""},
		{"create", "", "pods", "", namespace, ""},
		{"create", "", "nodes", "", "", ""},
		{"patch", "", "nodes", "status", "", "alpha"},
		{"update", "rhizome.dev", "nodes", "", "", "alpha"},
		{"delete", "rhizome.dev", "clusters", "", "", "home"},
		{"create", "", "events", "", "kube-system", ""},
		{"update", "coordination.k8s.io", "leases", "", namespace, "another"},
		{"update", "coordination.k8s.io", "leases", "", "kube-system", names.LeaseName},
		{"create", "rbac.authorization.k8s.io", "clusterrolebindings", "", "", ""},
	} {
		if may(no[0], no[1], no[2], no[3], no[4], no[5]) {
			t.Errorf("it may %v", no)
		}
	}
}

// asker asks the API server what a client may do.
func asker(t *testing.T, c client.Client) func(verb, group, resource, subresource, namespace, name string) bool {
	return func(verb, group, resource, subresource, namespace, name string) bool {
		t.Helper()
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Verb: verb, Group: group, Resource: resource, Subresource: subresource, Namespace: namespace, Name: name,
			},
		}}
		if err := c.Create(t.Context(), review); err != nil {
			t.Fatal(err)
		}
		return review.Status.Allowed
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func get(t *testing.T, url, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	// The certificate is the operator's own, made as it starts.
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}
	res, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err.Error()
	}
	return res.StatusCode, string(body)
}
