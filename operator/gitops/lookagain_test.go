package gitops

import (
	"testing"
	"time"

	argo "github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestAnErrorThatMayPassIsLookedAtAgainAtEverLongerIntervals(t *testing.T) {
	at := func(ago time.Duration) *metav1.Time { m := metav1.NewTime(noon.Add(-ago)); return &m }
	says := func(kind argo.ApplicationConditionType, since *metav1.Time) func(*argo.Application) {
		return func(a *argo.Application) {
			a.Status.Conditions = append(a.Status.Conditions, argo.ApplicationCondition{Type: kind, LastTransitionTime: since})
		}
	}
	tests := []struct {
		reason string
		change []func(*argo.Application)
		asked  time.Duration // ago; zero: never
		want   bool
	}{
		{"no error", nil, 0, false},
		{"a new one", []func(*argo.Application){says(argo.ApplicationConditionInvalidSpecError, at(9*time.Second))}, 0, false},
		{"a project that is not known", []func(*argo.Application){says(argo.ApplicationConditionInvalidSpecError, at(10*time.Second))}, 0, true},
		{"a repository that could not be read", []func(*argo.Application){says(argo.ApplicationConditionComparisonError, at(time.Minute))}, 0, true},
		{"an error of which nobody knows how old it is", []func(*argo.Application){says(argo.ApplicationConditionUnknownError, nil)}, time.Minute, false},
		{"a warning", []func(*argo.Application){says(argo.ApplicationConditionExcludedResourceWarning, at(time.Hour))}, 0, false},
		{"a sync that failed, which is asked for again otherwise", []func(*argo.Application){says(argo.ApplicationConditionSyncError, at(time.Hour))}, 0, false},
		{"it was asked just now", []func(*argo.Application){says(argo.ApplicationConditionInvalidSpecError, at(20*time.Second))}, 5 * time.Second, false},
		{"it was asked, and nothing has changed", []func(*argo.Application){says(argo.ApplicationConditionInvalidSpecError, at(30*time.Second))}, 10 * time.Second, true},
		{"it has lasted for long: not so often", []func(*argo.Application){says(argo.ApplicationConditionInvalidSpecError, at(6*time.Minute))}, 119 * time.Second, false},
		{"and again", []func(*argo.Application){says(argo.ApplicationConditionInvalidSpecError, at(6*time.Minute))}, 2 * time.Minute, true},
		{"it has lasted for a day: still every five minutes", []func(*argo.Application){says(argo.ApplicationConditionInvalidSpecError, at(24*time.Hour))}, 5 * time.Minute, true},
		{"of two the older counts", []func(*argo.Application){
			says(argo.ApplicationConditionComparisonError, at(time.Second)), says(argo.ApplicationConditionInvalidSpecError, at(time.Minute)),
		}, 0, true},
		{"it was asked before the error came", []func(*argo.Application){says(argo.ApplicationConditionInvalidSpecError, at(5*time.Second))}, time.Hour, false},
		{"somebody asked already", []func(*argo.Application){says(argo.ApplicationConditionInvalidSpecError, at(time.Hour)), func(a *argo.Application) {
			a.Annotations = map[string]string{argo.AnnotationKeyRefresh: string(argo.RefreshTypeNormal)}
		}}, 0, false},
		{"it goes", []func(*argo.Application){says(argo.ApplicationConditionInvalidSpecError, at(time.Hour)), func(a *argo.Application) { a.DeletionTimestamp = at(0) }}, 0, false},
	}
	for _, tc := range tests {
		var app argo.Application
		for _, change := range tc.change {
			change(&app)
		}
		asked := time.Time{}
		if tc.asked > 0 {
			asked = noon.Add(-tc.asked)
		}
		if got := lookAgain(&app, asked, noon); got != tc.want {
			t.Errorf("%s: %t, want %t", tc.reason, got, tc.want)
		}
	}
}
