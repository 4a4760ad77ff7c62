//go:build linux

package fleet

import (
	"context"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// Deleting Nodes takes machines out of the cluster one by one and wipes none; what
// would do harm is held, and says by which rule. Whoever left runs on, and does not
// come back.
func TestMembersAreRemovedOneByOneAndNeverBelowQuorum(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{servers: 2, workers: 3})
	w.seed()
	w.declare(w.names("")[1:]...)
	w.awaitMembers(8*time.Minute, w.names("")...)

	members := w.names("")
	less := func(gone string) []string {
		var out []string
		for _, m := range members {
			if m != gone {
				out = append(out, m)
			}
		}
		members = out
		return out
	}

	w.undeclare("worker01")
	w.awaitMembers(4*time.Minute, less("worker01")...)

	w.undeclare("worker02", "worker03")
	for _, name := range []string{"worker02", "worker03"} {
		w.awaitCondition(name, v1alpha1.ConditionRemoval, metav1.ConditionFalse, v1alpha1.ReasonMassRemoval, 2*time.Minute)
	}
	w.annotate("worker02", v1alpha1.AnnotationRemoval, v1alpha1.RemovalKeep)
	w.awaitGone("worker02", 2*time.Minute)
	w.declare("worker02")
	w.annotate("worker03", v1alpha1.AnnotationRemoval, v1alpha1.RemovalConfirm)
	w.awaitMembers(4*time.Minute, less("worker03")...)

	// One server is silent: without a second one there is no quorum.
	w.cut("server3", true)
	w.await("the silent server to be missed", 4*time.Minute, func(ctx context.Context) []string {
		n, err := w.kube.CoreV1().Nodes().Get(ctx, "server3", metav1.GetOptions{})
		if err != nil || isReady(n) {
			return []string{fmt.Sprint("Ready, ", err)}
		}
		return nil
	})
	w.undeclare("server2")
	w.awaitCondition("server2", v1alpha1.ConditionRemoval, metav1.ConditionFalse, v1alpha1.ReasonQuorum, 2*time.Minute)
	w.cut("server3", false)
	w.awaitMembers(6*time.Minute, less("server2")...)

	w.undeclare("server3")
	w.awaitMembers(6*time.Minute, less("server3")...)
	w.undeclare(first)
	w.awaitCondition(first, v1alpha1.ConditionRemoval, metav1.ConditionFalse, v1alpha1.ReasonLastControlPlane, 2*time.Minute)
	w.annotate(first, v1alpha1.AnnotationRemoval, v1alpha1.RemovalKeep)
	w.awaitGone(first, time.Minute)
	w.declare(first)
	w.awaitMembers(2*time.Minute, members...)

	// Whoever left is on still, and must not come back by itself.
	w.stays(30*time.Second, members...)
	for _, name := range w.names("") {
		if got := w.wipesOf(name); got != 1 {
			t.Errorf("%s was wiped %d times, want once: a removal wipes nothing", name, got)
		}
		if !w.machines[name].On() {
			t.Errorf("%s was turned off", name)
		}
	}
	w.settle()
}

// awaitGone waits until a Node resource is gone.
func (w *world) awaitGone(name string, patience time.Duration) {
	w.t.Helper()
	w.await("the resource Node/"+name+" to be gone", patience, func(ctx context.Context) []string {
		nodes, err := w.nodes(ctx)
		if err != nil {
			return []string{err.Error()}
		}
		if n := nodes[name]; n != nil {
			return []string{phase(n)}
		}
		return nil
	})
}

// stays wants the core Nodes to be these, and no others, for a while.
func (w *world) stays(duration time.Duration, members ...string) {
	w.t.Helper()
	for until := time.Now().Add(duration); time.Now().Before(until); time.Sleep(2 * time.Second) {
		ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
		core, err := w.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		cancel()
		if err != nil {
			continue
		}
		for _, n := range core.Items {
			found := false
			for _, m := range members {
				found = found || m == n.Name
			}
			if !found {
				w.dump()
				w.t.Fatalf("%s has left the cluster, and is a core Node again", n.Name)
			}
		}
	}
}
