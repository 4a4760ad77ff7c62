package state

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe"
)

// Claims keeps the machines' claims in a file. It implements provision.Claims.
type Claims struct {
	directory *Directory

	mu     sync.RWMutex
	claims map[pxe.MAC]provision.Claim
	// writing lets one change at a time reach the disk, while readers go on.
	writing sync.Mutex
}

var _ provision.Claims = (*Claims)(nil)

// Claims reads the claims. Call it once: two would not know of each other.
func (d *Directory) Claims() (*Claims, error) {
	c := &Claims{directory: d, claims: map[pxe.MAC]provision.Claim{}}
	if _, err := d.read(claimsFile, &c.claims); err != nil {
		return nil, err
	}
	if c.claims == nil {
		c.claims = map[pxe.MAC]provision.Claim{}
	}
	return c, nil
}

// Get implements provision.Claims.
func (c *Claims) Get(mac pxe.MAC) (provision.Claim, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	claim, ok := c.claims[mac]
	return claim, ok
}

// Update implements provision.Claims.
func (c *Claims) Update(ctx context.Context, mac pxe.MAC, change func(*provision.Claim) error) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	claim, ok := c.Get(mac)
	if !ok {
		return pxe.ErrNotFound
	}
	before := claim
	if err := change(&claim); err != nil {
		return err
	}
	if claim == before {
		return nil
	}
	return c.keep(ctx, claim)
}

// Open replaces the machine's last claim by a new one.
func (c *Claims) Open(ctx context.Context, claim provision.Claim) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.keep(ctx, claim)
}

// keep writes first and shows it afterwards: an answer never rests on a change
// that a crash could take back.
func (c *Claims) keep(ctx context.Context, claim provision.Claim) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("the claim of %s was not changed: %w", claim.Node, err)
	}
	c.mu.RLock()
	next := maps.Clone(c.claims)
	c.mu.RUnlock()
	next[claim.MAC] = claim
	if err := c.directory.write(claimsFile, next); err != nil {
		return err
	}
	c.mu.Lock()
	c.claims = next
	c.mu.Unlock()
	return nil
}
