package gitops

import (
	"time"

	argo "github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
)

// The wait before Argo CD is asked to look again at an Application that says of an
// error: a third of the time for which it has said so, within these bounds.
const (
	lookAgainFirst = 10 * time.Second
	lookAgainMost  = 5 * time.Minute
)

// passing are the errors that go by themselves when Argo CD looks again: that a
// project is not there, which a controller says that has just started and has not
// read the projects yet; and that the repository could not be read.
var passing = map[argo.ApplicationConditionType]bool{
	argo.ApplicationConditionInvalidSpecError: true,
	argo.ApplicationConditionComparisonError:  true,
	argo.ApplicationConditionUnknownError:     true,
}

// lookAgain says whether to ask Argo CD to look at an Application again. By itself it
// does so at its next poll, minutes later, although what was missing has come. asked
// is when it was asked last; zero: not that we know.
func lookAgain(app *argo.Application, asked, now time.Time) bool {
	if _, is := app.IsRefreshRequested(); is || app.DeletionTimestamp != nil {
		return false
	}
	var since time.Time
	for _, c := range app.Status.Conditions {
		if !passing[c.Type] {
			continue
		}
		at := now
		if c.LastTransitionTime != nil {
			at = c.LastTransitionTime.Time
		}
		if since.IsZero() || at.Before(since) {
			since = at
		}
	}
	if since.IsZero() {
		return false
	}
	wait := min(max(now.Sub(since)/3, lookAgainFirst), lookAgainMost)
	if asked.Before(since) {
		asked = since
	}
	return now.Sub(asked) >= wait
}
