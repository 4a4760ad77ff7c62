package node

import (
	"strings"
	"testing"
	"time"

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

func TestDecisionsAboutLeaving(t *testing.T) {
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
	for _, c := range []situationCase{
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
		c.run(t)
	}
}
