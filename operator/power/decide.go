package power

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/plaintext"
	"github.com/rhizome-dev/rhizome/internal/power"
	"github.com/rhizome-dev/rhizome/internal/provision"
)

// When something is tried again.
const (
	// afterFailure: the controller did not answer, or the machine did not follow.
	afterFailure = time.Minute
	// afterFault: a person has to change something. Controllers lock accounts.
	afterFault = 15 * time.Minute
	// afterSilence: the machine was turned on, and nothing was heard of it.
	afterSilence = 10 * time.Minute
)

// A machine that found nothing to boot is on, and our GRUB on it asks every ten seconds
// what to do: it comes upon the claim by itself, and to restart it would cut off what it
// has begun by then.
const (
	// asksLately is how long before the claim it was heard of at least. That is
	// written down every half minute.
	asksLately = 45 * time.Second
	// comesBy is how long it has to come.
	comesBy = 20 * time.Second
)

// facts are what is decided on.
type facts struct {
	now  time.Time
	node *v1alpha1.Node
	// claim is the machine's; nil: there is none.
	claim *provision.Claim
	// paused says by what; empty: it is not.
	paused string
}

// verdict is what follows.
type verdict struct {
	// act: the machine is to be turned on now. Again: it was, for this claim, and
	// nothing was heard of it.
	act, again bool
	// restore: it boots, and was perhaps turned off nevertheless: then it is to be
	// turned on again, and in no case to be turned off.
	restore bool
	// condition to be written; nil with forget unset: what is written stays.
	condition *metav1.Condition
	// forget: nothing is to be said any more.
	forget bool
	// look again then; zero: when something changes.
	look time.Time
}

// decide says whether the machine is to be turned on: only while the node
// controller says that it is to be (phase Waking), and only under an open claim. A
// machine that is on is restarted then: it is to be installed, and what it holds was
// given up when its claim was opened.
func decide(f facts) verdict {
	was := meta.FindStatusCondition(f.node.Status.Conditions, v1alpha1.ConditionPower)
	if power.MeansOf(f.node) == power.MeansWakeOnLAN || !f.node.DeletionTimestamp.IsZero() {
		return verdict{forget: was != nil}
	}
	switch f.node.Status.Phase {
	case v1alpha1.PhaseWaking:
	case v1alpha1.PhaseBooting, v1alpha1.PhaseInstalling, v1alpha1.PhaseJoining:
		if was == nil || was.Status == metav1.ConditionTrue {
			return verdict{}
		}
		if perhapsOff(was.Reason) {
			if f.paused != "" {
				return verdict{condition: condition(metav1.ConditionFalse, v1alpha1.ReasonPaused, f.paused)}
			}
			return due(f, was.LastTransitionTime.Add(pauseAfter(was.Reason)), verdict{restore: true})
		}
		// That it boots proves more than its controller can.
		return verdict{condition: condition(metav1.ConditionTrue, v1alpha1.ReasonTurnedOn, "it was seen to boot from the network")}
	default:
		return verdict{forget: was != nil}
	}
	if rule, why := held(f); rule != "" {
		return verdict{condition: condition(metav1.ConditionFalse, rule, why)}
	}
	if was == nil || was.LastTransitionTime.Time.Before(f.claim.Opened.Truncate(time.Second)) {
		// Nothing was done for this claim yet.
		if due := f.claim.Opened.Add(comesBy); asked(f) && f.now.Before(due) {
			return verdict{look: due}
		}
		return verdict{act: true}
	}
	since := was.LastTransitionTime.Time
	switch was.Reason {
	case v1alpha1.ReasonTurnedOn, v1alpha1.ReasonToldOnly:
		return due(f, since.Add(afterSilence), verdict{act: true, again: true})
	case v1alpha1.ReasonPowerCredentials, v1alpha1.ReasonPowerCertificate, v1alpha1.ReasonPowerUnsupported:
		if was.ObservedGeneration != f.node.Generation {
			return verdict{act: true}
		}
		return due(f, since.Add(afterFault), verdict{act: true})
	case v1alpha1.ReasonPowerUnreachable, v1alpha1.ReasonPowerRefused, v1alpha1.ReasonPowerUnproven:
		return due(f, since.Add(afterFailure), verdict{act: true})
	}
	// It was held, or whoever did it was killed: what is so is seen by the doing.
	return verdict{act: true}
}

// asked says whether the machine asked for a boot just before its claim was opened.
func asked(f facts) bool {
	b := f.node.Status.Boot
	return b != nil && b.LastSeen != nil && !b.LastSeen.Time.Before(f.claim.Opened.Add(-asksLately))
}

// perhapsOff says whether what was written last leaves open that the machine was turned
// off and not on again: whoever did it was killed, or a pause came, or the controller
// failed in the middle of it. A controller that does not let us in has turned nothing off.
func perhapsOff(reason string) bool {
	switch reason {
	case v1alpha1.ReasonTurningOn, v1alpha1.ReasonPaused,
		v1alpha1.ReasonPowerUnproven, v1alpha1.ReasonPowerUnreachable, v1alpha1.ReasonPowerRefused:
		return true
	}
	return false
}

// pauseAfter is how long a controller is left alone that failed; nobody else is waited for.
func pauseAfter(reason string) time.Duration {
	if reason == v1alpha1.ReasonTurningOn || reason == v1alpha1.ReasonPaused {
		return 0
	}
	return afterFailure
}

// held is the rule that forbids to touch the machine's power, and what lifts it.
func held(f facts) (rule, why string) {
	switch {
	case f.paused != "":
		return v1alpha1.ReasonPaused, f.paused
	case f.claim == nil || f.claim.State(f.now) != provision.StateOpen:
		return v1alpha1.ReasonNoClaim, "no claim is open, and without one no machine is restarted (rule 1); the next attempt opens one"
	}
	return "", ""
}

// due is v when its time has come, and else to look again then.
func due(f facts, at time.Time, v verdict) verdict {
	if f.now.Before(at) {
		return verdict{look: at}
	}
	return v
}

// pausedBy is the annotation that holds a machine; empty: none does.
func pausedBy(node *v1alpha1.Node, clusters []v1alpha1.Cluster) string {
	say := func(what, why string) string {
		text := fmt.Sprintf("the annotation %s is on %s", v1alpha1.AnnotationPaused, what)
		if why != "" {
			text += ": " + plaintext.Clip(why, 200)
		}
		return text + "; remove it to go on"
	}
	if why, ok := node.Annotations[v1alpha1.AnnotationPaused]; ok {
		return say("the Node", why)
	}
	for i := range clusters {
		if why, ok := clusters[i].Annotations[v1alpha1.AnnotationPaused]; ok {
			return say("Cluster/"+clusters[i].Name, why)
		}
	}
	return ""
}

func condition(status metav1.ConditionStatus, reason, message string) *metav1.Condition {
	return &metav1.Condition{Type: v1alpha1.ConditionPower, Status: status, Reason: reason, Message: plaintext.Clip(message, 2000)}
}

// stamped completes a condition. Its time is that of the last try, which is what the
// next one waits from.
func stamped(c metav1.Condition, generation int64, now time.Time) metav1.Condition {
	c.ObservedGeneration, c.LastTransitionTime = generation, metav1.NewTime(now).Rfc3339Copy()
	return c
}
