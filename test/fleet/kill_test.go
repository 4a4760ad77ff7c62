//go:build linux

package fleet

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/names"
)

// Whatever is killed as a machine enters a phase (the operator, the PXE pods, the
// machine itself), the cluster ends with exactly the declared members and without
// an installation that no claim permitted.
func TestEveryProcessKilledAtEveryPhaseBoundaryEndsInTheDeclaredMembers(t *testing.T) {
	t.Parallel()
	order := shuffled(t)
	w := newWorld(t, options{workers: 8, growth: "{maxConcurrent: 4}"})
	w.maximum = 4
	w.seed()
	// All of them are workers: what befalls a server is the next test's.
	k := newKiller(w, order, func(kill, v1alpha1.Role) bool { return true }, theOperator, thePXEPods, theMachine)
	w.declare(w.names("")[1:]...)
	w.awaitMembers(25*time.Minute, w.names("")...)
	w.isOneCluster()
	w.settle()
	k.end(10)
}

// So it is when that befalls servers, with k3s, etcd and the PXE pod on what loses its
// power; and when the server does that the others join by.
func TestServersKilledAtEveryPhaseBoundaryEndInOneCluster(t *testing.T) {
	t.Parallel()
	order := shuffled(t)
	// An attempt that the dark ends counts.
	w := newWorld(t, options{servers: 2, workers: 1, pxe: "{maxAttempts: 6}"})
	w.seed()
	k := newKiller(w, order, func(_ kill, role v1alpha1.Role) bool { return role == v1alpha1.ControlPlane },
		theOperator, thePXEPods, theMachine, theFirstServer)
	w.declare(w.names("")[1:]...)
	w.awaitMembers(25*time.Minute, w.names("")...)
	w.isOneCluster()
	w.settle()
	k.end(6)
}

// shuffled is the order in which kills befall who enters their phase: random, by a
// seed that is printed and that RHIZOME_FLEET_SEED sets.
func shuffled(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv("RHIZOME_FLEET_SEED"); given != "" {
		var err error
		if seed, err = strconv.ParseUint(given, 10, 64); err != nil {
			t.Fatalf("RHIZOME_FLEET_SEED: %v", err)
		}
	}
	t.Logf("RHIZOME_FLEET_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// kill is what dies when a machine enters a phase.
type kill struct {
	Victim string
	Phase  v1alpha1.Phase
}

// The victims.
const (
	theOperator    = "the operator"
	thePXEPods     = "the PXE pods"
	theMachine     = "the machine"
	theFirstServer = "the first server"
)

// killer kills, each victim at each phase, as machines enter it.
type killer struct {
	w      *world
	may    func(kill, v1alpha1.Role) bool // who enters the phase has this role
	mu     sync.Mutex
	order  []kill
	phases map[string]v1alpha1.Phase
	done   int
	stop   func()
}

func newKiller(w *world, order *rand.Rand, may func(kill, v1alpha1.Role) bool, victims ...string) *killer {
	k := &killer{w: w, may: may, phases: map[string]v1alpha1.Phase{}}
	for _, victim := range victims {
		for _, phase := range []v1alpha1.Phase{v1alpha1.PhaseClaimed, v1alpha1.PhaseWaking, v1alpha1.PhaseBooting, v1alpha1.PhaseInstalling, v1alpha1.PhaseJoining, v1alpha1.PhaseReady} {
			k.order = append(k.order, kill{victim, phase})
		}
	}
	order.Shuffle(len(k.order), func(i, j int) { k.order[i], k.order[j] = k.order[j], k.order[i] })
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	done := make(chan struct{})
	go func() { defer close(done); k.watch(ctx) }()
	k.stop = sync.OnceFunc(func() { cancel(); <-done })
	w.t.Cleanup(k.stop)
	return k
}

// watch looks at the phases several times a second: a server that dies takes a
// watch with it, and this goes on with the next one.
func (k *killer) watch(ctx context.Context) {
	for ctx.Err() == nil {
		var nodes v1alpha1.NodeList
		asking, cancel := context.WithTimeout(ctx, 5*time.Second)
		if err := k.w.api.List(asking, &nodes, client.UnsafeDisableDeepCopy); err == nil {
			for i := range nodes.Items {
				k.entered(&nodes.Items[i])
			}
		}
		cancel()
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (k *killer) entered(n *v1alpha1.Node) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.phases[n.Name] == n.Status.Phase || n.Name == first {
		return
	}
	k.phases[n.Name] = n.Status.Phase
	for i, next := range k.order {
		if next.Phase != n.Status.Phase || !k.may(next, n.Spec.Role) {
			continue
		}
		k.order = append(k.order[:i:i], k.order[i+1:]...)
		k.done++
		k.w.logf("test: %s is %s: %s is killed", n.Name, n.Status.Phase, next.Victim)
		switch next.Victim {
		case theOperator:
			k.w.kill(names.SystemNamespace)
		case thePXEPods:
			k.w.kill(names.DefaultPXENamespace)
		case theMachine:
			k.w.powerCut(n.Name)
		case theFirstServer:
			k.w.powerCut(first)
		}
		return
	}
}

// powerCut takes a machine's power away for two seconds.
func (w *world) powerCut(name string) {
	m := w.machines[name]
	// What is cut off so ends no connection.
	w.ways.close(m.Address.Addr())
	m.Cut()
	time.AfterFunc(2*time.Second, func() {
		m.PressPower()
		w.ways.reopen(m.Address.Addr())
	})
}

// end wants so many kills at least: phases that last no time are skipped by whoever
// writes the status.
func (k *killer) end(least int) {
	k.stop()
	k.w.t.Helper()
	for _, left := range k.order {
		k.w.t.Logf("was not met: %+v", left)
	}
	if k.done < least {
		k.w.t.Errorf("only %d kills: this proves little", k.done)
	}
}
