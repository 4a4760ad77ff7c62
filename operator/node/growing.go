package node

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/power"
	"github.com/rhizome-dev/rhizome/internal/provision"
)

// stallAfter is how long a machine may say nothing until the message says what to
// check.
const stallAfter = 3 * time.Minute

// consider: the machine is no member and nothing goes on. It is installed if no
// rule holds it.
func consider(m *machine, f *fleet) outcome {
	o := kept(m)
	o.joined = notJoined(m)
	next := nextAttempt(m, f)
	if m.claim != nil {
		o.over = next.Reason
		o.do(actRevoke)
	}
	if wantsRetry(m.node) {
		// The record goes first: whatever happens then, the count begins anew.
		if m.claim != nil {
			o.do(actClose)
		}
		o.honour(m, honouredRetry, v1alpha1.AnnotationRetry)
		o.attempts, o.nodeRef = 0, nil
	}
	if repairAsksToExpel(m) {
		o.expelOrphan(m, f)
		return o
	}
	reason, message, violated := admission.evaluate(m, f)
	if violated {
		o.phase = v1alpha1.PhaseDeclared
		o.admit(metav1.ConditionFalse, reason, message)
		o.doing(v1alpha1.ReasonNotJoined, "held by "+reason+": "+message)
		switch reason {
		case v1alpha1.ReasonAttemptsExhausted:
			o.phase = v1alpha1.PhaseFailed
			o.doing(v1alpha1.ReasonAttemptsExhausted, message)
		case v1alpha1.ReasonBackOff:
			o.lookAt(backOffUntil(m, next))
		}
		return o
	}
	if m.node.Status.NodeRef != nil {
		o.do(actForget)
	}
	o.nodeRef = nil
	o.phase = v1alpha1.PhaseClaimed
	o.attempt, o.attempts = next.Attempt, int32(next.Attempt)
	o.admit(metav1.ConditionTrue, v1alpha1.ReasonAdmitted, "no rule holds the installation")
	o.doing(string(v1alpha1.PhaseClaimed), fmt.Sprintf("a claim is opened (attempt %d of %d)", next.Attempt, f.policy().MaxAttempts))
	o.do(actHold, actOpen)
	return o
}

// callMachine: the claim is open, and the machine is to boot from the network.
func callMachine(m *machine, f *fleet) outcome {
	o := kept(m)
	o.joined, o.nodeRef = notJoined(m), nil
	// What forbids to begin forbids to go on, as long as nothing has been wiped.
	if reason, message, violated := (chain{invalid, pausedPolicy}).evaluate(m, f); violated {
		o.phase, o.attempts = v1alpha1.PhaseDeclared, int32(max(m.claim.Attempt-1, 0))
		o.admit(metav1.ConditionFalse, reason, message)
		o.doing(v1alpha1.ReasonNotJoined, "held by "+reason+": "+message)
		o.do(actClose)
		return o
	}
	o.admit(metav1.ConditionTrue, v1alpha1.ReasonAdmitted, fmt.Sprintf("the claim is open until %s", clock(m.claim.Expires)))
	o.lookAt(m.claim.Expires)
	o.calling(m, f)
	return o
}

// calling says how far a machine under an open claim is.
func (o *outcome) calling(m *machine, f *fleet) {
	seen := m.sightings()
	_, notReady, held := pxeNotReady(m, f)
	switch {
	case seen.Firmware.After(m.claim.Opened):
		o.phase = v1alpha1.PhaseBooting
		message := "the machine boots from the network" + lastSeen(m)
		if stalled(o, f, seen.Firmware) {
			message += "; it was heard of last at " + clock(seen.Firmware) + ": look at its screen; its firmware may have gone on to another boot entry"
		}
		o.doing(string(o.phase), message)
	case held:
		o.phase = v1alpha1.PhaseClaimed
		o.doing(string(o.phase), "waiting for a PXE pod: "+notReady)
	default:
		o.phase = v1alpha1.PhaseWaking
		how := turningOn(m)
		if stalled(o, f, m.claim.Opened) {
			how += fmt.Sprintf("; nothing was heard of it since %s: see that it has power and a cable, that its firmware boots from the network first and wakes by LAN, and that its MAC is %s",
				clock(m.claim.Opened), m.node.Spec.MAC)
		}
		o.doing(string(o.phase), how+refused(m))
	}
}

// turningOn is how the machine is turned on. Who does it by other means than
// Wake-on-LAN says in the condition Power what came of it.
func turningOn(m *machine) string {
	means := power.MeansOf(m.node)
	if means == power.MeansWakeOnLAN {
		return "told to turn on by Wake-on-LAN"
	}
	c := meta.FindStatusCondition(m.node.Status.Conditions, v1alpha1.ConditionPower)
	if c == nil {
		return fmt.Sprintf("to be turned on by %s", means)
	}
	return clip(c.Message, 800)
}

// stalled says whether nothing happened for so long that a person may want to
// look; else it is asked again then.
func stalled(o *outcome, f *fleet, since time.Time) bool {
	due := since.Add(stallAfter)
	if f.now.Before(due) {
		o.lookAt(due)
		return false
	}
	return true
}

// watchInstallation: the installer runs, or the installed system has not asked for
// its credentials yet.
func watchInstallation(m *machine, f *fleet) outcome {
	o := kept(m)
	o.joined, o.nodeRef = notJoined(m), nil
	o.phase = v1alpha1.PhaseInstalling
	next := nextAttempt(m, f)
	o.admit(metav1.ConditionTrue, v1alpha1.ReasonAdmitted, fmt.Sprintf("the claim was consumed at %s", clock(m.claim.ConsumedAt)))
	message := next.Reason + written(m)
	switch {
	case !backAtFirmware(m):
		message += lastSeen(m)
	case !m.claim.InstalledAt.IsZero():
		message += "; it is in its firmware or boot loader"
	}
	if f.noCredentials != "" {
		message += "; its credentials cannot be made: " + f.noCredentials
	}
	o.doing(string(o.phase), message)
	o.lookAt(next.Look)
	o.do(actOffer)
	return o
}

// backAtFirmware says whether a machine that was being installed asks for a boot again:
// what it asked for last changes by the second and says nothing more.
func backAtFirmware(m *machine) bool {
	seen := m.sightings()
	return seen.Firmware.After(m.claim.ConsumedAt) && seen.Firmware.After(seen.Activity)
}

// awaitMember: the machine has its credentials, and there is no core Node of it
// yet.
func awaitMember(m *machine, f *fleet) outcome {
	o := kept(m)
	o.joined, o.nodeRef = notJoined(m), nil
	o.phase = v1alpha1.PhaseJoining
	o.admit(metav1.ConditionTrue, v1alpha1.ReasonAdmitted, fmt.Sprintf("the claim was exchanged at %s", clock(m.claim.ExchangedAt)))
	message := fmt.Sprintf("the machine got its credentials at %s, and k3s starts", clock(m.claim.ExchangedAt))
	if stalled(&o, f, m.claim.ExchangedAt.Add(2*time.Minute)) {
		message += "; there is no core Node yet: see 'journalctl -u rhizome-join -u k3s -u k3s-agent' on the machine"
	}
	o.doing(string(o.phase), message)
	o.lookAt(nextAttempt(m, f).Look)
	return o
}

// meetStranger: another machine has the name or the address.
func meetStranger(m *machine, f *fleet) outcome {
	o := kept(m)
	v := judge(m)
	o.phase, o.joined, o.ready, o.nodeRef = v.phase, v.joined, v.ready, v.nodeRef
	_, message, _ := memberExists(m, f)
	o.admit(metav1.ConditionFalse, v1alpha1.ReasonMemberExists, message)
	if m.claim != nil && m.claim.State(f.now) == provision.StateOpen {
		o.attempts = int32(max(m.claim.Attempt-1, 0))
		o.do(actClose)
	}
	return o
}

// keepMember: the machine is a member and nothing else is asked of it.
func keepMember(m *machine, f *fleet) outcome {
	o := kept(m)
	v := judge(m)
	o.phase, o.joined, o.ready, o.nodeRef = v.phase, v.joined, v.ready, v.nodeRef
	o.do(actHold)
	if f.paused(m) == "" {
		switch {
		case mayLiftBar(m):
			o.do(actLift)
		case m.core.cordonedByUs() || m.core.drained():
			o.do(actUncordon)
		}
		if _, changed := shapeOf(m); changed {
			o.do(actShape)
		}
	}
	if m.core.isReady() && m.claim == nil {
		o.attempts = 0
		o.honour(m, honouredRetry, v1alpha1.AnnotationRetry)
		if o.installed == nil {
			// The request was made before there was anything to install anew.
			o.adoption(m, f)
		}
	}
	if m.claim == nil {
		return o
	}
	switch next := nextAttempt(m, f); {
	case m.claim.State(f.now) == provision.StateOpen:
		// It would be installed at its next boot.
		o.attempts = int32(max(m.claim.Attempt-1, 0))
		o.do(actClose)
	case !m.claim.ExchangedAt.IsZero() && m.core.isReady():
		o.succeed(m, f)
	case neverReady(m, f):
		o.neverReady(m, f)
	case !m.claim.ExchangedAt.IsZero() && f.now.Before(next.Look):
		o.lookAt(next.Look)
	case !m.claim.ExchangedAt.IsZero():
		o.do(actRevoke) // it was Ready meanwhile: its claim is closed when it is again
	case next.Verdict == provision.Wait:
		o.lookAt(next.Look)
		o.do(actOffer)
	default:
		o.do(actRevoke, actClose)
	}
	return o
}

// neverReady says whether a machine joined by its claim and was not Ready in the
// time that it may take.
func neverReady(m *machine, f *fleet) bool {
	return m.claim != nil && !m.claim.ExchangedAt.IsZero() && m.isMember() && !m.core.isReady() && !m.wasReady() &&
		!f.now.Before(m.claim.ExchangedAt.Add(f.policy().Join))
}

// neverReady ends the attempt of a machine that joined and is not Ready. It is a
// member, and in etcd perhaps: nobody but a person has it installed again, under
// the rules of a removal. Mended, it is taken as it is.
func (o *outcome) neverReady(m *machine, f *fleet) {
	why := o.ready.Message
	o.over = notReadyBy(m, f)
	o.phase = v1alpha1.PhaseFailed
	o.doing(v1alpha1.ReasonNeverReady, fmt.Sprintf(
		"%s: %s%s; see the conditions of the core Node and 'journalctl -u k3s -u k3s-agent' on the machine; mended, it is taken as it is; to install it anew, set the annotation %s to a new value",
		o.over, why, lastSeen(m), v1alpha1.AnnotationReinstall))
	o.do(actRevoke)
	// It is what came of the request, if there was one; a new value is a new one.
	if !saidNeverReady(m) {
		o.honour(m, honouredReinstall, v1alpha1.AnnotationReinstall)
	}
}

func notReadyBy(m *machine, f *fleet) string {
	return fmt.Sprintf("the machine joined and was not Ready by %s", clock(m.claim.ExchangedAt.Add(f.policy().Join)))
}

// saidNeverReady says whether the end of its last attempt is written down.
func saidNeverReady(m *machine) bool {
	c := m.node.Status.Claim
	return c != nil && m.claim != nil && c.State == string(provision.StateFailed) && c.Opened.Time.Equal(m.claim.Opened.Truncate(time.Second))
}

// succeed records the installation that ended in this member. Its claim is closed
// once that is saved.
func (o *outcome) succeed(m *machine, f *fleet) {
	if o.installed == nil || o.installed.At.Time.Before(m.claim.Opened.Truncate(time.Second)) {
		o.installed = &v1alpha1.InstallationRecord{
			At: metav1.NewTime(f.now).Rfc3339Copy(), OperatingSystem: f.operatingSystem(m),
			Seconds: int64(f.now.Sub(m.claim.Opened) / time.Second),
		}
	}
	o.adopted = nil // the cluster itself wrote its config
	o.attempts = 0
	o.honour(m, honouredRetry, v1alpha1.AnnotationRetry)
	o.honour(m, honouredReinstall, v1alpha1.AnnotationReinstall)
	o.honourRepair(m)
	o.then = append(o.then, actRevoke, actTidy, actClose)
}

func notJoined(m *machine) metav1.Condition { return judge(m).joined }

// lastSeen is the end of a sentence about what the PXE pods saw last.
func lastSeen(m *machine) string {
	b := m.node.Status.Boot
	if b == nil || b.Stage == "" || m.claim == nil {
		return ""
	}
	for _, s := range b.Stages {
		if s.Stage == b.Stage && s.At.Time.Before(m.claim.Opened) {
			return ""
		}
	}
	text := "; last seen: " + b.Stage
	if b.Message != "" && !strings.ContainsAny(b.Message, "0123456789%") {
		// A message that counts would be written here again and again.
		text += " (" + clip(b.Message, 300) + ")"
	}
	return text
}

// refused is why the machine was refused since its claim was opened.
func refused(m *machine) string {
	if b := m.node.Status.Boot; b != nil && m.claim != nil {
		for _, s := range b.Stages {
			if s.Stage == "Refused" && s.At.After(m.claim.Opened) && s.Message != "" {
				return "; it was refused: " + clip(s.Message, 500)
			}
		}
	}
	return ""
}

// written is how much of the disk image is written, to a tenth: what is precise
// stands in status.boot.
func written(m *machine) string {
	b := m.node.Status.Boot
	if b == nil || b.Total <= 0 || b.Done <= 0 || b.Stage != "Installing" {
		return ""
	}
	return fmt.Sprintf(", about %d %% written", min(b.Done, b.Total)*10/b.Total*10)
}
