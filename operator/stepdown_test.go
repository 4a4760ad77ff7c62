package operator

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

func core(name string, ready corev1.ConditionStatus) corev1.Node {
	return corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}},
	}}
}

func TestWhenTheLeaderIsOutOfPlace(t *testing.T) {
	const yes, no, silent = corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown
	tests := []struct {
		reason string
		nodes  []corev1.Node
		want   bool
	}{
		{"its member is Ready", []corev1.Node{core("own", yes), core("other", yes)}, false},
		{"its member says that it is not Ready", []corev1.Node{core("own", no), core("other", yes)}, true},
		{"its member says nothing", []corev1.Node{core("own", silent), core("other", yes)}, true},
		{"its member is gone", []corev1.Node{core("other", yes)}, true},
		{"nobody else is Ready", []corev1.Node{core("own", silent), core("other", no)}, false},
		{"nothing is known", nil, false},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			if got := outOfPlace(tc.nodes, "own"); got != tc.want {
				t.Errorf("out of place: %t, want %t", got, tc.want)
			}
		})
	}
}

func TestALeaderWhoseMemberStaysSilentStepsDown(t *testing.T) {
	for _, ready := range []corev1.ConditionStatus{corev1.ConditionTrue, corev1.ConditionUnknown} {
		own, other := core("own", ready), core("other", corev1.ConditionTrue)
		reader := fake.NewClientBuilder().WithObjects(&own, &other).WithStatusSubresource().Build()
		ctx, cancel := context.WithCancel(t.Context())
		looks := 0
		s := &stepDown{reader: reader, node: "own", after: 8 * time.Millisecond, now: func() time.Time {
			if looks++; looks == 20 {
				cancel() // long after it was due
			}
			return time.Unix(0, 0).Add(time.Duration(looks) * time.Millisecond)
		}}
		err := s.Start(ctx)
		cancel()
		if down := err != nil; down != (ready != corev1.ConditionTrue) {
			t.Errorf("its member's Ready is %s: %v", ready, err)
		}
	}
}
