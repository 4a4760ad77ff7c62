package node

import (
	"testing"
	"time"

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
