package gitops

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

func TestGiteaPushesToTheSeedOnlyWhenNothingIsLost(t *testing.T) {
	for _, wanted := range []bool{false, true} {
		tests := []struct {
			reason string
			facts  mirrorFacts
			push   bool
			status metav1.ConditionStatus
			why    string
		}{
			{"the seed is the source", mirrorFacts{seedReachable: true, hasHome: true, hasSeed: true}, false, metav1.ConditionFalse, v1alpha1.ReasonSeedIsSource},
			{"the seed cannot be read", mirrorFacts{atHome: true, sound: true}, false, metav1.ConditionUnknown, v1alpha1.ReasonSeedUnknown},
			{"both have the same", mirrorFacts{atHome: true, sound: true, seedReachable: true, hasHome: true, hasSeed: true}, wanted, metav1.ConditionFalse, v1alpha1.ReasonSeedCurrent},
			{"the seed lacks commits", mirrorFacts{atHome: true, sound: true, seedReachable: true, hasSeed: true}, wanted, metav1.ConditionTrue, v1alpha1.ReasonSeedLacksCommits},
			{"the seed lacks commits, and the home lacks what was synced, as after an old backup", mirrorFacts{atHome: true, seedReachable: true, hasSeed: true}, false, metav1.ConditionTrue, v1alpha1.ReasonSeedLacksCommits},
			{"both have the same, and the home lacks what was synced", mirrorFacts{atHome: true, seedReachable: true, hasHome: true, hasSeed: true}, false, metav1.ConditionFalse, v1alpha1.ReasonSeedCurrent},
			{"the seed is ahead", mirrorFacts{atHome: true, sound: true, seedReachable: true, hasHome: true}, false, metav1.ConditionFalse, v1alpha1.ReasonSeedCurrent},
			{"both have commits that the other lacks", mirrorFacts{atHome: true, sound: true, seedReachable: true}, false, metav1.ConditionTrue, v1alpha1.ReasonSeedDiverged},
		}
		for _, tc := range tests {
			tc.facts.wanted = wanted
			push, c := judgeMirror(tc.facts)
			if push != tc.push || c.Status != tc.status || c.Reason != tc.why || c.Message == "" {
				t.Errorf("%s: push %t, %+v; want %t, %s %s", tc.reason, push, c, tc.push, tc.status, tc.why)
			}
		}
	}
}

func TestTheWaitAfterARollBackDoubles(t *testing.T) {
	for failures, want := range map[int32]time.Duration{0: 10 * time.Minute, 1: 10 * time.Minute, 2: 20 * time.Minute, 4: 80 * time.Minute, 1000: 24 * time.Hour} {
		if got := holdOff(10*time.Minute, failures); got != want {
			t.Errorf("after %d failures: %s, want %s", failures, got, want)
		}
	}
}
