package boot

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// maxPods is the bound of Cluster.status.pxe.
const maxPods = 16

// register is the list of PXE pods with this one in it, in the place of the one of
// the same node, in the order of the nodes. It says whether that changes anything.
// current is not changed.
func register(current []v1alpha1.PXEPod, mine v1alpha1.PXEPod) ([]v1alpha1.PXEPod, bool) {
	if slices.Contains(current, mine) {
		return current, false
	}
	next := slices.DeleteFunc(slices.Clone(current), func(p v1alpha1.PXEPod) bool { return p.Node == mine.Node })
	if len(next) >= maxPods {
		return current, false // the operator drops those that are gone
	}
	next = append(next, mine)
	slices.SortFunc(next, func(a, b v1alpha1.PXEPod) int { return cmp.Compare(a.Node, b.Node) })
	return next, true
}

// deregister is the list without this pod; one that took its place stays.
func deregister(current []v1alpha1.PXEPod, node, pod string) ([]v1alpha1.PXEPod, bool) {
	next := slices.DeleteFunc(slices.Clone(current), func(p v1alpha1.PXEPod) bool { return p.Node == node && p.Pod == pod })
	return next, len(next) != len(current)
}

// registrar keeps this pod's entry in Cluster.status.pxe.
type registrar struct {
	declared *declared
	reader   client.Reader
	live     client.Client
	logger   *slog.Logger
	metrics  *metrics
	now      func() time.Time
	// mine is the entry as it is to be, and changed rings when it may have changed.
	mine    func() v1alpha1.PXEPod
	changed *bell
}

// run writes the entry until ctx ends, and then takes it away: machines are not to
// turn to a pod that ends. That the pod is ready, or is not, is told at once, the
// message every ten seconds.
func (r *registrar) run(ctx context.Context) error {
	var told v1alpha1.PXEPod
	var at time.Time
	for ctx.Err() == nil {
		changed, stirred := r.changed.rung(), r.declared.changed.rung()
		mine, wait := r.mine(), 5*time.Second
		if mine.Ready != told.Ready || mine.Address != told.Address || r.now().Sub(at) >= betweenLists {
			if err := r.write(ctx, mine); err == nil {
				told, at = mine, r.now()
			} else if ctx.Err() == nil {
				r.metrics.writes.WithLabelValues("pod", "failed").Inc()
				r.logger.Warn("cannot register this pod", "error", err)
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-stirred:
		case <-timer.C:
		}
		timer.Stop()
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	mine := r.mine()
	if err := r.change(rest, r.live, func(current []v1alpha1.PXEPod) ([]v1alpha1.PXEPod, bool) {
		return deregister(current, mine.Node, mine.Pod)
	}); err != nil {
		r.logger.Warn("cannot take this pod off the list", "error", err)
	}
	return nil
}

func (r *registrar) write(ctx context.Context, mine v1alpha1.PXEPod) error {
	return r.change(ctx, r.reader, func(current []v1alpha1.PXEPod) ([]v1alpha1.PXEPod, bool) { return register(current, mine) })
}

func (r *registrar) change(ctx context.Context, from client.Reader, how func([]v1alpha1.PXEPod) ([]v1alpha1.PXEPod, bool)) error {
	s := r.declared.current.Load()
	if s == nil || s.cluster == nil {
		return nil
	}
	return merged(ctx, from, r.live, client.ObjectKeyFromObject(s.cluster), func(c *v1alpha1.Cluster) bool {
		next, changed := how(c.Status.PXE)
		if changed {
			r.metrics.writes.WithLabelValues("pod", "written").Inc()
		}
		c.Status.PXE = next
		return changed
	})
}
