package provision

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/internal/plaintext"
	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/media"
)

// Config is what a Backend stands on. All of it is needed but Others, Archives,
// MediaSize and Observer.
type Config struct {
	// Inventory is the declared state. It is called for every packet, so it answers
	// from memory, Indexed if there are many machines; what it returns is not changed.
	Inventory func() inventory.Inventory
	// Claims are the claims of all machines.
	Claims Claims
	// Credentials are the files that a node needs to found or join the cluster. It
	// may be called more often than they are handed out.
	Credentials func(ctx context.Context, node *v1alpha1.Node, claim Claim) ([]k3s.File, error)
	// Service is the PXE service as machines reach it.
	Service Service
	// Others are further PXE services with the same claims and the same authority, to
	// which a machine turns when Service does not answer. Nil: none.
	Others func() []Address
	// Archives are further archives of container images for every node of an
	// architecture, such as the operator's.
	Archives func(v1alpha1.Architecture) []media.Source
	// MediaSize is the size in bytes of a file of the media cache, zero if unknown.
	MediaSize func(sha256 string) int64
	// Observer is told everything that machines do and every refusal. It must not
	// block.
	Observer func(pxe.Observation)
	// Now is the clock.
	Now Clock
}

// Service is the PXE service as machines reach it.
type Service struct {
	BaseURL   string // plain HTTP, without a slash at the end
	SecureURL string // HTTPS, without a slash at the end
	CA        []byte // PEM of the authority that vouches for SecureURL
	// Others are for when this one does not answer.
	Others []Address
}

// Address is where another PXE service is reached.
type Address struct {
	BaseURL, SecureURL string // as in Service
}

// Backend implements pxe.Backend for both front ends.
type Backend struct{ c Config }

var _ pxe.Backend = (*Backend)(nil)

// NewBackend makes a Backend, or says what the Config lacks.
func NewBackend(c Config) (*Backend, error) {
	var missing []string
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"Inventory", c.Inventory != nil},
		{"Claims", c.Claims != nil},
		{"Credentials", c.Credentials != nil},
		{"Service.BaseURL", c.Service.BaseURL != ""},
		{"Service.SecureURL", c.Service.SecureURL != ""},
		{"Service.CA", len(c.Service.CA) > 0},
		{"Now", c.Now != nil},
	} {
		if !f.set {
			missing = append(missing, f.name)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("cannot make the provisioning backend without %s", strings.Join(missing, ", "))
	}
	c.Service.BaseURL = strings.TrimRight(c.Service.BaseURL, "/")
	c.Service.SecureURL = strings.TrimRight(c.Service.SecureURL, "/")
	if c.Observer == nil {
		c.Observer = func(pxe.Observation) {}
	}
	if c.Others == nil {
		c.Others = func() []Address { return nil }
	}
	if c.Archives == nil {
		c.Archives = func(v1alpha1.Architecture) []media.Source { return nil }
	}
	if c.MediaSize == nil {
		c.MediaSize = func(string) int64 { return 0 }
	}
	return &Backend{c}, nil
}

// Decide implements pxe.Backend.
func (b *Backend) Decide(m pxe.Machine) pxe.Decision {
	return Decide(b.c.Inventory(), m, b.claim(m.MAC), b.c.Now())
}

func (b *Backend) claim(mac pxe.MAC) *Claim {
	if c, ok := b.c.Claims.Get(mac); ok {
		return &c
	}
	return nil
}

// Observe implements pxe.Backend. A firmware that was told to boot its own disk
// although its claim is open, because it is not the machine that was declared, is
// also observed as refused.
//
// A request over HTTP tells no MAC: it is the machine's that is declared at, or
// consumed its claim from, the address that it came from.
func (b *Backend) Observe(o pxe.Observation) {
	inv := b.c.Inventory()
	if o.Machine.MAC == "" && o.From.IsValid() {
		o.Machine.MAC = b.machineAt(inv, o.From.Unmap())
	}
	b.c.Observer(o)
	if o.Stage != pxe.StageDHCP {
		return
	}
	node, ok := inv.Machine(v1alpha1.MAC(o.Machine.MAC))
	if !ok {
		return
	}
	if refusal, ok := noteworthy(mayInstall(node, o.Machine, b.claim(o.Machine.MAC), b.c.Now())); ok {
		b.refused(o.Machine, o.From, refusal)
	}
}

// whoeverIsAt is of the machine at an address what is known: the claim that it holds is
// nobody's, or nobody's any more.
func (b *Backend) whoeverIsAt(from netip.Addr) pxe.Machine {
	return pxe.Machine{MAC: b.machineAt(b.c.Inventory(), from.Unmap())}
}

func (b *Backend) machineAt(inv inventory.Inventory, from netip.Addr) pxe.MAC {
	if node, ok := inv.MachineAt(v1alpha1.Address(from.String())); ok {
		return pxe.MAC(node.Spec.MAC)
	}
	if mac, ok := b.c.Claims.At(from); ok {
		if _, declared := inv.Machine(v1alpha1.MAC(mac)); declared {
			return mac
		}
	}
	return ""
}

// InitConfig implements pxe.Backend. The document is made before the claim is
// consumed: a machine that cannot be told what to do keeps its claim.
func (b *Backend) InitConfig(ctx context.Context, mac pxe.MAC, from netip.Addr) (pxe.Document, error) {
	machine := pxe.Machine{MAC: mac}
	inv := b.c.Inventory()
	node, ok := inv.Machine(v1alpha1.MAC(mac))
	if !ok {
		return pxe.Document{}, pxe.ErrNotFound
	}
	var doc pxe.Document
	err := b.c.Claims.Update(ctx, mac, func(c *Claim) error {
		if c.Node != node.Name {
			return pxe.ErrNotFound
		}
		if err := c.Consume(b.c.Now(), from); err != nil {
			return err
		}
		made, err := b.document(inv, node, *c)
		doc = made
		return err
	})
	if errors.Is(err, pxe.ErrNotFound) {
		err = mayInstall(node, machine, nil, b.c.Now())
	}
	if err != nil {
		return pxe.Document{}, b.failed(machine, from, err)
	}
	return doc, nil
}

// maxReported is how much of an installer's message is kept, in bytes: enough for
// a refusal that lists the disks of a large machine.
const maxReported = 4096

// Report implements pxe.Backend.
func (b *Backend) Report(ctx context.Context, claim string, r pxe.Report, from netip.Addr) error {
	found, node, err := b.find(claim)
	if err != nil {
		return b.failed(b.whoeverIsAt(from), from, err)
	}
	machine := pxe.Machine{MAC: found.MAC, UUID: r.UUID, Arch: architectureOf(node)}
	message := plaintext.Clip(r.Message, maxReported)
	// Most reports say how far the image is, and move nothing: nothing is kept of
	// them, so the claim that is known will do.
	same := found
	if r.Stage == pxe.StageInstalling && same.Progress(b.c.Now(), r.UUID) == nil && same == found {
		b.observeReport(machine, from, r, message)
		return nil
	}
	err = b.c.Claims.Update(ctx, found.MAC, func(c *Claim) error {
		if !c.Matches(claim) {
			return unknownClaim()
		}
		switch r.Stage {
		case pxe.StageInstalling:
			return c.Progress(b.c.Now(), r.UUID)
		case pxe.StageInstalled:
			return c.Install(b.c.Now(), r.UUID)
		case pxe.StageFailed:
			return c.Fail(b.c.Now(), r.UUID, message)
		}
		return &pxe.Refusal{Rule: RuleInvalidReport, Message: fmt.Sprintf(
			"a report's stage is Installing, Installed or Failed, not %q", plaintext.Clip(string(r.Stage), 64))}
	})
	if err != nil {
		return b.failed(machine, from, err)
	}
	b.observeReport(machine, from, r, message)
	return nil
}

func (b *Backend) observeReport(m pxe.Machine, from netip.Addr, r pxe.Report, message string) {
	b.c.Observer(pxe.Observation{
		Time: b.c.Now(), Machine: m, From: from, Stage: r.Stage,
		Message: said(plaintext.Clip(r.Step, 64), message, plaintext.Clip(r.Disk, 256)), Done: max(r.Done, 0), Total: max(r.Total, 0),
	})
}

// Credentials implements pxe.Backend. The credentials are made before the claim is
// exchanged: a machine for which they cannot be made yet may ask again.
func (b *Backend) Credentials(ctx context.Context, claim string, from netip.Addr) ([]byte, error) {
	found, node, err := b.find(claim)
	if err != nil {
		return nil, b.failed(b.whoeverIsAt(from), from, err)
	}
	machine := pxe.Machine{MAC: found.MAC, UUID: found.UUID, Arch: architectureOf(node)}
	archive, err := b.credentials(ctx, claim, found, node, from)
	if err != nil {
		return nil, b.failed(machine, from, err)
	}
	b.c.Observer(pxe.Observation{
		Time: b.c.Now(), Machine: machine, From: from, Stage: pxe.StageCredentials,
		Message: node.Name + " exchanged its claim for its credentials",
	})
	return archive, nil
}

func (b *Backend) credentials(ctx context.Context, id string, found Claim, node *v1alpha1.Node, from netip.Addr) ([]byte, error) {
	// Asked of a copy first, so that nothing is made for a request that is refused.
	asked := found
	if err := asked.Exchange(b.c.Now(), from); err != nil {
		return nil, err
	}
	files, err := b.c.Credentials(ctx, node, found)
	if err != nil {
		return nil, fmt.Errorf("cannot make the credentials of %s: %w", node.Name, err)
	}
	archive, err := k3s.Tar(files)
	if err != nil {
		return nil, fmt.Errorf("cannot pack the credentials of %s: %w", node.Name, err)
	}
	err = b.c.Claims.Update(ctx, found.MAC, func(c *Claim) error {
		if !c.Matches(id) {
			return unknownClaim()
		}
		return c.Exchange(b.c.Now(), from)
	})
	if err != nil {
		return nil, err
	}
	return archive, nil
}

// find is the claim with this identifier and its node. Every machine's claim is
// compared, so that the time taken does not tell whose claim it was.
func (b *Backend) find(id string) (Claim, *v1alpha1.Node, error) {
	inv := b.c.Inventory()
	var claim Claim
	var node *v1alpha1.Node
	for i := range inv.Nodes {
		n := &inv.Nodes[i]
		if c, ok := b.c.Claims.Get(pxe.MAC(n.Spec.MAC)); ok && c.Node == n.Name && c.Matches(id) {
			claim, node = c, n
		}
	}
	if node == nil {
		return Claim{}, nil, unknownClaim()
	}
	return claim, node, nil
}

func unknownClaim() error {
	return &pxe.Refusal{Rule: RuleClaimUnknown, Message: "no declared machine has this claim: it was replaced by a newer one, or its Node was removed"}
}

// failed observes a refusal and returns the error unchanged.
func (b *Backend) failed(m pxe.Machine, from netip.Addr, err error) error {
	var refusal *pxe.Refusal
	if errors.As(err, &refusal) {
		b.refused(m, from, refusal)
	}
	return err
}

func (b *Backend) refused(m pxe.Machine, from netip.Addr, r *pxe.Refusal) {
	b.c.Observer(pxe.Observation{Time: b.c.Now(), Machine: m, From: from, Stage: pxe.StageRefused, Message: r.Error()})
}

func said(step, message, disk string) string {
	var parts []string
	for _, p := range []string{step, message, disk} {
		// An installer's message may name its disk by itself.
		if p != "" && (p != disk || !strings.Contains(message, disk)) {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, ": ")
}
