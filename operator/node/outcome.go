package node

import (
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/provision"
)

// act is something to do to the world. Each may be done again, and does nothing
// then.
type act string

const (
	// actHold sets the finalizer, actRelease takes it away.
	actHold    act = "Hold"
	actRelease act = "Release"
	// actOpen opens a claim, actClose ends the one that there is.
	actOpen  act = "Open"
	actClose act = "Close"
	// actOffer puts credentials under the claim, actRevoke takes them and their tokens
	// away.
	actOffer  act = "Offer"
	actRevoke act = "Revoke"
	// actBegin does nothing itself: it says that a removal is to be written down, on
	// facts that are certain.
	actBegin    act = "Begin"
	actCordon   act = "Cordon"
	actUncordon act = "Uncordon"
	actDrain    act = "Drain"
	// actBar keeps k3s on the machine from starting again, actLift takes that back.
	actBar       act = "Bar"
	actLift      act = "Lift"
	actLeaveEtcd act = "LeaveEtcd"
	actMarkLeft  act = "MarkLeft"
	// actExpel proves by etcd's own list that the member is gone, and sees to it.
	actExpel act = "Expel"
	// actExpelOrphan does so for a server that has no core Node.
	actExpelOrphan act = "ExpelOrphan"
	// actDeleteCore deletes the core Node; forget its node password.
	actDeleteCore act = "DeleteCore"
	actForget     act = "Forget"
	// actShape applies labels and taints.
	actShape act = "Shape"
	// actAdopt rewrites the first server's config; reboot restarts the machine; tidy
	// deletes the pods that did either.
	actAdopt  act = "Adopt"
	actReboot act = "Reboot"
	actTidy   act = "Tidy"
)

// grave acts cannot be undone, or permit what cannot be. They are decided twice:
// the second time on facts that come from the API server and no cache.
var grave = map[act]bool{
	actOpen: true, actBegin: true, actCordon: true, actDrain: true, actBar: true, actLift: true, actLeaveEtcd: true, actExpel: true, actExpelOrphan: true, actDeleteCore: true, actForget: true,
	actRelease: true, actReboot: true, actAdopt: true,
}

// outcome is what a state's handler decides: what is so, and what is to be done.
type outcome struct {
	phase v1alpha1.Phase
	ready metav1.Condition
	// joined is what is so of the core Node. admitted, removal and adopted are nil
	// where there is nothing to say.
	joined                     metav1.Condition
	admitted, removal, adopted *metav1.Condition

	nodeRef   *v1alpha1.CoreNodeReference
	attempts  int32
	installed *v1alpha1.InstallationRecord
	honoured  map[string]string
	// over says why the last attempt is over; empty: it goes on, or there is none.
	over string

	// acts are done, in their order, before the status is saved, and then after.
	// Acts that end a record which the status is derived from come after.
	acts, then []act
	// attempt is that of the claim to open.
	attempt int
	// look is when time alone changes something; zero: never.
	look time.Time
}

// do appends acts.
func (o *outcome) do(acts ...act) { o.acts = append(o.acts, acts...) }

// lookAt remembers the earliest time to look again.
func (o *outcome) lookAt(t time.Time) {
	if !t.IsZero() && (o.look.IsZero() || t.Before(o.look)) {
		o.look = t
	}
}

// isGrave says whether anything to be done cannot be undone.
func (o *outcome) isGrave() bool {
	for _, a := range o.acts {
		if grave[a] {
			return true
		}
	}
	for _, a := range o.then {
		if grave[a] {
			return true
		}
	}
	return false
}

// doing is the condition Ready of a machine that is no Ready member: its message
// is the column Doing.
func (o *outcome) doing(reason, message string) {
	o.ready = condition(v1alpha1.ConditionReady, metav1.ConditionFalse, reason, message)
}

func (o *outcome) admit(status metav1.ConditionStatus, reason, message string) {
	c := condition(v1alpha1.ConditionAdmitted, status, reason, message)
	o.admitted = &c
}

func (o *outcome) remove(status metav1.ConditionStatus, reason, message string) {
	c := condition(v1alpha1.ConditionRemoval, status, reason, message)
	o.removal = &c
}

// kept is the outcome that changes nothing of what earlier ones left.
func kept(m *machine) outcome {
	s := m.node.Status
	o := outcome{nodeRef: s.NodeRef, attempts: s.Attempts, installed: s.Installed, honoured: map[string]string{}}
	for k, v := range s.Honoured {
		o.honoured[k] = v
	}
	if m.claim != nil {
		o.attempts = int32(m.claim.Attempt)
	}
	if c := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionAdopted); c != nil && s.Installed == nil {
		adopted := *c
		o.adopted = &adopted
	}
	return o
}

// honour remembers that a person's request was heard.
func (o *outcome) honour(m *machine, key, annotation string) {
	if value := m.node.Annotations[annotation]; value != "" {
		o.honoured[key] = value
	}
}

// situation is which handler decides about a machine. It is derived from the world
// every time, so that an operator that was killed goes on where it was.
type situation string

const (
	// leaving: the Node is being deleted.
	leaving situation = "Leaving"
	// reinstalling: the machine is a member and is to be installed anew.
	reinstalling situation = "Reinstalling"
	// stranger: another machine has its name or its address.
	stranger situation = "Stranger"
	// present: the machine is a member.
	present situation = "Present"
	// called: its claim is open.
	called situation = "Called"
	// installing: its claim is consumed, and it is heard of.
	installing situation = "Installing"
	// joining: it has its credentials.
	joining situation = "Joining"
	// idle: it has no claim that may lead to anything.
	idle situation = "Idle"
)

// states are the handlers. Each is pure.
var states = map[situation]func(*machine, *fleet) outcome{
	leaving:      leave,
	reinstalling: reinstall,
	stranger:     meetStranger,
	present:      keepMember,
	called:       callMachine,
	installing:   watchInstallation,
	joining:      awaitMember,
	idle:         consider,
}

func situationOf(m *machine, f *fleet) situation {
	switch {
	case m.isLeaving():
		return leaving
	case m.isMember():
		if wantsReinstall(m, f) {
			return reinstalling
		}
		return present
	case m.claim != nil && nextAttempt(m, f).Verdict == provision.Wait:
		switch m.claim.State(f.now) {
		case provision.StateOpen:
			if m.core != nil || len(m.others) > 0 {
				return stranger
			}
			return called
		case provision.StateExchanged:
			return joining
		}
		return installing
	case m.core != nil || len(m.others) > 0:
		return stranger
	}
	return idle
}

func decide(m *machine, f *fleet) outcome { return states[situationOf(m, f)](m, f) }
