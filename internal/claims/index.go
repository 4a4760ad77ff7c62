package claims

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe"
)

// entry is the newest that is known of one Secret.
type entry struct {
	uid      types.UID
	revision uint64
	claim    provision.Claim // the zero Claim: it could not be read
	seen     bool            // the cache has shown this Secret: when it has it no more, it is gone
}

// index finds claims by MAC. It is fed by events and by the store's own writes;
// of the two the newer holds.
type index struct {
	entries map[string]entry                // by the Secret's name
	byMAC   map[pxe.MAC]map[string]struct{} // names of Secrets
	// at has, by address, the name of the Secret whose claim was consumed last from it.
	at map[netip.Addr]string
	// gone are the Secrets that were last seen to be gone, by name: a read of the cache
	// that began before must not bring them back.
	gone map[string]types.UID
}

func newIndex() index {
	return index{map[string]entry{}, map[pxe.MAC]map[string]struct{}{}, map[netip.Addr]string{}, map[string]types.UID{}}
}

// put keeps what is newer than what is known, and says whether it was.
func (x *index) put(name string, e entry) bool {
	if x.gone[name] == e.uid {
		return false
	}
	old, ok := x.entries[name]
	if ok && old.uid == e.uid && e.seen && !old.seen {
		old.seen = true
		x.entries[name] = old
	}
	if ok && old.revision >= e.revision {
		return false
	}
	e.seen = e.seen || old.seen && old.uid == e.uid
	x.drop(name)
	x.entries[name] = e
	if mac := e.claim.MAC; mac != "" {
		if x.byMAC[mac] == nil {
			x.byMAC[mac] = map[string]struct{}{}
		}
		x.byMAC[mac][name] = struct{}{}
	}
	if from := e.claim.ConsumedBy; from.IsValid() && !e.claim.ConsumedAt.Before(x.entries[x.at[from]].claim.ConsumedAt) {
		x.at[from] = name
	}
	return true
}

// remove forgets the Secret with this UID, and no later one of the same name.
func (x *index) remove(name string, uid types.UID) {
	if uid != "" {
		x.gone[name] = uid
	}
	if x.entries[name].uid == uid {
		x.drop(name)
	}
}

func (x *index) drop(name string) {
	mac, from := x.entries[name].claim.MAC, x.entries[name].claim.ConsumedBy
	delete(x.entries, name)
	if x.at[from] == name {
		delete(x.at, from)
	}
	delete(x.byMAC[mac], name)
	if len(x.byMAC[mac]) == 0 {
		delete(x.byMAC, mac)
	}
}

// get is the machine's claim: the one opened last, should two Nodes declare its
// MAC, since opening a claim replaces the machine's last one.
func (x *index) get(mac pxe.MAC) (name string, c provision.Claim, ok bool) {
	for n := range x.byMAC[mac] {
		e := x.entries[n]
		if !ok || e.claim.Opened.After(c.Opened) || e.claim.Opened.Equal(c.Opened) && n < name {
			name, c, ok = n, e.claim, true
		}
	}
	return name, c, ok
}

// Follow keeps the claims that Get answers from up to date by the events of
// Secrets, until ctx ends. It returns when all that were there are known. Without
// it Get knows of the store's own writes only.
func (s *Store) Follow(ctx context.Context, informers cache.Informers) error {
	informer, err := informers.GetInformer(ctx, &corev1.Secret{})
	if err != nil {
		return fmt.Errorf("cannot watch the claims: %w", err)
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { s.event(o) },
		UpdateFunc: func(_, o any) { s.event(o) },
		DeleteFunc: func(o any) { s.deleted(o) },
	})
	if err != nil {
		return fmt.Errorf("cannot watch the claims: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = informer.RemoveEventHandler(registration) })
	if !toolscache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		return fmt.Errorf("cannot read the claims: %w", context.Cause(ctx))
	}
	return nil
}

func (s *Store) event(o any) {
	if secret, ok := o.(*corev1.Secret); ok && s.mine(secret) {
		s.learn(secret, true)
	}
}

func (s *Store) deleted(o any) {
	if unknown, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
		o = unknown.Obj
	}
	if secret, ok := o.(*corev1.Secret); ok && s.mine(secret) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.index.remove(secret.Name, secret.UID)
	}
}

// learn puts a Secret into the index, as the API server gave it or, if cached, the
// cache.
func (s *Store) learn(secret *corev1.Secret, cached bool) {
	claim, err := decode(secret)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.index.put(secret.Name, entry{secret.UID, revision(secret), claim, cached}) && err != nil {
		s.logger().Error("a claim is not used", "error", err)
	}
}
