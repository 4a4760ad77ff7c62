package boot

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/power"
)

// asleep are the machines that are to be woken from here, by name: those that the
// operator says are to be woken, by Wake-on-LAN, and that nobody has paused since.
func asleep(s *snapshot) map[string]*v1alpha1.Node {
	all := map[string]*v1alpha1.Node{}
	if s == nil {
		return all
	}
	for i := range s.inventory.Nodes {
		n := &s.inventory.Nodes[i]
		if (n.Status.Phase == v1alpha1.PhaseWaking || n.Status.Repair.Wakes()) && n.DeletionTimestamp.IsZero() && power.MeansOf(n) == power.MeansWakeOnLAN && !isPaused(s, n) {
			all[n.Name] = n
		}
	}
	return all
}

func isPaused(s *snapshot, n *v1alpha1.Node) bool {
	_, paused := n.Annotations[v1alpha1.AnnotationPaused]
	if s.cluster != nil && !paused {
		_, paused = s.cluster.Annotations[v1alpha1.AnnotationPaused]
	}
	return paused
}

// waking sends magic packets to machines as long as the operator says that they are
// to be woken.
type waking struct {
	declared *declared
	waker    power.Waker
	logger   *slog.Logger
	metrics  *metrics
}

// run wakes until ctx ends.
func (w *waking) run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	stop := map[string]context.CancelFunc{}
	defer func() {
		for _, cancel := range stop {
			cancel()
		}
	}()
	for {
		changed := w.declared.changed.rung()
		wanted := asleep(w.declared.current.Load())
		for name, cancel := range stop {
			if wanted[name] == nil {
				cancel()
				delete(stop, name)
				w.logger.Info("no more magic packets", "node", name)
			}
		}
		for name, node := range wanted {
			if stop[name] == nil {
				waking, cancel := context.WithCancel(ctx)
				stop[name] = cancel
				running.Go(func() { w.wake(waking, node) })
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// wakeAgain is how long after a failure the next try is made.
const wakeAgain = 15 * time.Second

// wake sends magic packets to one machine until ctx ends.
func (w *waking) wake(ctx context.Context, node *v1alpha1.Node) {
	target, err := power.Target(node)
	if err != nil {
		w.logger.Error("cannot wake a machine", "error", err, "fix", "turn it on by hand")
		return
	}
	waker := w.waker
	if s := w.declared.current.Load(); s != nil {
		waker = waker.For(s.cluster, node)
	}
	waker.Deadline = 24 * time.Hour // the operator says when it is enough
	waker.Sent = func(round int, err error) {
		w.metrics.magic.Inc()
		switch {
		case err != nil:
			w.logger.Warn("cannot send magic packets", "node", node.Name, "error", err)
		case round == 1:
			w.logger.Info("sending magic packets", "node", node.Name, "to", target.String())
		}
	}
	for ctx.Err() == nil {
		if err := waker.Wake(ctx, target); err != nil {
			w.logger.Warn("cannot wake a machine", "node", node.Name, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wakeAgain):
		}
	}
}
