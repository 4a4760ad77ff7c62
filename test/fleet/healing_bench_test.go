//go:build linux

package fleet

import (
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/test/chaos"
)

// failures are what is measured, and by what the cluster mends it.
var failures = []struct {
	name   string
	kind   chaos.Kind
	victim string
}{
	{"killed-and-woken", chaos.Kill, workerName(0)},
	{"killed-with-a-board", chaos.Kill, workerName(1)},
	{"hung-with-a-board", chaos.Hang, workerName(3)},
	{"ailing-and-restarted", chaos.Ail, workerName(4)},
	{"wiped-and-installed", chaos.Wipe, workerName(2)},
	{"killed-server", chaos.Kill, serverName(1)},
}

// BenchmarkFromAFailureToReady measures how long each phase of a repair takes in a
// cluster of simulated machines. What is waited by configuration is reported beside
// it, for the waits are most of it; `go run ./test/bench healing` prints a table.
//
// RHIZOME_BENCH_ROUNDS (1) is how often each failure is measured: with -benchtime 1x one
// cluster is grown for all.
func BenchmarkFromAFailureToReady(b *testing.B) {
	rounds := 1
	if given := os.Getenv("RHIZOME_BENCH_ROUNDS"); given != "" {
		var err error
		if rounds, err = strconv.Atoi(given); err != nil || rounds < 1 {
			b.Fatalf("RHIZOME_BENCH_ROUNDS is %q: want a number from 1", given)
		}
	}
	w := grownForChaos(b)
	sums := map[string]time.Duration{}
	b.ResetTimer()
	for range b.N * rounds {
		for _, f := range failures {
			for _, p := range w.measure(f.kind, f.victim) {
				sums[f.name+"/"+p.name] += p.took
			}
			if b.Failed() {
				w.dump()
				b.FailNow()
			}
			w.nextDay()
		}
	}
	for name, sum := range sums {
		b.ReportMetric(sum.Seconds()/float64(b.N*rounds), name)
	}
	for name, d := range map[string]time.Duration{
		"seen": notReadyAfter, "written": unhealthyAfter, "done": 2 * time.Second, "in-vain": powerTimeout,
	} {
		b.ReportMetric(d.Seconds(), "configured/"+name)
	}
}

// lap is one phase of a repair.
type lap struct {
	name string
	took time.Duration
}

// phaseOf is one phase, and when it is over.
type phaseOf struct {
	name string
	over func(n *v1alpha1.Node, ready bool) bool
}

// phasesOf are the phases of a repair in their order.
func phasesOf(kind chaos.Kind, booted func() bool) []phaseOf {
	action := func(n *v1alpha1.Node) v1alpha1.RepairStatus {
		if n.Status.Repair == nil {
			return v1alpha1.RepairStatus{}
		}
		return *n.Status.Repair
	}
	all := []phaseOf{
		{"seen", func(_ *v1alpha1.Node, ready bool) bool { return !ready }},
		{"written", func(n *v1alpha1.Node, _ bool) bool { return action(n).Action != "" }},
		{"done", func(n *v1alpha1.Node, _ bool) bool { return action(n).Acted != nil || action(n).Off != nil }},
	}
	if kind == chaos.Wipe {
		all = append(all, phaseOf{"in-vain", func(n *v1alpha1.Node, _ bool) bool {
			return action(n).Action == v1alpha1.RepairReinstall && action(n).Acted != nil
		}})
	} else {
		all = append(all, phaseOf{"booted", func(*v1alpha1.Node, bool) bool { return booted() }})
	}
	return append(all, phaseOf{"ready", func(_ *v1alpha1.Node, ready bool) bool { return ready }})
}

// measure has a fault befall a machine and times what follows, until the machine is in
// order and nothing is left of the repair.
func (w *chaosWorld) measure(kind chaos.Kind, victim string) []lap {
	w.t.Helper()
	w.mu.Lock()
	w.harms = map[string]*harm{}
	w.mu.Unlock()
	p := &play{chaosWorld: w, begin: time.Now(), said: map[string]bool{}, schedule: chaos.Schedule{
		Faults: []chaos.Fault{{Kind: kind, Victim: victim}}, Person: playPatience,
	}}
	m := w.machines[victim]
	last, boots := time.Now(), m.Boots()
	var laps []lap
	reached := func(name string) {
		laps = append(laps, lap{name, time.Since(last)})
		last = time.Now()
	}
	phases := phasesOf(kind, func() bool { return m.Boots() > boots })
	looked := time.Time{}
	for playing := true; playing || len(phases) > 0; time.Sleep(50 * time.Millisecond) {
		if time.Since(p.begin) > playPatience {
			w.t.Errorf("%s of %s: a phase was never over", kind, victim)
		}
		if w.t.Failed() {
			return nil
		}
		if time.Since(looked) > 500*time.Millisecond {
			playing, looked = p.step(), time.Now()
		}
		n, core := w.observer.seen(victim)
		for len(phases) > 0 && n != nil && phases[0].over(n, core != nil && isReady(core)) {
			reached(phases[0].name)
			phases = phases[1:]
		}
	}
	w.checker.Settle()
	return laps
}
