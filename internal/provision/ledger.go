package provision

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"github.com/rhizome-dev/rhizome/pxe"
)

// Ledger is Claims kept in memory and, before every change takes effect, by a
// function that makes it durable.
type Ledger struct {
	mu     sync.RWMutex
	claims map[pxe.MAC]Claim
	at     map[netip.Addr]pxe.MAC // whose claim was consumed last from an address
	save   func([]Claim) error
}

// NewLedger starts from claims that were kept. save keeps all claims, sorted by
// MAC; it is called by one goroutine at a time. nil: they live as long as the
// process.
func NewLedger(claims []Claim, save func([]Claim) error) *Ledger {
	l := &Ledger{claims: map[pxe.MAC]Claim{}, at: map[netip.Addr]pxe.MAC{}, save: save}
	for _, c := range slices.SortedStableFunc(slices.Values(claims), func(a, b Claim) int { return a.ConsumedAt.Compare(b.ConsumedAt) }) {
		l.put(c)
	}
	return l
}

// Get implements Claims.
func (l *Ledger) Get(mac pxe.MAC) (Claim, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	c, ok := l.claims[mac]
	return c, ok
}

// At implements Claims.
func (l *Ledger) At(from netip.Addr) (pxe.MAC, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	mac, ok := l.at[from]
	return mac, ok
}

// Put opens a claim: it replaces the machine's last one.
func (l *Ledger) Put(ctx context.Context, c Claim) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.keep(ctx, c)
}

// Update implements Claims.
func (l *Ledger) Update(ctx context.Context, mac pxe.MAC, change func(*Claim) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	old, ok := l.claims[mac]
	if !ok {
		return pxe.ErrNotFound
	}
	changed := old
	if err := change(&changed); err != nil {
		return err
	}
	if changed == old {
		return nil
	}
	return l.keep(ctx, changed)
}

// All are the claims, sorted by MAC.
func (l *Ledger) All() []Claim {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.with(Claim{})
}

func (l *Ledger) keep(ctx context.Context, c Claim) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if l.save != nil {
		if err := l.save(l.with(c)); err != nil {
			return fmt.Errorf("cannot keep the claim of %s: %w", c.Node, err)
		}
	}
	l.put(c)
	return nil
}

func (l *Ledger) put(c Claim) {
	old := l.claims[c.MAC]
	l.claims[c.MAC] = c
	if c.ConsumedBy == old.ConsumedBy {
		return
	}
	if l.at[old.ConsumedBy] == c.MAC {
		delete(l.at, old.ConsumedBy)
	}
	if c.ConsumedBy.IsValid() {
		l.at[c.ConsumedBy] = c.MAC
	}
}

// with is all claims, c in the place of the one for its machine.
func (l *Ledger) with(c Claim) []Claim {
	var all []Claim
	for mac, old := range l.claims {
		if mac != c.MAC {
			all = append(all, old)
		}
	}
	if c.MAC != "" {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b Claim) int { return cmp.Compare(a.MAC, b.MAC) })
	return all
}
