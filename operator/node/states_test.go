package node

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// leavingAt puts a member's leaving at a step.
func (f *fleet) leavingAt(name string, annotations ...string) {
	n := f.m(name).core.object
	f.removing(name, v1alpha1.ReasonDraining, metav1.ConditionTrue, time.Minute)
	n.Spec.Unschedulable = true
	for _, a := range annotations {
		key, value, _ := strings.Cut(a, "=")
		n.Annotations[key] = value
	}
}

func (f *fleet) seen(name, stage string, ago time.Duration) {
	m := f.m(name)
	if m.node.Status.Boot == nil {
		m.node.Status.Boot = &v1alpha1.BootObservation{}
	}
	b := m.node.Status.Boot
	b.Stage, b.Message = stage, "says the pod"
	b.Stages = append(b.Stages, v1alpha1.BootStage{Stage: stage, At: metav1.NewTime(f.now.Add(-ago)), Message: "says the pod"})
}

// TestDecisions is the whole state machine: what is so, and what is done, in every
// situation.
func TestDecisions(t *testing.T) {
	drained := v1alpha1.AnnotationDrained + "=2026-03-01T11:00:00Z"
	barring := v1alpha1.AnnotationBarring + "=2026-03-01T11:00:00Z"
	barred := v1alpha1.AnnotationBarred + "=2026-03-01T11:00:00Z"
	notBarred := v1alpha1.AnnotationBarred + "=it did not answer"
	told := annotationRemove + "=true"
	removed := annotationRemoved + "=s3-1234"
	proven := v1alpha1.AnnotationEtcdProof + "=2026-03-01T11:00:00Z"
	asked := func(ago time.Duration) string { return v1alpha1.AnnotationAskedEtcd + "=" + clock(t0.Add(-ago)) }
	left := func(ago time.Duration) string { return v1alpha1.AnnotationLeftEtcd + "=" + clock(t0.Add(-ago)) }
	servers := func(f *fleet) { f.joined("s3", true); f.joined("s4", true) }
	for _, c := range []struct {
		reason  string
		machine string
		change  func(*fleet)

		situation situation
		phase     v1alpha1.Phase
		acts      string // before the status is saved; after a bar, then
		look      time.Duration
		message   string
	}{
		{"declared and free to go", "w1", nil, idle, v1alpha1.PhaseClaimed, "Hold Open", 0, "attempt 1 of 3"},
		{"held", "w1", func(f *fleet) { f.cluster.Status.PXE = nil }, idle, v1alpha1.PhaseDeclared, "", 0, "held by PXENotReady"},
		{"backing off", "w1", func(f *fleet) { f.failed("w1", 20*time.Second, 1) }, idle, v1alpha1.PhaseDeclared, "Revoke", 40 * time.Second, "two disks match"},
		{"the next attempt", "w1", func(f *fleet) { f.failed("w1", 2*time.Minute, 1) }, idle, v1alpha1.PhaseClaimed, "Revoke Hold Open", 0, "attempt 2 of 3"},
		{"failed for good", "w1", func(f *fleet) { f.failed("w1", time.Hour, 3) }, idle, v1alpha1.PhaseFailed, "Revoke", 0, v1alpha1.AnnotationRetry},
		{"a person clears that", "w1", func(f *fleet) {
			f.failed("w1", time.Second, 3)
			f.annotated("w1", v1alpha1.AnnotationRetry, "1")
		}, idle, v1alpha1.PhaseClaimed, "Revoke Close Hold Open", 0, "attempt 1 of 3"},
		{"a person clears that while it is paused", "w1", func(f *fleet) {
			f.failed("w1", time.Second, 3)
			f.annotated("w1", v1alpha1.AnnotationRetry, "1").node.Annotations[v1alpha1.AnnotationPaused] = ""
		}, idle, v1alpha1.PhaseDeclared, "Revoke Close", 0, "held by Paused"},

		{"called", "w1", func(f *fleet) { f.opened("w1", time.Minute) }, called, v1alpha1.PhaseWaking, "", 2 * time.Minute, "told to turn on"},
		{"called, and nothing is heard", "w1", func(f *fleet) { f.opened("w1", 3*time.Minute) }, called, v1alpha1.PhaseWaking, "", 27 * time.Minute, "see that it has power"},
		{"called, and refused", "w1", func(f *fleet) { f.opened("w1", time.Minute); f.seen("w1", "Refused", 30*time.Second) }, called, v1alpha1.PhaseWaking, "", 2 * time.Minute, "it was refused: says the pod"},
		{"called, and no PXE pod is ready any more", "w1", func(f *fleet) { f.opened("w1", time.Minute); f.cluster.Status.PXE = nil }, called, v1alpha1.PhaseClaimed, "", 29 * time.Minute, "waiting for a PXE pod"},
		{"called, with a boot of an earlier attempt", "w1", func(f *fleet) { f.opened("w1", time.Minute); f.seen("w1", "Kernel", time.Hour) }, called, v1alpha1.PhaseWaking, "", 2 * time.Minute, ""},
		{"booting", "w1", func(f *fleet) { f.opened("w1", time.Minute); f.seen("w1", "Kernel", 10*time.Second) }, called, v1alpha1.PhaseBooting, "", 170 * time.Second, "last seen: Kernel (says the pod)"},
		{"booting, and stuck", "w1", func(f *fleet) { f.opened("w1", 10*time.Minute); f.seen("w1", "Kernel", 4*time.Minute) }, called, v1alpha1.PhaseBooting, "", 20 * time.Minute, "look at its screen"},
		{"called, and paused", "w1", func(f *fleet) { f.opened("w1", time.Minute); f.annotated("w1", v1alpha1.AnnotationPaused, "") }, called, v1alpha1.PhaseDeclared, "Close", 0, "held by Paused"},
		{"called, and a stranger takes its name", "w1", func(f *fleet) { f.joined("w1", true).addresses[0] = "192.168.1.99"; f.opened("w1", time.Minute) }, stranger, v1alpha1.PhaseJoining, "Close", 0, "another machine has this name"},

		{"installing", "w1", func(f *fleet) { f.consumed("w1", time.Minute); f.seen("w1", "Installing", time.Second) }, installing, v1alpha1.PhaseInstalling, "Offer", 15*time.Minute - time.Second, "is being installed"},
		{"installing, and paused: it is finished", "w1", func(f *fleet) { f.consumed("w1", time.Minute); f.annotated("w1", v1alpha1.AnnotationPaused, "") }, installing, v1alpha1.PhaseInstalling, "Offer", 14 * time.Minute, ""},
		{"half written", "w1", func(f *fleet) {
			f.consumed("w1", time.Minute)
			f.seen("w1", "Installing", 0)
			f.m("w1").node.Status.Boot.Done, f.m("w1").node.Status.Boot.Total = 57, 100
		}, installing, v1alpha1.PhaseInstalling, "Offer", 15 * time.Minute, "about 50 % written"},
		{"silent", "w1", func(f *fleet) { f.consumed("w1", 15*time.Minute) }, idle, v1alpha1.PhaseDeclared, "Revoke", time.Minute, "fell silent"},
		{"joining", "w1", func(f *fleet) { f.exchanged("w1", time.Minute) }, joining, v1alpha1.PhaseJoining, "", 4 * time.Minute, "k3s starts"},
		{"joining, and nothing comes", "w1", func(f *fleet) { f.exchanged("w1", 6*time.Minute) }, joining, v1alpha1.PhaseJoining, "", 24 * time.Minute, "journalctl"},
		{"never joined", "w1", func(f *fleet) { f.exchanged("w1", 30*time.Minute) }, idle, v1alpha1.PhaseDeclared, "Revoke", time.Minute, "did not join"},

		{"a member at rest", "w1", func(f *fleet) { f.joined("w1", true) }, present, v1alpha1.PhaseReady, "Hold", 0, "is ready"},
		{"a member that was just installed", "w1", func(f *fleet) {
			f.joined("w1", true)
			f.m("w1").node.Status = v1alpha1.NodeStatus{}
			f.exchanged("w1", time.Minute)
		}, present, v1alpha1.PhaseReady, "Hold | Revoke Tidy Close", 0, ""},
		{"a member that is not Ready yet", "w1", func(f *fleet) {
			f.joined("w1", false)
			f.m("w1").node.Status = v1alpha1.NodeStatus{}
			f.exchanged("w1", time.Minute)
		}, present, v1alpha1.PhaseJoining, "Hold", 29 * time.Minute, ""},
		{"a member that is never Ready", "w1", func(f *fleet) {
			f.joined("w1", false)
			f.m("w1").node.Status = v1alpha1.NodeStatus{}
			f.exchanged("w1", 31*time.Minute)
		}, present, v1alpha1.PhaseFailed, "Hold Revoke", 0, "was not Ready by 2026-03-01T11:59:00Z: the core Node is not ready"},
		{"a member that was Ready is not so after its installation was", "w1", func(f *fleet) {
			f.joined("w1", false)
			f.exchanged("w1", 31*time.Minute)
		}, present, v1alpha1.PhaseNotReady, "Hold Revoke", 0, ""},
		{"a member that was never Ready is mended", "w1", func(f *fleet) {
			f.joined("w1", true)
			f.m("w1").node.Status = v1alpha1.NodeStatus{Phase: v1alpha1.PhaseFailed}
			f.exchanged("w1", time.Hour)
		}, present, v1alpha1.PhaseReady, "Hold | Revoke Tidy Close", 0, ""},
		{"a member that was installed anew, and never Ready since: that was the request", "w1", func(f *fleet) {
			f.joined("w1", false)
			f.annotated("w1", v1alpha1.AnnotationReinstall, "1").node.Status.Phase = v1alpha1.PhaseJoining
			f.exchanged("w1", time.Hour)
		}, present, v1alpha1.PhaseFailed, "Hold Revoke", 0, "set the annotation"},
		{"a member that was never Ready is asked to be installed anew", "w1", func(f *fleet) {
			f.joined("w1", false)
			c := f.exchanged("w1", time.Hour)
			m := f.annotated("w1", v1alpha1.AnnotationReinstall, "2")
			m.node.Status = v1alpha1.NodeStatus{Phase: v1alpha1.PhaseFailed, Honoured: map[string]string{honouredReinstall: "1"},
				Claim: &v1alpha1.ClaimStatus{State: "Failed", Opened: metav1.NewTime(c.Opened)}}
		}, reinstalling, v1alpha1.PhaseRemoving, "Hold Begin", 0, ""},
		{"a member that was never Ready in as many attempts as may be", "w1", func(f *fleet) {
			f.joined("w1", false)
			c := f.exchanged("w1", time.Hour)
			c.Attempt = 3
			m := f.annotated("w1", v1alpha1.AnnotationReinstall, "2")
			m.node.Status = v1alpha1.NodeStatus{Phase: v1alpha1.PhaseFailed, Claim: &v1alpha1.ClaimStatus{State: "Failed", Opened: metav1.NewTime(c.Opened)}}
		}, reinstalling, v1alpha1.PhaseFailed, "Hold", 0, v1alpha1.AnnotationRetry},
		{"a member that came by itself", "w1", func(f *fleet) { f.joined("w1", true); f.opened("w1", time.Minute) }, present, v1alpha1.PhaseReady, "Hold Close", 0, ""},
		{"a member with other labels", "w1", func(f *fleet) {
			f.joined("w1", true)
			f.m("w1").node.Spec.Labels = map[string]v1alpha1.LabelValue{"a": "b"}
		}, present, v1alpha1.PhaseReady, "Hold Shape", 0, ""},
		{"a member with other labels, paused", "w1", func(f *fleet) {
			f.joined("w1", true)
			f.annotated("w1", v1alpha1.AnnotationPaused, "").node.Spec.Labels = map[string]v1alpha1.LabelValue{"a": "b"}
		}, present, v1alpha1.PhaseReady, "Hold", 0, ""},
		{"the first server", "s1", func(f *fleet) { f.m("s1").node.Status.Installed = nil }, present, v1alpha1.PhaseReady, "Hold Adopt", 0, ""},
		{"the first server without an image", "s1", func(f *fleet) { f.m("s1").node.Status.Installed, f.image = nil, "" }, present, v1alpha1.PhaseReady, "Hold", 0, ""},

		{"deleted, and never a member", "w1", func(f *fleet) { f.deleted("w1", 0) }, leaving, v1alpha1.PhaseRemoving, "Revoke Close Tidy Release", 0, ""},
		{"deleted under an open claim", "w1", func(f *fleet) { f.opened("w1", 0); f.deleted("w1", 0) }, leaving, v1alpha1.PhaseRemoving, "Close Revoke Close Tidy Release", 0, ""},
		{"deleted, never a member, and paused", "w1", func(f *fleet) { f.deleted("w1", 0); f.annotated("w1", v1alpha1.AnnotationPaused, "") }, leaving, v1alpha1.PhaseDeclared, "", 0, "held by Paused"},
		{"deleted, and to stay a member", "s3", func(f *fleet) {
			servers(f)
			f.deleted("s3", 0)
			f.annotated("s3", v1alpha1.AnnotationRemoval, v1alpha1.RemovalKeep)
		}, leaving, v1alpha1.PhaseReady, "Revoke Close Tidy Release", 0, ""},
		{"a member that was just deleted", "w1", func(f *fleet) { f.joined("w1", true); f.deleted("w1", 10*time.Second) }, leaving, v1alpha1.PhaseReady, "", 20 * time.Second, "held by Settling"},
		{"a member whose removal begins", "w1", func(f *fleet) { f.joined("w1", true); f.deleted("w1", time.Minute) }, leaving, v1alpha1.PhaseRemoving, "Begin", 0, "cordoned"},
		{"a member to be cordoned", "w1", func(f *fleet) {
			f.joined("w1", true)
			f.deleted("w1", time.Minute)
			f.removing("w1", v1alpha1.ReasonCordoning, metav1.ConditionTrue, 0)
		}, leaving, v1alpha1.PhaseRemoving, "Cordon", 0, ""},
		{"a member to be drained", "w1", func(f *fleet) { f.joined("w1", true); f.deleted("w1", time.Minute); f.leavingAt("w1") }, leaving, v1alpha1.PhaseRemoving, "Drain", 0, "12:09:00"},
		{"a worker that is drained", "w1", func(f *fleet) { f.joined("w1", true); f.deleted("w1", time.Minute); f.leavingAt("w1", drained) }, leaving, v1alpha1.PhaseRemoving, "Bar", 0, "kept from starting again"},
		{"a worker whose k3s is being kept from starting", "w1", func(f *fleet) {
			f.joined("w1", true)
			f.deleted("w1", time.Minute)
			f.leavingAt("w1", drained, barring)
		}, leaving, v1alpha1.PhaseRemoving, "Bar", 0, ""},
		{"a worker that does not come back", "w1", func(f *fleet) {
			f.joined("w1", true)
			f.deleted("w1", time.Minute)
			f.leavingAt("w1", drained, barring, barred)
		}, leaving, v1alpha1.PhaseRemoving, "DeleteCore Forget Revoke Close Tidy Release", 0, ""},
		{"a worker that may come back, since it did not answer", "w1", func(f *fleet) {
			f.joined("w1", true)
			f.deleted("w1", time.Minute)
			f.leavingAt("w1", drained, barring, notBarred)
		}, leaving, v1alpha1.PhaseRemoving, "DeleteCore Forget Revoke Close Tidy Release", 0, ""},
		{"a worker that stays after all", "w1", func(f *fleet) {
			f.joined("w1", true)
			f.deleted("w1", time.Minute)
			f.leavingAt("w1", v1alpha1.AnnotationCordoned+"=x", drained, barring)
			f.annotated("w1", v1alpha1.AnnotationRemoval, v1alpha1.RemovalKeep)
		}, leaving, v1alpha1.PhaseReady, "Lift", 0, ""},
		{"a worker that stays after all, paused", "w1", func(f *fleet) {
			f.joined("w1", true)
			f.deleted("w1", time.Minute)
			f.leavingAt("w1", drained, barring, barred)
			f.annotated("w1", v1alpha1.AnnotationRemoval, v1alpha1.RemovalKeep).node.Annotations[v1alpha1.AnnotationPaused] = ""
		}, leaving, v1alpha1.PhaseReady, "", 0, "held by Paused"},
		{"a worker that stays after all, and may start k3s again", "w1", func(f *fleet) {
			f.joined("w1", true)
			f.deleted("w1", time.Minute)
			f.leavingAt("w1", v1alpha1.AnnotationCordoned+"=x", drained)
			f.annotated("w1", v1alpha1.AnnotationRemoval, v1alpha1.RemovalKeep)
		}, leaving, v1alpha1.PhaseReady, "Uncordon Revoke Close Tidy Release", 0, ""},
		{"paused in the middle", "w1", func(f *fleet) {
			f.joined("w1", true)
			f.deleted("w1", time.Minute)
			f.leavingAt("w1", drained)
			f.annotated("w1", v1alpha1.AnnotationPaused, "")
		}, leaving, v1alpha1.PhaseReady, "", 0, "held by Paused"},
		{"a server that is drained", "s3", func(f *fleet) { servers(f); f.deleted("s3", time.Minute); f.leavingAt("s3", drained) }, leaving, v1alpha1.PhaseRemoving, "Bar", 0, ""},
		{"a server that does not come back", "s3", func(f *fleet) {
			servers(f)
			f.deleted("s3", time.Minute)
			f.leavingAt("s3", drained, barring, barred)
		}, leaving, v1alpha1.PhaseRemoving, "LeaveEtcd", 0, "etcd is asked"},
		{"a server that may come back, since it did not answer", "s3", func(f *fleet) {
			servers(f)
			f.deleted("s3", time.Minute)
			f.leavingAt("s3", drained, barring, notBarred)
		}, leaving, v1alpha1.PhaseRemoving, "LeaveEtcd", 0, "it did not answer"},
		{"a server that is to stay after etcd was asked", "s3", func(f *fleet) {
			servers(f)
			f.deleted("s3", time.Minute)
			f.leavingAt("s3", drained, barring, barred, told)
			f.annotated("s3", v1alpha1.AnnotationRemoval, v1alpha1.RemovalKeep)
		}, leaving, v1alpha1.PhaseRemoving, "", 0, "came too late"},
		{"a server whose k3s may not start, and without a quorum now", "s3", func(f *fleet) {
			servers(f)
			f.deleted("s3", time.Minute)
			f.leavingAt("s3", drained, barring, barred)
			f.vote("s1", corev1.ConditionTrue, time.Hour)
			f.vote("s2", corev1.ConditionTrue, time.Hour)
		}, leaving, v1alpha1.PhaseReady, "Lift", 0, "held by Quorum"},
		{"a server whose k3s may not start, without a quorum, and paused", "s3", func(f *fleet) {
			servers(f)
			f.deleted("s3", time.Minute)
			f.leavingAt("s3", drained, barring, barred)
			f.annotated("s3", v1alpha1.AnnotationPaused, "")
		}, leaving, v1alpha1.PhaseReady, "", 0, "held by Paused"},
		{"a server that is drained, without a quorum", "s3", func(f *fleet) {
			servers(f)
			f.deleted("s3", time.Minute)
			f.leavingAt("s3", drained)
			f.vote("s1", corev1.ConditionTrue, time.Hour)
			f.vote("s2", corev1.ConditionTrue, time.Hour)
		}, leaving, v1alpha1.PhaseReady, "", 0, "held by Quorum"},
		{"a server that etcd was asked to remove", "s3", func(f *fleet) { servers(f); f.deleted("s3", time.Minute); f.leavingAt("s3", drained, told) }, leaving, v1alpha1.PhaseRemoving, "", 0, "has not said"},
		{"a server that left etcd", "s3", func(f *fleet) { servers(f); f.deleted("s3", time.Minute); f.leavingAt("s3", drained, told, removed) }, leaving, v1alpha1.PhaseRemoving, "MarkLeft", 0, ""},
		{"a server that left etcd just now", "s3", func(f *fleet) {
			servers(f)
			f.deleted("s3", time.Minute)
			f.leavingAt("s3", drained, told, removed, left(10*time.Second))
		}, leaving, v1alpha1.PhaseRemoving, "", 5 * time.Second, "settles"},
		{"a server that left etcd, which has not settled", "s3", func(f *fleet) {
			servers(f)
			f.deleted("s3", time.Minute)
			f.leavingAt("s3", drained, told, removed, left(time.Minute), proven)
			f.vote("s2", corev1.ConditionTrue, time.Hour)
		}, leaving, v1alpha1.PhaseRemoving, "", 0, "s2 votes"},
		{"a server that left etcd for good", "s3", func(f *fleet) {
			servers(f)
			f.deleted("s3", time.Minute)
			f.leavingAt("s3", drained, told, removed, left(15*time.Second))
		}, leaving, v1alpha1.PhaseRemoving, "Expel", 0, ""},
		{"a server that left etcd for good, which is proven", "s3", func(f *fleet) {
			servers(f)
			f.deleted("s3", time.Minute)
			f.leavingAt("s3", drained, told, removed, left(15*time.Second), proven)
		}, leaving, v1alpha1.PhaseRemoving, "DeleteCore Forget Revoke Close Tidy Release", 0, ""},
		{"a server that left etcd for good, and nothing can prove it", "s3", func(f *fleet) {
			servers(f)
			f.image = ""
			f.deleted("s3", time.Minute)
			f.leavingAt("s3", drained, told, removed, left(15*time.Second))
		}, leaving, v1alpha1.PhaseRemoving, "DeleteCore Forget Revoke Close Tidy Release", 0, ""},
		{"a server that k3s has a while to remove", "s3", func(f *fleet) {
			servers(f)
			f.deleted("s3", time.Minute)
			f.leavingAt("s3", drained, told, asked(90*time.Second))
		}, leaving, v1alpha1.PhaseRemoving, "", 30 * time.Second, "has not said"},
		{"a server that k3s does not remove", "s3", func(f *fleet) {
			servers(f)
			f.deleted("s3", time.Minute)
			f.leavingAt("s3", drained, told, asked(2*time.Minute))
		}, leaving, v1alpha1.PhaseRemoving, "Expel", 0, "by etcd's own means"},
		{"a server that k3s does not remove, and nothing can be done", "s3", func(f *fleet) {
			servers(f)
			f.image = ""
			f.deleted("s3", time.Minute)
			f.leavingAt("s3", drained, told, asked(time.Hour))
		}, leaving, v1alpha1.PhaseRemoving, "", 0, "has not said"},
		{"a server that was removed by etcd's own means just now", "s3", func(f *fleet) {
			servers(f)
			f.deleted("s3", time.Minute)
			f.leavingAt("s3", drained, told, asked(time.Hour), left(5*time.Second), proven)
		}, leaving, v1alpha1.PhaseRemoving, "", 10 * time.Second, "settles"},
		{"a server whose core Node is gone already", "s3", func(f *fleet) {
			servers(f)
			f.deleted("s3", time.Minute)
			f.m("s3").core = nil
		}, leaving, v1alpha1.PhaseRemoving, "Forget Revoke Close Tidy Release", 0, ""},

		{"to be installed anew", "w1", func(f *fleet) { f.joined("w1", true); f.annotated("w1", v1alpha1.AnnotationReinstall, "1") }, reinstalling, v1alpha1.PhaseRemoving, "Hold Begin", 0, ""},
		{"installed anew already", "w1", func(f *fleet) {
			f.joined("w1", true)
			f.annotated("w1", v1alpha1.AnnotationReinstall, "1").node.Status.Honoured = map[string]string{honouredReinstall: "1"}
		}, present, v1alpha1.PhaseReady, "Hold", 0, ""},
		{"to have another operating system", "w1", func(f *fleet) { f.joined("w1", true); f.m("w1").node.Spec.OperatingSystem = "fedora" }, reinstalling, v1alpha1.PhaseRemoving, "Hold Begin", 0, ""},
		{"to be installed anew without a PXE pod", "w1", func(f *fleet) {
			f.joined("w1", true)
			f.annotated("w1", v1alpha1.AnnotationReinstall, "1")
			f.cluster.Status.PXE = nil
		}, reinstalling, v1alpha1.PhaseReady, "Hold", 0, "held by PXENotReady"},
		{"to be installed anew, and drained", "w1", func(f *fleet) {
			f.joined("w1", true)
			f.annotated("w1", v1alpha1.AnnotationReinstall, "1")
			f.leavingAt("w1", drained)
		}, reinstalling, v1alpha1.PhaseClaimed, "Hold Open", 0, ""},
		{"called to be installed anew", "w1", func(f *fleet) {
			f.joined("w1", true)
			f.annotated("w1", v1alpha1.AnnotationReinstall, "1")
			f.leavingAt("w1", drained)
			f.opened("w1", time.Second)
		}, reinstalling, v1alpha1.PhaseWaking, "Hold Reboot", 179 * time.Second, ""},
		{"called to be installed anew, and off", "w1", func(f *fleet) {
			f.joined("w1", false)
			f.annotated("w1", v1alpha1.AnnotationReinstall, "1")
			f.leavingAt("w1", drained)
			f.opened("w1", time.Second)
		}, reinstalling, v1alpha1.PhaseWaking, "Hold", 179 * time.Second, ""},
		{"being installed anew", "w1", func(f *fleet) {
			f.joined("w1", true)
			f.annotated("w1", v1alpha1.AnnotationReinstall, "1")
			f.leavingAt("w1", drained)
			f.consumed("w1", time.Second)
		}, reinstalling, v1alpha1.PhaseInstalling, "Hold DeleteCore Forget Tidy", 0, ""},
		{"installed anew while nobody looked", "w1", func(f *fleet) {
			f.joined("w1", true)
			f.annotated("w1", v1alpha1.AnnotationReinstall, "1")
			f.leavingAt("w1", drained)
			f.exchanged("w1", time.Second)
		}, reinstalling, v1alpha1.PhaseJoining, "Hold Uncordon", 0, ""},
		{"not to be installed anew after all", "w1", func(f *fleet) {
			f.joined("w1", true)
			f.leavingAt("w1", drained, v1alpha1.AnnotationCordoned+"=x")
		}, present, v1alpha1.PhaseReady, "Hold Uncordon", 0, ""},
		{"a server that is to be installed anew, and drained", "s3", func(f *fleet) {
			servers(f)
			f.annotated("s3", v1alpha1.AnnotationReinstall, "1")
			f.leavingAt("s3", drained)
		}, reinstalling, v1alpha1.PhaseRemoving, "Hold Bar", 0, "the pod that restarts it"},
		{"a server that restarts itself to be installed anew", "s3", func(f *fleet) {
			servers(f)
			f.annotated("s3", v1alpha1.AnnotationReinstall, "1")
			f.leavingAt("s3", drained, barring, barred, told, removed, left(time.Minute))
			f.opened("s3", time.Second)
		}, reinstalling, v1alpha1.PhaseWaking, "Hold", 179 * time.Second, ""},
		{"a server that could not be kept from starting, to be installed anew", "s3", func(f *fleet) {
			servers(f)
			f.annotated("s3", v1alpha1.AnnotationReinstall, "1")
			f.leavingAt("s3", drained, barring, notBarred, told, removed, left(time.Minute))
			f.opened("s3", time.Second)
		}, reinstalling, v1alpha1.PhaseWaking, "Hold Reboot", 179 * time.Second, ""},
		{"a server that is not to be installed anew after all", "s3", func(f *fleet) {
			servers(f)
			f.leavingAt("s3", v1alpha1.AnnotationCordoned+"=x", drained, barring, barred)
		}, present, v1alpha1.PhaseReady, "Hold Lift", 0, ""},
		{"not to be installed anew after it left etcd", "s3", func(f *fleet) {
			servers(f)
			f.leavingAt("s3", drained, told, removed, left(time.Minute), proven)
		}, reinstalling, v1alpha1.PhaseClaimed, "Hold Open", 0, ""},
	} {
		f := home()
		if c.change != nil {
			c.change(f)
		}
		m := f.m(c.machine)
		if got := situationOf(m, f); got != c.situation {
			t.Errorf("%s: the situation is %s, want %s", c.reason, got, c.situation)
		}
		o := decide(m, f)
		if o.phase != c.phase {
			t.Errorf("%s: %s, want %s (%s)", c.reason, o.phase, c.phase, o.ready.Message)
		}
		if diff := cmp.Diff(c.acts, acts(o)); diff != "" {
			t.Errorf("%s: acts (-want +got):\n%s", c.reason, diff)
		}
		var look time.Duration
		if !o.look.IsZero() {
			look = o.look.Sub(f.now)
		}
		if look != c.look {
			t.Errorf("%s: looks again after %s, want %s", c.reason, look, c.look)
		}
		if !strings.Contains(o.ready.Message, c.message) {
			t.Errorf("%s: the message %q lacks %q", c.reason, o.ready.Message, c.message)
		}
		if o.ready.Type != v1alpha1.ConditionReady || o.joined.Type != v1alpha1.ConditionJoined || o.ready.Reason == "" || o.joined.Reason == "" {
			t.Errorf("%s: conditions %+v, %+v", c.reason, o.ready, o.joined)
		}
		if strings.Contains(acts(o), "Open") && m.isMember() && !m.core.drained() {
			t.Errorf("%s: a claim is opened for a member", c.reason)
		}
		if m.claim != nil && strings.Contains(o.ready.Message, m.claim.ID) {
			t.Errorf("%s: the claim's identifier is in the message", c.reason)
		}
	}
}

func acts(o outcome) string {
	var words []string
	for _, a := range o.acts {
		words = append(words, string(a))
	}
	if len(o.then) > 0 {
		words = append(words, "|")
	}
	for _, a := range o.then {
		words = append(words, string(a))
	}
	return strings.Join(words, " ")
}

// TestEveryActIsDone: an act without an effect, or a situation without a handler,
// would be a panic in the middle of a removal.
func TestEveryActIsDone(t *testing.T) {
	for a := range grave {
		if effects[a] == nil {
			t.Errorf("nothing does %s", a)
		}
	}
	for _, s := range []situation{leaving, reinstalling, stranger, present, called, installing, joining, idle} {
		if states[s] == nil {
			t.Errorf("nobody handles %s", s)
		}
	}
}
