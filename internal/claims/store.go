// Package claims keeps claims in Secrets: one a machine, in the namespace of the
// PXE pods.
//
// The API server is what makes a claim's transitions one after another: each is
// written against the version of the Secret that it was decided on, and decided
// anew when that has changed. So any number of replicas may serve machines at
// once, and one of them may die at any moment.
package claims

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe"
)

// ErrNotReady is returned for credentials that the operator has not made yet. The
// machine is to ask again.
var ErrNotReady = errors.New("the credentials are not made yet")

// ErrReplaced is returned when a claim is not the machine's any more.
var ErrReplaced = errors.New("the claim was replaced by another one")

// Store keeps claims in Secrets. Its methods may be called from many goroutines.
type Store struct {
	// Logger is told of Secrets that hold no claim. Set it before the first call;
	// nil: slog.Default().
	Logger *slog.Logger

	cached    client.Reader
	live      client.Client
	namespace string

	mu    sync.RWMutex
	index index
}

var _ provision.Claims = (*Store)(nil)

// New makes a Store for the claims of a namespace. cached reads Secrets from an
// informer's memory, live reads and writes the API server. For Get, call Follow.
func New(cached client.Reader, live client.Client, namespace string) *Store {
	return &Store{cached: cached, live: live, namespace: namespace, index: newIndex()}
}

func (s *Store) logger() *slog.Logger {
	if s.Logger != nil {
		return s.Logger
	}
	return slog.Default()
}

// mine says whether a Secret keeps a claim of this store, readable or not.
func (s *Store) mine(secret *corev1.Secret) bool {
	_, labelled := secret.Labels[v1alpha1.LabelClaim]
	return secret.Namespace == s.namespace &&
		(labelled || secret.Type == names.ClaimType || strings.HasPrefix(secret.Name, names.ClaimSecret("")))
}

func (s *Store) key(node string) types.NamespacedName {
	return types.NamespacedName{Namespace: s.namespace, Name: names.ClaimSecret(node)}
}

// Get implements provision.Claims: it answers from memory, and shows this store's
// own updates at once. Before Follow has returned there may be claims that it does
// not know.
func (s *Store) Get(mac pxe.MAC) (provision.Claim, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, c, ok := s.index.get(mac)
	return c, ok
}

// At implements provision.Claims, from memory as Get does.
func (s *Store) At(from netip.Addr) (pxe.MAC, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	name, ok := s.index.at[from]
	return s.index.entries[name].claim.MAC, ok
}

// writing bounds one change of a claim: whoever waits for it gives up by then.
const writing = 15 * time.Second

// conflicts is how a change is tried again that met another one: a few
// milliseconds first, at most half a second apart, until its time is up.
func conflicts() wait.Backoff {
	return wait.Backoff{Duration: 5 * time.Millisecond, Factor: 1.6, Jitter: 1, Steps: 1000, Cap: 500 * time.Millisecond}
}

// Update implements provision.Claims. The claim is read anew from the API server
// before every try, so that nothing is decided on what is so no more. An API
// server that cannot be reached is a *pxe.NotNow.
func (s *Store) Update(ctx context.Context, mac pxe.MAC, change func(*provision.Claim) error) error {
	s.mu.RLock()
	_, known, ok := s.index.get(mac)
	s.mu.RUnlock()
	if !ok {
		return pxe.ErrNotFound
	}
	err := s.change(ctx, known.Node, func(secret *corev1.Secret, c *provision.Claim) (bool, error) {
		if c.MAC != mac {
			return false, pxe.ErrNotFound
		}
		old := *c
		if err := change(c); err != nil {
			return false, decided{err}
		}
		return *c != old, nil
	})
	if d := (decided{}); errors.As(err, &d) {
		return d.error
	}
	if err == nil || errors.Is(err, pxe.ErrNotFound) || ctx.Err() != nil {
		return err
	}
	return &pxe.NotNow{
		Message: fmt.Sprintf("the claim of %s cannot be read or written now: the cluster's API server does not take it; ask again", known.Node),
		After:   5 * time.Second, Err: err,
	}
}

// decided is an error of the caller's own, which is handed back as it is.
type decided struct{ error }

// change changes a claim's Secret: edit gets the Secret and its claim as the API
// server has them, and says whether there is something to write. A Secret that is
// not there or holds no claim is pxe.ErrNotFound.
func (s *Store) change(ctx context.Context, node string, edit func(*corev1.Secret, *provision.Claim) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, writing)
	defer cancel()
	var last error
	err := conflicts().DelayFunc().Until(ctx, true, true, func(ctx context.Context) (bool, error) {
		secret := &corev1.Secret{}
		known := s.known(node)
		if err := s.live.Get(ctx, s.key(node), secret); err != nil {
			if apierrors.IsNotFound(err) {
				s.forget(node, known.uid)
				return false, pxe.ErrNotFound
			}
			return false, fmt.Errorf("cannot read the claim of %s: %w", node, err)
		}
		s.learn(secret, false)
		claim, err := decode(secret)
		if err != nil {
			return false, pxe.ErrNotFound // learn has told why
		}
		changed, err := edit(secret, &claim)
		if err != nil || !changed {
			return err == nil, err
		}
		if err := write(secret, claim); err != nil {
			return false, err
		}
		switch err := s.live.Update(ctx, secret); {
		case apierrors.IsConflict(err):
			last = err
			return false, nil
		case err != nil:
			return false, fmt.Errorf("cannot keep the claim of %s: %w", node, err)
		}
		s.learn(secret, false)
		return true, nil
	})
	if last != nil && wait.Interrupted(err) {
		return fmt.Errorf("cannot keep the claim of %s: %w", node, last)
	}
	return err
}

// OfNode is the claim of a Node, from the cache or a later write of this store. A
// Secret that holds no claim is an error that says what to do.
func (s *Store) OfNode(ctx context.Context, node string) (provision.Claim, bool, error) {
	secret := &corev1.Secret{}
	err := s.cached.Get(ctx, s.key(node), secret)
	switch {
	case apierrors.IsNotFound(err):
		// Either the cache has not heard of our own write yet, or it is gone again.
		own := s.known(node)
		return own.claim, own.claim.ID != "" && !own.seen, nil
	case err != nil:
		return provision.Claim{}, false, fmt.Errorf("cannot read the claim of %s: %w", node, err)
	}
	s.learn(secret, true)
	s.mu.RLock()
	own, known := s.index.entries[secret.Name]
	s.mu.RUnlock()
	switch {
	case !known: // we deleted it, and the cache has not heard of it yet
		return provision.Claim{}, false, nil
	case own.claim.ID == "":
		_, err := decode(secret)
		return provision.Claim{}, false, err
	}
	return own.claim, true, nil
}

// known is what the index has of a Node's Secret.
func (s *Store) known(node string) entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.index.entries[names.ClaimSecret(node)]
}

// forget takes a Secret that is gone out of the index.
func (s *Store) forget(node string, uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.remove(names.ClaimSecret(node), uid)
}

// Open keeps a new claim in the place of the machine's last one, whose credentials
// go. The owner is the Node. A claim that has changed since this store last saw it
// is a conflict (apierrors.IsConflict): what the caller decided on is so no more.
func (s *Store) Open(ctx context.Context, owner *v1alpha1.Node, c provision.Claim) error {
	if c.Node != owner.Name {
		return fmt.Errorf("cannot open the claim of %s for Node/%s", c.Node, owner.Name)
	}
	fresh := newSecret(s.namespace, owner)
	if err := write(fresh, c); err != nil {
		return err
	}
	known, has, err := s.OfNode(ctx, owner.Name)
	if err == nil && !has {
		err := s.live.Create(ctx, fresh)
		if err == nil {
			s.learn(fresh, false)
			return nil
		}
		if !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("cannot open the claim of %s: %w", owner.Name, err)
		}
	}
	secret := &corev1.Secret{}
	if err := s.live.Get(ctx, s.key(owner.Name), secret); err != nil {
		if apierrors.IsNotFound(err) {
			s.forget(owner.Name, s.known(owner.Name).uid) // so that the next try creates it
		}
		return fmt.Errorf("cannot open the claim of %s: %w", owner.Name, err)
	}
	if secret.Type != names.ClaimType {
		return fmt.Errorf("cannot open the claim of %s: Secret %s/%s has the type %q and is no claim's: delete it",
			owner.Name, secret.Namespace, secret.Name, secret.Type)
	}
	current, err := decode(secret)
	s.learn(secret, false)
	if err == nil && !same(current, known) {
		return apierrors.NewConflict(corev1.Resource("secrets"), secret.Name,
			fmt.Errorf("the claim of %s changed meanwhile", owner.Name))
	}
	secret.Data, secret.StringData = fresh.Data, nil
	adopt(secret, owner)
	if err := s.live.Update(ctx, secret); err != nil {
		return fmt.Errorf("cannot open the claim of %s: %w", owner.Name, err)
	}
	s.learn(secret, false)
	return nil
}

// Offer puts credentials under this very claim, in the place of earlier ones. A
// machine that has another claim by now is ErrReplaced.
func (s *Store) Offer(ctx context.Context, node, claimID string, files []k3s.File) error {
	b, err := json.Marshal(files)
	if err != nil {
		return fmt.Errorf("cannot encode the credentials of %s: %w", node, err)
	}
	err = s.change(ctx, node, func(secret *corev1.Secret, c *provision.Claim) (bool, error) {
		if !c.Matches(claimID) {
			return false, ErrReplaced
		}
		secret.Data[names.KeyCredentials] = b
		return true, nil
	})
	if errors.Is(err, pxe.ErrNotFound) {
		err = ErrReplaced
	}
	if err != nil {
		return fmt.Errorf("cannot offer the credentials of %s: %w", node, err)
	}
	return nil
}

// Withdraw takes the credentials away and keeps the claim's record. It is nil when
// there are none.
func (s *Store) Withdraw(ctx context.Context, node string) error {
	err := s.change(ctx, node, func(secret *corev1.Secret, _ *provision.Claim) (bool, error) {
		_, has := secret.Data[names.KeyCredentials]
		delete(secret.Data, names.KeyCredentials)
		return has, nil
	})
	if err != nil && !errors.Is(err, pxe.ErrNotFound) {
		return fmt.Errorf("cannot withdraw the credentials of %s: %w", node, err)
	}
	return nil
}

// Close deletes the claim's Secret; nil when it is gone.
func (s *Store) Close(ctx context.Context, node string) error {
	secret := &corev1.Secret{}
	if err := s.live.Get(ctx, s.key(node), secret); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("cannot close the claim of %s: %w", node, err)
	}
	err := s.live.Delete(ctx, secret, client.Preconditions{UID: &secret.UID})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("cannot close the claim of %s: %w", node, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index.remove(secret.Name, secret.UID)
	return nil
}

// Credentials are the files that the operator offered under this very claim. While
// it has not made them the error is ErrNotReady, as a *pxe.NotNow; under a claim
// that was replaced it is a *pxe.Refusal.
func (s *Store) Credentials(ctx context.Context, node *v1alpha1.Node, c provision.Claim) ([]k3s.File, error) {
	ctx, cancel := context.WithTimeout(ctx, writing)
	defer cancel()
	notNow := func(message string, err error) error {
		return &pxe.NotNow{Message: message, After: 3 * time.Second, Err: err}
	}
	replaced := &pxe.Refusal{Rule: provision.RuleClaimUnknown, Message: fmt.Sprintf(
		"%s has another claim by now, or none: this one is exchanged no more", node.Name)}
	secret := &corev1.Secret{}
	if err := s.live.Get(ctx, s.key(node.Name), secret); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, replaced
		}
		return nil, notNow("the cluster's API server cannot be asked for the credentials now; ask again",
			fmt.Errorf("cannot read the credentials of %s: %w", node.Name, err))
	}
	s.learn(secret, false)
	current, err := decode(secret)
	if err != nil || !current.Matches(c.ID) {
		return nil, replaced
	}
	b, ok := secret.Data[names.KeyCredentials]
	if !ok {
		return nil, notNow("the operator has not made the credentials of this machine yet; ask again", ErrNotReady)
	}
	var files []k3s.File
	if err := json.Unmarshal(b, &files); err != nil {
		// Without the decoder's words, which may quote what it read.
		return nil, fmt.Errorf("cannot read the credentials of %s: the key %q of Secret %s/%s holds none as JSON: delete the key",
			node.Name, names.KeyCredentials, secret.Namespace, secret.Name)
	}
	return files, nil
}
