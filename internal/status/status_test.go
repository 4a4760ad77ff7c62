package status

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestTheTimeOfATransitionIsThatOfTheStatus(t *testing.T) {
	then := metav1.NewTime(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	now := then.Add(time.Hour + 123*time.Millisecond)
	current := []metav1.Condition{
		{Type: "Ready", Status: metav1.ConditionFalse, Reason: "Waiting", Message: "for a", ObservedGeneration: 1, LastTransitionTime: then},
		{Type: "Other", Status: metav1.ConditionTrue, Reason: "Foreign", LastTransitionTime: then},
	}
	wanted := []metav1.Condition{
		{Type: "Ready", Status: metav1.ConditionFalse, Reason: "StillWaiting", Message: "for b"},
		{Type: "Joined", Status: metav1.ConditionTrue, Reason: "Matched"},
	}
	got := Conditions(current, wanted, 2, now)
	want := []metav1.Condition{
		{Type: "Ready", Status: metav1.ConditionFalse, Reason: "StillWaiting", Message: "for b", ObservedGeneration: 2, LastTransitionTime: then},
		// To the second, as the API server keeps it: or it would differ for ever.
		{Type: "Joined", Status: metav1.ConditionTrue, Reason: "Matched", ObservedGeneration: 2, LastTransitionTime: metav1.NewTime(then.Add(time.Hour))},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("conditions (-want +got):\n%s", diff)
	}
	if Same(current, got) {
		t.Error("another reason was taken for the same")
	}
	if !Same(append(current[1:], got...), got) {
		t.Error("the same conditions beside a foreign one were taken for others")
	}
	if Same(nil, got) {
		t.Error("no conditions were taken for the same")
	}
}
