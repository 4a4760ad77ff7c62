package node_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// What PXE pods refuse is told by an event of the Node, once, also by an operator that
// was not there when it happened.
func TestARefusalIsAnEventOfTheNode(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.declare(v1alpha1.Worker, "w1")
	w.run()
	w.await("w1", v1alpha1.PhaseWaking)
	const stolen, replayed, old = "WrongAddress: the claim of w1 came from 192.168.1.66", "AlreadyExchanged: the claim of w1 was used", "ClaimExpired: long ago"
	told := func(message string) (n int32) {
		t.Helper()
		var events corev1.EventList
		if err := w.List(t.Context(), &events, client.InNamespace("default")); err != nil {
			t.Fatal(err)
		}
		for _, e := range events.Items {
			if e.Reason == "Refused" && e.InvolvedObject.Kind == "Node" && e.InvolvedObject.Name == "w1" && e.Type == corev1.EventTypeWarning && e.Message == message {
				n += e.Count
			}
		}
		return n
	}
	once := func(message string) {
		t.Helper()
		w.eventually("the event", func() string {
			if n := told(message); n != 1 {
				return fmt.Sprintf("told %d times: %s", n, message)
			}
			return ""
		})
	}
	w.pass(time.Second)
	w.refuse("w1", stolen)
	once(stolen)
	w.pass(time.Second) // looked at again
	w.kill()
	w.pass(time.Minute)
	w.refuse("w1", replayed)
	w.run()
	once(replayed)
	once(stolen)
	w.kill()
	w.pass(time.Second)
	w.refuse("w1", old)
	w.pass(time.Hour)
	w.run()
	w.pass(time.Second)
	w.refuse("w1", stolen)
	w.eventually("the event", func() string {
		if told(stolen) != 2 {
			return "of a refusal that is told last is not there"
		}
		return ""
	})
	if n := told(old); n != 0 {
		t.Errorf("what was refused an hour ago is told of: %d times", n)
	}
}

// refuse is what a PXE pod writes down of a refusal.
func (w *world) refuse(name, message string) {
	w.t.Helper()
	w.eventually("refusing "+name, func() string {
		n := w.get(name)
		before := n.DeepCopy()
		// Whatever else was seen of it is of no interest here.
		n.Status.Boot = &v1alpha1.BootObservation{Stage: "Refused", Message: message, Stages: []v1alpha1.BootStage{
			{Stage: "Refused", At: metav1.NewTime(w.clock()), Message: message},
		}}
		if err := w.Status().Patch(w.t.Context(), n, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
			return err.Error()
		}
		return ""
	})
}
