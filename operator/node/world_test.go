package node_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
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
	"github.com/rhizome-dev/rhizome/pxe"
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
func (r *record) String() string              { r.mu.Lock(); defer r.mu.Unlock(); return r.b.String() }

func (w *world) make(objects ...client.Object) {
	w.t.Helper()
	for _, o := range objects {
		if err := w.Create(w.t.Context(), o); err != nil {
			w.t.Fatal(err)
		}
	}
}

// eventually asks again and again until check has nothing to say, for a time that
// only a fault exceeds.
func (w *world) eventually(what string, check func() string) {
	w.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		why := check()
		if why == "" {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: %s", what, why)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func homeCluster() *v1alpha1.Cluster {
	return &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "home"}, Spec: v1alpha1.ClusterSpec{
		Network:         v1alpha1.NetworkSpec{CIDR: "192.168.1.0/24", Gateway: "192.168.1.1"},
		Kubernetes:      v1alpha1.KubernetesSpec{Version: "v1.33.5+k3s1"},
		OperatingSystem: "debian",
		Growth:          v1alpha1.GrowthSpec{MaxConcurrent: 2},
	}}
}

func operatingSystem(name string) *v1alpha1.OperatingSystem {
	return &v1alpha1.OperatingSystem{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.OperatingSystemSpec{
		Format: v1alpha1.FormatImage,
		Media: []v1alpha1.Medium{{Architecture: v1alpha1.AMD64, File: v1alpha1.File{
			URL: "https://example.org/" + v1alpha1.URL(name) + ".raw", SHA256: v1alpha1.SHA256(strings.Repeat("0", 64)),
		}}},
	}}
}

// declare makes Nodes; the number of one is in its MAC and address.
func (w *world) declare(role v1alpha1.Role, all ...string) {
	w.t.Helper()
	for _, name := range all {
		i := number(name)
		w.make(&v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.NodeSpec{
			Role: role, MAC: v1alpha1.MAC(macOf(name)), Address: v1alpha1.Address(fmt.Sprintf("192.168.1.%d", 10+i)),
		}})
	}
}

// number of a machine: s1 is 1, w1 is 101.
func number(name string) int {
	var i int
	if _, err := fmt.Sscanf(name[1:], "%d", &i); err != nil {
		panic(name)
	}
	if name[0] == 'w' {
		i += 100
	}
	return i
}

func macOf(name string) pxe.MAC { return pxe.MAC(fmt.Sprintf("52:54:00:00:00:%02x", number(name))) }

func addressOf(name string) netip.Addr {
	return netip.AddrFrom4([4]byte{192, 168, 1, byte(10 + number(name))})
}

// found makes the cluster as the seed leaves it: with s1 as its only member, and a
// PXE pod.
func (w *world) found() {
	w.t.Helper()
	w.make(operatingSystem("debian"), homeCluster())
	w.declare(v1alpha1.ControlPlane, "s1")
	w.appear("s1", true)
	w.serve(true)
}

// serve says whether the PXE pods are ready.
func (w *world) serve(ready bool) {
	w.t.Helper()
	var c v1alpha1.Cluster
	if err := w.Get(w.t.Context(), client.ObjectKey{Name: "home"}, &c); err != nil {
		w.t.Fatal(err)
	}
	before := c.DeepCopy()
	c.Status.PXE = []v1alpha1.PXEPod{
		{Node: "s1", Pod: "pxe-1", Address: "192.168.1.11", Ready: ready, Message: "fetching debian.raw"},
		{Node: "w9", Pod: "pxe-2", Address: "192.168.1.119", Ready: ready},
	}
	if err := w.Status().Patch(w.t.Context(), &c, client.MergeFrom(before)); err != nil {
		w.t.Fatal(err)
	}
}

// appear is a kubelet that registers its node, or comes back.
func (w *world) appear(name string, ready bool) {
	w.t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}}}
	if name[0] == 's' {
		n.Labels["node-role.kubernetes.io/control-plane"] = "true"
	}
	if err := client.IgnoreAlreadyExists(w.Create(w.t.Context(), n)); err != nil {
		w.t.Fatal(err)
	}
	w.kubelet(name, ready, true)
}

// kubelet says what the node's kubelet says, and k3s of its vote.
func (w *world) kubelet(name string, ready, votes bool) {
	w.t.Helper()
	w.changeCore(name, func(n *corev1.Node) {
		status := func(b bool) corev1.ConditionStatus {
			if b {
				return corev1.ConditionTrue
			}
			return corev1.ConditionFalse
		}
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: addressOf(name).String()}}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status(ready), Reason: "Test", Message: "says the test"}}
		if name[0] == 's' {
			n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{
				Type: "EtcdIsVoter", Status: status(votes), LastHeartbeatTime: metav1.NewTime(w.clock())})
		}
	})
}

// changeCore changes a core Node and its status.
func (w *world) changeCore(name string, change func(*corev1.Node)) {
	w.t.Helper()
	w.eventually("changing the core Node "+name, func() string {
		var n corev1.Node
		if err := w.Get(w.t.Context(), client.ObjectKey{Name: name}, &n); err != nil {
			return err.Error()
		}
		change(&n)
		status := n.Status
		if err := w.Update(w.t.Context(), &n); err != nil {
			return err.Error()
		}
		n.Status = status
		if err := w.Status().Update(w.t.Context(), &n); err != nil {
			return err.Error()
		}
		return ""
	})
}

func (w *world) core(name string) *corev1.Node {
	w.t.Helper()
	var n corev1.Node
	if err := w.Get(w.t.Context(), client.ObjectKey{Name: name}, &n); err != nil {
		if client.IgnoreNotFound(err) == nil {
			return nil
		}
		w.t.Fatal(err)
	}
	return &n
}

func (w *world) get(name string) *v1alpha1.Node {
	w.t.Helper()
	var n v1alpha1.Node
	if err := w.Get(w.t.Context(), client.ObjectKey{Name: name}, &n); err != nil {
		if client.IgnoreNotFound(err) == nil {
			return nil
		}
		w.t.Fatal(err)
	}
	return &n
}

// await waits until a Node has the phase, and the conditions that are named, such
// as "Admitted=False Paused"; with a dash, such as "-Removal", until there is none.
func (w *world) await(name string, phase v1alpha1.Phase, conditions ...string) *v1alpha1.Node {
	w.t.Helper()
	var n *v1alpha1.Node
	w.eventually("Node "+name, func() string {
		if n = w.get(name); n == nil {
			return "it is gone"
		}
		got := string(n.Status.Phase)
		for _, c := range n.Status.Conditions {
			got += fmt.Sprintf(", %s=%s %s (%s)", c.Type, c.Status, c.Reason, c.Message)
		}
		if n.Status.Phase != phase {
			return got + ", want " + string(phase)
		}
		for _, want := range conditions {
			if kind, no := strings.CutPrefix(want, "-"); no {
				if meta.FindStatusCondition(n.Status.Conditions, kind) != nil {
					return got + ", want no " + kind
				}
				continue
			}
			kind, value, _ := strings.Cut(want, "=")
			c := meta.FindStatusCondition(n.Status.Conditions, kind)
			if c == nil || string(c.Status)+" "+c.Reason != value {
				return got + ", want " + want
			}
		}
		if n.Status.ObservedGeneration != n.Generation || n.Status.PhaseSince == nil {
			return "the status does not speak of this generation"
		}
		return ""
	})
	return n
}

func (w *world) gone(name string) {
	w.t.Helper()
	w.eventually("Node "+name, func() string {
		if n := w.get(name); n != nil {
			return fmt.Sprintf("it is still there: %s %+v", n.Status.Phase, n.Status.Conditions)
		}
		return ""
	})
}

// phases are the phases of all Nodes, as name=phase.
func (w *world) phases() []string {
	w.t.Helper()
	var nodes v1alpha1.NodeList
	if err := w.List(w.t.Context(), &nodes); err != nil {
		w.t.Fatal(err)
	}
	var all []string
	for _, n := range nodes.Items {
		all = append(all, n.Name+"="+string(n.Status.Phase))
	}
	slices.Sort(all)
	return all
}

// claim is the machine's claim, as a PXE pod reads it.
func (w *world) claim(name string) (provision.Claim, bool) {
	w.t.Helper()
	c, ok, err := w.store.OfNode(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return c, ok
}

// transition changes the claim as a PXE pod does.
func (w *world) transition(name string, change func(*provision.Claim) error) {
	w.t.Helper()
	if _, ok := w.claim(name); !ok {
		w.t.Fatalf("%s has no claim", name)
	}
	if err := w.store.Update(w.t.Context(), macOf(name), change); err != nil {
		w.t.Fatal(err)
	}
}

// boot is what a PXE pod writes down of a stage of the boot.
func (w *world) boot(name, stage string) {
	w.t.Helper()
	w.eventually("observing "+name, func() string {
		n := w.get(name)
		before := n.DeepCopy()
		if n.Status.Boot == nil {
			n.Status.Boot = &v1alpha1.BootObservation{}
		}
		b := n.Status.Boot
		b.Stage = stage
		b.Stages = slices.DeleteFunc(b.Stages, func(s v1alpha1.BootStage) bool { return s.Stage == stage })
		b.Stages = append(b.Stages, v1alpha1.BootStage{Stage: stage, At: metav1.NewTime(w.clock())})
		if err := w.Status().Patch(w.t.Context(), n, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
			return err.Error()
		}
		return ""
	})
}

// machine is one that the test plays, step by step.
var steps = []struct {
	name string
	do   func(w *world, name string)
}{
	{"is called", func(w *world, name string) { w.await(name, v1alpha1.PhaseWaking, "Admitted=True Admitted") }},
	{"asks for an address", func(w *world, name string) {
		w.pass(time.Second)
		w.boot(name, "DHCP")
		w.await(name, v1alpha1.PhaseBooting)
	}},
	{"fetches its init config", func(w *world, name string) {
		w.transition(name, func(c *provision.Claim) error { return c.Consume(w.clock(), netip.MustParseAddr("192.168.1.200")) })
		w.boot(name, "InitConfig")
		w.await(name, v1alpha1.PhaseInstalling)
	}},
	{"is installed", func(w *world, name string) {
		w.transition(name, func(c *provision.Claim) error { return c.Install(w.clock(), "") })
		w.await(name, v1alpha1.PhaseInstalling)
	}},
	{"asks for its credentials", func(w *world, name string) {
		w.credentials(name)
		w.transition(name, func(c *provision.Claim) error { return c.Exchange(w.clock(), addressOf(name)) })
		w.await(name, v1alpha1.PhaseJoining)
	}},
	{"registers", func(w *world, name string) {
		w.appear(name, false)
		w.await(name, v1alpha1.PhaseJoining, "Joined=True Matched")
	}},
	{"is ready", func(w *world, name string) { w.kubelet(name, true, true) }},
	{"is a member", func(w *world, name string) {
		n := w.await(name, v1alpha1.PhaseReady, "Joined=True Matched", "Ready=True MemberReady", "-Admitted")
		if n.Status.Installed == nil || n.Status.Attempts != 0 {
			w.t.Errorf("%s: installed %v, attempts %d", name, n.Status.Installed, n.Status.Attempts)
		}
		w.eventually("the end of "+name+"'s claim", func() string {
			if _, ok := w.claim(name); ok {
				return "it is still there"
			}
			if tokens := w.tokens(name); len(tokens) > 0 {
				return fmt.Sprintf("there are still %d tokens", len(tokens))
			}
			return ""
		})
	}},
}

// grow plays a machine from its call to its membership.
func (w *world) grow(name string) {
	w.t.Helper()
	for _, s := range steps {
		s.do(w, name)
	}
}

// credentials are what the machine gets; it asks until they are there.
func (w *world) credentials(name string) []k3s.File {
	w.t.Helper()
	var files []k3s.File
	w.eventually("the credentials of "+name, func() string {
		c, _ := w.claim(name)
		var err error
		if files, err = w.store.Credentials(w.t.Context(), w.get(name), c); err != nil {
			return err.Error()
		}
		return ""
	})
	return files
}

func (w *world) tokens(name string) []corev1.Secret {
	w.t.Helper()
	var list corev1.SecretList
	if err := w.List(w.t.Context(), &list, client.InNamespace("kube-system"), client.MatchingLabels{v1alpha1.LabelToken: name}); err != nil {
		w.t.Fatal(err)
	}
	return list.Items
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
