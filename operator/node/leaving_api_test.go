package node_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/provision"
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

func TestAWorkerLeaves(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.member(v1alpha1.Worker, "w1")
	w.password("w1")
	w.run()
	w.await("w1", v1alpha1.PhaseReady)
	w.pod("moves", "w1", nil)
	w.pod("done", "w1", func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} })
	w.pod("daemon", "w1", func(p *corev1.Pod) {
		yes := true
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "d", UID: "1", Controller: &yes}}
	})
	w.pod("guarded", "w1", nil)
	w.budget("guarded")
	w.remove("w1")
	w.await("w1", v1alpha1.PhaseReady, "Removal=False Settling")
	if w.core("w1").Spec.Unschedulable {
		t.Error("it is cordoned before the removal begins")
	}
	w.settled()
	w.await("w1", v1alpha1.PhaseRemoving, "Removal=True Draining")
	w.eventually("the pods that can move", func() string {
		if got := strings.Join(w.pods(), " "); got != "daemon done guarded" {
			return got
		}
		return ""
	})
	if !w.core("w1").Spec.Unschedulable {
		t.Error("it is not cordoned")
	}
	w.restart()
	n := w.await("w1", v1alpha1.PhaseRemoving, "Removal=True Draining")
	if c := meta.FindStatusCondition(n.Status.Conditions, "Removal"); !strings.Contains(c.Message, "default/guarded") {
		t.Errorf("the message names no pod: %s", c.Message)
	}
	w.pass(11 * time.Minute)
	w.gone("w1")
	if w.core("w1") != nil || w.hasPassword("w1") {
		t.Error("its core Node or its password is left")
	}
}

func TestAServerLeavesEtcdFirst(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.member(v1alpha1.ControlPlane, "s2", "s3")
	w.run()
	w.await("s3", v1alpha1.PhaseReady)
	w.remove("s3")
	w.await("s3", v1alpha1.PhaseReady, "Removal=False Settling")
	w.settled()
	w.await("s3", v1alpha1.PhaseRemoving, "Removal=True LeavingEtcd")
	w.restart()
	w.etcd("s3")
	w.eventually("the time of its leaving", func() string {
		if w.core("s3").Annotations[v1alpha1.AnnotationLeftEtcd] == "" {
			return "is not noted"
		}
		return ""
	})
	w.restart()
	w.await("s3", v1alpha1.PhaseRemoving, "Removal=True LeavingEtcd")
	if w.core("s3") == nil {
		t.Fatal("its core Node went before etcd settled")
	}
	// Nothing is installed meanwhile.
	w.declare(v1alpha1.Worker, "w1")
	w.await("w1", v1alpha1.PhaseDeclared, "Admitted=False RemovalRuns")
	w.pass(16 * time.Second)
	w.gone("s3")
	if w.core("s3") != nil {
		t.Error("its core Node is left")
	}
	w.await("w1", v1alpha1.PhaseWaking)
}

func TestGuardsOfAServersRemoval(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.run()
	w.await("s1", v1alpha1.PhaseReady)
	w.member(v1alpha1.ControlPlane, "s2", "s3")
	w.await("s3", v1alpha1.PhaseReady)
	// s3 dies.
	w.kubelet("s3", false, true)
	w.await("s3", v1alpha1.PhaseNotReady)
	w.remove("s2")
	w.await("s2", v1alpha1.PhaseReady, "Removal=False Settling")
	w.settled()
	w.await("s2", v1alpha1.PhaseReady, "Removal=False Quorum")
	// Nothing is known of its vote.
	w.changeCore("s3", func(n *corev1.Node) {
		n.Status.Conditions = slices.DeleteFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == "EtcdIsVoter" })
	})
	w.await("s2", v1alpha1.PhaseReady, "Removal=False VotersUnknown")
	w.refresh("s3")
	w.await("s2", v1alpha1.PhaseRemoving, "Removal=True LeavingEtcd")
}

func TestTheLastServerStays(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.run()
	w.await("s1", v1alpha1.PhaseReady)
	w.remove("s1")
	w.await("s1", v1alpha1.PhaseReady, "Removal=False Settling")
	w.settled()
	w.await("s1", v1alpha1.PhaseReady, "Removal=False LastControlPlane")
	w.annotate("s1", v1alpha1.AnnotationRemoval, v1alpha1.RemovalKeep)
	w.gone("s1")
	if n := w.core("s1"); n == nil || n.Spec.Unschedulable {
		t.Error("a member that was to stay did not, or is cordoned")
	}
}

func TestAMassDeletionIsHeldUntilEachIsConfirmed(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.member(v1alpha1.ControlPlane, "s2", "s3")
	w.member(v1alpha1.Worker, "w1", "w2")
	w.declare(v1alpha1.Worker, "w3")
	w.run()
	all := []string{"s1", "s2", "s3", "w1", "w2"}
	for _, name := range all {
		w.await(name, v1alpha1.PhaseReady)
	}
	w.remove(append(all, "w3")...)
	w.gone("w3") // it never was a member
	for _, name := range all {
		w.await(name, v1alpha1.PhaseReady, "Removal=False MassRemoval")
	}
	w.settled()
	w.refresh("s1", "s2", "s3")
	w.restart()
	w.nudge()
	w.annotate("w1", v1alpha1.AnnotationRemoval, v1alpha1.RemovalConfirm)
	w.gone("w1")
	w.annotate("s1", v1alpha1.AnnotationRemoval, v1alpha1.RemovalKeep)
	w.annotate("s2", v1alpha1.AnnotationRemoval, v1alpha1.RemovalKeep)
	w.annotate("s3", v1alpha1.AnnotationRemoval, v1alpha1.RemovalKeep)
	for _, name := range []string{"s1", "s2", "s3"} {
		w.gone(name)
	}
	// The one that is left is alone by now, and still was deleted with others.
	w.settled()
	w.await("w2", v1alpha1.PhaseReady, "Removal=False MassRemoval")
	for _, name := range []string{"s1", "s2", "s3", "w2"} {
		if w.core(name) == nil {
			t.Errorf("the core Node %s is gone", name)
		}
	}
}

func TestRemovalsAreOneAtATime(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.member(v1alpha1.Worker, "w1", "w2")
	w.run()
	w.await("w1", v1alpha1.PhaseReady)
	w.await("w2", v1alpha1.PhaseReady)
	w.pod("guarded", "w1", nil)
	w.budget("guarded")
	w.remove("w1")
	w.await("w1", v1alpha1.PhaseReady, "Removal=False Settling")
	w.settled()
	w.await("w1", v1alpha1.PhaseRemoving, "Removal=True Draining")
	w.remove("w2")
	w.annotate("w2", v1alpha1.AnnotationRemoval, v1alpha1.RemovalConfirm)
	w.await("w2", v1alpha1.PhaseReady, "Removal=False OneAtATime")
	w.pass(11 * time.Minute)
	w.gone("w1")
	w.gone("w2")
}

func TestAMachineUnderInstallationIsRemoved(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.declare(v1alpha1.Worker, "w1", "w2")
	w.run()
	w.await("w1", v1alpha1.PhaseWaking)
	for _, s := range steps[:3] {
		s.do(w, "w2")
	}
	w.credentials("w2")
	w.remove("w1", "w2")
	w.gone("w1")
	w.gone("w2")
	for _, name := range []string{"w1", "w2"} {
		if _, ok := w.claim(name); ok || len(w.tokens(name)) > 0 {
			t.Errorf("%s left a claim or a token", name)
		}
	}
}

func TestALeftOverTokenOfAKilledOperatorIsRemoved(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.make(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-abcdef", Labels: map[string]string{v1alpha1.LabelToken: "w7"}}})
	w.run()
	w.eventually("the token", func() string {
		if len(w.tokens("w7")) > 0 {
			return "is still there"
		}
		return ""
	})
}

func TestAServerIsInstalledAnew(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.change = func(o *node.Options) { o.Image = image }
	w.member(v1alpha1.ControlPlane, "s2", "s3")
	w.password("s3")
	w.run()
	w.await("s3", v1alpha1.PhaseReady)
	w.annotate("s3", v1alpha1.AnnotationReinstall, "2026-11-22")
	w.await("s3", v1alpha1.PhaseRemoving, "Removal=True LeavingEtcd")
	if _, ok := w.claim("s3"); ok {
		t.Error("a claim is open before the member left")
	}
	w.etcd("s3")
	w.eventually("the time of its leaving", func() string {
		if w.core("s3").Annotations[v1alpha1.AnnotationLeftEtcd] == "" {
			return "is not noted"
		}
		return ""
	})
	w.pass(16 * time.Second)
	w.await("s3", v1alpha1.PhaseWaking, "Removal=True Rebooting", "Admitted=True Admitted")
	w.eventually("the pod that restarts it", func() string {
		pods := w.hostPods("s3")
		if len(pods) != 1 || pods[0].Spec.NodeName != "s3" || !pods[0].Spec.HostPID || pods[0].Spec.Containers[0].Args[0] != "reboot" {
			return "is not there"
		}
		return ""
	})
	w.restart()
	w.await("s3", v1alpha1.PhaseWaking)
	old := w.core("s3").UID
	for _, s := range steps[1:2] {
		s.do(w, "s3")
	}
	w.transition("s3", func(c *provision.Claim) error { return c.Consume(w.clock(), addressOf("s3")) })
	w.await("s3", v1alpha1.PhaseInstalling, "-Removal", "Joined=False NotJoined")
	if w.core("s3") != nil || w.hasPassword("s3") {
		t.Error("its former core Node or its password is left")
	}
	for _, s := range steps[3:] {
		s.do(w, "s3")
	}
	n := w.get("s3")
	if w.core("s3").UID == old || n.Status.Honoured["reinstall"] != "2026-11-22" || w.core("s3").Spec.Unschedulable {
		t.Errorf("it is not a new member: %+v", n.Status)
	}
	w.nudge()
	w.await("s3", v1alpha1.PhaseReady, "-Removal")
}

func TestAnotherOperatingSystemInstallsAnewOneByOne(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.make(operatingSystem("fedora"))
	w.member(v1alpha1.Worker, "w1", "w2")
	w.run()
	w.await("w1", v1alpha1.PhaseReady)
	w.await("w2", v1alpha1.PhaseReady)
	for _, name := range []string{"w1", "w2"} {
		w.eventually("another operating system", func() string {
			n := w.get(name)
			n.Spec.OperatingSystem = "fedora"
			if err := w.Update(t.Context(), n); err != nil {
				return err.Error()
			}
			return ""
		})
	}
	w.await("w1", v1alpha1.PhaseWaking)
	w.await("w2", v1alpha1.PhaseReady, "Removal=False OneAtATime")
	w.pass(time.Second)
	w.transition("w1", func(c *provision.Claim) error { return c.Consume(w.clock(), addressOf("w1")) })
	w.await("w1", v1alpha1.PhaseInstalling)
	w.await("w2", v1alpha1.PhaseReady, "Removal=False OneAtATime")
	for _, s := range steps[3:] {
		s.do(w, "w1")
	}
	if got := w.get("w1").Status.Installed.OperatingSystem; got != "fedora" {
		t.Errorf("it has %s", got)
	}
	w.await("w2", v1alpha1.PhaseWaking)
}

func TestAReinstallationThatIsTakenBackLeavesTheMember(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.member(v1alpha1.Worker, "w1")
	w.run()
	w.await("w1", v1alpha1.PhaseReady)
	w.pod("guarded", "w1", nil)
	w.budget("guarded")
	w.annotate("w1", v1alpha1.AnnotationReinstall, "now")
	w.await("w1", v1alpha1.PhaseRemoving, "Removal=True Draining")
	w.annotate("w1", v1alpha1.AnnotationReinstall, "")
	w.await("w1", v1alpha1.PhaseReady, "-Removal")
	w.eventually("the member", func() string {
		if w.core("w1").Spec.Unschedulable {
			return "is still cordoned"
		}
		return ""
	})
}

func (w *world) hostPods(name string) []corev1.Pod {
	w.t.Helper()
	var list corev1.PodList
	if err := w.List(w.t.Context(), &list, client.InNamespace(pxeNS), client.MatchingLabels{"rhizome.dev/host": name}); err != nil {
		w.t.Fatal(err)
	}
	return list.Items
}

func TestTheFirstServerIsAdopted(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.change = func(o *node.Options) { o.Image = image }
	w.run()
	w.await("s1", v1alpha1.PhaseReady, "Adopted=False Adopting")
	var p corev1.Pod
	w.eventually("the pod that adopts it", func() string {
		pods := w.hostPods("s1")
		if len(pods) != 1 {
			return "is not there"
		}
		p = pods[0]
		return ""
	})
	c := p.Spec.Containers[0]
	if want := "adopt --dir=/etc/rancher/k3s --server=https://192.168.1.11:6443"; strings.Join(c.Args, " ") != want || c.Image != image || p.Spec.NodeName != "s1" {
		t.Errorf("it runs %s %v on %s", c.Image, c.Args, p.Spec.NodeName)
	}
	if len(c.SecurityContext.Capabilities.Add) > 0 || !*c.SecurityContext.ReadOnlyRootFilesystem || *p.Spec.AutomountServiceAccountToken || len(p.Spec.Volumes) != 1 || p.Spec.HostPID {
		t.Errorf("it may do more than it must: %+v", c.SecurityContext)
	}
	end := func(phase corev1.PodPhase, message string, code int32) {
		p.Status.Phase = phase
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: c.Name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: code, Message: message, FinishedAt: metav1.NewTime(w.clock())}}}}
		if err := w.Status().Update(t.Context(), &p); err != nil {
			t.Fatal(err)
		}
	}
	end(corev1.PodFailed, "it holds more than one document", 1)
	n := w.await("s1", v1alpha1.PhaseReady, "Adopted=False AdoptionFailed")
	if got := meta.FindStatusCondition(n.Status.Conditions, "Adopted").Message; got != "it holds more than one document" {
		t.Errorf("the message is %q", got)
	}
	w.pass(11 * time.Minute)
	w.eventually("another try", func() string {
		pods := w.hostPods("s1")
		if len(pods) != 1 || pods[0].UID == p.UID {
			w.nudge()
			return "is not made"
		}
		p = pods[0]
		return ""
	})
	end(corev1.PodSucceeded, "", 0)
	w.await("s1", v1alpha1.PhaseReady, "Adopted=True ConfigRewritten")
	w.eventually("the pod", func() string {
		if len(w.hostPods("s1")) > 0 {
			return "is still there"
		}
		return ""
	})
	w.restart()
	w.kubelet("s1", false, true)
	w.await("s1", v1alpha1.PhaseNotReady, "Adopted=True ConfigRewritten")
	if len(w.hostPods("s1")) > 0 {
		t.Error("it is adopted twice")
	}
}
