package gitops

import (
	"strconv"
	"time"

	argo "github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
)

// rearmInfo counts, in an operation's notes, how often it was asked for again.
const rearmInfo = "rhizome.dev/rearmed"

// The wait before a failed sync is asked for again: doubled each time.
const (
	rearmFirst = time.Minute
	rearmMost  = 30 * time.Minute
)

// rearm says whether to ask for a failed sync again, and if not now, when. Argo CD
// never tries a commit again once all retries have failed, though what was missing,
// such as another Application's definitions, may have come since.
func rearm(app *argo.Application, now time.Time) (operation *argo.Operation, again time.Duration) {
	o := app.Status.OperationState
	switch {
	case app.DeletionTimestamp != nil, app.Operation != nil, o == nil, o.FinishedAt == nil, !o.Phase.Completed(), o.Phase.Successful():
		return nil, 0
	case o.Operation.Sync == nil, app.Spec.SyncPolicy == nil, app.Spec.SyncPolicy.Automated == nil:
		return nil, 0
	case app.Status.Sync.Status != argo.SyncStatusCodeOutOfSync:
		return nil, 0
	case o.SyncResult != nil && o.SyncResult.Revision != app.Status.Sync.Revision:
		// There is a newer commit, which Argo CD tries by itself.
		return nil, 0
	}
	n := rearmed(o)
	wait := rearmMost
	if n < 6 {
		wait = min(rearmFirst<<n, rearmMost)
	}
	if left := o.FinishedAt.Add(wait).Sub(now); left > 0 {
		return nil, left
	}
	operation = &argo.Operation{
		Sync: &argo.SyncOperation{
			Revision: app.Status.Sync.Revision, Prune: app.Spec.SyncPolicy.Automated.Prune, SyncOptions: app.Spec.SyncPolicy.SyncOptions,
		},
		InitiatedBy: argo.OperationInitiator{Username: Manager, Automated: true},
		Info:        []*argo.Info{{Name: rearmInfo, Value: strconv.Itoa(n + 1)}},
	}
	if app.Spec.SyncPolicy.Retry != nil {
		operation.Retry = *app.Spec.SyncPolicy.Retry
	}
	return operation, 0
}

// rearmed is how often the operation was asked for again, for its commit.
func rearmed(o *argo.OperationState) int {
	for _, i := range o.Operation.Info {
		if i != nil && i.Name == rearmInfo {
			if n, err := strconv.Atoi(i.Value); err == nil && n > 0 {
				return min(n, 1000)
			}
		}
	}
	return 0
}
