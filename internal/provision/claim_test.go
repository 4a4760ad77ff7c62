package provision

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rhizome-dev/rhizome/pxe"
)

var (
	t0       = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	home     = netip.MustParseAddr("192.168.1.10") // the declared address
	leased   = netip.MustParseAddr("192.168.1.200")
	stranger = netip.MustParseAddr("192.168.1.66")
)

const (
	uuidA = "4c4c4544-0033-3510-8054-b4c04f4d3132"
	uuidB = "4c4c4544-0033-3510-8054-b4c04f4d3199"
)

func after(d time.Duration) time.Time { return t0.Add(d) }

// openClaim is a claim opened at t0 for half an hour.
func openClaim() Claim {
	return Claim{
		ID: "id", Node: "alpha", MAC: "52:54:00:00:00:01", Address: home, Purpose: Seed, Attempt: 1,
		Opened: t0, Expires: after(30 * time.Minute),
	}
}

func consumed() Claim {
	c := openClaim()
	c.ConsumedAt, c.ConsumedBy = after(time.Minute), leased
	return c
}

func installed() Claim {
	c := consumed()
	c.InstalledAt = after(10 * time.Minute)
	return c
}

func exchanged() Claim {
	c := installed()
	c.ExchangedAt, c.ExchangedBy = after(12*time.Minute), home
	return c
}

func failedClaim() Claim {
	c := consumed()
	c.FailedAt, c.Failure = after(5*time.Minute), "no disk"
	return c
}

var sameClaim = cmp.Options{cmpopts.EquateComparable(netip.Addr{})}

// ruleOf is the rule of a refusal, "" for nil, and anything else as its text.
func ruleOf(err error) string {
	var refusal *pxe.Refusal
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refusal):
		return refusal.Rule
	}
	return err.Error()
}

func TestAClaimGoesThroughItsLife(t *testing.T) {
	c := openClaim()
	steps := []struct {
		name string
		do   func() error
		want State
	}{
		{"it is open", func() error { return c.MayInstall(t0, uuidA) }, StateOpen},
		{"its init config is fetched", func() error { return c.Consume(after(time.Minute), leased) }, StateConsumed},
		{"and again by the same address", func() error { return c.Consume(after(2*time.Minute), leased) }, StateConsumed},
		{"the installer reports", func() error { return c.Progress(after(5*time.Minute), uuidA) }, StateConsumed},
		{"it is done", func() error { return c.Install(after(6*time.Minute), uuidA) }, StateInstalled},
		{"it says so again", func() error { return c.Install(after(7*time.Minute), uuidA) }, StateInstalled},
		{"the installed system reports", func() error { return c.Progress(after(8*time.Minute), "") }, StateInstalled},
		{"it exchanges the claim", func() error { return c.Exchange(after(9*time.Minute), home) }, StateExchanged},
		{"and again", func() error { return c.Exchange(after(10*time.Minute), home) }, StateExchanged},
	}
	for _, s := range steps {
		if err := s.do(); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if got := c.State(after(10 * time.Minute)); got != s.want {
			t.Errorf("%s: %s, want %s", s.name, got, s.want)
		}
	}
	if c.UUID != uuidA {
		t.Errorf("the UUID is %q, want the one that was told", c.UUID)
	}
	if want := after(6 * time.Minute); !c.InstalledAt.Equal(want) {
		t.Errorf("installed at %s, want the first time, %s", c.InstalledAt, want)
	}
}

// Every case is a request that would be granted but for the one thing that its
// rule forbids.
func TestEachRuleAloneRefuses(t *testing.T) {
	uuid := func(c Claim) Claim { c.UUID = uuidA; return c }
	boot := func(at time.Duration, uuid string) func(*Claim) error {
		return func(c *Claim) error { return c.MayInstall(after(at), uuid) }
	}
	consume := func(at time.Duration, from netip.Addr) func(*Claim) error {
		return func(c *Claim) error { return c.Consume(after(at), from) }
	}
	install := func(at time.Duration, uuid string) func(*Claim) error {
		return func(c *Claim) error { return c.Install(after(at), uuid) }
	}
	fail := func(at time.Duration, uuid string) func(*Claim) error {
		return func(c *Claim) error { return c.Fail(after(at), uuid, "broken") }
	}
	progress := func(at time.Duration, uuid string) func(*Claim) error {
		return func(c *Claim) error { return c.Progress(after(at), uuid) }
	}
	exchange := func(at time.Duration, from netip.Addr) func(*Claim) error {
		return func(c *Claim) error { return c.Exchange(after(at), from) }
	}
	for _, c := range []struct {
		reason string
		claim  Claim
		do     func(*Claim) error
		want   string
	}{
		{"a boot in the claim's last moment", openClaim(), boot(30*time.Minute-1, ""), ""},
		{"a boot when it has ended", openClaim(), boot(30*time.Minute, ""), RuleClaimExpired},
		{"a boot of the machine whose UUID is known", uuid(openClaim()), boot(0, uuidA), ""},
		{"a boot of a machine that tells no UUID", uuid(openClaim()), boot(0, ""), ""},
		{"a boot of another machine", uuid(openClaim()), boot(0, uuidB), RuleWrongMachine},
		{"a boot after the consumption, even within the grace", consumed(), boot(time.Minute+1, ""), RuleClaimConsumed},
		{"a boot after the installation", installed(), boot(11*time.Minute, ""), RuleClaimConsumed},
		{"a boot after the exchange", exchanged(), boot(13*time.Minute, ""), RuleClaimConsumed},
		{"a boot after a failure", failedClaim(), boot(6*time.Minute, ""), RuleClaimFailed},
		{"a boot under a claim that was never opened", Claim{}, boot(0, ""), RuleClaimExpired},

		{"a fetch in the last moment", openClaim(), consume(30*time.Minute-1, leased), ""},
		{"a fetch when the claim has ended", openClaim(), consume(30*time.Minute, leased), RuleClaimExpired},
		{"a repeated fetch at the end of the grace", consumed(), consume(time.Minute+Grace-1, leased), ""},
		{"a repeated fetch after the grace", consumed(), consume(time.Minute+Grace, leased), RuleClaimConsumed},
		{"a repeated fetch after the clock was set back", consumed(), consume(0, leased), RuleClaimConsumed},
		{"a repeated fetch by another address", consumed(), consume(time.Minute+1, stranger), RuleWrongAddress},
		{"a fetch after the installation", installed(), consume(2*time.Minute, leased), RuleClaimConsumed},
		{"a fetch after the exchange", exchanged(), consume(2*time.Minute, leased), RuleClaimConsumed},
		{"a fetch after a failure", failedClaim(), consume(2*time.Minute, leased), RuleClaimFailed},
		{"a fetch a day after the consumption", consumed(), consume(25*time.Hour, leased), RuleClaimExpired},

		{"done in the last moment", consumed(), install(time.Minute+DefaultFinish-1, ""), ""},
		{"done too late", consumed(), install(time.Minute+DefaultFinish, ""), RuleClaimExpired},
		{"done, says another machine", uuid(consumed()), install(2*time.Minute, uuidB), RuleWrongMachine},
		{"done, and nothing was consumed", openClaim(), install(0, ""), RuleClaimNotConsumed},
		{"done, after having failed", failedClaim(), install(6*time.Minute, ""), RuleClaimFailed},
		{"done, after the exchange", exchanged(), install(13*time.Minute, ""), RuleAlreadyExchanged},

		{"failed", consumed(), fail(2*time.Minute, ""), ""},
		{"failed, a second time", failedClaim(), fail(6*time.Minute, ""), ""},
		{"failed, says another machine", uuid(consumed()), fail(2*time.Minute, uuidB), RuleWrongMachine},
		{"failed a second time, says another machine", uuid(failedClaim()), fail(6*time.Minute, uuidB), RuleWrongMachine},
		{"failed, and nothing was consumed", openClaim(), fail(0, ""), RuleClaimNotConsumed},
		{"failed, after being done", installed(), fail(11*time.Minute, ""), RuleAlreadyInstalled},
		{"failed, after the exchange", exchanged(), fail(13*time.Minute, ""), RuleAlreadyExchanged},
		{"failed too late", consumed(), fail(time.Minute+DefaultFinish, ""), RuleClaimExpired},

		{"progress", consumed(), progress(2*time.Minute, uuidA), ""},
		{"progress, says another machine", uuid(consumed()), progress(2*time.Minute, uuidB), RuleWrongMachine},
		{"progress, and nothing was consumed", openClaim(), progress(0, ""), RuleClaimNotConsumed},
		{"progress after a failure", failedClaim(), progress(6*time.Minute, ""), RuleClaimFailed},

		{"an exchange", installed(), exchange(11*time.Minute, home), ""},
		{"an exchange although the callback was lost", consumed(), exchange(11*time.Minute, home), ""},
		{"an exchange by an IPv4 address in IPv6 form", installed(), exchange(11*time.Minute, netip.AddrFrom16(home.As16())), ""},
		{"an exchange in the last moment", installed(), exchange(time.Minute+DefaultFinish-1, home), ""},
		{"an exchange too late", installed(), exchange(time.Minute+DefaultFinish, home), RuleClaimExpired},
		{"an exchange from an address that is not declared", installed(), exchange(11*time.Minute, leased), RuleWrongAddress},
		{"an exchange of what was not consumed", openClaim(), exchange(0, home), RuleClaimNotConsumed},
		{"an exchange after a failure", failedClaim(), exchange(6*time.Minute, home), RuleClaimFailed},
		{"a repeated exchange at the end of the grace", exchanged(), exchange(12*time.Minute+Grace-1, home), ""},
		{"a repeated exchange after the grace", exchanged(), exchange(12*time.Minute+Grace, home), RuleAlreadyExchanged},
		{"a repeated exchange by another address", func() Claim { c := exchanged(); c.Address = netip.Addr{}; return c }(),
			exchange(12*time.Minute+1, stranger), RuleAlreadyExchanged},
	} {
		claim := c.claim
		err := c.do(&claim)
		if got := ruleOf(err); got != c.want {
			t.Errorf("%s: rule %q, want %q (%v)", c.reason, got, c.want, err)
		}
		if err != nil {
			if diff := cmp.Diff(c.claim, claim, sameClaim...); diff != "" {
				t.Errorf("%s: refused, and yet the claim has changed:\n%s", c.reason, diff)
			}
		}
	}
}

// Random requests at random times from random machines: whatever their order, the
// init config goes to one address, the firmware gets no installer after that, and
// the credentials go to one address.
func TestNoSequenceOfRequestsInstallsTwiceUnderOneClaim(t *testing.T) {
	var installs, exchanges int
	for seed := range uint64(5000) {
		random := rand.New(rand.NewPCG(seed, 0))
		c := openClaim()
		if random.IntN(2) == 0 {
			c.Address = netip.Addr{}
		}
		now := t0
		addresses := []netip.Addr{home, leased, stranger}
		consumers, holders := map[netip.Addr]bool{}, map[netip.Addr]bool{}
		for range 30 {
			step := time.Duration(random.Int64N(int64(4 * time.Minute)))
			switch random.IntN(10) {
			case 0:
				step *= 100
			case 1:
				step = -step / 4
			}
			now = now.Add(step)
			from := addresses[random.IntN(len(addresses))]
			uuid := []string{"", uuidA, uuidB}[random.IntN(3)]
			state, before := c.State(now), c
			switch random.IntN(6) {
			case 0:
				if c.MayInstall(now, uuid) == nil && !c.ConsumedAt.IsZero() {
					t.Fatalf("seed %d: the installer is booted in state %s after the consumption", seed, state)
				}
			case 1:
				if c.Consume(now, from) == nil {
					consumers[from] = true
				}
			case 2:
				_ = c.Progress(now, uuid)
			case 3:
				_ = c.Install(now, uuid)
			case 4:
				_ = c.Fail(now, uuid, "broken")
			case 5:
				if c.Exchange(now, from) == nil {
					holders[from] = true
					if state == StateOpen || state == StateExpired || state == StateFailed {
						t.Fatalf("seed %d: exchanged in state %s", seed, state)
					}
				}
			}
			for name, changed := range map[string]bool{
				"ConsumedAt":  !before.ConsumedAt.IsZero() && before.ConsumedAt != c.ConsumedAt,
				"ConsumedBy":  before.ConsumedBy.IsValid() && before.ConsumedBy != c.ConsumedBy,
				"InstalledAt": !before.InstalledAt.IsZero() && before.InstalledAt != c.InstalledAt,
				"ExchangedAt": !before.ExchangedAt.IsZero() && before.ExchangedAt != c.ExchangedAt,
				"FailedAt":    !before.FailedAt.IsZero() && before.FailedAt != c.FailedAt,
				"UUID":        before.UUID != "" && before.UUID != c.UUID,
			} {
				if changed {
					t.Fatalf("seed %d: %s was set a second time", seed, name)
				}
			}
		}
		if len(consumers) > 1 || len(holders) > 1 {
			t.Fatalf("seed %d: init config for %v, credentials for %v", seed, consumers, holders)
		}
		installs += len(consumers)
		exchanges += len(holders)
	}
	if installs < 1000 || exchanges < 1000 {
		t.Errorf("only %d installations and %d exchanges happened: the test proves little", installs, exchanges)
	}
}

func TestUUIDsAreComparedInEitherByteOrder(t *testing.T) {
	for _, c := range []struct {
		reason, a, b string
		want         bool
	}{
		{"equal", uuidA, uuidA, true},
		{"upper case", uuidA, "4C4C4544-0033-3510-8054-B4C04F4D3132", true},
		{"the first three fields turned round", uuidA, "44454c4c-3300-1035-8054-b4c04f4d3132", true},
		{"another machine", uuidA, uuidB, false},
		{"another machine, turned round", uuidA, "44454c4c-3300-1035-8054-b4c04f4d3199", false},
		{"not told", uuidA, "", true},
		{"a board without one says zeros", uuidA, "00000000-0000-0000-0000-000000000000", true},
		{"a board without one says ones", "ffffffff-ffff-ffff-ffff-ffffffffffff", uuidB, true},
		{"what is no UUID says nothing", uuidA, "Not Settable", true},
	} {
		if got := sameUUID(c.a, c.b); got != c.want {
			t.Errorf("%s: %v, want %v", c.reason, got, c.want)
		}
		if got := sameUUID(c.b, c.a); got != c.want {
			t.Errorf("%s, the other way: %v, want %v", c.reason, got, c.want)
		}
	}
}

func TestClaimIdentifiersAreLongAndDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := NewClaimID()
		if len(id) != 43 || seen[id] {
			t.Fatalf("identifier %q: %d characters, seen before: %v", id, len(id), seen[id])
		}
		seen[id] = true
	}
	if (Claim{}).Matches("") {
		t.Error("a claim without an identifier matches the empty one")
	}
}

func TestTheOwnerIsToldWhatToDoNext(t *testing.T) {
	policy := Policy{MaxAttempts: 2, Silence: 15 * time.Minute, Settle: 3 * time.Minute}
	attempt := func(c Claim, n int) *Claim { c.Attempt = n; return &c }
	at := func(firmware, activity time.Duration) Sightings {
		var s Sightings
		if firmware > 0 {
			s.Firmware = after(firmware)
		}
		if activity > 0 {
			s.Activity = after(activity)
		}
		return s
	}
	for _, c := range []struct {
		reason string
		claim  *Claim
		seen   Sightings
		now    time.Duration
		want   Verdict
		number int
	}{
		{"never installed", nil, Sightings{}, 0, Open, 1},
		{"a member", nil, Sightings{Joined: true}, 0, Done, 0},
		{"open", attempt(openClaim(), 1), Sightings{}, time.Minute, Wait, 0},
		{"expired unused: it does not count", attempt(openClaim(), 2), Sightings{}, time.Hour, Open, 2},
		{"being installed", attempt(consumed(), 1), at(30*time.Second, 5*time.Minute), 6 * time.Minute, Wait, 0},
		{"being installed, and silent for less than the limit", attempt(consumed(), 1), at(0, 5*time.Minute), 20*time.Minute - 1, Wait, 0},
		{"silent for the limit", attempt(consumed(), 1), at(0, 5*time.Minute), 20 * time.Minute, Open, 2},
		{"silent since the consumption", attempt(consumed(), 1), Sightings{}, 16 * time.Minute, Open, 2},
		{"silent, at the last attempt", attempt(consumed(), 2), at(0, 5*time.Minute), 20 * time.Minute, GiveUp, 2},
		{"back at the firmware just now", attempt(consumed(), 1), at(7*time.Minute, 6*time.Minute), 8 * time.Minute, Wait, 0},
		{"back at the firmware and nothing since", attempt(consumed(), 1), at(7*time.Minute, 6*time.Minute), 9 * time.Minute, Open, 2},
		{"at the firmware before the installation", attempt(consumed(), 1), at(30*time.Second, 0), 10 * time.Minute, Wait, 0},
		{"back at the firmware, and then an installed system", attempt(consumed(), 1), at(7*time.Minute, 8*time.Minute), 12 * time.Minute, Wait, 0},
		{"failed", attempt(failedClaim(), 1), at(0, 5*time.Minute), 6 * time.Minute, Open, 2},
		{"failed at the last attempt", attempt(failedClaim(), 2), at(0, 5*time.Minute), 6 * time.Minute, GiveUp, 2},
		{"installed", attempt(installed(), 1), at(11*time.Minute, 10*time.Minute), 12 * time.Minute, Wait, 0},
		{"installed, and fetching files for hours", attempt(installed(), 1), at(11*time.Minute, 4*time.Hour), 4*time.Hour + time.Minute, Wait, 0},
		{"installed and silent", attempt(installed(), 1), at(11*time.Minute, 10*time.Minute), 26 * time.Minute, Open, 2},
		{"installed, and slow to come to its firmware", attempt(installed(), 1), at(24*time.Minute, 10*time.Minute), 38 * time.Minute, Wait, 0},
		{"installed, and its firmware asks on", attempt(installed(), 1), at(40*time.Minute-1, 10*time.Minute), 40*time.Minute - 1, Wait, 0},
		{"installed, and its firmware asked too long", attempt(installed(), 1), at(40*time.Minute, 10*time.Minute), 40 * time.Minute, Open, 2},
		{"installed, and not done within a day", attempt(installed(), 1), at(0, 25*time.Hour), 25 * time.Hour, Open, 2},
		{"with its credentials and silent: it may be a member", attempt(exchanged(), 1), Sightings{}, 100 * time.Hour, Wait, 0},
	} {
		got := NextClaim(policy, c.claim, c.seen, after(c.now))
		if got.Verdict != c.want || got.Attempt != c.number {
			t.Errorf("%s: %+v, want %s and attempt %d", c.reason, got, c.want, c.number)
		}
		if got.Reason == "" {
			t.Errorf("%s: no reason", c.reason)
		}
		if got.Verdict == Wait && !got.Look.IsZero() {
			if before := NextClaim(policy, c.claim, c.seen, got.Look.Add(-1)); before.Verdict != Wait {
				t.Errorf("%s: %s before the time to look again, %s", c.reason, before.Verdict, got.Look)
			}
			if then := NextClaim(policy, c.claim, c.seen, got.Look); then.Verdict == Wait {
				t.Errorf("%s: still Wait at the time to look again, %s", c.reason, got.Look)
			}
		}
		if (got.Verdict == Open || got.Verdict == GiveUp) && c.claim != nil && (got.Ended.IsZero() || got.Ended.After(after(c.now))) {
			t.Errorf("%s: the attempt ended at %s, and now it is %s", c.reason, got.Ended, after(c.now))
		}
	}
}

// The pause before the next attempt counts from the end of the last one: a machine that
// asks for a boot every few seconds would wait for ever if that moved.
func TestTheEndOfAnAttemptDoesNotMoveWhileTheFirmwareAsksOn(t *testing.T) {
	for reason, c := range map[string]struct {
		claim    Claim
		activity time.Time
	}{
		"interrupted at once":               {consumed(), time.Time{}},
		"interrupted in its installation":   {consumed(), after(5 * time.Minute)},
		"failed, and restarted by a person": {failedClaim(), after(5 * time.Minute)},
	} {
		t.Run(reason, func(t *testing.T) {
			var first Next
			for firmware := 9 * time.Minute; firmware < 40*time.Minute; firmware += 5 * time.Second {
				next := NextClaim(Policy{}, &c.claim, Sightings{Firmware: after(firmware), Activity: c.activity}, after(firmware+time.Second))
				if next.Verdict != Open {
					t.Fatalf("asking for a boot %s after the claim was opened: %+v, want %s", firmware, next, Open)
				}
				if first.Verdict == "" {
					first = next
				}
				if diff := cmp.Diff(first, next); diff != "" {
					t.Fatalf("it moved, %s after the claim was opened (-before +then)\n%s", firmware, diff)
				}
			}
		})
	}
}

func TestAMachineThatDoesNotJoinIsTriedAgainOnlyUnderALimit(t *testing.T) {
	claim := exchanged()
	claim.Attempt = 1
	policy := Policy{MaxAttempts: 2, Join: time.Hour}
	next := NextClaim(policy, &claim, Sightings{}, claim.ExchangedAt)
	if next.Verdict != Wait || !next.Look.Equal(claim.ExchangedAt.Add(time.Hour)) {
		t.Errorf("with fresh credentials: %+v", next)
	}
	if next = NextClaim(policy, &claim, Sightings{}, next.Look); next.Verdict != Open || next.Attempt != 2 {
		t.Errorf("after the limit: %+v", next)
	}
	if next = NextClaim(policy, &claim, Sightings{Joined: true}, claim.ExchangedAt.Add(2*time.Hour)); next.Verdict != Done {
		t.Errorf("a member after the limit: %+v", next)
	}
}

func TestSightingsTellFirmwareFromAnInstaller(t *testing.T) {
	at := func(stage pxe.Stage, m pxe.Machine) pxe.Observation {
		return pxe.Observation{Time: t0, Stage: stage, Machine: m}
	}
	firmware, activity := Sightings{Firmware: t0}, Sightings{Activity: t0}
	for _, c := range []struct {
		name string
		o    pxe.Observation
		want Sightings
	}{
		{"firmware asks", at(pxe.StageDHCP, pxe.Machine{Firmware: pxe.FirmwareUEFI}), firmware},
		{"iPXE asks", at(pxe.StageDHCP, pxe.Machine{IPXE: true}), firmware},
		{"a system asks", at(pxe.StageDHCP, pxe.Machine{}), activity},
		{"a loader is fetched", at(pxe.StageLoader, pxe.Machine{}), firmware},
		{"an initrd is fetched", at(pxe.StageInitrd, pxe.Machine{}), firmware},
		{"the init config is fetched", at(pxe.StageInitConfig, pxe.Machine{}), activity},
		{"media are fetched", at(pxe.StageMedia, pxe.Machine{}), activity},
		{"a report", at(pxe.StageInstalling, pxe.Machine{}), activity},
		{"a refusal proves nothing", at(pxe.StageRefused, pxe.Machine{}), Sightings{}},
	} {
		if got := (Sightings{}).With(c.o); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	late := Sightings{Activity: after(time.Hour)}
	if got := late.With(at(pxe.StageMedia, pxe.Machine{})); got != late {
		t.Errorf("an old observation turned the clock back: %+v", got)
	}
}
