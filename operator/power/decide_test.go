package power

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/provision"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// asleep are the facts of a machine with a controller that is to be turned on at
// once.
func asleep() facts {
	return facts{
		now: now,
		node: &v1alpha1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "alpha", Generation: 3},
			Spec:       v1alpha1.NodeSpec{Power: &v1alpha1.PowerSpec{Redfish: &v1alpha1.RedfishSpec{}}},
			Status:     v1alpha1.NodeStatus{Phase: v1alpha1.PhaseWaking},
		},
		claim: &provision.Claim{ID: "x", Opened: now.Add(-20 * time.Minute), Expires: now.Add(10 * time.Minute)},
	}
}

// said makes the condition that was written some time ago.
func said(reason string, ago time.Duration) func(*facts) {
	return func(f *facts) {
		status := metav1.ConditionFalse
		switch reason {
		case v1alpha1.ReasonTurnedOn:
			status = metav1.ConditionTrue
		case v1alpha1.ReasonToldOnly:
			status = metav1.ConditionUnknown
		}
		f.node.Status.Conditions = []metav1.Condition{stamped(*condition(status, reason, "it was so"), f.node.Generation, f.now.Add(-ago))}
	}
}

func TestWhenAMachineIsTurnedOn(t *testing.T) {
	all := func(changes ...func(*facts)) func(*facts) {
		return func(f *facts) {
			for _, change := range changes {
				change(f)
			}
		}
	}
	// asking is a machine that was heard of so long before its claim, which is so old.
	asking := func(before, age time.Duration) func(*facts) {
		return func(f *facts) {
			f.claim.Opened = now.Add(-age)
			f.node.Status.Boot = &v1alpha1.BootObservation{LastSeen: &metav1.Time{Time: f.claim.Opened.Add(-before)}}
		}
	}
	phase := func(p v1alpha1.Phase) func(*facts) { return func(f *facts) { f.node.Status.Phase = p } }
	for _, c := range []struct {
		reason  string
		change  func(*facts)
		act     bool
		again   bool
		restore bool
		says    string // reason of the condition that is written
		forget  bool
		look    time.Duration // from now
	}{
		{reason: "it is to be turned on, and its claim is open", change: all(), act: true},
		{reason: "it has a webhook", change: func(f *facts) { f.node.Spec.Power = &v1alpha1.PowerSpec{Webhook: &v1alpha1.WebhookSpec{}} }, act: true},

		{reason: "the PXE pods wake it", change: func(f *facts) { f.node.Spec.Power = nil }},
		{reason: "the PXE pods wake it by now", change: all(said(v1alpha1.ReasonTurnedOn, time.Minute), func(f *facts) { f.node.Spec.Power = nil }), forget: true},
		{reason: "it is being deleted", change: func(f *facts) { f.node.DeletionTimestamp = &metav1.Time{Time: now} }},
		{reason: "it is a member", change: phase(v1alpha1.PhaseReady)},
		{reason: "it is a member, and was turned on once", change: all(phase(v1alpha1.PhaseReady), said(v1alpha1.ReasonTurnedOn, time.Hour)), forget: true},
		{reason: "it waits for a PXE pod", change: phase(v1alpha1.PhaseClaimed)},
		{reason: "it is sick", change: phase(v1alpha1.PhaseNotReady)},
		{reason: "it failed", change: all(phase(v1alpha1.PhaseFailed), said(v1alpha1.ReasonPowerUnreachable, time.Hour)), forget: true},
		{reason: "it boots", change: all(phase(v1alpha1.PhaseBooting), said(v1alpha1.ReasonTurnedOn, time.Hour))},
		{reason: "it boots, and nobody knew that it is on", change: all(phase(v1alpha1.PhaseBooting), said(v1alpha1.ReasonToldOnly, time.Minute)), says: v1alpha1.ReasonTurnedOn},
		{reason: "it boots, turned on by a person", change: all(phase(v1alpha1.PhaseInstalling), said(v1alpha1.ReasonPowerCredentials, time.Minute)), says: v1alpha1.ReasonTurnedOn},

		{reason: "it boots, and an operator was killed while it restarted it", change: all(phase(v1alpha1.PhaseInstalling), said(v1alpha1.ReasonTurningOn, time.Minute)), restore: true},
		{reason: "it boots, and did not follow", change: all(phase(v1alpha1.PhaseBooting), said(v1alpha1.ReasonPowerUnproven, time.Minute)), restore: true},
		{reason: "it boots, and its controller went away", change: all(phase(v1alpha1.PhaseInstalling), said(v1alpha1.ReasonPowerUnreachable, time.Minute)), restore: true},
		{reason: "it boots, and its controller refused something", change: all(phase(v1alpha1.PhaseInstalling), said(v1alpha1.ReasonPowerRefused, time.Minute)), restore: true},
		{reason: "it boots, and its controller went away just now", change: all(phase(v1alpha1.PhaseInstalling), said(v1alpha1.ReasonPowerUnreachable, time.Second)), look: afterFailure - time.Second},
		{reason: "it boots, and was paused in the midst", change: all(phase(v1alpha1.PhaseJoining), said(v1alpha1.ReasonPaused, time.Minute)), restore: true},
		{reason: "it boots, and is paused", change: all(phase(v1alpha1.PhaseInstalling), said(v1alpha1.ReasonTurningOn, time.Minute), func(f *facts) { f.paused = "by a person" }), says: v1alpha1.ReasonPaused},

		{reason: "it asked for a boot just before its claim was opened", change: asking(45*time.Second, 19*time.Second), look: time.Second},
		{reason: "it asked for one then, and did not come", change: asking(45*time.Second, 20*time.Second), act: true},
		{reason: "it asked for one a while before", change: asking(46*time.Second, time.Second), act: true},

		{reason: "it has no claim", change: func(f *facts) { f.claim = nil }, says: v1alpha1.ReasonNoClaim},
		{reason: "its claim has expired", change: func(f *facts) { f.claim.Expires = now.Add(-time.Second) }, says: v1alpha1.ReasonNoClaim},
		{reason: "its claim is consumed", change: func(f *facts) { f.claim.ConsumedAt = now }, says: v1alpha1.ReasonNoClaim},
		{reason: "it is paused", change: func(f *facts) { f.paused = "by a person" }, says: v1alpha1.ReasonPaused},
		{reason: "it was held, and is no more", change: said(v1alpha1.ReasonPaused, time.Second), act: true},

		{reason: "it was turned on a moment ago", change: said(v1alpha1.ReasonTurnedOn, time.Minute), look: afterSilence - time.Minute},
		{reason: "it was told to turn on a moment ago", change: said(v1alpha1.ReasonToldOnly, time.Minute), look: afterSilence - time.Minute},
		{reason: "nothing was heard of it since", change: said(v1alpha1.ReasonTurnedOn, afterSilence), act: true, again: true},
		{reason: "it was turned on for another claim", change: said(v1alpha1.ReasonTurnedOn, time.Hour), act: true},
		{reason: "an operator was killed while it turned it on", change: said(v1alpha1.ReasonTurningOn, time.Second), act: true},
		{reason: "the controller did not answer", change: said(v1alpha1.ReasonPowerUnreachable, time.Second), look: afterFailure - time.Second},
		{reason: "the controller did not answer a while ago", change: said(v1alpha1.ReasonPowerUnreachable, afterFailure), act: true},
		{reason: "it did not follow", change: said(v1alpha1.ReasonPowerUnproven, time.Second), look: afterFailure - time.Second},
		{reason: "the password is wrong", change: said(v1alpha1.ReasonPowerCredentials, time.Minute), look: afterFault - time.Minute},
		{reason: "the password was wrong, and the Node has changed", change: all(said(v1alpha1.ReasonPowerCredentials, time.Minute), func(f *facts) { f.node.Generation++ }), act: true},
		{reason: "the certificate was wrong long ago", change: said(v1alpha1.ReasonPowerCertificate, afterFault), act: true},
	} {
		t.Run(c.reason, func(t *testing.T) {
			f := asleep()
			c.change(&f)
			v := decide(f)
			var says string
			if v.condition != nil {
				says = v.condition.Reason
			}
			var look time.Duration
			if !v.look.IsZero() {
				look = v.look.Sub(now)
			}
			got := []any{v.act, v.again, v.restore, says, v.forget, look}
			if diff := cmp.Diff([]any{c.act, c.again, c.restore, c.says, c.forget, c.look}, got); diff != "" {
				t.Errorf("act, again, restore, says, forget, look (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAPauseOfTheClusterHoldsEveryMachine(t *testing.T) {
	n := &v1alpha1.Node{}
	clusters := []v1alpha1.Cluster{{ObjectMeta: metav1.ObjectMeta{Name: "home"}}}
	if got := pausedBy(n, clusters); got != "" {
		t.Error(got)
	}
	clusters[0].Annotations = map[string]string{v1alpha1.AnnotationPaused: "moving house"}
	if got, want := pausedBy(n, clusters), "the annotation rhizome.dev/paused is on Cluster/home: moving house; remove it to go on"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	n.Annotations = map[string]string{v1alpha1.AnnotationPaused: ""}
	if got, want := pausedBy(n, clusters), "the annotation rhizome.dev/paused is on the Node; remove it to go on"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
