//go:build linux

package fleet

import (
	"context"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/test/chaos"
	"github.com/rhizome-dev/rhizome/test/machine"
)

// chaosWorld is a hasty cluster of three servers and ten workers, grown and watched.
type chaosWorld struct {
	*world
	fleet    chaos.Fleet
	checker  *chaos.Checker
	observer *observer // once the cluster has grown
	boards   map[string]bool

	mu    sync.Mutex
	grown bool             // what is done to machines is held against the rules of healing
	harms map[string]*harm // of the schedule that goes on
}

// harm is a fault that befell a machine.
type harm struct {
	chaos.Fault
	at    time.Time
	boots int    // of the machine until then
	boot  string // the identifier of its system's last boot, as its core Node says
	// blank: its disk is to be taken away once it is off. press: its button is to be
	// pressed then.
	blank, press bool
	// lease: its Lease is to be deleted.
	lease bool
	// ended is when the fault was over by itself, or a person mended it; zero: it is not.
	ended time.Time
	// over: the machine is in order again.
	over bool
}

// forgotten takes the records of repairs away.
var forgotten = client.RawPatch("application/merge-patch+json", []byte(`{"status":{"repairs":null}}`))

// withBoard says whether a machine has a board; the others can only be woken.
func withBoard(name string) bool {
	return name == serverName(0) || name[0] == 'w' && (name[len(name)-1]-'0')%2 == 0
}

// grownForChaos grows the cluster.
func grownForChaos(t testing.TB) *chaosWorld {
	t.Helper()
	w := &chaosWorld{boards: map[string]bool{}, harms: map[string]*harm{}}
	w.world = newWorld(t, options{servers: 2, workers: 10, pxe: "{claimTTL: 1m}", prepare: func(m *machine.Machine) {
		hastyMachine(m)
		wiped, name := m.Wiped, m.Name
		m.Wiped = func(claim string) {
			wiped(claim)
			w.harmed(name, "is wiped")
		}
	}})
	w.fleet = chaos.Fleet{Servers: w.names(v1alpha1.ControlPlane), Workers: w.names(v1alpha1.Worker)}
	w.checker = chaos.NewChecker(w.fleet, chaos.Times{
		UnhealthyAfter: unhealthyAfter, CoolDown: coolDown, Slack: 3 * time.Second, Unseen: notReadyAfter + unhealthyAfter,
	}, func(said string) { t.Errorf("at %s: %s", time.Now().Format("15:04:05.000"), said) })
	var boards []string
	for _, name := range w.names("") {
		if withBoard(name) {
			w.boards[name] = true
			boards = append(boards, name)
		}
	}
	board := w.giveBoards(w.ordered, boards...)
	w.seed()
	w.bringBoardSecret(board)
	w.declare(w.names("")[1:]...)
	w.awaitMembers(10*time.Minute, w.names("")...)
	w.awaitCondition(first, v1alpha1.ConditionAdopted, metav1.ConditionTrue, v1alpha1.ReasonConfigRewritten, 2*time.Minute)
	w.isTidy(3 * time.Minute)
	w.hasten()
	w.awaitNewOperator()
	w.observer = observe(w.world, w.checker, w.isDown)
	w.await("the voters of etcd", time.Minute, func(context.Context) []string {
		if voters, _ := w.observer.etcd(); len(voters) != len(w.fleet.Servers) {
			return []string{"they are not three"}
		}
		return nil
	})
	w.mu.Lock()
	w.grown = true
	w.mu.Unlock()
	return w
}

// harmed is told what our own hand does to machines.
func (w *chaosWorld) harmed(name, how string) {
	w.mu.Lock()
	grown := w.grown
	w.mu.Unlock()
	if !grown {
		return
	}
	at := time.Now()
	if how == turnedOff {
		w.checker.Ordered(at, name)
	}
	voters, _ := w.observer.etcd()
	w.checker.Harmed(at, name, how, voters)
}

const turnedOff = "is turned off"

// awaitNewOperator waits until the operator that leads has the short times.
func (w *chaosWorld) awaitNewOperator() {
	w.t.Helper()
	w.await("the operator with short times", 3*time.Minute, func(ctx context.Context) []string {
		pod, _, err := w.leader(ctx)
		if err != nil {
			return []string{err.Error()}
		}
		p, err := w.kube.CoreV1().Pods(names.SystemNamespace).Get(ctx, pod, metav1.GetOptions{})
		if err != nil {
			return []string{err.Error()}
		}
		args := p.Spec.Containers[0].Args
		if args[len(args)-1] != hastyArgs[len(hastyArgs)-1] {
			return []string{"the former one leads"}
		}
		return nil
	})
}

// ordered is told what boards were told.
func (w *chaosWorld) ordered(name string, off bool) {
	w.logf("test: the board of %s is told: off %t", name, off)
	if off {
		w.harmed(name, turnedOff)
	}
}

// isDown says whether a fault befell a machine and is not over.
func (w *chaosWorld) isDown(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.harms[name]
	return h != nil && !h.over
}
