//go:build linux

package fleet

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/test/chaos"
)

// fewSeeds are the schedules that run unless another number of them is asked for, the
// same ones every time: a power cut beside two machines that hang, of which one has a PXE
// pod, while all PXE pods crash; the disk of etcd's leader gone; and a storm.
var fewSeeds = []uint64{5, 11, 2}

// Whatever befalls machines (power, disk, network, clock, processes that hang), in
// whatever order, healing breaks nothing, and mends all that it can.
//
// RHIZOME_CHAOS_SCHEDULES is how many schedules are lived through, one after another,
// each on a day of its own; random ones, where it is given. Each tells its seed as it
// begins; RHIZOME_CHAOS_SEED, one or several with commas between, are the first ones.
// RHIZOME_CHAOS_CLUSTERS (1) is by how many clusters side by side: much of a schedule is
// waiting.
func TestChaosBreaksNothingAndWhatCanBeRepairedIsRepaired(t *testing.T) {
	t.Parallel()
	count, seeds := asked(t)
	var next atomic.Int64
	for c := range min(number(t, "RHIZOME_CHAOS_CLUSTERS", 1), count) {
		t.Run(fmt.Sprintf("cluster %d", c+1), func(t *testing.T) {
			t.Parallel()
			defer func() {
				if t.Failed() {
					next.Store(int64(count)) // nobody begins another one
				}
			}()
			w := grownForChaos(t)
			begin, steps, lived := time.Now(), 0, 0
			for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
				seed := uint64(time.Now().UnixNano())
				if i < len(seeds) {
					seed = seeds[i]
				}
				steps += w.live(seed, fmt.Sprintf("schedule %d of %d", i+1, count))
				lived++
			}
			w.settle()
			t.Logf("%d schedules with %d steps of repairs in %s", lived, steps, time.Since(begin).Round(time.Second))
		})
	}
}

// live lives through the schedule of a seed, and returns how many steps of repairs were
// begun.
func (w *chaosWorld) live(seed uint64, which string) int {
	w.t.Helper()
	s := chaos.Generate(seed, w.fleet)
	w.t.Logf("%s, RHIZOME_CHAOS_SEED=%d: %s", which, seed, s)
	began, before := time.Now(), w.checker.Begun()
	called := w.play(s)
	steps := w.checker.Begun() - before
	if called && steps == 0 {
		w.t.Error("what only a repair can mend is in order again, and none was begun: this proves nothing")
	}
	if w.t.Failed() {
		w.dump()
		w.t.Fatalf("broken by RHIZOME_CHAOS_SEED=%d: %s", seed, s)
	}
	w.t.Logf("%s is green after %s, with %d steps of repairs", which, time.Since(began).Round(time.Second), steps)
	w.nextDay()
	return steps
}

// number is that of an environment variable, from 1.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	given := os.Getenv(name)
	if given == "" {
		return otherwise
	}
	n, err := strconv.Atoi(given)
	if err != nil || n < 1 {
		t.Fatalf("%s is %q: want a number from 1", name, given)
	}
	return n
}

// asked is how many schedules are to run, and the seeds of the first ones.
func asked(t *testing.T) (count int, seeds []uint64) {
	t.Helper()
	for _, text := range strings.FieldsFunc(os.Getenv("RHIZOME_CHAOS_SEED"), func(r rune) bool { return r == ',' }) {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("RHIZOME_CHAOS_SEED: %v", err)
		}
		seeds = append(seeds, seed)
	}
	if len(seeds) == 0 && os.Getenv("RHIZOME_CHAOS_SCHEDULES") == "" {
		seeds = fewSeeds
	}
	return max(number(t, "RHIZOME_CHAOS_SCHEDULES", len(seeds)), len(seeds)), seeds
}

// play has a schedule happen, and returns whether it did what only a repair mends.
func (w *chaosWorld) play(s chaos.Schedule) (called bool) {
	w.t.Helper()
	w.logf("test: %s", s)
	p := &play{chaosWorld: w, schedule: s, begin: time.Now(), said: map[string]bool{}}
	w.mu.Lock()
	w.harms = map[string]*harm{}
	w.mu.Unlock()
	for p.step() {
		if w.t.Failed() {
			return false
		}
		time.Sleep(300 * time.Millisecond)
	}
	w.checker.Settle()
	w.isSettled()
	return slices.ContainsFunc(p.repairable(), func(name string) bool { return p.harms[name].Lasts == 0 })
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
