//go:build linux

package fleet

import (
	"context"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// The harness by itself: without the operator, whose part the test plays, a
// second server votes and workers become Ready by the tokens that they were given.
func TestMachinesJoinWithoutAnOperator(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{servers: 1, workers: 3})
	w.seed()
	// As many of it as there are, zero.
	w.insist("stop the operator", func(ctx context.Context) error {
		_, err := w.kube.AppsV1().Deployments("rhizome-system").Patch(ctx, "rhizome-operator", types.MergePatchType, []byte(`{"spec":{"replicas":0}}`), metav1.PatchOptions{})
		return err
	})
	w.careFor(append(w.names(v1alpha1.ControlPlane)[1:], w.names(v1alpha1.Worker)...))
	w.await("all machines as members", 6*time.Minute, func(ctx context.Context) (lack []string) {
		for _, name := range w.names("") {
			n, err := w.kube.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				lack = append(lack, err.Error())
			} else if !isReady(n) || w.declared[name].Spec.Role == v1alpha1.ControlPlane && !condition(n, "EtcdIsVoter") {
				lack = append(lack, fmt.Sprintf("%s: %+v", name, n.Status.Conditions))
			}
		}
		return lack
	})
	w.machines["worker01"].Cut()
	w.await("a machine without power to be missed", 3*time.Minute, func(ctx context.Context) []string {
		if n, err := w.kube.CoreV1().Nodes().Get(ctx, "worker01", metav1.GetOptions{}); err != nil || isReady(n) {
			return []string{fmt.Sprint("Ready, ", err)}
		}
		return nil
	})
	w.machines["worker01"].PressPower()
	w.await("the machine to come back by itself", 2*time.Minute, func(ctx context.Context) []string {
		if n, err := w.kube.CoreV1().Nodes().Get(ctx, "worker01", metav1.GetOptions{}); err != nil || !isReady(n) {
			return []string{fmt.Sprint("not Ready, ", err)}
		}
		return nil
	})
	if got := w.wipesOf("worker01"); got != 1 {
		t.Errorf("it was wiped %d times, want once", got)
	}
}
