package healing_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/operator/healing"
)

// results are the actions of a Node's history, as "Wake TimedOut".
func (w *world) results(name string) []string {
	w.t.Helper()
	var all []string
	for _, r := range w.node(name).Status.Repairs {
		all = append(all, string(r.Action)+" "+string(r.Result))
	}
	return all
}

func (w *world) remembers(name string, want ...string) {
	w.t.Helper()
	w.eventually("the history of "+name, func() string {
		if got := w.results(name); !slices.Equal(got, want) {
			return strings.Join(got, ", ") + ", want " + strings.Join(want, ", ")
		}
		return ""
	})
}

func TestADeadWorkerIsRepairedStepByStep(t *testing.T) {
	w := newWorld(t, v1alpha1.HealingEnabled)
	w.run()
	w.die(9*time.Minute, "w1")
	if said := w.repair("w1", "False Observing"); !strings.HasPrefix(said, "rule 3: ") {
		t.Errorf("the refusal says %q", said)
	}
	w.later(time.Minute, "w1")
	w.repair("w1", "True Wake")
	if r := w.node("w1").Status.Repair; r.Acted != nil || r.Intended == nil || r.Wakes() {
		t.Errorf("it is done before it was written down for a while: %+v", r)
	}
	w.pass(healing.DefaultSettle)
	if r := w.acted("w1", v1alpha1.RepairWake, 1); !r.Wakes() {
		t.Error("PXE pods are not told to wake it")
	}
	if got := healing.Repairing(w)(); got != "w1" {
		t.Errorf("Repairing says %q", got)
	}
	w.later(10*time.Minute, "w1")
	w.repair("w1", "False BackOff")
	w.later(time.Minute, "w1")
	w.begun("w1", v1alpha1.RepairWake)
	w.acted("w1", v1alpha1.RepairWake, 2)
	w.later(10*time.Minute, "w1")
	w.repair("w1", "False BackOff")
	w.later(2*time.Minute, "w1")
	w.begun("w1", v1alpha1.RepairReinstall)
	r := w.acted("w1", v1alpha1.RepairReinstall, 1)
	if r.Reinstall == "" || r.Snapshot != "" {
		t.Errorf("the request is %+v", r)
	}
	// The node controller and the machine do the rest.
	w.must(w.Delete(t.Context(), w.core("w1")))
	w.controller("w1", func(n *v1alpha1.Node) {
		n.Status.NodeRef, n.Status.Phase = nil, v1alpha1.PhaseInstalling
		n.Status.Claim = &v1alpha1.ClaimStatus{Attempt: 1, State: "Consumed", Opened: metav1.NewTime(w.clock()), Expires: metav1.NewTime(w.clock().Add(time.Hour))}
	})
	w.pass(2 * time.Hour)
	w.repair("w1", "True Reinstall")
	w.must(w.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "w1"}}))
	w.kubelet("w1", corev1.ConditionTrue)
	w.repair("w1", "")
	w.says("w1", v1alpha1.ConditionHealthy, "True Well")
	w.remembers("w1", "Wake TimedOut", "Wake TimedOut", "Reinstall Healed")
	n := w.node("w1")
	if n.Status.Repair != nil && n.Status.Repair.Action != "" || n.Status.Repairs[2].Disk == "" || n.Status.Repairs[2].Rule != v1alpha1.ReasonSickSilent {
		t.Errorf("the record is %+v, %+v", n.Status.Repair, n.Status.Repairs)
	}
	if got := healing.Repairing(w)(); got != "" {
		t.Errorf("Repairing says %q", got)
	}
}

func TestADryRunOnlySays(t *testing.T) {
	w := newWorld(t, v1alpha1.HealingDryRun)
	before := gathered(t)
	w.run()
	w.die(10*time.Minute, "w1")
	said := w.repair("w1", "False DryRun")
	if !strings.Contains(said, "magic packets") || !strings.HasPrefix(said, "rule 13: ") {
		t.Errorf("it says %q", said)
	}
	w.event("w1", "WouldRepair")
	if got := gathered(t)["rhizome_repairs_dry_run_total{action=Wake}"] - before["rhizome_repairs_dry_run_total{action=Wake}"]; got != 1 {
		t.Errorf("counted %v times", got)
	}
	w.later(24*time.Hour, "w1")
	w.repair("w1", "False DryRun")
	if n := w.node("w1"); n.Status.Repair != nil && n.Status.Repair.Action != "" || len(n.Status.Repairs) != 0 {
		t.Errorf("a dry run did something: %+v %+v", n.Status.Repair, n.Status.Repairs)
	}
	w.specify(`{"healing":{"mode":"Disabled"}}`)
	w.repair("w1", "")
	w.healing("False Disabled")
}

func TestAStormStopsEverythingAndCoolsDown(t *testing.T) {
	w := newWorld(t, v1alpha1.HealingEnabled)
	w.run()
	w.die(20*time.Minute, "w1", "w2", "w3")
	for _, name := range []string{"w1", "w2", "w3"} {
		w.repair(name, "False Storm")
	}
	w.healing("False Storm")
	w.kubelet("w2", corev1.ConditionTrue)
	w.kubelet("w3", corev1.ConditionTrue)
	w.repair("w1", "False CoolDown")
	w.healing("False CoolDown")
	w.pass(time.Minute)
	w.kill() // what a storm was is not forgotten with the operator
	w.run()
	w.watched("w1")
	w.later(20*time.Minute, "w1")
	w.repair("w1", "False CoolDown")
	w.later(10*time.Minute, "w1")
	w.repair("w1", "True Wake")
	w.healing("True Repairing")
}

func TestPausedAndOutvoted(t *testing.T) {
	w := newWorld(t, v1alpha1.HealingEnabled)
	home := &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "home"}}
	w.annotate(home, v1alpha1.AnnotationPaused, "holidays")
	w.run()
	w.die(10*time.Minute, "w1")
	if said := w.repair("w1", "False Paused"); !strings.Contains(said, "holidays") {
		t.Errorf("it says %q", said)
	}
	w.healing("False Paused")
	w.annotate(node("w1"), v1alpha1.AnnotationPaused, "")
	w.annotate(home, v1alpha1.AnnotationPaused, "")
	w.repair("w1", "True Wake")
	// Between the intent and the deed everything is asked once more.
	w.mu.Lock()
	w.gateway = errors.New("no route")
	w.mu.Unlock()
	w.repair("w1", "False GatewayUnreachable")
	w.mu.Lock()
	w.gateway = nil
	w.mu.Unlock()
	w.repair("w1", "True Wake")
	w.peer("w1", v1alpha1.AnswerKubelet)
	w.repair("w1", "False PeerReaches")
	w.peer("w1", v1alpha1.AnswerMachine)
	w.repair("w1", "True Wake")
	w.annotate(node("w1"), v1alpha1.AnnotationPaused, "mine")
	w.repair("w1", "False Paused")
	w.remembers("w1")
}

func TestAnotherOperatorBeginsToWatchAnew(t *testing.T) {
	w := newWorld(t, v1alpha1.HealingEnabled)
	w.run()
	w.die(9*time.Minute, "w1")
	w.repair("w1", "False Observing")
	w.kill()
	w.run()
	w.watched("w1")
	w.later(9*time.Minute, "w1")
	w.healing("True Watching")
	w.repair("w1", "False Observing")
	w.later(time.Minute, "w1")
	w.begun("w1", v1alpha1.RepairWake)
	w.acted("w1", v1alpha1.RepairWake, 1)
	// What was begun is gone on with.
	w.kill()
	w.run()
	w.repair("w1", "True Wake")
	w.kubelet("w1", corev1.ConditionTrue)
	w.remembers("w1", "Wake Healed")
}

func TestWhoIsGivenUpWaitsForAPerson(t *testing.T) {
	w := newWorld(t, v1alpha1.HealingEnabled)
	w.specify(`{"healing":{"power":{"tries":1,"timeout":"5m"},"reinstall":{"tries":0}}}`)
	w.run()
	w.die(10*time.Minute, "w1")
	w.begun("w1", v1alpha1.RepairWake)
	w.acted("w1", v1alpha1.RepairWake, 1)
	w.later(5*time.Minute, "w1")
	w.repair("w1", "False BackOff")
	w.later(time.Minute, "w1")
	w.repair("w1", "False Quarantined")
	w.remembers("w1", "Wake TimedOut", "Quarantine GivenUp")
	w.event("w1", "Quarantined")
	w.later(48*time.Hour, "w1")
	w.repair("w1", "False Quarantined")
	w.annotate(node("w1"), v1alpha1.AnnotationRetry, "I changed its power supply")
	w.begun("w1", v1alpha1.RepairWake)
	w.acted("w1", v1alpha1.RepairWake, 1)
}

func TestAMachineOnABoardIsTurnedOffTaintedAndTurnedOn(t *testing.T) {
	w := newWorld(t, v1alpha1.HealingEnabled)
	fenced := func(name string) bool {
		return slices.ContainsFunc(w.core(name).Spec.Taints, func(t corev1.Taint) bool { return t.Key == corev1.TaintNodeOutOfService })
	}
	b := &board{on: true}
	tainted := false
	b.onStart = func() { tainted = fenced("w1") }
	w.onBoard("w1", b)
	w.run()
	w.die(10*time.Minute, "w1")
	w.repair("w1", "True PowerCycle")
	if !b.Running() || fenced("w1") {
		t.Fatal("it was turned off before that was written down")
	}
	w.pass(healing.DefaultSettle)
	r := w.acted("w1", v1alpha1.RepairPowerCycle, 1)
	if r.Off == nil || r.Off.By != v1alpha1.OffByBoard || b.halts != 1 || b.starts != 1 || !b.Running() {
		t.Errorf("proof %+v, off %d times, on %d times", r.Off, b.halts, b.starts)
	}
	if !tainted {
		t.Error("it was turned on before its pods were let go")
	}
	w.kubelet("w1", corev1.ConditionTrue)
	w.remembers("w1", "PowerCycle Healed")
	w.eventually("its taint", func() string {
		if fenced("w1") || w.core("w1").Annotations[v1alpha1.AnnotationFenced] != "" {
			return "is still there"
		}
		if r := w.node("w1").Status.Repair; r != nil && r.Off != nil {
			return "is gone, and the proof is not"
		}
		return ""
	})
}

func TestAPersonsWordThatAMachineIsOff(t *testing.T) {
	w := newWorld(t, v1alpha1.HealingEnabled)
	w.annotate(node("w1"), v1alpha1.AnnotationPoweredOff, "last summer")
	w.run()
	w.eventually("what was said of a member that is well", func() string {
		if r := w.node("w1").Status.Repair; r == nil || r.Honoured["powered-off"] != "last summer" {
			return "is not noted"
		}
		return ""
	})
	w.die(time.Minute, "w1")
	w.repair("w1", "False Observing")
	if c := meta.FindStatusCondition(w.node("w1").Status.Conditions, v1alpha1.ConditionHealthy); c == nil || !strings.Contains(c.Message, "rule 9: ") {
		t.Errorf("the condition Healthy does not say why its pods stay: %+v", c)
	}
	if w.core("w1").Annotations[v1alpha1.AnnotationFenced] != "" {
		t.Error("what was said of another failure was taken for a proof")
	}
	w.annotate(node("w1"), v1alpha1.AnnotationPoweredOff, "today")
	w.eventually("the taint", func() string {
		if w.core("w1").Annotations[v1alpha1.AnnotationFenced] == "" {
			return "is not there"
		}
		return ""
	})
	if off := w.node("w1").Status.Repair.Off; off == nil || off.By != v1alpha1.OffByPerson {
		t.Errorf("the proof is %+v", off)
	}
	w.event("w1", "Fenced")
}

func TestAMemberThatSpeaksIsRestartedThroughItsKubelet(t *testing.T) {
	w := newWorld(t, v1alpha1.HealingEnabled)
	w.run()
	w.kubelet("w1", corev1.ConditionFalse)
	w.sick("w1", v1alpha1.ReasonSickNotReady)
	w.pass(10 * time.Minute)
	w.begun("w1", v1alpha1.RepairReboot)
	w.acted("w1", v1alpha1.RepairReboot, 1)
	pods := w.pods()
	if len(pods) != 1 || pods[0].Spec.NodeName != "w1" || !pods[0].Spec.HostPID || pods[0].Spec.Containers[0].Args[0] != "reboot" {
		t.Fatalf("the pods are %+v", pods)
	}
	w.kubelet("w1", corev1.ConditionTrue)
	w.remembers("w1", "Reboot Healed")
	w.eventually("the pod", func() string {
		if len(w.pods()) > 0 {
			return "is left: it could start when nobody expects it"
		}
		return ""
	})
}

func TestAServerIsSavedAndInstalledAnew(t *testing.T) {
	w := newWorld(t, v1alpha1.HealingEnabled)
	// It may carry the virtual IP: nothing of its repair goes there.
	w.specify(`{"healing":{"power":{"tries":0}},"controlPlane":{"virtualIP":"192.168.1.5"}}`)
	w.run()
	w.die(10*time.Minute, "s3")
	w.begun("s3", v1alpha1.RepairReinstall)
	w.eventually("the pod that saves etcd", func() string {
		pods := w.pods()
		if len(pods) != 1 || pods[0].Spec.NodeName != "s1" || pods[0].Spec.Containers[0].Args[0] != "etcd-snapshot" {
			return "is not there"
		}
		return ""
	})
	if r := w.node("s3").Status.Repair; r.Reinstall != "" {
		t.Fatalf("it is asked for before etcd was saved: %+v", r)
	}
	// The first one fails, and a second is made.
	first := w.pods()[0]
	if spec := first.Spec.String(); strings.Contains(spec, "192.168.1.5") {
		t.Errorf("the pod names the virtual IP: %s", spec)
	}
	w.ends(&first, corev1.PodFailed, "no space left on device")
	w.eventually("another pod", func() string {
		if pods := w.pods(); len(pods) != 1 || pods[0].UID == first.UID {
			return "is not there"
		}
		return ""
	})
	second := w.pods()[0]
	w.ends(&second, corev1.PodSucceeded, "/snapshots/rhizome-before-s3, 4096 bytes")
	r := w.acted("s3", v1alpha1.RepairReinstall, 1)
	if !strings.Contains(r.Snapshot, "rhizome-before-s3") || !strings.HasPrefix(r.Snapshot, "on s1") || r.Reinstall == "" {
		t.Errorf("the request is %+v", r)
	}
}

// TestAServerWhoseCoreNodeIsGone: as long as etcd may count it, it is woken, etcd is
// saved, and its installation is asked for; how far that is says its claim.
func TestAServerWhoseCoreNodeIsGone(t *testing.T) {
	w := newWorld(t, v1alpha1.HealingEnabled)
	w.specify(`{"healing":{"power":{"tries":1}}}`)
	w.run()
	w.must(w.Delete(t.Context(), w.core("s3")))
	w.sick("s3", v1alpha1.ReasonSickMissing)
	w.later(10*time.Minute, "s3")
	w.begun("s3", v1alpha1.RepairWake)
	w.acted("s3", v1alpha1.RepairWake, 1)
	w.later(10*time.Minute, "s3")
	w.repair("s3", "False StorageUnknown") // the step's end has been seen: the pause runs from there
	w.later(time.Minute, "s3")
	w.repair("s3", "False StorageUnknown")
	n := w.node("s3")
	n.Spec.Healing = &v1alpha1.NodeHealingSpec{Storage: v1alpha1.StorageDisposable}
	w.must(w.Update(t.Context(), n))
	w.begun("s3", v1alpha1.RepairReinstall)
	w.eventually("the pod that saves etcd", func() string {
		if pods := w.pods(); len(pods) != 1 || pods[0].Spec.NodeName != "s1" {
			return "is not there"
		}
		return ""
	})
	saves := w.pods()[0]
	w.ends(&saves, corev1.PodSucceeded, "/snapshots/rhizome-before-s3, 4096 bytes")
	if r := w.acted("s3", v1alpha1.RepairReinstall, 1); r.Reinstall == "" || r.Rule != v1alpha1.ReasonSickMissing {
		t.Errorf("the request is %+v", r)
	}
	says := func(want string) {
		t.Helper()
		w.eventually("what is said of the repair", func() string {
			if r := w.node("s3").Status.Repair; r == nil || !strings.Contains(r.Message, want) {
				return fmt.Sprintf("is %+v, want %q", r, want)
			}
			return ""
		})
	}
	says("to boot the installer")
	// The node controller has it taken out of etcd, and opens a claim, which is used.
	w.controller("s3", func(n *v1alpha1.Node) {
		n.Status.NodeRef, n.Status.Phase = nil, v1alpha1.PhaseInstalling
		n.Status.Claim = &v1alpha1.ClaimStatus{Attempt: 1, State: "Consumed", Opened: metav1.NewTime(w.clock()), Expires: metav1.NewTime(w.clock().Add(time.Hour))}
	})
	says("is being installed")
	// It joins.
	w.must(w.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "s3"}}))
	w.kubelet("s3", corev1.ConditionTrue)
	w.controller("s3", func(n *v1alpha1.Node) {
		n.Status.NodeRef, n.Status.Phase = &v1alpha1.CoreNodeReference{Name: "s3", UID: string(w.core("s3").UID)}, v1alpha1.PhaseReady
		n.Status.Claim.State = "Exchanged"
	})
	w.remembers("s3", "Wake TimedOut", "Reinstall Healed")
}

// TestTheOperatorsOwnServer: another replica has the lease on another server, and
// heals the one on which the operator was.
func TestTheOperatorsOwnServer(t *testing.T) {
	w := newWorld(t, v1alpha1.HealingEnabled)
	w.run()
	w.kubelet("s1", corev1.ConditionUnknown)
	w.sick("s1", v1alpha1.ReasonSickSilent)
	w.pass(10 * time.Minute)
	w.peer("s1", v1alpha1.AnswerNothing)
	w.repair("s1", "False OwnNode")
	w.kill()
	w.runsOn = "s2"
	w.run()
	w.repair("s1", "False Observing")
	w.later(10*time.Minute, "s1")
	w.begun("s1", v1alpha1.RepairWake)
	w.acted("s1", v1alpha1.RepairWake, 1)
}

func TestAVolumeHoldsTheReinstallation(t *testing.T) {
	w := newWorld(t, v1alpha1.HealingEnabled)
	w.specify(`{"healing":{"power":{"tries":0}}}`)
	core := w.core("w1")
	core.Labels = map[string]string{corev1.LabelHostname: "w1"}
	w.must(w.Update(t.Context(), core))
	w.must(w.Create(t.Context(), volume("data", "w1")))
	w.run()
	w.die(10*time.Minute, "w1")
	if said := w.repair("w1", "False LocalVolume"); !strings.Contains(said, "data") || !strings.HasPrefix(said, "rule 7: ") {
		t.Errorf("it says %q", said)
	}
	n := w.node("w1")
	n.Spec.Healing = &v1alpha1.NodeHealingSpec{Storage: v1alpha1.StorageDisposable}
	w.must(w.Update(t.Context(), n))
	w.begun("w1", v1alpha1.RepairReinstall)
	w.acted("w1", v1alpha1.RepairReinstall, 1)
}

func (w *world) pods() []corev1.Pod {
	w.t.Helper()
	var list corev1.PodList
	w.must(w.List(w.t.Context(), &list, client.InNamespace(pxeNS)))
	return list.Items
}

// ends plays the kubelet of a pod that is over.
func (w *world) ends(p *corev1.Pod, phase corev1.PodPhase, said string) {
	w.t.Helper()
	p.Status.Phase = phase
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "host", State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{Message: said, FinishedAt: metav1.NewTime(w.clock())}}}}
	w.must(w.Status().Update(w.t.Context(), p))
}

func (w *world) healing(want string) {
	w.t.Helper()
	w.eventually("the condition Healing", func() string {
		var c v1alpha1.Cluster
		w.must(w.Get(w.t.Context(), client.ObjectKey{Name: "home"}, &c))
		got := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionHealing)
		if got == nil || string(got.Status)+" "+got.Reason != want {
			return "is not " + want
		}
		return ""
	})
}

func (w *world) event(name, reason string) {
	w.t.Helper()
	w.eventually("the event "+reason+" of "+name, func() string {
		var list corev1.EventList
		w.must(w.List(w.t.Context(), &list, client.InNamespace("default")))
		for _, e := range list.Items {
			if e.InvolvedObject.Name == name && e.Reason == reason {
				return ""
			}
		}
		return "was not told"
	})
}
