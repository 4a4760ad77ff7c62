package node_test

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/operator/node"
)

// member makes a member that was installed some time ago.
func (w *world) member(role v1alpha1.Role, all ...string) {
	w.t.Helper()
	for _, name := range all {
		w.declare(role, name)
		w.appear(name, true)
		w.eventually("the record of "+name, func() string {
			n := w.get(name)
			n.Status.Installed = &v1alpha1.InstallationRecord{At: metav1.NewTime(w.clock().Add(-time.Hour)), OperatingSystem: "debian"}
			if err := w.Status().Update(w.t.Context(), n); err != nil {
				return err.Error()
			}
			return ""
		})
	}
}

func (w *world) remove(all ...string) {
	w.t.Helper()
	for _, name := range all {
		if err := w.Delete(w.t.Context(), &v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			w.t.Fatal(err)
		}
	}
}

// settled lets a deletion stand for as long as it is looked at. The API server
// dates it by the real clock.
func (w *world) settled() {
	w.pass(max(time.Since(w.clock()), 0) + node.DefaultSettle + 2*time.Second)
}

// refresh is the heartbeat of the servers.
func (w *world) refresh(servers ...string) {
	for _, s := range servers {
		w.kubelet(s, true, true)
	}
}

// password is what k3s keeps of a machine.
func (w *world) password(name string) {
	w.make(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name + ".node-password.k3s"}})
}

func (w *world) hasPassword(name string) bool {
	var s corev1.Secret
	return w.Get(w.t.Context(), client.ObjectKey{Namespace: "kube-system", Name: name + ".node-password.k3s"}, &s) == nil
}

// pod runs a pod on a node.
func (w *world) pod(name, on string, change func(*corev1.Pod)) {
	w.t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.PodSpec{
			NodeName: on, TerminationGracePeriodSeconds: new(int64),
			Containers: []corev1.Container{{Name: "c", Image: "example.org/c"}},
		},
	}
	if change != nil {
		change(p)
	}
	w.make(p)
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	if err := w.Status().Update(w.t.Context(), p); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) pods() []string {
	w.t.Helper()
	var list corev1.PodList
	if err := w.List(w.t.Context(), &list, client.InNamespace("default")); err != nil {
		w.t.Fatal(err)
	}
	var all []string
	for _, p := range list.Items {
		all = append(all, p.Name)
	}
	slices.Sort(all)
	return all
}

// budget lets none of a pod's kind be evicted.
func (w *world) budget(app string) {
	w.t.Helper()
	one := intstr.FromInt32(1)
	b := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: app},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &one, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}},
	}
	w.make(b)
	// The disruption controller's part.
	b.Status = policyv1.PodDisruptionBudgetStatus{ObservedGeneration: b.Generation, ExpectedPods: 1, DesiredHealthy: 1, CurrentHealthy: 1}
	if err := w.Status().Update(w.t.Context(), b); err != nil {
		w.t.Fatal(err)
	}
}

// etcd plays k3s' part when a server is to leave.
func (w *world) etcd(name string) {
	w.t.Helper()
	w.eventually("k3s is asked to remove "+name+" from etcd", func() string {
		if n := w.core(name); n == nil || n.Annotations["etcd.k3s.cattle.io/remove"] != "true" {
			return "not yet"
		}
		return ""
	})
	w.changeCore(name, func(n *corev1.Node) { n.Annotations["etcd.k3s.cattle.io/removed-node-name"] = name + "-1234abcd" })
}

func (w *world) hostPods(name string) []corev1.Pod {
	w.t.Helper()
	var list corev1.PodList
	if err := w.List(w.t.Context(), &list, client.InNamespace(pxeNS), client.MatchingLabels{"rhizome.dev/host": name}); err != nil {
		w.t.Fatal(err)
	}
	return list.Items
}
