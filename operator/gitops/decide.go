package gitops

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// act is what is done beside pointing the layers.
type act string

// The acts, as docs/concepts/source-of-truth.md calls them.
const (
	actNothing  act = "nothing"
	actMigrate  act = "migrate"
	actProve    act = "prove"
	actSwitch   act = "switch"
	actFinish   act = "finish"
	actRollBack act = "roll back"
	actFallBack act = "fall back"
	actBegin    act = "begin"
)

// verdict is what follows from the facts.
type verdict struct {
	// follow is the source that every layer is pointed at; empty: the layers are left
	// as they are.
	follow v1alpha1.SourceName
	act    act
	phase  v1alpha1.SourcePhase
	// trusted: what is not in the source any more was removed by a person, and may be
	// taken for removed.
	trusted bool
	// source and switched are the conditions SourceReady and Switched, without times.
	source, switched metav1.Condition
}

// decide says which source the layers follow and what is done about it. The rule of
// all rules: the layers are never pointed at a source that is not known to contain
// every commit that was synced and a directory for every layer that has
// Applications. In doubt they stay where they are, for Argo CD deletes nothing when
// it cannot read.
func decide(f *facts) verdict {
	switch {
	case f.active == "":
		return begin(f)
	case f.switching:
		return arrive(f)
	case f.active == v1alpha1.SourceSeed:
		return stayAtSeed(f)
	default:
		return stayAtHome(f)
	}
}

// begin chooses the first source: the seed, while the home cannot be reached, which
// is so of a home that the cluster itself is to host.
func begin(f *facts) verdict {
	v := verdict{act: actNothing, phase: v1alpha1.PhaseSourceWaiting}
	reason, message, violated := soundHome.evaluate(f)
	switch {
	case f.hasHome && f.pin == v1alpha1.PinHome:
	case f.hasHome && f.pin == v1alpha1.PinAuto && !violated && f.home.current && f.home.settled:
	default:
		v.switched = notSwitched(whyNotHome(f))
		if reason, message, violated := usableSeed.evaluate(f); violated {
			v.source = condition(v1alpha1.ConditionSourceReady, metav1.ConditionFalse, reason, message)
			return v
		}
		v.follow, v.act, v.phase, v.source = v1alpha1.SourceSeed, actBegin, v1alpha1.PhaseSourceSeed, seedActive(f)
		return v
	}
	if !violated {
		reason, message, violated = homeIsProven(f)
		if violated {
			v.act, v.phase = actProve, v1alpha1.PhaseSourceProving
		}
	}
	if violated {
		v.source = condition(v1alpha1.ConditionSourceReady, metav1.ConditionFalse, reason, message)
		v.switched = notSwitched(reason, message)
		return v
	}
	v.follow, v.act, v.phase, v.source, v.switched = v1alpha1.SourceHome, actBegin, v1alpha1.PhaseSourceHome, homeActive(f), switched(f)
	return v
}

// stayAtSeed is for layers that follow the seed.
func stayAtSeed(f *facts) verdict {
	v := verdict{follow: v1alpha1.SourceSeed, act: actNothing, phase: v1alpha1.PhaseSourceSeed, source: seedActive(f), trusted: true}
	if reason, message, violated := usableSeed.evaluate(f); violated {
		v.source = condition(v1alpha1.ConditionSourceReady, metav1.ConditionFalse, reason, message)
		v.phase, v.trusted = v1alpha1.PhaseSourceFrozen, false
		// To be pointed at what cannot be read takes nothing away, if it was followed
		// already.
		if f.seed.reachable || f.moved {
			v.follow = ""
		}
	}
	if !f.hasHome || f.pin == v1alpha1.PinSeed {
		v.switched = notSwitched(whyNotHome(f))
		return v
	}
	rules := toHome
	if f.pin == v1alpha1.PinHome {
		rules = usableHome
	}
	reason, message, violated := rules.evaluate(f)
	if !violated {
		return verdict{
			follow: v1alpha1.SourceHome, act: actSwitch, phase: v1alpha1.PhaseSourceSwitching, source: v.source,
			switched: notSwitched(v1alpha1.ReasonSwitching, "the layers are being pointed at "+f.words.homeURL),
		}
	}
	switch reason {
	case v1alpha1.ReasonHomeMissing, v1alpha1.ReasonHomeMigrating:
		// Only a seed that has everything is worth a copy.
		if v.trusted {
			v.act, v.phase = actMigrate, v1alpha1.PhaseSourceMigrating
		}
	case v1alpha1.ReasonHomeUnproven:
		v.act, v.phase = actProve, v1alpha1.PhaseSourceProving
	}
	if !v.trusted {
		v.phase = v1alpha1.PhaseSourceFrozen
	}
	if f.pin == v1alpha1.PinHome && v.act == actNothing {
		reason, message = v1alpha1.ReasonPinHeld, "spec.source is Home, but "+message
	}
	v.switched = notSwitched(reason, message)
	return v
}

// arrive is for layers that were pointed at the home and are awaited there.
func arrive(f *facts) verdict {
	v := verdict{
		follow: v1alpha1.SourceHome, act: actNothing, phase: v1alpha1.PhaseSourceSwitching,
		source:   condition(v1alpha1.ConditionSourceReady, metav1.ConditionFalse, v1alpha1.ReasonSwitching, "awaited from "+f.words.homeURL+": "+f.words.arriving),
		switched: notSwitched(v1alpha1.ReasonSwitching, "awaited from "+f.words.homeURL+": "+f.words.arriving),
	}
	reason, message, violated := soundHome.evaluate(f)
	unsound := violated && f.home.state != homeUnreachable
	if unsound || !f.hasHome {
		v.follow = ""
	}
	why := ""
	switch {
	case !f.hasHome:
		why = "spec.home was removed"
	case f.pin == v1alpha1.PinSeed:
		why = "spec.source is Seed"
	case unsound:
		// It was sound when the switch began.
		why = reason + ": " + message
	case f.arrived && !violated:
		v.act, v.phase, v.source, v.switched, v.trusted = actFinish, v1alpha1.PhaseSourceHome, homeActive(f), switched(f), false
		return v
	case f.late && violated:
		why = reason + ": " + message
	case f.late:
		why = "not ready in time: " + f.words.arriving
	default:
		return v
	}
	if reason, message, violated := usableSeed.evaluate(f); violated {
		v.source = condition(v1alpha1.ConditionSourceReady, metav1.ConditionFalse, v1alpha1.ReasonRollBackHeld, why+"; the layers cannot go back: "+reason+": "+message)
		v.switched = notSwitched(v1alpha1.ReasonRollBackHeld, why+"; the layers cannot go back: "+reason+": "+message)
		v.phase = v1alpha1.PhaseSourceFrozen
		return v
	}
	v.follow, v.act, v.phase = v1alpha1.SourceSeed, actRollBack, v1alpha1.PhaseSourceSeed
	v.source, v.switched = seedActive(f), notSwitched(v1alpha1.ReasonRolledBack, why)
	return v
}

// stayAtHome is for layers that follow the home. A home that is down is waited for:
// that it fails a probe, or ten, is no reason to follow something else.
func stayAtHome(f *facts) verdict {
	v := verdict{
		follow: v1alpha1.SourceHome, act: actNothing, phase: v1alpha1.PhaseSourceHome,
		source: homeActive(f), switched: switched(f), trusted: true,
	}
	reason, message, violated := soundHome.evaluate(f)
	if !f.hasHome {
		reason, message, violated = v1alpha1.ReasonHomeRemoved, "spec.home was removed while the layers follow it", true
	}
	if violated {
		v.source = condition(v1alpha1.ConditionSourceReady, metav1.ConditionFalse, reason, message)
		v.phase, v.trusted = v1alpha1.PhaseSourceFrozen, false
		if !f.hasHome || f.home.state != homeUnreachable || f.moved {
			v.follow = ""
		}
	} else if f.moved {
		if reason, message, violated := homeIsProven(f); violated {
			v.follow, v.act, v.phase, v.trusted = "", actProve, v1alpha1.PhaseSourceProving, false
			v.source = condition(v1alpha1.ConditionSourceReady, metav1.ConditionFalse, reason, message)
		}
	}
	leave := !f.hasHome || f.pin == v1alpha1.PinSeed
	if !leave && (!violated || f.pin == v1alpha1.PinHome) {
		return v
	}
	seedReason, seedMessage, held := usableSeed.evaluate(f)
	switch {
	case leave && held:
		v.switched = condition(v1alpha1.ConditionSwitched, metav1.ConditionTrue, v1alpha1.ReasonPinHeld,
			"the layers are to leave the home, but "+seedReason+": "+seedMessage)
		return v
	case held:
		v.source.Message += "; nothing is changed meanwhile, and the seed cannot stand in: " + seedReason + ": " + seedMessage
		return v
	case !leave && !f.home.lost:
		v.source.Message += "; nothing is changed meanwhile" + f.words.lost
		return v
	}
	if leave {
		reason, message = whyNotHome(f)
	}
	return verdict{
		follow: v1alpha1.SourceSeed, act: actFallBack, phase: v1alpha1.PhaseSourceSeed,
		source: seedActive(f), switched: notSwitched(reason, message),
	}
}

// whyNotHome says why the home is not aimed at.
func whyNotHome(f *facts) (reason, message string) {
	switch {
	case !f.hasHome:
		return v1alpha1.ReasonNoHome, "spec.home is not set: the seed stays the source"
	case f.pin == v1alpha1.PinSeed:
		return v1alpha1.ReasonPinnedToSeed, "spec.source is Seed"
	}
	if reason, message, violated := soundHome.evaluate(f); violated {
		return reason, message
	}
	if reason, message, violated := homeIsCurrent(f); violated {
		return reason, message
	}
	_, message, _ = homeIsSettled(f)
	return v1alpha1.ReasonHomeUnsettled, message
}

func seedActive(f *facts) metav1.Condition {
	return condition(v1alpha1.ConditionSourceReady, metav1.ConditionTrue, v1alpha1.ReasonSeedActive, "the layers follow the seed "+f.words.seedURL)
}

func homeActive(f *facts) metav1.Condition {
	return condition(v1alpha1.ConditionSourceReady, metav1.ConditionTrue, v1alpha1.ReasonHomeActive, "the layers follow the home "+f.words.homeURL)
}

func switched(f *facts) metav1.Condition {
	return condition(v1alpha1.ConditionSwitched, metav1.ConditionTrue, v1alpha1.ReasonHomeActive, "the layers follow the home "+f.words.homeURL)
}

func notSwitched(reason, message string) metav1.Condition {
	return condition(v1alpha1.ConditionSwitched, metav1.ConditionFalse, reason, message)
}

func condition(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message}
}
