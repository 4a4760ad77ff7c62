package claims_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/claims"
	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/test/kube"
)

func TestMain(m *testing.M) { kube.Main(m) }

// world is one namespace with one Node, and as many stores as a test asks for.
type world struct {
	t         *testing.T
	config    *rest.Config
	scheme    *runtime.Scheme
	client    client.Client
	namespace string
	node      *v1alpha1.Node
}

var worlds atomic.Int32

func newWorld(t *testing.T) *world {
	t.Helper()
	n := worlds.Add(1)
	w := &world{t: t, config: kube.Start(t), scheme: runtime.NewScheme(), namespace: fmt.Sprintf("claims-%d", n)}
	w.config.QPS, w.config.Burst = 500, 1000
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(w.scheme); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if w.client, err = client.New(w.config, client.Options{Scheme: w.scheme}); err != nil {
		t.Fatal(err)
	}
	w.node = &v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("machine-%d", n)}, Spec: v1alpha1.NodeSpec{
		Role: v1alpha1.Worker, MAC: v1alpha1.MAC(fmt.Sprintf("52:54:00:00:00:%02x", n)), Address: v1alpha1.Address(fmt.Sprintf("192.168.1.%d", n)),
	}}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.namespace}}
	for _, o := range []client.Object{namespace, w.node} {
		if err := w.client.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// store is one replica: a cache of its own, and a store that follows it.
func (w *world) store() *claims.Store {
	w.t.Helper()
	informers := w.informers()
	s := claims.New(informers, w.client, w.namespace)
	if err := s.Follow(w.t.Context(), informers); err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) mac() pxe.MAC { return pxe.MAC(w.node.Spec.MAC) }

func (w *world) claim(attempt int) provision.Claim {
	now := time.Now()
	return provision.Claim{
		ID: provision.NewClaimID(), Node: w.node.Name, MAC: w.mac(), Address: netip.MustParseAddr(string(w.node.Spec.Address)),
		Purpose: provision.Join, Attempt: attempt, Opened: now, Expires: now.Add(time.Hour),
	}
}

func (w *world) secret() *corev1.Secret {
	w.t.Helper()
	s := &corev1.Secret{}
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Namespace: w.namespace, Name: names.ClaimSecret(w.node.Name)}, s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// eventually waits for what a watch will bring.
func (w *world) eventually(what string, so func() bool) {
	w.t.Helper()
	for ctx := w.t.Context(); !so(); {
		select {
		case <-ctx.Done():
			w.t.Fatalf("never: %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (w *world) seen(s *claims.Store, id string) {
	w.t.Helper()
	w.eventually("a replica sees the claim", func() bool { c, ok := s.Get(w.mac()); return ok && c.ID == id })
}

var credentials = []k3s.File{{Path: "/etc/rancher/k3s/config.yaml", Content: []byte("server: https://192.168.1.9:6443\n"), Mode: 0o600}}

func TestOneOfManyConsumesAClaim(t *testing.T) {
	w := newWorld(t)
	replicas := []*claims.Store{w.store(), w.store()}
	c := w.claim(1)
	w.must(replicas[0].Open(t.Context(), w.node, c))
	w.seen(replicas[1], c.ID)

	const machines = 64
	var won atomic.Int32
	var winner atomic.Value
	var all sync.WaitGroup
	for i := range machines {
		from := netip.AddrFrom4([4]byte{192, 168, 1, byte(100 + i)})
		all.Go(func() {
			err := replicas[i%2].Update(t.Context(), w.mac(), func(c *provision.Claim) error { return c.Consume(time.Now(), from) })
			if refusal := (*pxe.Refusal)(nil); errors.As(err, &refusal) {
				if refusal.Rule != provision.RuleWrongAddress {
					t.Errorf("%s was refused by %v", from, err)
				}
				return
			}
			if err != nil {
				t.Errorf("%s: %v", from, err)
				return
			}
			won.Add(1)
			winner.Store(from)
		})
	}
	all.Wait()
	if won.Load() != 1 {
		t.Fatalf("%d of %d machines consumed one claim", won.Load(), machines)
	}
	for i, s := range replicas {
		w.eventually("a replica sees the consumption", func() bool {
			got, _ := s.Get(w.mac())
			return got.ConsumedBy == winner.Load()
		})
		if got, ok, err := s.OfNode(t.Context(), w.node.Name); err != nil || !ok || got.ConsumedBy != winner.Load() {
			t.Errorf("replica %d: %+v, %v, %v", i, got, ok, err)
		}
	}
}

func TestAReplicaGoesOnWhereAnotherStopped(t *testing.T) {
	w := newWorld(t)
	first, second := w.store(), w.store()
	c := w.claim(1)
	w.must(first.Open(t.Context(), w.node, c))
	w.seen(second, c.ID)
	home := netip.MustParseAddr(string(w.node.Spec.Address))
	w.must(first.Update(t.Context(), w.mac(), func(c *provision.Claim) error { return c.Consume(time.Now(), home) }))
	// The second may not have heard of it: what counts is what the API server has.
	w.must(second.Update(t.Context(), w.mac(), func(c *provision.Claim) error { return c.Install(time.Now(), "") }))
	w.must(first.Update(t.Context(), w.mac(), func(c *provision.Claim) error { return c.Exchange(time.Now(), home) }))
	err := second.Update(t.Context(), w.mac(), func(c *provision.Claim) error { return c.Exchange(time.Now(), netip.MustParseAddr("192.168.1.200")) })
	if refusal := (*pxe.Refusal)(nil); !errors.As(err, &refusal) {
		t.Errorf("a second machine exchanged the claim: %v", err)
	}
}

func TestAStoreSeesItsOwnUpdatesAtOnce(t *testing.T) {
	w := newWorld(t)
	s := w.store()
	for attempt := 1; attempt <= 20; attempt++ {
		c := w.claim(attempt)
		w.must(s.Open(t.Context(), w.node, c))
		if got, ok := s.Get(w.mac()); !ok || got.ID != c.ID {
			t.Fatalf("attempt %d: just opened, and Get says %v, %v", attempt, got.Attempt, ok)
		}
		if got, ok, err := s.OfNode(t.Context(), w.node.Name); err != nil || !ok || got.ID != c.ID {
			t.Fatalf("attempt %d: just opened, and OfNode says %v, %v, %v", attempt, got.Attempt, ok, err)
		}
		w.must(s.Update(t.Context(), w.mac(), func(c *provision.Claim) error { return c.Consume(time.Now(), c.Address) }))
		if got, _ := s.Get(w.mac()); got.ConsumedAt.IsZero() {
			t.Fatalf("attempt %d: just consumed, and Get does not say so", attempt)
		}
		w.must(s.Close(t.Context(), w.node.Name))
		if _, ok := s.Get(w.mac()); ok {
			t.Fatalf("attempt %d: just closed, and Get still has it", attempt)
		}
		if _, ok, err := s.OfNode(t.Context(), w.node.Name); ok || err != nil {
			t.Fatalf("attempt %d: just closed, and OfNode says %v, %v", attempt, ok, err)
		}
	}
	w.must(s.Close(t.Context(), w.node.Name))
}

func TestAnUnknownMachineHasNoClaim(t *testing.T) {
	w := newWorld(t)
	s := w.store()
	if _, ok := s.Get(w.mac()); ok {
		t.Error("there is a claim that nobody opened")
	}
	err := s.Update(t.Context(), w.mac(), func(*provision.Claim) error { t.Error("a claim that is not there was changed"); return nil })
	if !errors.Is(err, pxe.ErrNotFound) {
		t.Errorf("error %v, want pxe.ErrNotFound", err)
	}
	if _, err := s.Credentials(t.Context(), w.node, w.claim(1)); err == nil {
		t.Error("credentials without a claim")
	}
	w.must(s.Withdraw(t.Context(), w.node.Name))
}

// A claim that goes with its Node, or is deleted by a person, is none, and another
// one may be opened.
func TestAClaimThatWasDeletedIsForgotten(t *testing.T) {
	w := newWorld(t)
	s, other := w.store(), w.store()
	c := w.claim(1)
	w.must(s.Open(t.Context(), w.node, c))
	w.seen(other, c.ID)
	w.must(w.client.Delete(t.Context(), w.secret()))
	for _, s := range []*claims.Store{s, other} {
		w.eventually("the claim is forgotten", func() bool { _, ok := s.Get(w.mac()); return !ok })
		if _, ok, err := s.OfNode(t.Context(), w.node.Name); ok || err != nil {
			t.Errorf("OfNode: %v, %v", ok, err)
		}
	}
	w.must(s.Open(t.Context(), w.node, w.claim(2)))
}

func TestWhatCannotBeReadIsNoClaim(t *testing.T) {
	good := func(w *world) *corev1.Secret {
		b, err := json.Marshal(w.claim(1))
		w.must(err)
		return &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: w.namespace, Name: names.ClaimSecret(w.node.Name), Labels: map[string]string{v1alpha1.LabelClaim: w.node.Name},
			},
			Type: names.ClaimType, Data: map[string][]byte{names.KeyClaim: b},
		}
	}
	claim := func(s *corev1.Secret, change func(*provision.Claim)) {
		var c provision.Claim
		if err := json.Unmarshal(s.Data[names.KeyClaim], &c); err != nil {
			t.Fatal(err)
		}
		change(&c)
		s.Data[names.KeyClaim], _ = json.Marshal(c)
	}
	for _, c := range []struct {
		reason string
		spoil  func(*corev1.Secret)
		says   string // empty: it is a claim
	}{
		{"as Open writes it", func(*corev1.Secret) {}, ""},
		{"no JSON", func(s *corev1.Secret) { s.Data[names.KeyClaim] = []byte(`{"id":"secretsecret`) }, "no claim as JSON"},
		{"no claim at all", func(s *corev1.Secret) { s.Data = nil }, "no claim as JSON"},
		{"another type", func(s *corev1.Secret) { s.Type = corev1.SecretTypeOpaque }, "its type"},
		{"another node's label", func(s *corev1.Secret) { s.Labels[v1alpha1.LabelClaim] = "other" }, "another"},
		{"another node's claim", func(s *corev1.Secret) { claim(s, func(c *provision.Claim) { c.Node = "other" }) }, "another"},
		{"no identifier", func(s *corev1.Secret) { claim(s, func(c *provision.Claim) { c.ID = "" }) }, "no identifier"},
		{"a MAC in another spelling", func(s *corev1.Secret) { claim(s, func(c *provision.Claim) { c.MAC = "52-54-00-00-00-01" }) }, "MAC address"},
		{"never opened", func(s *corev1.Secret) { claim(s, func(c *provision.Claim) { c.Opened = time.Time{} }) }, "when it was opened"},
	} {
		t.Run(c.reason, func(t *testing.T) {
			w := newWorld(t)
			s := w.store()
			var log buffer
			s.Logger = slog.New(slog.NewTextHandler(&log, nil))
			secret := good(w)
			c.spoil(secret)
			w.must(w.client.Create(t.Context(), secret))
			if c.says == "" {
				w.eventually("the claim is there", func() bool { _, ok := s.Get(w.mac()); return ok })
				return
			}
			w.eventually("it is told", func() bool { return strings.Contains(log.String(), c.says) })
			if strings.Contains(log.String(), "secretsecret") {
				t.Errorf("the log tells the identifier: %s", log.String())
			}
			if _, ok := s.Get(w.mac()); ok {
				t.Error("it counts as a claim")
			}
			if err := s.Update(t.Context(), w.mac(), func(*provision.Claim) error { return nil }); !errors.Is(err, pxe.ErrNotFound) {
				t.Errorf("Update: %v, want pxe.ErrNotFound", err)
			}
			if _, ok, err := s.OfNode(t.Context(), w.node.Name); ok || err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("OfNode: %v, %v", ok, err)
			}
		})
	}
}

func TestOpenReplacesTheLastClaimAndItsCredentials(t *testing.T) {
	w := newWorld(t)
	operator, pod := w.store(), w.store()
	first, second := w.claim(1), w.claim(2)

	w.must(operator.Open(t.Context(), w.node, first))
	owner := w.secret().OwnerReferences
	if len(owner) != 1 || owner[0].UID != w.node.UID || owner[0].Kind != "Node" || owner[0].APIVersion != "rhizome.dev/v1alpha1" {
		t.Errorf("the Secret's owners are %+v", owner)
	}
	_, err := pod.Credentials(t.Context(), w.node, first)
	var later *pxe.NotNow
	if !errors.Is(err, claims.ErrNotReady) || !errors.As(err, &later) || later.After <= 0 {
		t.Errorf("before they are made: %v, want ErrNotReady", err)
	}
	w.must(operator.Offer(t.Context(), w.node.Name, first.ID, credentials))
	got, err := pod.Credentials(t.Context(), w.node, first)
	w.must(err)
	if diff := cmp.Diff(credentials, got); diff != "" {
		t.Error(diff)
	}

	w.must(operator.Open(t.Context(), w.node, second))
	if _, has := w.secret().Data[names.KeyCredentials]; has {
		t.Error("the credentials of the last claim are still there")
	}
	var refusal *pxe.Refusal
	if _, err := pod.Credentials(t.Context(), w.node, first); !errors.As(err, &refusal) || refusal.Rule != provision.RuleClaimUnknown {
		t.Errorf("credentials under the replaced claim: %v", err)
	}
	if err := operator.Offer(t.Context(), w.node.Name, first.ID, credentials); !errors.Is(err, claims.ErrReplaced) {
		t.Errorf("an offer to the replaced claim: %v, want ErrReplaced", err)
	}
	if _, has := w.secret().Data[names.KeyCredentials]; has {
		t.Error("an offer to the replaced claim was kept")
	}

	w.must(operator.Offer(t.Context(), w.node.Name, second.ID, credentials))
	w.must(operator.Withdraw(t.Context(), w.node.Name))
	if _, err := pod.Credentials(t.Context(), w.node, second); !errors.Is(err, claims.ErrNotReady) {
		t.Errorf("after they were withdrawn: %v, want ErrNotReady", err)
	}
	if c, ok, err := operator.OfNode(t.Context(), w.node.Name); !ok || err != nil || c.ID != second.ID {
		t.Errorf("withdrawing took the claim's record: %v, %v", ok, err)
	}
	w.must(operator.Close(t.Context(), w.node.Name))
	if err := operator.Offer(t.Context(), w.node.Name, second.ID, credentials); !errors.Is(err, claims.ErrReplaced) {
		t.Errorf("an offer to a closed claim: %v, want ErrReplaced", err)
	}
}

// The operator decides to open another claim; meanwhile a PXE pod hands out the
// init config under the last one.
func TestAClaimThatChangedMeanwhileIsNotReplaced(t *testing.T) {
	w := newWorld(t)
	c := w.claim(1)
	w.must(w.store().Open(t.Context(), w.node, c))
	// A store that follows nothing stands for one whose watch is late.
	frozen := &lateReader{Reader: w.client, secret: w.secret()}
	late := claims.New(frozen, w.client, w.namespace)
	pod := w.store()
	w.must(pod.Update(t.Context(), w.mac(), func(c *provision.Claim) error { return c.Consume(time.Now(), c.Address) }))
	if err := late.Open(t.Context(), w.node, w.claim(2)); !apierrors.IsConflict(err) {
		t.Errorf("error %v, want a conflict", err)
	}
	if got, _, _ := pod.OfNode(t.Context(), w.node.Name); got.ID != c.ID {
		t.Error("the claim was replaced")
	}
}

// lateReader has a Secret as it was.
type lateReader struct {
	client.Reader
	secret *corev1.Secret
}

func (l *lateReader) Get(_ context.Context, _ client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	l.secret.DeepCopyInto(o.(*corev1.Secret))
	return nil
}

func TestAnAPIServerThatIsAwayIsNoRefusal(t *testing.T) {
	w := newWorld(t)
	pod := w.store()
	c := w.claim(1)
	w.must(pod.Open(t.Context(), w.node, c))
	away := rest.CopyConfig(w.config)
	away.Host = "https://127.0.0.1:1"
	dead, err := client.New(away, client.Options{Scheme: w.scheme, Mapper: w.client.RESTMapper()})
	w.must(err)
	cut := claims.New(w.client, dead, w.namespace)
	w.must(cut.Follow(t.Context(), w.informers()))
	if got, ok := cut.Get(w.mac()); !ok || got.ID != c.ID {
		t.Errorf("from memory: %v", ok)
	}
	var later *pxe.NotNow
	err = cut.Update(t.Context(), w.mac(), func(c *provision.Claim) error { return c.Consume(time.Now(), c.Address) })
	if !errors.As(err, &later) || later.After <= 0 {
		t.Errorf("Update: %v, want a *pxe.NotNow", err)
	}
	if _, err = cut.Credentials(t.Context(), w.node, c); !errors.As(err, &later) || errors.Is(err, claims.ErrNotReady) {
		t.Errorf("Credentials: %v, want a *pxe.NotNow", err)
	}
	if got, _ := pod.Get(w.mac()); !got.ConsumedAt.IsZero() {
		t.Error("the claim was consumed")
	}
}

func (w *world) informers() cache.Cache {
	w.t.Helper()
	informers, err := cache.New(w.config, cache.Options{Scheme: w.scheme, DefaultNamespaces: map[string]cache.Config{w.namespace: {}}})
	w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- informers.Start(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		<-ended
	})
	return informers
}

// buffer is a log that is read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
