package node

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/provision"
)

// DefaultEtcdSettle is how long after a member has left etcd its core Node stays.
const DefaultEtcdSettle = 15 * time.Second

// settledAt is when a deletion has stood long enough.
func settledAt(m *machine, f *fleet) time.Time { return m.node.DeletionTimestamp.Add(f.settle) }

// leave: the Node is being deleted. Its machine is taken out of the cluster, and
// never wiped.
func leave(m *machine, f *fleet) outcome {
	o := kept(m)
	v := judge(m)
	o.phase, o.joined, o.ready, o.nodeRef = v.phase, v.joined, v.ready, v.nodeRef
	if m.core == nil && o.nodeRef == nil {
		o.nodeRef = m.node.Status.NodeRef
	}
	if m.claim != nil && m.claim.State(f.now) == provision.StateOpen {
		o.do(actClose) // whatever holds the rest, it is not to be installed
	}
	switch {
	case m.isKept() && !tooLate(m):
		// Whoever is a member stays one; an installation that goes on loses its claim.
		if mayLiftBar(m) {
			// Its k3s would not start again: first that is mended.
			if why := f.paused(m); why != "" {
				o.remove(metav1.ConditionFalse, v1alpha1.ReasonPaused, why)
				o.ready.Message += "; held by Paused: " + why
				return o
			}
			o.do(actLift)
			return o
		}
		if m.isMember() && m.core.cordonedByUs() {
			o.do(actUncordon)
		}
		o.do(actRevoke, actClose, actTidy, actRelease)
		return o
	case m.isMember():
		if o.steps(m, f) {
			o.do(actDeleteCore, actForget, actRevoke, actClose, actTidy, actRelease)
			o.remove(metav1.ConditionTrue, v1alpha1.ReasonDeletingMember, "the core Node is deleted")
		}
		return o
	}
	if why := f.paused(m); why != "" {
		o.remove(metav1.ConditionFalse, v1alpha1.ReasonPaused, why)
		o.ready.Message += "; its removal is held by Paused: " + why
		return o
	}
	o.phase = v1alpha1.PhaseRemoving
	o.remove(metav1.ConditionTrue, v1alpha1.ReasonDeletingMember, "nothing of the machine is left in the cluster")
	if m.core == nil && removedHere(m) {
		// The core Node was deleted, and the rest may be left.
		o.do(actForget)
	}
	o.do(actRevoke, actClose, actTidy, actRelease)
	return o
}

// tooLate says whether the member cannot stay any more: a server that etcd was
// asked to remove runs no k3s that could be told otherwise.
func tooLate(m *machine) bool { return m.isMember() && serves(m) && m.core.toldToLeave() }

// removedHere says whether the machine's own core Node is gone: then the password
// by which k3s knew it is of no use any more.
func removedHere(m *machine) bool { return m.node.Status.NodeRef != nil && len(m.others) == 0 }

// steps decides the next step of a member's leaving, and says whether it has left
// all but its core Node. Where it is is read from the core Node itself.
func (o *outcome) steps(m *machine, f *fleet, further ...policy) bool {
	c := m.core
	rules := chain{noCluster, pausedPolicy}
	if !m.removalRuns() {
		rules = append(rules, beforehand...)
		rules = append(rules, further...)
	}
	if !c.toldToLeave() {
		rules = append(rules, quorate...)
	}
	if reason, message, violated := rules.evaluate(m, f); violated {
		o.remove(metav1.ConditionFalse, reason, message)
		o.ready.Message += "; its removal is held by " + reason + ": " + message
		if reason == v1alpha1.ReasonSettling {
			o.lookAt(settledAt(m, f))
		}
		if mayLiftBar(m) && f.cluster != nil && f.paused(m) == "" {
			// It may be held for long, and must come back if it restarts meanwhile.
			o.do(actLift)
		}
		return false
	}
	o.phase = v1alpha1.PhaseRemoving
	step := func(reason, message string, acts ...act) bool {
		if lack, _ := c.barred(); lack != "" {
			message += "; " + lack
		}
		if m.isLeaving() && m.isKept() {
			message += "; " + v1alpha1.RemovalKeep + " came too late: etcd was asked to remove it"
		}
		o.remove(metav1.ConditionTrue, reason, message)
		o.doing(string(v1alpha1.PhaseRemoving), message)
		o.do(acts...)
		return false
	}
	switch {
	case !m.removalRuns():
		// Written down first: the drain's time begins with it, and nothing else is
		// begun meanwhile.
		return step(v1alpha1.ReasonCordoning, "the member is to leave: it is cordoned first", actBegin)
	case !c.cordoned():
		return step(v1alpha1.ReasonCordoning, "the member is to leave: it is cordoned first", actCordon)
	case !c.drained():
		return step(v1alpha1.ReasonDraining, fmt.Sprintf("its pods are evicted, until %s at most", clock(drainBy(m, f))), actDrain)
	case o.bar(m):
		return false
	}
	if serves(m) {
		left, known := c.leftAt()
		due, overdue := c.overdue(f.now)
		switch {
		case !c.toldToLeave():
			return step(v1alpha1.ReasonLeavingEtcd, "etcd is asked to remove the member", actLeaveEtcd)
		case !known && !c.removedByEtcd() && overdue && f.image != "":
			return step(v1alpha1.ReasonLeavingEtcd, "k3s was asked to remove the member from etcd, and has not said that it did: it is removed by etcd's own means", actExpel)
		case !known && !c.removedByEtcd():
			if !overdue {
				o.lookAt(due)
			}
			return step(v1alpha1.ReasonLeavingEtcd, "etcd was asked to remove the member, and has not said that it did: see the log of k3s on the other servers")
		case !known:
			return step(v1alpha1.ReasonLeavingEtcd, "the member has left etcd", actMarkLeft)
		case f.now.Before(left.Add(f.etcdSettle)):
			o.lookAt(left.Add(f.etcdSettle))
			return step(v1alpha1.ReasonLeavingEtcd, "the member has left etcd, which settles")
		}
		if s, ok := unsettled(m, f); ok {
			return step(v1alpha1.ReasonLeavingEtcd, fmt.Sprintf("the member has left etcd; waiting until it is known again that the server %s votes", s))
		}
		if !c.expelled() && f.image != "" {
			return step(v1alpha1.ReasonLeavingEtcd, "the member has left etcd", actExpel)
		}
	}
	o.doing(string(v1alpha1.PhaseRemoving), "the member has left")
	return true
}

// unsettled names a server that runs and of which it is not certain that it
// votes.
func unsettled(m *machine, f *fleet) (string, bool) {
	for _, s := range f.otherServers(m) {
		if s.isReady() && s.vote(f.now) != votes {
			return s.name, true
		}
	}
	return "", false
}

// drainBy is when disruption budgets are respected no more.
func drainBy(m *machine, f *fleet) time.Time {
	for _, c := range m.node.Status.Conditions {
		if c.Type == v1alpha1.ConditionRemoval && c.Status == metav1.ConditionTrue {
			return c.LastTransitionTime.Add(f.drainTimeout())
		}
	}
	return f.now.Add(f.drainTimeout())
}

// wantsReinstall says whether a member is to be installed anew: a person asked for
// it, it is to have another operating system, or that has begun and went so far
// that it must be finished.
func wantsReinstall(m *machine, f *fleet) bool {
	exchanged := m.claim != nil && !m.claim.ExchangedAt.IsZero()
	if m.core.toldToLeave() || m.removalRuns() && exchanged {
		return true
	}
	if repairAsks(m) && !exchanged {
		return true
	}
	s := m.node.Status
	if value := m.node.Annotations[v1alpha1.AnnotationReinstall]; value != "" && value != s.Honoured[honouredReinstall] {
		// While the installation that brought this member is not yet recorded, it is
		// the one that was asked for, unless it came to nothing.
		if !exchanged || neverReady(m, f) && saidNeverReady(m) {
			return true
		}
	}
	if s.Installed == nil || exchanged {
		return false
	}
	system := f.operatingSystem(m)
	return system != "" && system != s.Installed.OperatingSystem
}

// reinstall: a member is installed anew. It leaves as it would for good; only then
// its claim is opened and the machine rebooted. Its core Node goes once the
// installer has the machine.
func reinstall(m *machine, f *fleet) outcome {
	o := kept(m)
	v := judge(m)
	o.phase, o.joined, o.ready, o.nodeRef = v.phase, v.joined, v.ready, v.nodeRef
	o.do(actHold)
	if m.claim != nil && (m.removalRuns() || m.core.drained()) && nextAttempt(m, f).Verdict == provision.Wait {
		switch m.claim.State(f.now) {
		case provision.StateOpen:
			if why := f.paused(m); why != "" {
				o.attempts = int32(max(m.claim.Attempt-1, 0))
				o.remove(metav1.ConditionTrue, v1alpha1.ReasonPaused, why)
				o.doing(string(v1alpha1.PhaseRemoving), "held by Paused: "+why)
				o.phase = v1alpha1.PhaseRemoving
				o.do(actClose)
				return o
			}
			o.admit(metav1.ConditionTrue, v1alpha1.ReasonAdmitted, fmt.Sprintf("the claim is open until %s", clock(m.claim.Expires)))
			o.remove(metav1.ConditionTrue, v1alpha1.ReasonRebooting, "the member has left, and its machine is to boot the installer")
			o.lookAt(m.claim.Expires)
			o.calling(m, f)
			if m.core.isReady() && !m.core.restartsItself() {
				o.do(actReboot)
			}
			return o
		case provision.StateExchanged:
			// All of it went by while nobody looked, and the core Node is the new
			// system's: deleting it now would take out who just joined.
			o.phase = v1alpha1.PhaseJoining
			o.do(actUncordon)
			return o
		case provision.StateConsumed, provision.StateInstalled:
			o.admit(metav1.ConditionTrue, v1alpha1.ReasonAdmitted, fmt.Sprintf("the claim was consumed at %s", clock(m.claim.ConsumedAt)))
			o.phase = v1alpha1.PhaseInstalling
			o.doing(string(o.phase), "the machine is being installed anew: its former core Node is deleted")
			o.do(actDeleteCore, actForget, actTidy)
			o.nodeRef = nil
			return o
		}
	}
	if neverReady(m, f) {
		o.over, o.phase = notReadyBy(m, f), v1alpha1.PhaseFailed
	}
	if !o.steps(m, f, reinstallable...) {
		return o
	}
	o.remove(metav1.ConditionTrue, v1alpha1.ReasonRebooting, "the member has left, and its machine is to boot the installer")
	next := nextAttempt(m, f)
	if reason, message, violated := reopenable.evaluate(m, f); violated {
		o.admit(metav1.ConditionFalse, reason, message)
		o.doing(string(v1alpha1.PhaseRemoving), "held by "+reason+": "+message)
		if reason == v1alpha1.ReasonBackOff {
			o.lookAt(backOffUntil(m, next))
		}
		return o
	}
	o.phase = v1alpha1.PhaseClaimed
	o.attempt, o.attempts = next.Attempt, int32(next.Attempt)
	o.admit(metav1.ConditionTrue, v1alpha1.ReasonAdmitted, "no rule holds the installation")
	o.doing(string(v1alpha1.PhaseClaimed), fmt.Sprintf("a claim is opened (attempt %d of %d)", next.Attempt, f.policy().MaxAttempts))
	o.do(actOpen)
	return o
}

// reinstallable are the rules of an installation that must hold before a member
// leaves to be installed anew, and reopenable those that must hold when its claim
// is opened.
var (
	reinstallable = []policy{invalid, attemptsExhausted, pxeNotReady, noCredentials, joinable}
	reopenable    = chain{invalid, pausedPolicy, quarantined, attemptsExhausted, backOff, repairRuns, pxeNotReady, noCredentials, joinable}
)

// joinable: there is a server by which the machine can join again.
func joinable(m *machine, f *fleet) (string, string, bool) {
	if _, ok := f.serverFor(m); ok {
		return "", "", false
	}
	return v1alpha1.ReasonControlPlaneOrder, "no server is Ready that the machine could join by again", true
}
