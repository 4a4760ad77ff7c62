package power_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"github.com/rhizome-dev/rhizome/chart"
	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/claims"
	"github.com/rhizome-dev/rhizome/internal/names"
	drivers "github.com/rhizome-dev/rhizome/internal/power"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/internal/status"
	"github.com/rhizome-dev/rhizome/operator/power"
	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/test/bmc"
	"github.com/rhizome-dev/rhizome/test/kube"
)

func TestMain(m *testing.M) {
	ctrl.SetLogger(logr.Discard())
	kube.Main(m)
}

const (
	system   = names.SystemNamespace
	pxeNS    = names.DefaultPXENamespace
	password = "correct horse battery staple"
)

// toy is a machine that is on or off.
type toy struct {
	mu              sync.Mutex
	on              bool
	starts, network int
}

func (m *toy) Running() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.on }

func (m *toy) PowerOn(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.on, m.starts = true, m.starts+1
	return nil
}

func (m *toy) PowerOff() { m.mu.Lock(); defer m.mu.Unlock(); m.on = false }

func (m *toy) Reset(ctx context.Context) error { return m.PowerOn(ctx) }
func (m *toy) Shutdown(context.Context) error  { m.PowerOff(); return nil }
func (m *toy) BootFromNetworkOnce()            { m.mu.Lock(); defer m.mu.Unlock(); m.network++ }

func (m *toy) counts() (starts, network int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.starts, m.network
}

// world is a real API server on which the power controller runs, with the rights that
// the chart gives the operator. The test plays the node controller.
type world struct {
	client.Client
	t     *testing.T
	admin *rest.Config
	store *claims.Store
	board *bmc.Controller
	toy   *toy

	mu   sync.Mutex
	now  time.Time
	stop func() // nil while no operator runs
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, admin: kube.Start(t), now: time.Now().Truncate(time.Second), toy: &toy{}, board: bmc.New("admin", password)}
	var err error
	if w.Client, err = client.New(w.admin, client.Options{Scheme: scheme(t)}); err != nil {
		t.Fatal(err)
	}
	w.store = claims.New(w, w, pxeNS)
	w.board.Add("1", w.toy)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serving, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.board.Serve(serving, listener) }()
	der, err := w.board.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	for _, ns := range []string{system, pxeNS} {
		w.must(client.IgnoreAlreadyExists(w.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})))
	}
	w.must(w.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "alpha-bmc"},
		Data:       map[string][]byte{drivers.KeyUsername: []byte("admin"), drivers.KeyPassword: []byte(password)},
	}))
	w.must(w.Create(t.Context(), &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "home"}, Spec: v1alpha1.ClusterSpec{
		Network: v1alpha1.NetworkSpec{CIDR: "192.168.1.0/24", Gateway: "192.168.1.1"}, OperatingSystem: "debian",
		Kubernetes: v1alpha1.KubernetesSpec{Version: "v1.33.4+k3s1"},
	}}))
	w.must(w.Create(t.Context(), &v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: "alpha"}, Spec: v1alpha1.NodeSpec{
		Role: v1alpha1.Worker, MAC: "52:54:00:00:00:01", Address: "192.168.1.10",
		Power: &v1alpha1.PowerSpec{Redfish: &v1alpha1.RedfishSpec{
			Endpoint: "https://" + listener.Addr().String(), Credentials: v1alpha1.SecretReference{Name: "alpha-bmc"},
			Fingerprint: ptr.To(v1alpha1.SHA256(hex.EncodeToString(sum[:]))),
		}},
	}}))
	t.Cleanup(func() {
		w.kill()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for _, o := range []client.Object{&v1alpha1.Node{}, &v1alpha1.Cluster{}} {
			w.must(w.DeleteAllOf(context.Background(), o))
		}
		for _, ns := range []string{system, pxeNS} {
			w.must(w.DeleteAllOf(context.Background(), &corev1.Secret{}, client.InNamespace(ns)))
		}
	})
	return w
}

func scheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(s); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) clock() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.now }

// pass lets time pass, and has the Node looked at: timers run on the real clock.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	w.mu.Lock()
	w.now = w.now.Add(d)
	w.mu.Unlock()
	w.annotate("test/now", w.clock().Format(time.RFC3339Nano))
}

func (w *world) annotate(key, value string) {
	w.t.Helper()
	text := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, key, value)
	if value == "" {
		text = fmt.Sprintf(`{"metadata":{"annotations":{%q:null}}}`, key)
	}
	n := &v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: "alpha"}}
	w.must(w.Patch(w.t.Context(), n, client.RawPatch("application/merge-patch+json", []byte(text))))
}

func (w *world) node() *v1alpha1.Node {
	w.t.Helper()
	n := &v1alpha1.Node{}
	w.must(w.Get(w.t.Context(), client.ObjectKey{Name: "alpha"}, n))
	return n
}

// phase plays the node controller.
func (w *world) phase(p v1alpha1.Phase) {
	w.t.Helper()
	for {
		err := status.Apply(w.t.Context(), w, w.node(), &v1alpha1.NodeStatus{Phase: p}, "rhizome-node")
		if err == nil {
			return
		}
		if !strings.Contains(err.Error(), "modified") {
			w.t.Fatal(err)
		}
	}
}

func (w *world) open() {
	w.t.Helper()
	var cluster v1alpha1.Cluster
	w.must(w.Get(w.t.Context(), client.ObjectKey{Name: "home"}, &cluster))
	claim, err := provision.OpenClaim(&cluster, w.node(), provision.Join, 1, "", w.clock)
	w.must(err)
	w.must(w.store.Open(w.t.Context(), w.node(), claim))
}

func (w *world) mac() pxe.MAC {
	w.t.Helper()
	mac, err := pxe.ParseMAC("52:54:00:00:00:01")
	w.must(err)
	return mac
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
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme: scheme(w.t), Cache: cache.Options{},
		Controller:              config.Controller{SkipNameValidation: ptr.To(true)},
		Metrics:                 metricsserver.Options{BindAddress: "0"},
		GracefulShutdownTimeout: ptr.To(10 * time.Second),
	})
	w.must(err)
	live, err := client.New(cfg, client.Options{Scheme: scheme(w.t)})
	w.must(err)
	w.must(power.Setup(mgr, power.Options{
		Now: w.clock, Live: live, PXENamespace: pxeNS,
		Driver: func(n *v1alpha1.Node) (drivers.Driver, error) {
			return drivers.For(n, drivers.Options{
				Timing: drivers.Timing{Poll: 10 * time.Millisecond, Within: time.Minute},
				Secrets: func(ctx context.Context, name string) (map[string][]byte, error) {
					var s corev1.Secret
					err := live.Get(ctx, client.ObjectKey{Namespace: system, Name: name}, &s)
					return s.Data, err
				},
			})
		},
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

// says waits until the condition Power has a reason; empty: until there is none.
func (w *world) says(reason string) metav1.Condition {
	w.t.Helper()
	var c *metav1.Condition
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		c = meta.FindStatusCondition(w.node().Status.Conditions, v1alpha1.ConditionPower)
		if c == nil && reason == "" {
			return metav1.Condition{}
		}
		if c != nil && c.Reason == reason {
			if strings.Contains(c.Message, password) {
				w.t.Error("the condition tells the password")
			}
			return *c
		}
	}
	w.t.Fatalf("the condition Power is %+v, want the reason %q", c, reason)
	return metav1.Condition{}
}

// counted is what the metric stands at.
func counted(t *testing.T, reason string) float64 {
	t.Helper()
	families, err := ctrlmetrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "rhizome_power_actions_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "reason" && l.GetValue() == reason {
					return m.GetCounter().GetValue()
				}
			}
		}
	}
	return 0
}

func TestAMachineIsTurnedOnOnceUnderItsClaim(t *testing.T) {
	w := newWorld(t)
	before := counted(t, v1alpha1.ReasonTurnedOn)
	w.toy.on = true // it runs something else
	w.run()
	w.phase(v1alpha1.PhaseWaking)
	w.says(v1alpha1.ReasonNoClaim)
	if got := w.board.Requests(); len(got) != 0 {
		t.Fatalf("without a claim its controller was asked: %v", got)
	}
	w.open()
	w.pass(time.Second)
	c := w.says(v1alpha1.ReasonTurnedOn)
	if c.Status != metav1.ConditionTrue || !strings.Contains(c.Message, "turned on by redfish, seen to be on, and is to boot from the network this once") {
		t.Errorf("%s: %s", c.Status, c.Message)
	}
	if diff := cmp.Diff([]string{"1 GracefulShutdown", "1 On"}, w.board.Resets()); diff != "" {
		t.Errorf("resets (-want +got):\n%s", diff)
	}
	if starts, network := w.toy.counts(); starts != 1 || network != 1 {
		t.Errorf("%d starts, %d from the network", starts, network)
	}
	if got := counted(t, v1alpha1.ReasonTurnedOn) - before; got != 1 {
		t.Errorf("rhizome_power_actions_total moved by %v", got)
	}

	// Another operator does nothing more, until the machine has been silent for long.
	w.kill()
	w.run()
	w.pass(9 * time.Minute)
	time.Sleep(300 * time.Millisecond)
	if starts, _ := w.toy.counts(); starts != 1 {
		t.Errorf("it was started %d times", starts)
	}
	w.pass(time.Minute)
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if starts, _ := w.toy.counts(); starts == 2 {
			break
		} else if time.Now().After(end) {
			t.Fatal("a machine that nothing was heard of was not tried again")
		}
	}

	// Consumed, its claim permits nothing any more.
	w.must(w.store.Update(t.Context(), w.mac(), func(c *provision.Claim) error { c.ConsumedAt = w.clock(); return nil }))
	w.pass(time.Hour)
	w.says(v1alpha1.ReasonNoClaim)
	w.phase(v1alpha1.PhaseInstalling)
	w.says(v1alpha1.ReasonTurnedOn)
	w.phase(v1alpha1.PhaseReady)
	w.says("")
	if starts, _ := w.toy.counts(); starts != 2 {
		t.Errorf("it was started %d times, want 2", starts)
	}
	if open, _ := w.board.Sessions(); open != 0 {
		t.Errorf("%d sessions were left open", open)
	}
}

func TestAPausedMachineIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	w.annotate(v1alpha1.AnnotationPaused, "I work on it")
	w.open()
	w.phase(v1alpha1.PhaseWaking)
	w.run()
	if c := w.says(v1alpha1.ReasonPaused); !strings.Contains(c.Message, "I work on it") {
		t.Error(c.Message)
	}
	if got := w.board.Requests(); len(got) != 0 {
		t.Errorf("its controller was asked: %v", got)
	}
	w.annotate(v1alpha1.AnnotationPaused, "")
	w.says(v1alpha1.ReasonTurnedOn)
}

func TestAWrongPasswordIsNotTriedAgainAndAgain(t *testing.T) {
	w := newWorld(t)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "alpha-bmc"}}
	set := func(value string) {
		t.Helper()
		w.must(w.Get(t.Context(), client.ObjectKeyFromObject(secret), secret))
		secret.Data[drivers.KeyPassword] = []byte(value)
		w.must(w.Update(t.Context(), secret))
	}
	logins := func() (n int) {
		for _, r := range w.board.Requests() {
			if strings.HasPrefix(r, http.MethodPost) {
				n++
			}
		}
		return n
	}
	set("another")
	w.open()
	w.phase(v1alpha1.PhaseWaking)
	w.run()
	if c := w.says(v1alpha1.ReasonPowerCredentials); !strings.Contains(c.Message, "Node/alpha: spec.power.redfish") || !strings.Contains(c.Message, "Secret alpha-bmc") {
		t.Error(c.Message)
	}
	for range 5 {
		w.pass(time.Minute)
		time.Sleep(100 * time.Millisecond)
	}
	if got := logins(); got != 1 {
		t.Errorf("%d logins in five minutes: controllers lock accounts", got)
	}
	set(password)
	w.pass(10 * time.Minute)
	w.says(v1alpha1.ReasonTurnedOn)
	if got := counted(t, v1alpha1.ReasonPowerCredentials); got < 1 {
		t.Errorf("the failure was not counted: %v", got)
	}
}

// The operator is killed in the middle: the next one ends it.
func TestAnOperatorThatIsKilledInTheMiddleIsSucceeded(t *testing.T) {
	w := newWorld(t)
	reached, dead := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.board.Interrupt(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPatch {
			once.Do(func() { close(reached); <-dead })
		}
		return false
	})
	w.open()
	w.phase(v1alpha1.PhaseWaking)
	w.run()
	<-reached
	w.says(v1alpha1.ReasonTurningOn)
	w.kill()
	close(dead)
	w.run()
	w.says(v1alpha1.ReasonTurnedOn)
	if starts, network := w.toy.counts(); starts != 1 || network != 1 {
		t.Errorf("%d starts, %d from the network", starts, network)
	}
}
