package boot

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/claims"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/media"
)

// backend is the pxe.Backend of a PXE pod: that of package provision, over the
// informers' memory. It adds when a machine has to wait: for the serving
// certificate, and for files that are not here yet.
type backend struct {
	declared *declared
	claims   *claims.Store
	serving  *serving
	files    *files
	archives []media.Source
	address  netip.Addr
	ports    struct{ http, https uint16 }
	observe  func(pxe.Observation)
	metrics  *metrics
	now      func() time.Time

	mu   sync.Mutex
	made *provision.Backend // for the authority ca
	ca   []byte
}

var _ pxe.Backend = (*backend)(nil)

// others are the PXE services of the other pods that are ready.
func (b *backend) others() []provision.Address {
	var all []provision.Address
	for _, a := range otherPods(b.declared.current.Load(), b.address, true) {
		all = append(all, provision.Address{
			BaseURL:   "http://" + netip.AddrPortFrom(a, b.ports.http).String(),
			SecureURL: "https://" + netip.AddrPortFrom(a, b.ports.https).String(),
		})
	}
	return all
}

// otherPods are the addresses of the other PXE pods.
func otherPods(s *snapshot, own netip.Addr, ready bool) []netip.Addr {
	if s == nil || s.cluster == nil {
		return nil
	}
	var all []netip.Addr
	for _, p := range s.cluster.Status.PXE {
		a, err := netip.ParseAddr(string(p.Address))
		if err == nil && a != own && (p.Ready || !ready) {
			all = append(all, a)
		}
	}
	return all
}

// provisioning is the backend under the authority of now.
func (b *backend) provisioning() (*provision.Backend, error) {
	id := b.serving.current.Load()
	if id == nil {
		return nil, &pxe.NotNow{Message: "the PXE service has no certificate yet: the operator makes it; ask again", After: 5 * time.Second}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.made != nil && bytes.Equal(b.ca, id.authority) {
		return b.made, nil
	}
	made, err := provision.NewBackend(provision.Config{
		Inventory:   b.inventory,
		Claims:      b.claims,
		Credentials: b.claims.Credentials,
		Service: provision.Service{
			BaseURL:   "http://" + netip.AddrPortFrom(b.address, b.ports.http).String(),
			SecureURL: "https://" + netip.AddrPortFrom(b.address, b.ports.https).String(),
			CA:        id.authority,
		},
		Others:    b.others,
		Archives:  func(v1alpha1.Architecture) []media.Source { return b.archives },
		MediaSize: b.files.size,
		Observer:  b.observe,
		Now:       b.now,
	})
	if err != nil {
		return nil, err
	}
	b.made, b.ca = made, id.authority
	return made, nil
}

func (b *backend) inventory() inventory.Inventory {
	if s := b.declared.current.Load(); s != nil {
		return s.inventory
	}
	return inventory.Inventory{}
}

// Decide implements pxe.Backend.
func (b *backend) Decide(m pxe.Machine) pxe.Decision {
	var claim *provision.Claim
	if c, ok := b.claims.Get(m.MAC); ok {
		claim = &c
	}
	return provision.Decide(b.inventory(), m, claim, b.now())
}

// InitConfig implements pxe.Backend. A machine whose files are not here keeps its
// claim: it would wait for them in the middle of its installation.
func (b *backend) InitConfig(ctx context.Context, mac pxe.MAC, from netip.Addr) (pxe.Document, error) {
	p, err := b.provisioning()
	if err != nil {
		return pxe.Document{}, err
	}
	s := b.declared.current.Load()
	node := s.nodeByMAC(mac)
	if node != nil {
		if lacking := b.files.lacking(node.Name); lacking != "" {
			return pxe.Document{}, &pxe.NotNow{
				Message: fmt.Sprintf("files that %s needs are not here yet: %s; ask again", node.Name, lacking), After: 10 * time.Second,
			}
		}
	}
	before, _ := b.claims.Get(mac)
	doc, err := p.InitConfig(ctx, mac, from)
	if err != nil {
		return doc, err
	}
	if before.ConsumedAt.IsZero() {
		b.metrics.consumed.Inc()
	}
	b.observe(pxe.Observation{
		Time: b.now(), Machine: pxe.Machine{MAC: mac, Arch: pxe.Arch(node.Spec.Architecture)}, From: from,
		Stage: pxe.StageInitConfig, Message: node.Name + " fetched its init config, which consumes its claim",
	})
	return doc, nil
}

// Report implements pxe.Backend.
func (b *backend) Report(ctx context.Context, claim string, r pxe.Report, from netip.Addr) error {
	p, err := b.provisioning()
	if err != nil {
		return err
	}
	return p.Report(ctx, claim, r, from)
}

// Credentials implements pxe.Backend.
func (b *backend) Credentials(ctx context.Context, claim string, from netip.Addr) ([]byte, error) {
	p, err := b.provisioning()
	if err != nil {
		return nil, err
	}
	archive, err := p.Credentials(ctx, claim, from)
	if err == nil {
		b.metrics.exchanged.Inc()
	}
	return archive, err
}

// Observe implements pxe.Backend.
func (b *backend) Observe(o pxe.Observation) {
	if p, err := b.provisioning(); err == nil {
		p.Observe(o)
		return
	}
	b.observe(o)
}
