//go:build linux

package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/internal/provision"
)

// recorder holds the world against what must be true at every moment: no disk is
// wiped without a claim of its own; servers are installed one after another;
// workers no more than are allowed at once.
type recorder struct {
	t testing.TB

	mu     sync.Mutex
	claims map[string]string // digest of a claim's identifier -> node
	wipes  []wipe
	most   map[v1alpha1.Role]int // attempts that went on at once
}

type wipe struct{ machine, claim string }

func newRecorder(t testing.TB) *recorder {
	return &recorder{t: t, claims: map[string]string{}, most: map[v1alpha1.Role]int{}}
}

// wiped is told by a machine.
func (r *recorder) wiped(machine, claim string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.ContainsFunc(r.wipes, func(w wipe) bool { return w.claim == claim }) {
		r.t.Errorf("the disk of %s was wiped under a claim that had wiped one before", machine)
	}
	r.wipes = append(r.wipes, wipe{machine, claim})
}

// wipesOf counts the wipes of a machine.
func (r *recorder) wipesOf(machine string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, w := range r.wipes {
		if w.machine == machine {
			n++
		}
	}
	return n
}

// claimsOf counts the claims that there were for a machine.
func (r *recorder) claimsOf(machine string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, node := range r.claims {
		if node == machine {
			n++
		}
	}
	return n
}

// seededBy reads the claims that the bootstrapper opened.
func (r *recorder) seededBy(path string) {
	r.t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	var all []provision.Claim
	if err := json.Unmarshal(content, &all); err != nil {
		r.t.Fatal(err)
	}
	for _, c := range all {
		r.saw(c)
	}
}

func (r *recorder) saw(c provision.Claim) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.claims[sum([]byte(c.ID))] = c.Node
}

// watch follows the claims of the cluster until the test ends.
func (r *recorder) watch(w *world) {
	list := cache.NewListWatchFromClient(w.kube.CoreV1().RESTClient(), "secrets", names.DefaultPXENamespace,
		fields.OneTermEqualSelector("type", string(names.ClaimType)))
	var store cache.Store
	event := func(o any) {
		if c, ok := claimOf(o); ok {
			r.saw(c)
		}
		r.count(w, store)
	}
	store, controller := cache.NewInformerWithOptions(cache.InformerOptions{ListerWatcher: list, ObjectType: &corev1.Secret{},
		Handler: cache.ResourceEventHandlerFuncs{AddFunc: event, UpdateFunc: func(_, o any) { event(o) }, DeleteFunc: event}})
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.t.Context()))
	done := make(chan struct{})
	go func() { defer close(done); controller.RunWithContext(ctx) }()
	r.t.Cleanup(func() { cancel(); <-done })
	for !controller.HasSynced() {
		time.Sleep(50 * time.Millisecond)
	}
}

func claimOf(o any) (provision.Claim, bool) {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	secret, ok := o.(*corev1.Secret)
	if !ok {
		return provision.Claim{}, false
	}
	var c provision.Claim
	return c, json.Unmarshal(secret.Data[names.KeyClaim], &c) == nil && c.ID != ""
}

// count holds the attempts that go on against the caps.
func (r *recorder) count(w *world, store cache.Store) {
	if store == nil {
		return
	}
	now := map[v1alpha1.Role][]provision.Claim{}
	for _, o := range store.List() {
		c, ok := claimOf(o)
		declared := w.declared[c.Node]
		if !ok || declared == nil {
			continue
		}
		switch c.State(time.Now()) {
		case provision.StateOpen, provision.StateConsumed, provision.StateInstalled, provision.StateExchanged:
			now[declared.Spec.Role] = append(now[declared.Spec.Role], c)
		}
	}
	for role, limit := range map[v1alpha1.Role]int{v1alpha1.ControlPlane: 1, v1alpha1.Worker: int(w.maximum)} {
		if len(now[role]) > limit {
			now[role] = slices.DeleteFunc(now[role], func(c provision.Claim) bool { return w.isOver(c) })
		}
		r.mu.Lock()
		if n := len(now[role]); n > r.most[role] {
			r.most[role] = n
			if n > limit {
				var said []string
				for _, c := range now[role] {
					said = append(said, fmt.Sprintf("%s (%s)", c.Node, c.State(time.Now())))
				}
				slices.Sort(said)
				r.t.Errorf("%d %s attempts at once, at most %d may go on: %v", n, role, limit, said)
			}
		}
		r.mu.Unlock()
	}
}

// isOver says whether an attempt has ended, although its claim is not closed yet: in a
// member, where the operator was killed in between, or without one, as the Node says;
// then its credentials are worthless, and the claim is closed when the next one opens.
// A server that was killed just now is waited for.
func (w *world) isOver(c provision.Claim) bool {
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(time.Second) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		over, err := w.sawEnd(ctx, c)
		cancel()
		if err == nil {
			return over
		}
	}
	return false
}

func (w *world) sawEnd(ctx context.Context, c provision.Claim) (bool, error) {
	if c.ExchangedAt.IsZero() {
		var n v1alpha1.Node
		if err := w.api.Get(ctx, client.ObjectKey{Name: c.Node}, &n); err != nil {
			return false, client.IgnoreNotFound(err)
		}
		last := n.Status.Claim
		return last != nil && last.Opened.Time.Equal(c.Opened.Truncate(time.Second)) &&
			(last.State == string(provision.StateFailed) || last.State == string(provision.StateExpired)), nil
	}
	n, err := w.kube.CoreV1().Nodes().Get(ctx, c.Node, metav1.GetOptions{})
	if err != nil {
		return false, client.IgnoreNotFound(err)
	}
	return isReady(n) && (w.declared[c.Node].Spec.Role == v1alpha1.Worker || condition(n, "EtcdIsVoter")), nil
}

// settle says at the end whether every wipe was permitted.
func (r *recorder) settle() {
	r.t.Helper()
	time.Sleep(2 * time.Second) // the watch may lag
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.wipes {
		switch node, ok := r.claims[w.claim]; {
		case !ok:
			r.t.Errorf("the disk of %s was wiped under a claim that nobody opened", w.machine)
		case node != w.machine:
			r.t.Errorf("the disk of %s was wiped under the claim of %s", w.machine, node)
		}
	}
	r.t.Logf("%d wipes under %d claims; at most %d servers and %d workers at once", len(r.wipes), len(r.claims), r.most[v1alpha1.ControlPlane], r.most[v1alpha1.Worker])
}

// unclaimed says which wipe nobody is known to have permitted.
func (r *recorder) unclaimed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.wipes {
		if node, ok := r.claims[w.claim]; !ok || node != w.machine {
			return fmt.Errorf("the disk of %s was wiped under a claim of %q", w.machine, node)
		}
	}
	return nil
}
