package healing_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"github.com/rhizome-dev/rhizome/chart"
	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/internal/power"
	"github.com/rhizome-dev/rhizome/operator/healing"
	"github.com/rhizome-dev/rhizome/test/bmc"
	"github.com/rhizome-dev/rhizome/test/kube"
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	kube.Main(m)
}

const (
	system = names.SystemNamespace
	pxeNS  = names.DefaultPXENamespace
	image  = "registry.example/rhizome:test"
)

// world is a real API server on which the healing controller runs, with the rights
// that the chart gives the operator. The test plays the kubelets, the node
// controller and the PXE pods.
type world struct {
	client.Client
	t     *testing.T
	admin *rest.Config

	mu      sync.Mutex
	now     time.Time
	gateway error
	runsOn  string
	stop    func() // nil while no operator runs
}

// newWorld is a cluster of three servers and five workers, all well, on whose
// server s1 the operator runs.
func newWorld(t *testing.T, mode v1alpha1.HealingMode) *world {
	t.Helper()
	w := &world{t: t, admin: kube.Start(t), now: time.Now().Truncate(time.Second), runsOn: "s1"}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		w.must(add(scheme))
	}
	var err error
	w.Client, err = client.New(w.admin, client.Options{Scheme: scheme})
	w.must(err)
	for _, ns := range []string{system, pxeNS} {
		w.must(client.IgnoreAlreadyExists(w.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})))
	}
	t.Cleanup(w.clean)
	w.must(w.Create(t.Context(), &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "home"}, Spec: v1alpha1.ClusterSpec{
		Network: v1alpha1.NetworkSpec{CIDR: "192.168.1.0/24", Gateway: "192.168.1.1"}, OperatingSystem: "debian",
		Kubernetes: v1alpha1.KubernetesSpec{Version: "v1.33.4+k3s1"}, Healing: v1alpha1.HealingSpec{Mode: mode},
	}}))
	w.cluster(func(c *v1alpha1.Cluster) {
		c.Status.PXE = []v1alpha1.PXEPod{{Node: "s1", Pod: "p1", Address: "192.168.1.11", Ready: true}, {Node: "w5", Pod: "p2", Address: "192.168.1.35", Ready: true}}
		c.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAPIHealthy, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAPIReady, LastTransitionTime: metav1.Now()}}
	})
	for i, name := range []string{"s1", "s2", "s3", "w1", "w2", "w3", "w4", "w5"} {
		role := v1alpha1.Worker
		if name[0] == 's' {
			role = v1alpha1.ControlPlane
		}
		w.must(w.Create(t.Context(), &v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.NodeSpec{
			Role: role, MAC: v1alpha1.MAC(fmt.Sprintf("52:54:00:00:00:%02x", i)), Address: addressOf(name),
		}}))
		w.must(w.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}))
		w.kubelet(name, corev1.ConditionTrue)
		w.controller(name, func(n *v1alpha1.Node) {
			n.Status.Phase = v1alpha1.PhaseReady
			n.Status.NodeRef = &v1alpha1.CoreNodeReference{Name: name, UID: string(w.core(name).UID)}
		})
	}
	return w
}

func addressOf(name string) v1alpha1.Address {
	base := map[byte]int{'s': 10, 'w': 30}[name[0]]
	return v1alpha1.Address(fmt.Sprintf("192.168.1.%d", base+int(name[1]-'0')))
}

func (w *world) clean() {
	w.kill()
	ctx := context.Background()
	for _, o := range []client.Object{&v1alpha1.Node{}, &v1alpha1.Cluster{}, &corev1.Node{}, &corev1.PersistentVolume{}} {
		if err := w.DeleteAllOf(ctx, o); err != nil {
			w.t.Error(err)
		}
	}
	if err := errors.Join(
		w.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(pxeNS), client.GracePeriodSeconds(0)),
		w.DeleteAllOf(ctx, &corev1.Secret{}, client.InNamespace(system)),
		w.DeleteAllOf(ctx, &corev1.Event{}, client.InNamespace("default")),
	); err != nil {
		w.t.Error(err)
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) clock() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.now }

// pass lets time pass for the operator, and for the servers' word on their votes.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	w.mu.Lock()
	w.now = w.now.Add(d)
	w.mu.Unlock()
	for _, s := range []string{"s1", "s2", "s3"} {
		if core := w.core(s); core != nil && readiness(core) == corev1.ConditionTrue {
			w.kubelet(s, corev1.ConditionTrue)
		}
	}
}

func readiness(n *corev1.Node) corev1.ConditionStatus {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status
		}
	}
	return corev1.ConditionUnknown
}

// change reads, changes and writes the status of an object until nobody is in
// between.
func change[T client.Object](w *world, o T, how func(T)) {
	w.t.Helper()
	w.eventually("changing "+o.GetName(), func() string {
		if err := w.Get(w.t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			return err.Error()
		}
		how(o)
		if err := w.Status().Update(w.t.Context(), o); err != nil {
			return err.Error()
		}
		return ""
	})
}

func (w *world) cluster(how func(*v1alpha1.Cluster)) {
	w.t.Helper()
	change(w, &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "home"}}, how)
}

func (w *world) controller(name string, how func(*v1alpha1.Node)) {
	w.t.Helper()
	change(w, &v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, how)
}

// kubelet is what a node's kubelet says of itself, or the cluster in its stead.
func (w *world) kubelet(name string, ready corev1.ConditionStatus) {
	w.t.Helper()
	change(w, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, func(n *corev1.Node) {
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: string(addressOf(name))}}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, Message: "says the test"}}
		if name[0] == 's' {
			n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{
				Type: "EtcdIsVoter", Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.NewTime(w.clock())})
		}
	})
}

// peer is what the PXE pod on w5 finds.
func (w *world) peer(name string, answer v1alpha1.ReachAnswer) {
	w.t.Helper()
	w.found(name, answer, w.clock())
}

func (w *world) found(name string, answer v1alpha1.ReachAnswer, at time.Time) {
	w.t.Helper()
	w.controller(name, func(n *v1alpha1.Node) {
		n.Status.Reach = []v1alpha1.Reach{{From: "w5", At: metav1.NewTime(at), Answer: answer}}
	})
}

// later lets time pass in which a peer still cannot reach a machine.
func (w *world) later(d time.Duration, name string) {
	w.t.Helper()
	w.found(name, v1alpha1.AnswerNothing, w.clock().Add(d))
	w.pass(d)
}

// watched waits until the operator that runs has begun to see a member sick now.
func (w *world) watched(name string) {
	w.t.Helper()
	since := "since " + w.clock().UTC().Format(time.RFC3339)
	w.eventually("the clock over "+name, func() string {
		c := meta.FindStatusCondition(w.node(name).Status.Conditions, v1alpha1.ConditionHealthy)
		if c == nil || !strings.Contains(c.Message, since) {
			return fmt.Sprintf("the condition is %+v, want %s", c, since)
		}
		return ""
	})
}

// die has a machine answer nobody, and lets the operator see that for d.
func (w *world) die(d time.Duration, all ...string) {
	w.t.Helper()
	for _, name := range all {
		w.kubelet(name, corev1.ConditionUnknown)
	}
	w.sick(all[0], v1alpha1.ReasonSickSilent)
	for _, name := range all {
		w.found(name, v1alpha1.AnswerNothing, w.clock().Add(d))
	}
	w.pass(d)
}

func (w *world) node(name string) *v1alpha1.Node {
	w.t.Helper()
	n := &v1alpha1.Node{}
	w.must(w.Get(w.t.Context(), client.ObjectKey{Name: name}, n))
	return n
}

func (w *world) core(name string) *corev1.Node {
	w.t.Helper()
	n := &corev1.Node{}
	if err := w.Get(w.t.Context(), client.ObjectKey{Name: name}, n); err != nil {
		w.must(client.IgnoreNotFound(err))
		return nil
	}
	return n
}

func (w *world) annotate(o client.Object, key, value string) {
	w.t.Helper()
	text := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, key, value)
	if value == "" {
		text = fmt.Sprintf(`{"metadata":{"annotations":{%q:null}}}`, key)
	}
	w.must(w.Patch(w.t.Context(), o, client.RawPatch("application/merge-patch+json", []byte(text))))
}

func node(name string) *v1alpha1.Node {
	return &v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// specify changes the spec of the Cluster.
func (w *world) specify(patch string) {
	w.t.Helper()
	c := &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "home"}}
	w.must(w.Patch(w.t.Context(), c, client.RawPatch("application/merge-patch+json", []byte(`{"spec":`+patch+`}`))))
}

// run runs the controller as the operator's account, until kill.
func (w *world) run() {
	w.t.Helper()
	text, err := chart.Render("rhizome", system, nil)
	w.must(err)
	for document := range strings.SplitSeq("\n"+text, "\n---\n") {
		o := &unstructured.Unstructured{}
		w.must(yaml.Unmarshal([]byte(document), &o.Object))
		if o.GetKind() == "ServiceAccount" || o.GroupVersionKind().Group == "rbac.authorization.k8s.io" {
			w.must(w.Patch(w.t.Context(), o, client.Apply, client.FieldOwner("test"), client.ForceOwnership))
		}
	}
	cfg := kube.As(w.t, w.admin, system, "rhizome-operator")
	cfg.QPS, cfg.Burst = 200, 400
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme: w.Scheme(), Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		Metrics: metricsserver.Options{BindAddress: "0"}, GracefulShutdownTimeout: ptr.To(10 * time.Second),
	})
	w.must(err)
	live, err := client.New(cfg, client.Options{Scheme: w.Scheme()})
	w.must(err)
	secrets := func(ctx context.Context, name string) (map[string][]byte, error) {
		var s corev1.Secret
		err := live.Get(ctx, client.ObjectKey{Namespace: system, Name: name}, &s)
		return s.Data, err
	}
	w.must(healing.Setup(mgr, healing.Options{
		Now: w.clock, Live: live, PXENamespace: pxeNS, Node: w.runsOn, Image: image,
		Driver: func(n *v1alpha1.Node) (power.Driver, error) {
			return power.For(n, power.Options{Secrets: secrets, Timing: power.Timing{Poll: 10 * time.Millisecond, Within: 5 * time.Second}})
		},
		Gateway: func(context.Context, netip.Addr) error { w.mu.Lock(); defer w.mu.Unlock(); return w.gateway },
		// The clock jumps, and the interval is by the real one.
		Interval: 100 * time.Millisecond, Gap: 365 * 24 * time.Hour,
	}))
	ctx, cancel := context.WithCancel(context.Background())
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

// says waits until a condition of a Node is such as "False Storm"; empty: until
// there is none.
func (w *world) says(name, kind, want string) string {
	w.t.Helper()
	message := ""
	w.eventually(name+": "+kind, func() string {
		c := meta.FindStatusCondition(w.node(name).Status.Conditions, kind)
		got := ""
		if c != nil {
			got, message = string(c.Status)+" "+c.Reason, c.Message
		}
		if got != want {
			return fmt.Sprintf("it is %q (%s), want %q", got, message, want)
		}
		return ""
	})
	return message
}

func (w *world) repair(name, want string) string {
	w.t.Helper()
	return w.says(name, v1alpha1.ConditionRepair, want)
}
func (w *world) sick(name, reason string) {
	w.t.Helper()
	w.says(name, v1alpha1.ConditionHealthy, "False "+reason)
}

// acted waits until an action was done.
func (w *world) acted(name string, action v1alpha1.RepairAction, try int32) v1alpha1.RepairStatus {
	w.t.Helper()
	var r v1alpha1.RepairStatus
	w.eventually(fmt.Sprintf("%s of %s", action, name), func() string {
		if s := w.node(name).Status.Repair; s != nil {
			r = *s
		}
		if r.Action != action || r.Try != try || r.Acted == nil {
			return fmt.Sprintf("the repair is %+v (conditions %+v)", r, w.node(name).Status.Conditions)
		}
		return ""
	})
	return r
}

// begun waits until an action is written down, and lets the time pass until it is
// done.
func (w *world) begun(name string, action v1alpha1.RepairAction) {
	w.t.Helper()
	w.repair(name, "True "+string(action))
	w.pass(healing.DefaultSettle)
}

// board is a board management controller that drives a machine which is on or off.
type board struct {
	mu            sync.Mutex
	on            bool
	starts, halts int
	onStart       func()
}

func (b *board) Running() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.on }

func (b *board) PowerOn(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.onStart != nil {
		b.onStart()
	}
	b.on, b.starts = true, b.starts+1
	return nil
}

func (b *board) PowerOff() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.on, b.halts = false, b.halts+1
}

func (b *board) Reset(context.Context) error    { return errors.New("nobody asks for a reset") }
func (b *board) Shutdown(context.Context) error { b.PowerOff(); return nil }
func (b *board) BootFromNetworkOnce()           {}

// onBoard puts a machine on a board; before the controller runs.
func (w *world) onBoard(name string, b *board) {
	w.t.Helper()
	const password = "correct horse battery staple"
	c := bmc.New("admin", password)
	c.Add("1", b)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Serve(ctx, listener) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
	der, err := c.Certificate()
	w.must(err)
	sum := sha256.Sum256(der)
	w.must(w.Create(w.t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: name + "-bmc"},
		Data: map[string][]byte{power.KeyUsername: []byte("admin"), power.KeyPassword: []byte(password)}}))
	n := w.node(name)
	n.Spec.Power = &v1alpha1.PowerSpec{Redfish: &v1alpha1.RedfishSpec{
		Endpoint: "https://" + listener.Addr().String(), Credentials: v1alpha1.SecretReference{Name: name + "-bmc"},
		Fingerprint: ptr.To(v1alpha1.SHA256(hex.EncodeToString(sum[:]))),
	}}
	w.must(w.Update(w.t.Context(), n))
}
