package seed

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rhizome-dev/rhizome/bootstrapper/progress"
	"github.com/rhizome-dev/rhizome/internal/power"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe"
)

// machineClaim is the first node's claim, nil if it has none.
func (f *flow) machineClaim() *provision.Claim {
	if c, ok := f.claims.Get(pxe.MAC(f.first.Spec.MAC)); ok && c.Node == f.first.Name {
		return &c
	}
	return nil
}

// machineState is how far the machine's installation has come; empty without a
// claim.
func (f *flow) machineState() provision.State {
	if c := f.machineClaim(); c != nil {
		return c.State(f.Now())
	}
	return ""
}

func (f *flow) policy() provision.Policy {
	return provision.Policy{MaxAttempts: int(f.cluster.Spec.PXE.MaxAttempts)}
}

// sightings are what is known of the machine. An installation may have gone on
// while nobody listened: it counts as silent only from when the service runs.
func (f *flow) sightings() provision.Sightings {
	s, _ := f.watch.seen()
	if s.Activity.Before(f.service.since) {
		s.Activity = f.service.since
	}
	return s
}

// claim opens the claim under which the machine is installed, if it needs one.
func (f *flow) claim(ctx context.Context, p *progress.Phase) (string, error) {
	if f.service == nil {
		p.Skip("%s", f.noMachineWork())
		return "", nil
	}
	said, err := f.openIfNeeded(ctx)
	if err != nil {
		return "", err
	}
	return said, nil
}

// openIfNeeded does about the claim what provision.NextClaim says.
func (f *flow) openIfNeeded(ctx context.Context) (string, error) {
	claim := f.machineClaim()
	next := provision.NextClaim(f.policy(), claim, f.sightings(), f.Now())
	if f.Retry && mayRetry(claim, f.Now()) {
		f.Retry = false // once
		next = provision.Next{Verdict: provision.Open, Attempt: 1, Reason: next.Reason + "; a person asked for another installation"}
	}
	switch next.Verdict {
	case provision.Open:
		var uuid string
		if claim != nil {
			uuid = claim.UUID
		}
		opened, err := provision.OpenClaim(f.cluster, f.first, provision.Seed, next.Attempt, uuid, f.Now)
		if err != nil {
			return "", err
		}
		if err := f.claims.Put(ctx, opened); err != nil {
			return "", err
		}
		return fmt.Sprintf("%s may be installed until %s (attempt %d: %s)",
			f.first.Name, opened.Expires.Local().Format(time.TimeOnly), opened.Attempt, next.Reason), nil
	case provision.GiveUp:
		return "", withFix(errors.New(next.Reason), "find out why, then run the same command with --retry")
	}
	return fmt.Sprintf("%s: %s", f.first.Name, next.Reason), nil
}

// mayRetry says whether a person may ask for another installation: not of a
// machine that was never tried, nor of one that got its credentials, which may be
// a member.
func mayRetry(claim *provision.Claim, now time.Time) bool {
	if claim == nil {
		return false
	}
	switch claim.State(now) {
	case provision.StateConsumed, provision.StateInstalled, provision.StateFailed:
		return true
	case provision.StateExpired:
		return !claim.ConsumedAt.IsZero()
	}
	return false
}

// wake turns the machine on, until it is seen to boot.
func (f *flow) wake(ctx context.Context, p *progress.Phase) (string, error) {
	if f.service == nil {
		p.Skip("%s", f.noMachineWork())
		return "", nil
	}
	if s := f.machineState(); s != provision.StateOpen {
		p.Skip("the machine was on: its claim is %s", s)
		return "", nil
	}
	stop := f.startWaking(ctx, p)
	defer stop()
	err := f.await(ctx, p, phaseWake, func() (bool, error) {
		seen, _ := f.watch.seen()
		return !seen.Firmware.IsZero() || f.machineState() != provision.StateOpen, f.expired()
	})
	if err != nil {
		return "", err
	}
	_, last := f.watch.seen()
	return fmt.Sprintf("%s is on (%s)", f.first.Name, describeMachine(last.Machine)), nil
}

// startWaking sends magic packets until the returned function is called. What
// cannot be woken is left to the person.
func (f *flow) startWaking(ctx context.Context, p *progress.Phase) (stop func()) {
	byHand := fmt.Sprintf("turn %s (%s) on now, or restart it, so that it boots from the network", f.first.Name, f.first.Spec.MAC)
	if f.NoWake {
		p.Note("%s", byHand)
		return func() {}
	}
	target, err := power.Target(f.first)
	if err != nil {
		p.Warn("%v; %s", err, byHand)
		return func() {}
	}
	waking, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	waker := power.Waker{
		Interface: f.link.Interface.Name, Address: f.link.Address, Network: f.link.Network.Masked(), Deadline: 24 * time.Hour,
		Sent: func(round int, err error) {
			switch {
			case err != nil && f.watch.once("wake: "+err.Error()):
				p.Warn("%v", err)
			case round == 1:
				p.Note("sent magic packets to %s", target)
			}
		},
	}
	go func() {
		defer close(done)
		if err := waker.For(f.cluster, f.first).Wake(waking, target); err != nil {
			p.Warn("%v; %s", err, byHand)
		}
	}()
	return func() { cancel(); <-done }
}

// boot waits until the machine has fetched its init config: from then on it
// installs itself.
func (f *flow) boot(ctx context.Context, p *progress.Phase) (string, error) {
	if f.service == nil {
		p.Skip("%s", f.noMachineWork())
		return "", nil
	}
	if s := f.machineState(); s != provision.StateOpen {
		p.Skip("the machine fetched its init config before: its claim is %s", s)
		return "", nil
	}
	err := f.await(ctx, p, phaseBoot, func() (bool, error) {
		// However it ends: the installer ran, and the next phase says how.
		claim := f.machineClaim()
		return claim != nil && !claim.ConsumedAt.IsZero(), f.expired()
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("the installer runs on %s", f.first.Name), nil
}

// install waits until the machine is installed. A machine that goes back to its
// firmware, or falls silent, gets another claim by provision.NextClaim's rules.
func (f *flow) install(ctx context.Context, p *progress.Phase) (string, error) {
	if f.service == nil {
		p.Skip("%s", f.noMachineWork())
		return "", nil
	}
	if s := f.machineState(); s == provision.StateInstalled || s == provision.StateExchanged {
		p.Skip("the machine was installed before: its claim is %s", s)
		return "", nil
	}
	err := f.await(ctx, p, phaseInstall, func() (bool, error) {
		switch f.machineState() {
		case provision.StateInstalled, provision.StateExchanged:
			return true, nil
		case provision.StateFailed:
			return false, f.lost()
		}
		before := f.machineClaim()
		said, err := f.openIfNeeded(ctx)
		if after := f.machineClaim(); err == nil && after != nil && before != nil && after.ID != before.ID {
			p.Warn("%s", said)
			p.Note("restart %s if it does not boot from the network by itself", f.first.Name)
		}
		return false, err
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s is installed and goes into the system on its disk", f.first.Name), nil
}

// lost says why there is nothing to wait for any more.
func (f *flow) lost() error {
	claim := f.machineClaim()
	if claim == nil {
		return fmt.Errorf("%s has no claim any more", f.first.Name)
	}
	if !claim.FailedAt.IsZero() {
		return withFix(fmt.Errorf("the installer of %s gave up: %s", f.first.Name, claim.Failure),
			"mend what it says, then run the same command again: it opens a new claim; the machine must then boot from the network again")
	}
	return withFix(fmt.Errorf("the claim of %s expired at %s before the machine fetched its init config", f.first.Name, claim.Expires.Local().Format(time.TimeOnly)),
		"see why the machine did not boot from the network, then run the same command again: it opens a new claim")
}

// expired is an error when nobody may install the machine any more.
func (f *flow) expired() error {
	if claim := f.machineClaim(); claim == nil || claim.ConsumedAt.IsZero() && claim.State(f.Now()) == provision.StateExpired {
		return f.lost()
	}
	return nil
}

// noMachineWork says why the phases about the machine have nothing to do.
func (f *flow) noMachineWork() string { return "the cluster answers already" }

// awaitEvery is how often a wait looks, beside whenever something is observed.
const awaitEvery = 250 * time.Millisecond

// await waits until done says so. Meanwhile it shows what machines do, and tells
// a person what was last seen when nothing happens.
func (f *flow) await(ctx context.Context, p *progress.Phase, name string, done func() (bool, error)) error {
	since, told := f.Now(), time.Time{}
	ticker := time.NewTicker(awaitEvery)
	defer ticker.Stop()
	for {
		f.show(p, name)
		ok, err := done()
		if err == nil && !ok {
			err = f.service.failure()
		}
		if err != nil || ok {
			f.show(p, name)
			return err
		}
		_, last := f.watch.seen()
		if message := stalled(name, f.Now(), since, told, last); message != "" {
			told = f.Now()
			p.Stalled("%s", message)
		}
		select {
		case <-ctx.Done():
			if message := lastSeen(f.Now(), last); errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return withFix(fmt.Errorf("%w: %s", ctx.Err(), message), "%s; then %s", advice(name, last.Stage), goOn)
			}
			return ctx.Err()
		case <-f.watch.changed:
		case <-ticker.C:
		}
	}
}

// show shows what was observed since the last time.
func (f *flow) show(p *progress.Phase, name string) {
	for _, o := range f.watch.take() {
		if f.watch.isFirstLocked(o) {
			f.showFirst(p, name, o)
		} else {
			f.showOther(p, o)
		}
	}
}

// showFirst shows what the first node did. Refusals and failures are shown each
// time, steps when they are new, bytes as a transfer.
func (f *flow) showFirst(p *progress.Phase, name string, o pxe.Observation) {
	switch o.Stage {
	case pxe.StageRefused:
		if f.watch.once(fmt.Sprintf("refused %s %s", o.From, o.Message)) {
			p.Warn("%s: refused: %s", f.first.Name, o.Message)
		}
	case pxe.StageFailed:
		p.Warn("%s: %s", f.first.Name, happened(o))
	case pxe.StageInstalling:
		if o.Total > 0 {
			p.Transfer("image", o.Done, o.Total)
		} else if o.Message != "" && f.watch.once(f.claimKey()+string(o.Stage)+o.Message) {
			p.Note("%s: %s", f.first.Name, o.Message)
		}
	case pxe.StageMedia:
		// The installer itself says how far the image is: what reached its disk.
		if name != phaseInstall && o.Total > 0 {
			p.Transfer(o.Message, o.Done, o.Total)
		}
	case pxe.StageDHCP:
		// One boot asks several times: as the firmware, and as iPXE.
		if f.watch.once(fmt.Sprintf("%s%s %v", f.claimKey(), o.Stage, o.Machine.IPXE)) {
			p.Note("%s: %s", f.first.Name, happened(o))
		}
	default:
		if f.watch.once(f.claimKey() + string(o.Stage) + o.Message) {
			p.Note("%s: %s", f.first.Name, happened(o))
		}
	}
}

// claimKey makes steps new again under a new claim.
func (f *flow) claimKey() string {
	if c := f.machineClaim(); c != nil {
		return c.Opened.String()
	}
	return ""
}

// showOther shows, once, what another machine did.
func (f *flow) showOther(p *progress.Phase, o pxe.Observation) {
	switch {
	case o.Stage == pxe.StageRefused:
		who := strings.TrimSpace(fmt.Sprintf("%s %s", o.Machine.MAC, o.From))
		if f.watch.once("refused " + who + o.Message) {
			p.Warn("%s: refused: %s", who, o.Message)
		}
	case o.Stage == pxe.StageDHCP && f.declaredAs(o.Machine.MAC) != "":
		if f.watch.once("declared " + string(o.Machine.MAC)) {
			p.Note("%s (%s) is declared and not the first node: the operator will install it; it boots its own disk", f.declaredAs(o.Machine.MAC), o.Machine.MAC)
		}
	case o.Stage == pxe.StageDHCP && o.Decision == pxe.Ignore:
		if f.watch.once("undeclared " + string(o.Machine.MAC)) {
			p.Note("%s (%s) asks to boot from the network; no Node declares it, so it gets no answer", o.Machine.MAC, describeMachine(o.Machine))
		}
	}
}

// declaredAs is the name of the Node that declares a MAC; empty: none does.
func (f *flow) declaredAs(mac pxe.MAC) string {
	for i := range f.inv.Nodes {
		if string(f.inv.Nodes[i].Spec.MAC) == string(mac) {
			return f.inv.Nodes[i].Name
		}
	}
	return ""
}

func describeMachine(m pxe.Machine) string {
	words := string(m.Firmware)
	if words == "" {
		words = "firmware not known"
	}
	if m.Arch != "" {
		words += ", " + string(m.Arch)
	}
	return words
}
