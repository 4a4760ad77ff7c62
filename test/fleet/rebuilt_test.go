//go:build linux

package fleet

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// The server that founded the cluster, installed anew, joins like any other: it
// never founds a second cluster.
func TestARebuiltFirstNodeJoinsAndFoundsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{servers: 2})
	w.seed()
	w.declare(w.names("")[1:]...)
	w.awaitMembers(8*time.Minute, w.names("")...)
	w.awaitCondition(first, v1alpha1.ConditionAdopted, metav1.ConditionTrue, v1alpha1.ReasonConfigRewritten, 2*time.Minute)

	w.annotate(first, v1alpha1.AnnotationReinstall, "once")
	w.awaitWipes(first, 2, 6*time.Minute)
	w.awaitMembers(6*time.Minute, w.names("")...)
	w.isOneCluster()
	for _, name := range w.names("") {
		want := 1
		if name == first {
			want = 2
		}
		if got := w.wipesOf(name); got != want {
			t.Errorf("%s was wiped %d times, want %d", name, got, want)
		}
	}
	w.isTidy(3 * time.Minute)
	w.settle()
}
