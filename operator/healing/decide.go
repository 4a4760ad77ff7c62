package healing

import (
	"fmt"
	"time"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// move is what is to be done about one member.
type move string

// The moves. Those that are not Rest, Refuse or Wait change the record; Act alone
// touches the world.
const (
	// rest: the member is well, and nothing was begun.
	rest move = "Rest"
	// refuse: a rule forbids the action, or there is none.
	refuse move = "Refuse"
	// begin writes down that the action is to be done.
	begin move = "Begin"
	// withdraw takes that back: nothing was done yet.
	withdraw move = "Withdraw"
	// act does the action.
	act move = "Act"
	// wait for what comes of it.
	wait move = "Wait"
	// finish writes down what came of it.
	finish move = "Finish"
	// giveUp quarantines the member.
	giveUp move = "GiveUp"
	// clear ends a quarantine: a person asked for it.
	clear move = "Clear"
)

// verdict is what follows from the facts for one member.
type verdict struct {
	move   move
	action v1alpha1.RepairAction
	try    int
	// result is that of the action that is over.
	result v1alpha1.RepairResult
	// refusal is the rule that speaks, of Refuse and Withdraw. nil: none.
	refusal *refusal
	message string
	// look is when time alone changes something; zero: never.
	look time.Time
}

// decide says what is to be done about a member. It is pure.
func decide(m *member, f *facts) verdict {
	if m.repair.Quarantined != nil && m.retry != "" && m.retry != m.repair.Honoured[honouredRetry] {
		return verdict{move: clear, message: "a person cleared it by the annotation " + v1alpha1.AnnotationRetry}
	}
	if m.busy() {
		return goOn(m, f)
	}
	if m.sick == "" {
		return verdict{move: rest}
	}
	action, try, ok := nextAction(m, f)
	if !ok {
		return exhausted(m, f)
	}
	if r := law.ask(m, f, action); r != nil {
		return verdict{move: refuse, action: action, try: try, refusal: r, message: r.String(), look: f.nextLook(m, r)}
	}
	return verdict{move: begin, action: action, try: try, message: fmt.Sprintf("%s (%s): %s", m.sick, m.why, words(action, m, f))}
}

// nextAction is the least action that may help and was not tried as often as it
// may be within a day. A machine whose kubelet speaks is on: it can be restarted
// through it, and need not be woken.
func nextAction(m *member, f *facts) (a v1alpha1.RepairAction, try int, ok bool) {
	s := f.settings
	if n := m.used(f.now, v1alpha1.RepairReboot); m.speaks && n < s.reboot.tries {
		return v1alpha1.RepairReboot, n + 1, true
	}
	power := v1alpha1.RepairWake
	if m.board {
		power = v1alpha1.RepairPowerCycle
	}
	n := m.used(f.now, v1alpha1.RepairPowerCycle, v1alpha1.RepairWake)
	if (m.board || !m.speaks) && n < s.power.tries {
		return power, n + 1, true
	}
	if n := m.used(f.now, v1alpha1.RepairReinstall); n < s.reinstall.tries {
		return v1alpha1.RepairReinstall, n + 1, true
	}
	return "", 0, false
}

// exhausted: every step was tried as often as it may be. The member is given up,
// by the same rules by which anything else would be done to it; in a dry run it
// never comes to that.
func exhausted(m *member, f *facts) verdict {
	a := v1alpha1.RepairQuarantine
	if r := law.ask(m, f, a); r != nil {
		return verdict{move: refuse, action: a, refusal: r, message: r.String(), look: f.nextLook(m, r)}
	}
	if len(m.counted(f.now)) == 0 {
		r := &refusal{rule{number: 8, name: "NoStep"}, "no step of the escalation is permitted by the Cluster's spec.healing: repair the machine by hand, or permit one"}
		return verdict{move: refuse, action: a, refusal: r, message: r.String()}
	}
	return verdict{move: giveUp, action: a, result: v1alpha1.ResultGivenUp, message: "all steps were tried as often as they may be within a day"}
}

// goOn is for a member that an action was begun for.
func goOn(m *member, f *facts) verdict {
	r := m.repair
	v := verdict{action: r.Action, try: int(r.Try)}
	if r.Acted == nil {
		return v.before(m, f)
	}
	since := r.Acted.Time
	if m.ready && m.sick == "" {
		v.move, v.result = finish, v1alpha1.ResultHealed
		v.message = fmt.Sprintf("it is Ready again, %s after the action", f.now.Sub(since).Round(time.Second))
		return v
	}
	if r.Action == v1alpha1.RepairReinstall {
		switch {
		case m.failed:
			v.move, v.result, v.message = finish, v1alpha1.ResultFailed, "its installations failed: the condition Admitted says why"
			return v
		case m.began:
			v.move, v.message = wait, "its machine is being installed: the condition Ready says how far that is"
			return v
		}
	}
	due := since.Add(f.stepOf(r.Action).timeout)
	if !f.now.Before(due) {
		v.move, v.result = finish, v1alpha1.ResultTimedOut
		v.message = fmt.Sprintf("it was not Ready by %s", clock(due))
		if r.Action == v1alpha1.RepairReinstall {
			v.message = fmt.Sprintf("its machine did not boot the installer by %s: see that it has power and boots from the network", clock(due))
		}
		return v
	}
	v.move, v.look, v.message = wait, due, fmt.Sprintf("it has until %s to be Ready", clock(due))
	if r.Action == v1alpha1.RepairReinstall {
		v.message = fmt.Sprintf("its machine has until %s to boot the installer", clock(due))
	}
	return v
}

// before is for an action that is written down and of which it is not known that
// it was done. Between the two some time passes, in which anybody who begins
// something else is seen: whoever acts looked after both had written.
func (v verdict) before(m *member, f *facts) verdict {
	r := m.repair
	intended := f.now
	if r.Intended != nil {
		intended = r.Intended.Time
	}
	off := r.Action == v1alpha1.RepairPowerCycle && r.Off != nil
	began := intended
	if off {
		// It took its time to turn off, or a former operator ended in between: the time
		// to turn it on begins when both was seen.
		for _, at := range []time.Time{r.Off.At.Time, m.since} {
			if at.After(began) {
				began = at
			}
		}
	}
	if !f.now.Before(began.Add(f.stepOf(r.Action).timeout)) {
		v.move, v.result, v.message = finish, v1alpha1.ResultFailed, "it could not be done: "+r.Message
		return v
	}
	if off {
		// Whatever the rules say by now: we turned it off, and it is turned on.
		v.move, v.message = act, "the machine is off, and is turned on again"
		return v
	}
	if m.sick == "" {
		return v.undone(m, v1alpha1.ResultHealed, nil, "the member is well again")
	}
	if refused := law.ask(m, f, r.Action); refused != nil {
		return v.undone(m, v1alpha1.ResultFailed, refused, refused.String())
	}
	v.message = words(r.Action, m, f)
	if due := intended.Add(f.settings.settle); f.now.Before(due) {
		v.move, v.look = wait, due
		return v
	}
	v.move = act
	return v
}

// undone takes an intent back. One that a former operator left may have been done:
// it counts.
func (v verdict) undone(m *member, result v1alpha1.RepairResult, r *refusal, message string) verdict {
	v.refusal, v.message = r, message
	if m.untouched {
		v.move = withdraw
		return v
	}
	v.move, v.result, v.message = finish, result, message+"; it is not known whether the action was done"
	return v
}

func (f *facts) stepOf(a v1alpha1.RepairAction) step {
	switch a {
	case v1alpha1.RepairReboot:
		return f.settings.reboot
	case v1alpha1.RepairPowerCycle, v1alpha1.RepairWake:
		return f.settings.power
	}
	return f.settings.reinstall
}

// nextLook is when a refusal may end by time alone; zero: never.
func (f *facts) nextLook(m *member, r *refusal) time.Time {
	switch r.name {
	case "Observing":
		return m.since.Add(f.settings.unhealthyAfter)
	case "CoolDown":
		return f.stormEnded.Add(f.settings.coolDown)
	case "BackOff":
		return f.restsUntil(m)
	}
	return time.Time{}
}

// The keys of status.repair.honoured.
const (
	honouredRetry      = "retry"
	honouredPoweredOff = "powered-off"
)
