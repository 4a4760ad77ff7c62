package node

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// asked is a worker that healing asks to install anew.
func asked(ready bool) (*fleet, *machine) {
	f := home()
	f.joined("w1", ready)
	m := f.m("w1")
	m.node.Status.Repair = &v1alpha1.RepairStatus{Action: v1alpha1.RepairReinstall, Reinstall: "1"}
	f.repairing = "w1"
	return f, m
}

func TestHealingAsksForAReinstallation(t *testing.T) {
	tests := []struct {
		reason string
		ready  bool
		change func(*fleet, *machine)
		want   situation
	}{
		{"a sick member", false, nil, reinstalling},
		{"one that has recovered is left alone", true, nil, present},
		{"one that has recovered after etcd was asked to remove it", true, func(_ *fleet, m *machine) {
			m.core.object.Annotations = map[string]string{annotationRemove: "true"}
		}, reinstalling},
		{"a request that was honoured", false, func(_ *fleet, m *machine) { m.node.Status.Honoured = map[string]string{honouredRepair: "1"} }, present},
		{"a request that was withdrawn", false, func(_ *fleet, m *machine) { m.node.Status.Repair.Reinstall = "" }, present},
		{"a Node that is being deleted", false, func(f *fleet, _ *machine) { f.deleted("w1", time.Hour) }, leaving},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			f, m := asked(tc.ready)
			if tc.change != nil {
				tc.change(f, m)
			}
			if got := situationOf(m, f); got != tc.want {
				t.Errorf("it is %s, want %s", got, tc.want)
			}
		})
	}
}

// admits wants these acts, and this reason of the condition Admitted; and that it is
// remembered, until it is admitted, that the machine was a member.
func admits(t *testing.T, o outcome, want, reason string) {
	t.Helper()
	var acts []string
	for _, a := range o.acts {
		acts = append(acts, string(a))
	}
	if got := strings.Join(acts, " "); got != want || o.admitted == nil || o.admitted.Reason != reason {
		t.Errorf("acts %q, admitted %+v; want %q, %s", got, o.admitted, want, reason)
	}
	if (o.nodeRef == nil) != (reason == v1alpha1.ReasonAdmitted) {
		t.Errorf("its former core Node is %+v", o.nodeRef)
	}
}

// TestHealingAsksForAServerWithoutACoreNode: its member of etcd goes first, by the
// rules of a removal; nobody but healing, or a person, asks for it.
func TestHealingAsksForAServerWithoutACoreNode(t *testing.T) {
	tests := []struct {
		reason string
		change func(*fleet, *machine)
		acts   string
		want   string // the reason why it is not admitted; empty: it is
	}{
		{"it is asked for", nil, "ExpelOrphan", v1alpha1.ReasonMemberRemains},
		{"nobody asks", func(_ *fleet, m *machine) { m.node.Status.Repair = nil }, "", v1alpha1.ReasonMemberRemains},
		{"nobody asks, and it is paused", func(f *fleet, m *machine) {
			m.node.Status.Repair = nil
			f.annotated("s3", v1alpha1.AnnotationPaused, "")
		}, "", v1alpha1.ReasonPaused},
		{"it was honoured", func(_ *fleet, m *machine) { m.node.Status.Honoured = map[string]string{honouredRepair: "1"} }, "", v1alpha1.ReasonMemberRemains},
		{"it is proven that etcd lacks it", func(_ *fleet, m *machine) { m.node.Status.NodeRef = nil }, "Hold Open", v1alpha1.ReasonAdmitted},
		{"it is paused", func(f *fleet, _ *machine) { f.annotated("s3", v1alpha1.AnnotationPaused, "") }, "", v1alpha1.ReasonPaused},
		{"it was given up", func(f *fleet, m *machine) { m.node.Status.Repair.Quarantined = &metav1.Time{Time: f.now} }, "", v1alpha1.ReasonQuarantined},
		{"another server is silent", func(f *fleet, _ *machine) { f.vote("s2", corev1.ConditionTrue, 7*time.Minute) }, "", v1alpha1.ReasonQuorum},
		{"it is not known whether another server votes", func(f *fleet, _ *machine) { f.vote("s2", "", 0) }, "", v1alpha1.ReasonVotersUnknown},
		{"another member is taken out", func(f *fleet, _ *machine) {
			f.joined("w2", true)
			f.removing("w2", v1alpha1.ReasonDraining, metav1.ConditionTrue, time.Minute)
		}, "", v1alpha1.ReasonOneAtATime},
		{"no PXE pod is ready", func(f *fleet, _ *machine) { f.cluster.Status.PXE = nil }, "", v1alpha1.ReasonPXENotReady},
		{"the operator's image is not known", func(f *fleet, _ *machine) { f.image = "" }, "", v1alpha1.ReasonMemberRemains},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			f := home()
			m := f.m("s3")
			m.node.Status.NodeRef = &v1alpha1.CoreNodeReference{Name: "s3", UID: "uid-1"}
			m.node.Status.Installed = &v1alpha1.InstallationRecord{OperatingSystem: "debian"}
			m.node.Status.Repair = &v1alpha1.RepairStatus{Action: v1alpha1.RepairReinstall, Reinstall: "1"}
			f.repairing = "s3"
			if tc.change != nil {
				tc.change(f, m)
			}
			admits(t, decide(m, f), tc.acts, tc.want)
		})
	}
}

// TestAWorkerWithoutACoreNodeIsLeftAlone: nobody but healing, or a person, has it
// installed anew; and what holds it meanwhile does not make the operator forget that it
// was a member.
func TestAWorkerWithoutACoreNodeIsLeftAlone(t *testing.T) {
	tests := []struct {
		reason string
		change func(*fleet, *machine)
		acts   string
		want   string // the reason why it is not admitted
	}{
		{"nobody asks", nil, "", v1alpha1.ReasonMemberRemains},
		{"it is paused besides", func(f *fleet, _ *machine) { f.annotated("w1", v1alpha1.AnnotationPaused, "") }, "", v1alpha1.ReasonPaused},
		{"healing asked, and was heard", func(_ *fleet, m *machine) {
			m.node.Status.Repair = &v1alpha1.RepairStatus{Action: v1alpha1.RepairReinstall, Reinstall: "1"}
			m.node.Status.Honoured = map[string]string{honouredRepair: "1"}
		}, "", v1alpha1.ReasonMemberRemains},
		{"healing asks", func(f *fleet, m *machine) {
			m.node.Status.Repair = &v1alpha1.RepairStatus{Action: v1alpha1.RepairReinstall, Reinstall: "1"}
			f.repairing = "w1"
		}, "Forget Hold Open", v1alpha1.ReasonAdmitted},
		{"healing asks, and no PXE pod is ready", func(f *fleet, m *machine) {
			m.node.Status.Repair = &v1alpha1.RepairStatus{Action: v1alpha1.RepairReinstall, Reinstall: "1"}
			f.repairing, f.cluster.Status.PXE = "w1", nil
		}, "", v1alpha1.ReasonPXENotReady},
		{"healing asked, and gave it up", func(f *fleet, m *machine) {
			m.node.Status.Repair = &v1alpha1.RepairStatus{Reinstall: "1", Quarantined: &metav1.Time{Time: f.now}}
		}, "", v1alpha1.ReasonMemberRemains},
		{"a person asks", func(f *fleet, _ *machine) { f.annotated("w1", v1alpha1.AnnotationRetry, "1") }, "Forget Hold Open", v1alpha1.ReasonAdmitted},
		{"it never was a member", func(_ *fleet, m *machine) { m.node.Status = v1alpha1.NodeStatus{} }, "Hold Open", v1alpha1.ReasonAdmitted},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			f := home()
			m := f.m("w1")
			m.node.Status.NodeRef = &v1alpha1.CoreNodeReference{Name: "w1", UID: "uid-1"}
			m.node.Status.Installed = &v1alpha1.InstallationRecord{OperatingSystem: "debian"}
			if tc.change != nil {
				tc.change(f, m)
			}
			admits(t, decide(m, f), tc.acts, tc.want)
		})
	}
}

// TestARepairMakesOthersWait: while a step is written down for one member nothing is
// begun for another; the member itself is not held by it.
func TestARepairMakesOthersWait(t *testing.T) {
	f, m := asked(false)
	if o := decide(m, f); o.removal == nil || o.removal.Status != metav1.ConditionTrue {
		t.Errorf("the member that is repaired: %+v", o.removal)
	}
	if reason, _, violated := repairRuns(f.m("w2"), f); !violated || reason != v1alpha1.ReasonRepairRuns {
		t.Errorf("a new machine is held by %q", reason)
	}
	if reason, _, violated := oneAtATime(f.m("w2"), f); !violated || reason != v1alpha1.ReasonOneAtATime {
		t.Errorf("a member that is to leave is held by %q", reason)
	}
}

func TestAMachineThatHealingGaveUpIsNotCalledAgain(t *testing.T) {
	f, m := asked(false)
	m.node.Status.Repair = &v1alpha1.RepairStatus{Quarantined: &metav1.Time{Time: f.now}}
	if reason, message, violated := reopenable.evaluate(m, f); !violated || reason != v1alpha1.ReasonQuarantined {
		t.Errorf("it is held by %q: %s", reason, message)
	}
}
