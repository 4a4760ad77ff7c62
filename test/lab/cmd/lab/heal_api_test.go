//go:build linux

package main

import (
	"context"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/internal/power"
	"github.com/rhizome-dev/rhizome/test/kube"
)

func TestMain(m *testing.M) { kube.Main(m) }

// ward is a healing with a real API server, in which the test plays the operator, the
// kubelets and the machines.
type ward struct {
	*healing
	t     *testing.T
	wipes atomic.Int32
	then  func() // what a wipe leads to
}

func (w *ward) Wipe() error {
	w.wipes.Add(1)
	go w.then()
	return nil
}

func newWard(t *testing.T) *ward {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	api, err := client.New(kube.Start(t), client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	w := &ward{t: t, healing: &healing{
		dir: t.TempDir(), state: state{Machines: machinesOf("SSSW"), Board: boardState{Username: "lab", Password: "secret"}},
		patience: time.Minute, lab: "lab", phases: &phases{now: time.Now}, api: api, wiped: map[string]wiped{},
	}}
	for _, ns := range []string{names.SystemNamespace, names.DefaultPXENamespace} {
		w.must(client.IgnoreAlreadyExists(api.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})))
	}
	t.Cleanup(w.clean)
	machines := map[string]wipeable{}
	for i, m := range w.state.Machines {
		machines[m.Name] = w
		w.must(api.Create(t.Context(), &v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.Name}, Spec: v1alpha1.NodeSpec{
			Role: v1alpha1.Role(m.Role), MAC: v1alpha1.MAC("52:54:00:00:00:0" + string(rune('1'+i))), Address: v1alpha1.Address("10.77.0.1" + string(rune('0'+i))),
		}}))
		w.join(m.Name)
	}
	w.must(serveControl(t.Context(), filepath.Join(w.dir, controlSocket), control(machines, func() []string { return []string{"node1 On"} })))
	return w
}

func (w *ward) clean() {
	ctx := context.Background()
	for _, o := range []client.Object{&v1alpha1.Node{}, &v1alpha1.Cluster{}, &corev1.Node{}} {
		w.must(w.api.DeleteAllOf(ctx, o))
	}
	for _, ns := range []string{names.SystemNamespace, names.DefaultPXENamespace} {
		w.must(w.api.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(ns), client.GracePeriodSeconds(0)))
		w.must(w.api.DeleteAllOf(ctx, &corev1.Secret{}, client.InNamespace(ns)))
	}
}

func (w *ward) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Error(err)
	}
}

// join makes a machine's core Node, Ready, and says so in its Node.
func (w *ward) join(name string) {
	ctx := context.Background()
	core := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	w.must(client.IgnoreAlreadyExists(w.api.Create(ctx, core)))
	w.kubelet(name, corev1.ConditionTrue)
	w.says(name, func(s *v1alpha1.NodeStatus) {
		s.Phase = v1alpha1.PhaseReady
		s.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: "Ready", LastTransitionTime: metav1.Now()}}
	})
}

func (w *ward) kubelet(name string, ready corev1.ConditionStatus) {
	core := &corev1.Node{}
	w.must(w.api.Get(context.Background(), client.ObjectKey{Name: name}, core))
	core.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
	w.must(w.api.Status().Update(context.Background(), core))
}

func (w *ward) says(name string, change func(*v1alpha1.NodeStatus)) {
	n := &v1alpha1.Node{}
	w.must(w.api.Get(context.Background(), client.ObjectKey{Name: name}, n))
	change(&n.Status)
	w.must(w.api.Status().Update(context.Background(), n))
}

// pod is a Ready pod of ours.
func (w *ward) pod(namespace, name, component, on string) {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"app.kubernetes.io/name": "rhizome", labelComponent: component}},
		Spec:       corev1.PodSpec{NodeName: on, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
	w.must(w.api.Create(context.Background(), p))
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	w.must(w.api.Status().Update(context.Background(), p))
}

// healed is what a cluster writes down of a machine that it heals.
func (w *ward) healed(name string) {
	ctx := context.Background()
	record := func(a v1alpha1.RepairAction, r v1alpha1.RepairResult) v1alpha1.RepairRecord {
		return v1alpha1.RepairRecord{At: metav1.Now(), Ended: metav1.Now(), Action: a, Rule: v1alpha1.ReasonSickSilent, Result: r}
	}
	now := metav1.Now()
	w.kubelet(name, corev1.ConditionUnknown)
	w.says(name, func(s *v1alpha1.NodeStatus) {
		s.Conditions = nil
		s.Repair = &v1alpha1.RepairStatus{Action: v1alpha1.RepairWake}
	})
	time.Sleep(1500 * time.Millisecond) // at least one look
	w.says(name, func(s *v1alpha1.NodeStatus) {
		s.Repairs = append(s.Repairs, record(v1alpha1.RepairWake, v1alpha1.ResultTimedOut))
		s.Repair = &v1alpha1.RepairStatus{Action: v1alpha1.RepairReinstall, Acted: &now}
	})
	w.must(w.api.Delete(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	time.Sleep(1500 * time.Millisecond)
	w.says(name, func(s *v1alpha1.NodeStatus) {
		s.Repairs = append(s.Repairs, record(v1alpha1.RepairReinstall, v1alpha1.ResultHealed))
		s.Repair = nil
	})
	w.join(name)
}

// The first machine, with the operator and a PXE pod on it, is wiped once.
func TestHealCrowdsAMachineWipesItAndWatches(t *testing.T) {
	w := newWard(t)
	w.then = func() { w.healed("node1") }
	w.pod(names.SystemNamespace, "operator", componentOperator, "node2")
	w.pod(names.DefaultPXENamespace, "pxe-1", componentPXE, "node2")
	w.pod(names.DefaultPXENamespace, "pxe-2", componentPXE, "node3")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	// Deployments, and a scheduler that heeds cordons.
	go func() {
		for made := map[string]bool{}; ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
			all, err := w.ours(ctx)
			if err != nil {
				continue
			}
			var cordoned corev1.NodeList
			if err := w.api.List(ctx, &cordoned); err != nil {
				continue
			}
			free := 0
			for _, core := range cordoned.Items {
				if !core.Spec.Unschedulable {
					free++
				}
			}
			for component, ns := range map[string]string{componentOperator: names.SystemNamespace, componentPXE: names.DefaultPXENamespace} {
				if free == 1 && !made[component] && len(all.on(component, "node2"))+len(all.on(component, "node3")) == 0 {
					made[component] = true
					w.pod(ns, component+"-new", component, "node1")
				}
			}
		}
	}()
	p := patient{machineState: w.state.Machines[0], board: true, crowded: true}
	if err := w.heal(ctx, p); err != nil {
		t.Fatal(err)
	}
	lines := strings.Join(w.phases.lines, "\n")
	for _, want := range append(stageNames[1:], "crowding", "node1, wiped") {
		if !strings.Contains(lines, want) {
			t.Errorf("the phases lack %q:\n%s", want, lines)
		}
	}
	var cores corev1.NodeList
	w.must(w.api.List(ctx, &cores))
	for _, core := range cores.Items {
		if core.Spec.Unschedulable {
			t.Errorf("%s is still cordoned", core.Name)
		}
	}
	// Another run knows of it.
	again := *w.healing
	w.must(again.remember())
	if err := again.heal(ctx, p); err != nil || w.wipes.Load() != 1 {
		t.Errorf("run again: %v; wiped %d times, want once", err, w.wipes.Load())
	}
}

func TestHealEndsWhenHealingGivesUp(t *testing.T) {
	w := newWard(t)
	now := metav1.Now()
	w.then = func() {
		w.kubelet("node4", corev1.ConditionUnknown)
		w.says("node4", func(s *v1alpha1.NodeStatus) {
			s.Repair = &v1alpha1.RepairStatus{Quarantined: &now, Message: "all steps were tried"}
		})
	}
	err := w.heal(t.Context(), patient{machineState: w.state.Machines[3]})
	if err == nil || !strings.Contains(err.Error(), "all steps were tried") {
		t.Errorf("heal says %v", err)
	}
}

func TestTheBoardsSecretAndWhetherHealingIsEnabled(t *testing.T) {
	w := newWard(t)
	for _, password := range []string{"first", "second"} {
		w.state.Board.Password = password
		if err := w.bringBoardSecret(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var secret corev1.Secret
	w.must(w.api.Get(t.Context(), client.ObjectKey{Namespace: names.SystemNamespace, Name: boardSecret}, &secret))
	if string(secret.Data[power.KeyPassword]) != "second" {
		t.Errorf("the Secret holds %q", secret.Data)
	}
	if f := w.isEnabled(t.Context()); f.ready {
		t.Errorf("without a Cluster: %+v", f)
	}
	c := &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "lab"}, Spec: v1alpha1.ClusterSpec{
		Network: v1alpha1.NetworkSpec{CIDR: "10.77.0.0/24", Gateway: "10.77.0.1"}, OperatingSystem: "debian",
		Kubernetes: v1alpha1.KubernetesSpec{Version: "v1.33.4+k3s1"},
	}}
	if err := w.api.Create(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		reason   string
		observed int64
		ready    bool
	}{{v1alpha1.ReasonHealingDryRun, c.Generation, false}, {v1alpha1.ReasonWatching, c.Generation - 1, false}, {v1alpha1.ReasonWatching, c.Generation, true}} {
		c.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionHealing, Status: metav1.ConditionTrue, Reason: tc.reason, ObservedGeneration: tc.observed, LastTransitionTime: metav1.Now()}}
		if err := w.api.Status().Update(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if f := w.isEnabled(t.Context()); f.ready != tc.ready {
			t.Errorf("%s of generation %d: %+v, want ready %t", tc.reason, tc.observed, f, tc.ready)
		}
	}
}
