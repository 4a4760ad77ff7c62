package provision

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net/netip"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
)

// Purpose is what a claim permits.
type Purpose string

// The purposes.
const (
	// Seed installs the first server of a cluster that does not exist yet. Only
	// such a claim leads to a config that founds a cluster.
	Seed Purpose = "Seed"
	// Join installs a member of a cluster that exists.
	Join Purpose = "Join"
)

// The periods of a claim's life that are the same for every claim.
const (
	// Grace is how long the same address may repeat a request whose answer it may
	// not have received.
	Grace = 2 * time.Minute
	// DefaultTTL is how long a claim stays open.
	DefaultTTL = 30 * time.Minute
	// DefaultFinish is how long an installation may take from its init config to
	// the exchange of its claim.
	DefaultFinish = 24 * time.Hour
)

// Claim is the permission to install one machine once. Nothing is wiped without
// one. Its life:
//
//	Open -> Consumed -> Installed -> Exchanged
//
// Open, it lets the machine boot the installer. The fetch of the init config
// consumes it: from then on the machine's firmware is never given the installer
// again. The installer's callback makes it Installed; the installed system
// exchanges it for its credentials. It becomes Expired when nobody consumed it in
// time or the installation never finished, and Failed when the installer gave up;
// neither is ever left again.
//
// A Claim is a plain value. The methods that change it are its only transitions;
// each returns nil, or a *pxe.Refusal and leaves the claim as it was.
type Claim struct {
	// ID is 256 random bits in base64url. A secret.
	ID string `json:"id"`
	// Node is the name of the declared machine.
	Node string `json:"node"`
	// MAC is the machine's.
	MAC pxe.MAC `json:"mac"`
	// UUID (SMBIOS) is the machine's, empty until somebody who holds the claim told
	// it; from then on another one is another machine. Packets that anybody can send
	// are compared with it and never set it.
	UUID string `json:"uuid,omitempty"`
	// Address is the declared address, from which the installed system exchanges
	// the claim. Zero: from any.
	Address netip.Addr `json:"address,omitzero"`
	// Purpose of the installation.
	Purpose Purpose `json:"purpose"`
	// Attempt counts the claims of the node since its last success, from 1.
	Attempt int `json:"attempt"`
	// Opened is when the claim was opened; Expires when it ends unless it was
	// consumed by then.
	Opened  time.Time `json:"opened"`
	Expires time.Time `json:"expires"`
	// Finish is how long after its consumption the claim may be exchanged. Zero:
	// DefaultFinish.
	Finish time.Duration `json:"finish,omitempty"`

	// ConsumedAt, ConsumedBy, InstalledAt, ExchangedAt, ExchangedBy and FailedAt
	// are zero until it happened.
	ConsumedAt  time.Time  `json:"consumedAt,omitzero"`
	ConsumedBy  netip.Addr `json:"consumedBy,omitzero"`
	InstalledAt time.Time  `json:"installedAt,omitzero"`
	ExchangedAt time.Time  `json:"exchangedAt,omitzero"`
	ExchangedBy netip.Addr `json:"exchangedBy,omitzero"`
	FailedAt    time.Time  `json:"failedAt,omitzero"`
	// Failure is the installer's reason, for people.
	Failure string `json:"failure,omitempty"`
}

// Claims keeps the claims, at most one a machine: opening a claim replaces the
// machine's last one. All methods are called from many goroutines at once.
type Claims interface {
	// Get is the machine's current claim. It answers from memory: it is called for
	// every packet.
	Get(mac pxe.MAC) (Claim, bool)
	// At is the machine whose claim was the last to be consumed from this address. It
	// answers from memory, too.
	At(from netip.Addr) (pxe.MAC, bool)
	// Update changes the machine's claim: change gets the current one and its
	// result is kept, durably, before Update returns, unless change returns an
	// error: then nothing is kept and Update returns that error. Updates of one
	// machine happen one after the other. change may be called several times.
	// Without a claim Update returns pxe.ErrNotFound.
	Update(ctx context.Context, mac pxe.MAC, change func(*Claim) error) error
}

// State of a claim. The values are those of the API's ClaimStatus.
type State string

// The states.
const (
	StateOpen      State = "Open"
	StateConsumed  State = "Consumed"
	StateInstalled State = "Installed"
	StateExchanged State = "Exchanged"
	StateExpired   State = "Expired"
	StateFailed    State = "Failed"
)

// The rules by which requests are refused. They are stable: people and scripts
// meet them in conditions, logs and answers.
const (
	RuleUndeclared       = "Undeclared"
	RuleNoClaim          = "NoClaim"
	RuleClaimUnknown     = "ClaimUnknown"
	RuleClaimExpired     = "ClaimExpired"
	RuleClaimConsumed    = "ClaimConsumed"
	RuleClaimNotConsumed = "ClaimNotConsumed"
	RuleClaimFailed      = "ClaimFailed"
	RuleAlreadyInstalled = "AlreadyInstalled"
	RuleAlreadyExchanged = "AlreadyExchanged"
	RuleWrongAddress     = "WrongAddress"
	RuleWrongMachine     = "WrongMachine"
	RuleWrongArch        = "WrongArchitecture"
	RuleInvalidReport    = "InvalidReport"
)

// NewClaimID makes 256 random bits in base64url.
func NewClaimID() string {
	var b [32]byte
	rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// Matches says whether id is the claim's identifier, in a time that does not
// depend on where they differ.
func (c Claim) Matches(id string) bool {
	return c.ID != "" && subtle.ConstantTimeCompare([]byte(c.ID), []byte(id)) == 1
}

// State at the time now.
func (c Claim) State(now time.Time) State {
	switch {
	case !c.ExchangedAt.IsZero():
		return StateExchanged
	case !c.FailedAt.IsZero():
		return StateFailed
	case c.ConsumedAt.IsZero():
		if c.Opened.IsZero() || !now.Before(c.Expires) {
			return StateExpired
		}
		return StateOpen
	case !now.Before(c.FinishBy()):
		return StateExpired
	case !c.InstalledAt.IsZero():
		return StateInstalled
	}
	return StateConsumed
}

// FinishBy is when a consumed claim ends; zero while it is not consumed.
func (c Claim) FinishBy() time.Time {
	if c.ConsumedAt.IsZero() {
		return time.Time{}
	}
	if c.Finish > 0 {
		return c.ConsumedAt.Add(c.Finish)
	}
	return c.ConsumedAt.Add(DefaultFinish)
}

// MayInstall says whether a machine with this UUID (empty: not known) may boot
// the installer: only under an open claim. A consumed one does not count, not
// even within the grace: all steps of a boot come before the consumption.
func (c Claim) MayInstall(now time.Time, uuid string) error {
	if err := c.isMachine(uuid); err != nil {
		return err
	}
	switch c.State(now) {
	case StateOpen:
		return nil
	case StateFailed:
		return c.refuseFailed()
	case StateExpired:
		return c.refuseExpired()
	}
	return c.refuseConsumed()
}

// Consume is the fetch of the init config from the address from. Within the Grace
// the same address may repeat it.
func (c *Claim) Consume(now time.Time, from netip.Addr) error {
	from = from.Unmap()
	switch c.State(now) {
	case StateOpen:
		c.ConsumedAt, c.ConsumedBy = now, from
		return nil
	case StateConsumed:
		if !within(now, c.ConsumedAt) {
			return c.refuseConsumed()
		}
		if from != c.ConsumedBy {
			return &pxe.Refusal{Rule: RuleWrongAddress, Message: fmt.Sprintf(
				"the claim of %s was consumed by %s at %s, and only that address may repeat the request; another installation needs a new claim",
				c.Node, c.ConsumedBy, clock(c.ConsumedAt))}
		}
		return nil
	case StateFailed:
		return c.refuseFailed()
	case StateExpired:
		return c.refuseExpired()
	}
	return c.refuseConsumed()
}

// Progress is a message about an installation that goes on. It pins the UUID
// (empty: not known) and changes nothing else.
func (c *Claim) Progress(now time.Time, uuid string) error {
	if err := c.underway(now, uuid); err != nil {
		return err
	}
	c.pin(uuid)
	return nil
}

// Install is the installer's word that it is done. It may be repeated.
func (c *Claim) Install(now time.Time, uuid string) error {
	if err := c.underway(now, uuid); err != nil {
		return err
	}
	if c.InstalledAt.IsZero() {
		c.InstalledAt = now
	}
	c.pin(uuid)
	return nil
}

// Fail is the installer's word that it gave up, and why. It may be repeated; the
// first reason stays.
func (c *Claim) Fail(now time.Time, uuid, reason string) error {
	if !c.FailedAt.IsZero() && c.ExchangedAt.IsZero() {
		return c.isMachine(uuid)
	}
	if err := c.underway(now, uuid); err != nil {
		return err
	}
	if !c.InstalledAt.IsZero() {
		return &pxe.Refusal{Rule: RuleAlreadyInstalled, Message: fmt.Sprintf(
			"%s was reported as installed at %s, so its installation cannot fail any more", c.Node, clock(c.InstalledAt))}
	}
	c.FailedAt, c.Failure = now, reason
	c.pin(uuid)
	return nil
}

// Exchange is the installed system's request for its credentials. An installed
// system that asks proves the installation, so that a callback that was lost does
// not keep it out. Within the Grace the same address may repeat it: a machine
// that died between receiving and storing must not be stuck.
func (c *Claim) Exchange(now time.Time, from netip.Addr) error {
	from = from.Unmap()
	if c.Address.IsValid() && from != c.Address {
		return &pxe.Refusal{Rule: RuleWrongAddress, Message: fmt.Sprintf(
			"the claim of %s is exchanged from its declared address %s only, and this request came from %s; see whether the machine has its static address",
			c.Node, c.Address, from)}
	}
	switch c.State(now) {
	case StateConsumed, StateInstalled:
		if c.InstalledAt.IsZero() {
			c.InstalledAt = now
		}
		c.ExchangedAt, c.ExchangedBy = now, from
		return nil
	case StateExchanged:
		if from == c.ExchangedBy && within(now, c.ExchangedAt) {
			return nil
		}
		return &pxe.Refusal{Rule: RuleAlreadyExchanged, Message: fmt.Sprintf(
			"the claim of %s was exchanged at %s by %s, and a claim is exchanged once; reinstalling the machine needs a new claim",
			c.Node, clock(c.ExchangedAt), c.ExchangedBy)}
	case StateFailed:
		return c.refuseFailed()
	case StateExpired:
		return c.refuseExpired()
	}
	return &pxe.Refusal{Rule: RuleClaimNotConsumed, Message: fmt.Sprintf(
		"the claim of %s was not consumed, so there is nothing installed under it", c.Node)}
}

// underway says whether an installation goes on under the claim, for which the
// installer or the installed system may speak.
func (c Claim) underway(now time.Time, uuid string) error {
	if err := c.isMachine(uuid); err != nil {
		return err
	}
	switch c.State(now) {
	case StateConsumed, StateInstalled:
		return nil
	case StateExchanged:
		return &pxe.Refusal{Rule: RuleAlreadyExchanged, Message: fmt.Sprintf(
			"the installation of %s ended with the exchange of its claim at %s", c.Node, clock(c.ExchangedAt))}
	case StateFailed:
		return c.refuseFailed()
	case StateExpired:
		return c.refuseExpired()
	}
	return &pxe.Refusal{Rule: RuleClaimNotConsumed, Message: fmt.Sprintf(
		"the claim of %s was not consumed, so there is no installation to report on", c.Node)}
}

func (c Claim) isMachine(uuid string) error {
	if sameUUID(c.UUID, uuid) {
		return nil
	}
	return &pxe.Refusal{Rule: RuleWrongMachine, Message: fmt.Sprintf(
		"the claim of %s is for the machine with UUID %s, and this one says %s; if the machine was replaced, open a new claim",
		c.Node, c.UUID, uuid)}
}

func (c *Claim) pin(uuid string) {
	if c.UUID == "" && knownUUID(uuid) {
		c.UUID = uuid
	}
}

func (c Claim) refuseConsumed() error {
	return &pxe.Refusal{Rule: RuleClaimConsumed, Message: fmt.Sprintf(
		"the claim of %s was consumed at %s by %s, and a claim installs once; another installation needs a new claim",
		c.Node, clock(c.ConsumedAt), c.ConsumedBy)}
}

func (c Claim) refuseExpired() error {
	if c.ConsumedAt.IsZero() {
		return &pxe.Refusal{Rule: RuleClaimExpired, Message: fmt.Sprintf(
			"the claim of %s expired at %s; an installation needs a new claim", c.Node, clock(c.Expires))}
	}
	return &pxe.Refusal{Rule: RuleClaimExpired, Message: fmt.Sprintf(
		"the installation of %s did not finish by %s; another one needs a new claim", c.Node, clock(c.FinishBy()))}
}

func (c Claim) refuseFailed() error {
	return &pxe.Refusal{Rule: RuleClaimFailed, Message: fmt.Sprintf(
		"the installation of %s failed at %s; another one needs a new claim", c.Node, clock(c.FailedAt))}
}

// within says whether now is in the grace after at. A clock that was set back is
// not in it.
func within(now, at time.Time) bool {
	return !now.Before(at) && now.Sub(at) < Grace
}

func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }
