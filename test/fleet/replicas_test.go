//go:build linux

package fleet

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/names"
)

// A PXE pod that is killed in the middle of an installation loses nothing: the
// machine goes on with the other one, without another attempt.
func TestAPXEPodThatIsKilledInMidBootLosesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{servers: 1, workers: 4, pxe: "{pods: Always}"})
	var killed atomic.Int32
	for _, name := range w.names(v1alpha1.Worker) {
		m := w.machines[name]
		seen := m.Wiped
		m.Wiped = func(claim string) {
			seen(claim)
			// Dead for as long as the image would take: the pod that this machine was
			// told to fetch it from.
			for _, other := range w.names("") {
				if w.machines[other].Address.Addr().String() != m.ServedBy() {
					continue
				}
				for range 5 {
					killed.Add(int32(w.machines[other].Kill(names.DefaultPXENamespace)))
					time.Sleep(300 * time.Millisecond)
				}
			}
		}
	}
	w.seed()
	w.declare(serverName(0))
	w.awaitMembers(5*time.Minute, first, serverName(0))
	w.await("two PXE pods", 3*time.Minute, func(ctx context.Context) []string {
		var clusters v1alpha1.ClusterList
		if err := w.api.List(ctx, &clusters); err != nil {
			return []string{err.Error()}
		}
		ready := 0
		for _, p := range clusters.Items[0].Status.PXE {
			if p.Ready {
				ready++
			}
		}
		if ready < 2 {
			return []string{fmt.Sprintf("ready are %d: %+v", ready, clusters.Items[0].Status.PXE)}
		}
		return nil
	})
	w.declare(w.names(v1alpha1.Worker)...)
	w.awaitMembers(5*time.Minute, w.names("")...)
	if killed.Load() == 0 {
		t.Error("no PXE pod was killed: this proves nothing")
	}
	for _, name := range w.names(v1alpha1.Worker) {
		if got := w.wipesOf(name); got != 1 {
			t.Errorf("%s was wiped %d times, want once", name, got)
		}
	}
	w.settle()
}
