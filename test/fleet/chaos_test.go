//go:build linux

package fleet

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/test/chaos"
)

// few is how many schedules run unless RHIZOME_CHAOS_SCHEDULES says otherwise.
const fewSchedules = 3

// Whatever befalls machines (power, disk, network, clock, processes that hang), in
// whatever order, healing breaks nothing, and mends all that it can.
//
// RHIZOME_CHAOS_SCHEDULES is how many random schedules one cluster lives through, one
// after another, each on a day of its own. Each tells its seed as it begins;
// RHIZOME_CHAOS_SEED, one or several with commas between, are the first ones.
func TestChaosBreaksNothingAndWhatCanBeRepairedIsRepaired(t *testing.T) {
	count, seeds := asked(t)
	w := grownForChaos(t)
	begin, steps := time.Now(), 0
	for i := range count {
		seed := uint64(time.Now().UnixNano())
		if i < len(seeds) {
			seed = seeds[i]
		}
		s := chaos.Generate(seed, w.fleet)
		t.Logf("schedule %d of %d, RHIZOME_CHAOS_SEED=%d: %s", i+1, count, seed, s)
		began, before := time.Now(), w.checker.Begun()
		w.play(s)
		if t.Failed() {
			w.dump()
			t.Fatalf("broken by RHIZOME_CHAOS_SEED=%d, after %d schedules: %s", seed, i, s)
		}
		steps += w.checker.Begun() - before
		t.Logf("schedule %d of %d is green after %s, with %d steps of repairs", i+1, count, time.Since(began).Round(time.Second), w.checker.Begun()-before)
		w.nextDay()
	}
	w.settle()
	t.Logf("%d schedules with %d steps of repairs in %s", count, steps, time.Since(begin).Round(time.Second))
	if steps == 0 {
		t.Error("nothing was ever repaired: this proves nothing")
	}
}

// asked is how many schedules are to run, and the seeds of the first ones.
func asked(t *testing.T) (count int, seeds []uint64) {
	t.Helper()
	count = fewSchedules
	for _, text := range strings.FieldsFunc(os.Getenv("RHIZOME_CHAOS_SEED"), func(r rune) bool { return r == ',' }) {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("RHIZOME_CHAOS_SEED: %v", err)
		}
		seeds = append(seeds, seed)
	}
	if len(seeds) > 0 {
		count = len(seeds)
	}
	if given := os.Getenv("RHIZOME_CHAOS_SCHEDULES"); given != "" {
		n, err := strconv.Atoi(given)
		if err != nil || n < 1 {
			t.Fatalf("RHIZOME_CHAOS_SCHEDULES is %q: want a number from 1", given)
		}
		count = max(n, len(seeds))
	}
	return count, seeds
}

// play lives through a schedule.
func (w *chaosWorld) play(s chaos.Schedule) {
	w.t.Helper()
	w.logf("test: %s", s)
	p := &play{chaosWorld: w, schedule: s, begin: time.Now(), said: map[string]bool{}}
	w.mu.Lock()
	w.harms = map[string]*harm{}
	w.mu.Unlock()
	for p.step() {
		if w.t.Failed() {
			return
		}
		time.Sleep(300 * time.Millisecond)
	}
	w.checker.Settle()
	w.isSettled()
}

// isSettled holds all wipes so far against the claims, once the watch has caught up.
func (w *chaosWorld) isSettled() {
	w.t.Helper()
	w.insist("see a claim for every wipe", func(context.Context) error { return w.unclaimed() })
}

// nextDay forgets what was tried: tries are counted by the day, and this one lasted a
// minute. It is the only part of the cluster's records that the test writes.
func (w *chaosWorld) nextDay() {
	w.t.Helper()
	for _, name := range w.names("") {
		w.insist("forget what was tried of "+name, func(ctx context.Context) error {
			return w.api.Status().Patch(ctx, w.declared[name].DeepCopy(), forgotten)
		})
	}
	w.await("that nothing is remembered", time.Minute, func(ctx context.Context) (lack []string) {
		nodes, err := w.nodes(ctx)
		if err != nil {
			return []string{err.Error()}
		}
		for name, n := range nodes {
			if len(n.Status.Repairs) > 0 || n.Status.Repair != nil && (n.Status.Repair.Action != "" || n.Status.Repair.Quarantined != nil) {
				lack = append(lack, name+" remembers")
			}
		}
		return lack
	})
}

func (w *chaosWorld) isServer(name string) bool {
	return w.declared[name].Spec.Role == v1alpha1.ControlPlane
}
