package healing

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestWhatIsKnownOfAServersVote(t *testing.T) {
	const yes, no = corev1.ConditionTrue, corev1.ConditionFalse
	tests := []struct {
		reason       string
		ready, votes corev1.ConditionStatus
		said         time.Duration // ago
		want         vote
	}{
		{"it said so lately", yes, yes, 5 * time.Minute, votes},
		{"it said so long ago", yes, yes, 7 * time.Minute, silent},
		{"its kubelet is silent", corev1.ConditionUnknown, yes, time.Minute, silent},
		{"its clock is a little ahead", yes, yes, -30 * time.Second, votes},
		{"its clock is far ahead: it would be fresh for an hour", yes, yes, -time.Hour, silent},
		{"it said lately that it does not", yes, no, time.Minute, learns},
		{"it said long ago that it does not", yes, no, 7 * time.Minute, unknown},
		{"it says that it does not, with a clock far ahead", yes, no, -time.Hour, unknown},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			n := &corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{
				{Type: corev1.NodeReady, Status: tc.ready},
				{Type: conditionVoter, Status: tc.votes, LastHeartbeatTime: metav1.NewTime(noon.Add(-tc.said))},
			}}}
			if got := voteOf(n, noon); got != tc.want {
				t.Errorf("its vote: %s, want %s", got, tc.want)
			}
		})
	}
}
