package provision

import (
	"fmt"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
)

// Policy is how patient the owner of a machine's claims is.
type Policy struct {
	// MaxAttempts is how many installations in a row may fail. Zero: 3.
	MaxAttempts int
	// Silence is how long a machine may say nothing during its installation before
	// it counts as interrupted; an installed one may ask its firmware for a boot
	// as long again. Zero: 15 minutes.
	Silence time.Duration
	// Join is how long a machine that has its credentials may take to be a member.
	// Zero: as long as it takes.
	Join time.Duration
	// Settle is how long a machine that went back to its firmware during its
	// installation may take to show that it was installed all the same. Zero: 3
	// minutes.
	Settle time.Duration
}

func (p Policy) defaulted() Policy {
	if p.MaxAttempts <= 0 {
		p.MaxAttempts = 3
	}
	if p.Silence <= 0 {
		p.Silence = 15 * time.Minute
	}
	if p.Settle <= 0 {
		p.Settle = 3 * time.Minute
	}
	return p
}

// Sightings are when a machine was last seen. Zero times: never.
type Sightings struct {
	// Firmware is when its firmware or boot loader last asked for anything.
	Firmware time.Time
	// Activity is when its installer or installed system last did anything.
	Activity time.Time
	// Joined: it is a member of the cluster.
	Joined bool
}

// With is the sightings after one more observation.
func (s Sightings) With(o pxe.Observation) Sightings {
	switch o.Stage {
	case pxe.StageDHCP:
		// An installer and an installed system ask for addresses too; only firmware
		// and boot loaders say what they are.
		if o.Machine.Firmware != pxe.FirmwareUnknown || o.Machine.IPXE {
			s.Firmware = latest(s.Firmware, o.Time)
		} else {
			s.Activity = latest(s.Activity, o.Time)
		}
	case pxe.StageLoader, pxe.StageConfig, pxe.StageKernel, pxe.StageInitrd:
		s.Firmware = latest(s.Firmware, o.Time)
	case pxe.StageInitConfig, pxe.StageInstalling, pxe.StageInstalled, pxe.StageFailed,
		pxe.StageMedia, pxe.StageCredentials:
		s.Activity = latest(s.Activity, o.Time)
	}
	return s
}

// Verdict is what to do about a machine's claim.
type Verdict string

// The verdicts.
const (
	Wait   Verdict = "Wait"   // leave it alone
	Open   Verdict = "Open"   // open a claim with the given attempt
	GiveUp Verdict = "GiveUp" // a person has to look
	Done   Verdict = "Done"   // the machine is a member
)

// Next is a verdict with its reason, for people.
type Next struct {
	Verdict Verdict
	// Attempt is the number of the claim to open.
	Attempt int
	Reason  string
	// Ended is when the last attempt was over, of the verdicts Open and GiveUp. Zero:
	// there was none.
	Ended time.Time
	// Look is when the verdict Wait changes though nothing more is heard of the
	// machine. Zero: time alone changes nothing.
	Look time.Time
}

// NextClaim says what the owner of a machine's claims should do. claim is the
// machine's last one, nil if it never had one. In doubt it waits: an installation
// that might be going on, or have ended well, is not started again.
func NextClaim(p Policy, claim *Claim, seen Sightings, now time.Time) Next {
	p = p.defaulted()
	if seen.Joined {
		return Next{Verdict: Done, Reason: "the machine is a member of the cluster"}
	}
	if claim == nil {
		return Next{Verdict: Open, Attempt: 1, Reason: "the machine was never installed"}
	}
	switch claim.State(now) {
	case StateOpen:
		return Next{Verdict: Wait, Look: claim.Expires, Reason: "the claim is open: waiting for the machine to boot from the network"}
	case StateExchanged:
		wait := Next{Verdict: Wait, Reason: "the machine has its credentials: waiting for it to join"}
		if p.Join <= 0 {
			return wait
		}
		if wait.Look = claim.ExchangedAt.Add(p.Join); !now.Before(wait.Look) {
			return again(p, claim, wait.Look, fmt.Sprintf(
				"the machine got its credentials at %s and did not join within %s", clock(claim.ExchangedAt), p.Join))
		}
		return wait
	case StateInstalled:
		// Without credentials it is no member, and nothing of value is on it. Its firmware
		// may take its time, and is not waited for without end: where the disk does not
		// boot, it asks again and again.
		last := latest(claim.InstalledAt, seen.Activity)
		why := fmt.Sprintf("the installed machine fell silent before it asked for its credentials, at %s", clock(last))
		end := last.Add(p.Silence)
		if seen.Firmware.After(last) {
			why = fmt.Sprintf("the installed machine went to its firmware after %s and never came into its system: see whether it boots its disk", clock(last))
			end = earliest(seen.Firmware.Add(p.Silence), last.Add(2*p.Silence))
		}
		if !now.Before(end) {
			return again(p, claim, end, why)
		}
		return Next{Verdict: Wait, Look: earliest(end, claim.FinishBy()),
			Reason: "the machine is installed: waiting for it to ask for its credentials"}
	case StateFailed:
		return again(p, claim, claim.FailedAt, "the installation failed: "+claim.Failure)
	case StateExpired:
		if claim.ConsumedAt.IsZero() {
			// Nothing was tried under it, so it does not count.
			return Next{Verdict: Open, Attempt: max(claim.Attempt, 1), Ended: claim.Expires,
				Reason: "the claim expired before the machine booted from the network"}
		}
		return again(p, claim, claim.FinishBy(), "the installation did not finish in time")
	}
	// Consumed: the installer runs, or ran.
	if last := latest(claim.ConsumedAt, seen.Activity); seen.Firmware.After(last) {
		end := last.Add(p.Settle)
		if !now.Before(end) {
			// A machine that finds nothing to boot asks again and again. Neither the end of
			// the attempt, from which the pause before the next one counts, nor the reason,
			// which is written down when it changes, moves with that.
			return again(p, claim, end, fmt.Sprintf(
				"the machine was last heard of its installation at %s and went back to its firmware without having reported an end", clock(last)))
		}
		return Next{Verdict: Wait, Look: end, Reason: "the machine went back to its firmware: waiting whether it is installed"}
	}
	last := latest(claim.ConsumedAt, seen.Activity, seen.Firmware)
	if end := last.Add(p.Silence); !now.Before(end) {
		return again(p, claim, end, fmt.Sprintf("the machine fell silent during its installation, at %s", clock(last)))
	}
	return Next{Verdict: Wait, Look: earliest(last.Add(p.Silence), claim.FinishBy()), Reason: "the machine is being installed"}
}

func again(p Policy, claim *Claim, ended time.Time, why string) Next {
	if claim.Attempt >= p.MaxAttempts {
		return Next{Verdict: GiveUp, Attempt: claim.Attempt, Ended: ended,
			Reason: fmt.Sprintf("%s; this was attempt %d of %d", why, claim.Attempt, p.MaxAttempts)}
	}
	return Next{Verdict: Open, Attempt: max(claim.Attempt, 0) + 1, Ended: ended, Reason: why}
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func latest(times ...time.Time) time.Time {
	var out time.Time
	for _, t := range times {
		if t.After(out) {
			out = t
		}
	}
	return out
}
