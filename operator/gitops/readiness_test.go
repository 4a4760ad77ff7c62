package gitops

import (
	"strings"
	"testing"
	"time"

	argo "github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	"github.com/argoproj/gitops-engine/pkg/health"
	synccommon "github.com/argoproj/gitops-engine/pkg/sync/common"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

const (
	commitA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	commitB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

var (
	noon  = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	wantA = wanted{repoURL: "https://github.com/you/lab.git", branch: "main", revision: commitA}
)

func at(d time.Duration) *metav1.Time { t := metav1.NewTime(noon.Add(d)); return &t }

// readyApp is an Application with nothing to say against it.
func readyApp(name, directory string) argo.Application {
	source := argo.ApplicationSource{RepoURL: wantA.repoURL, TargetRevision: wantA.branch, Path: directory}
	return argo.Application{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: argo.ApplicationSpec{
			Source:     &source,
			SyncPolicy: &argo.SyncPolicy{Automated: &argo.SyncPolicyAutomated{Prune: true}, Retry: &argo.RetryStrategy{Limit: 5}},
		},
		Status: argo.ApplicationStatus{
			ReconciledAt: at(0),
			Sync:         argo.SyncStatus{Status: argo.SyncStatusCodeSynced, Revision: commitA, ComparedTo: argo.ComparedTo{Source: source}},
			Health:       argo.HealthStatus{Status: health.HealthStatusHealthy},
			Resources:    []argo.ResourceStatus{{Kind: "ConfigMap", Name: "x", Status: argo.SyncStatusCodeSynced}},
			OperationState: &argo.OperationState{
				Phase: synccommon.OperationSucceeded, FinishedAt: at(-time.Minute),
				Operation:  argo.Operation{Sync: &argo.SyncOperation{Revision: commitA}},
				SyncResult: &argo.SyncOperationResult{Revision: commitA, Source: source},
			},
		},
	}
}

func TestAnApplicationIsReadyOnlyInTheStrictSense(t *testing.T) {
	tests := []struct {
		reason string
		change func(*argo.Application)
		want   string
	}{
		{"nothing is to say against it", nil, ""},
		{"it never needed a sync", func(a *argo.Application) { a.Status.OperationState = nil }, ""},
		{"it was compared in the second in which its sync ended", func(a *argo.Application) { a.Status.OperationState.FinishedAt = at(0) }, ""},
		{"a condition that is no error", func(a *argo.Application) {
			a.Status.Conditions = []argo.ApplicationCondition{{Type: argo.ApplicationConditionSharedResourceWarning}}
		}, ""},
		{"it is being deleted", func(a *argo.Application) { a.DeletionTimestamp = at(0) }, v1alpha1.ReasonAppDeleting},
		{"it follows another repository", func(a *argo.Application) { a.Spec.Source.RepoURL = "http://gitea/lab.git" }, v1alpha1.ReasonAppOtherSource},
		{"it follows another branch", func(a *argo.Application) { a.Spec.Source.TargetRevision = "test" }, v1alpha1.ReasonAppOtherSource},
		{"a sync is asked for, and status is of before", func(a *argo.Application) { a.Operation = &argo.Operation{} }, v1alpha1.ReasonAppOperating},
		{"a sync runs", func(a *argo.Application) { a.Status.OperationState.Phase = synccommon.OperationRunning }, v1alpha1.ReasonAppOperating},
		{"a sync is being ended", func(a *argo.Application) { a.Status.OperationState.Phase = synccommon.OperationTerminating }, v1alpha1.ReasonAppOperating},
		{"nothing could be loaded: it reads Healthy all the same", func(a *argo.Application) {
			a.Status.Sync.Status, a.Status.Resources = argo.SyncStatusCodeUnknown, nil
			a.Status.Conditions = []argo.ApplicationCondition{{Type: argo.ApplicationConditionComparisonError, Message: "cannot load"}}
		}, v1alpha1.ReasonAppError},
		{"sync Unknown and Healthy, without a condition", func(a *argo.Application) { a.Status.Sync.Status = argo.SyncStatusCodeUnknown }, v1alpha1.ReasonAppOutOfSync},
		{"it was never compared", func(a *argo.Application) { a.Status.ReconciledAt = nil }, v1alpha1.ReasonAppNotCompared},
		{"it was compared before its last sync ended: Synced and Healthy are of then", func(a *argo.Application) { a.Status.OperationState.FinishedAt = at(time.Second) }, v1alpha1.ReasonAppNotCompared},
		{"a look is asked for", func(a *argo.Application) { a.Annotations = map[string]string{argo.AnnotationKeyRefresh: "normal"} }, v1alpha1.ReasonAppNotCompared},
		{"it was compared with the source that it had", func(a *argo.Application) { a.Status.Sync.ComparedTo.Source.RepoURL = "http://old" }, v1alpha1.ReasonAppNotCompared},
		{"it was compared with the path that it had", func(a *argo.Application) { a.Status.Sync.ComparedTo.Source.Path = "old" }, v1alpha1.ReasonAppNotCompared},
		{"it is at an older commit, Synced and Healthy", func(a *argo.Application) { a.Status.Sync.Revision = commitB }, v1alpha1.ReasonAppOldRevision},
		{"the last sync failed, and all is as git says since", func(a *argo.Application) { a.Status.OperationState.Phase = synccommon.OperationFailed }, ""},
		{"the last sync failed", func(a *argo.Application) {
			a.Status.OperationState.Phase, a.Status.Sync.Status = synccommon.OperationFailed, argo.SyncStatusCodeOutOfSync
		}, v1alpha1.ReasonAppSyncFailed},
		{"the last sync ended in an error", func(a *argo.Application) {
			a.Status.OperationState.Phase, a.Status.Sync.Status = synccommon.OperationError, argo.SyncStatusCodeOutOfSync
		}, v1alpha1.ReasonAppSyncFailed},
		{"objects differ", func(a *argo.Application) { a.Status.Sync.Status = argo.SyncStatusCodeOutOfSync }, v1alpha1.ReasonAppOutOfSync},
		{"it has no objects: Synced and Healthy come for free", func(a *argo.Application) { a.Status.Resources = nil }, v1alpha1.ReasonAppNoResources},
		{"an object is on its way", func(a *argo.Application) { a.Status.Health.Status = health.HealthStatusProgressing }, v1alpha1.ReasonAppUnhealthy},
		{"an object is sick", func(a *argo.Application) { a.Status.Health.Status = health.HealthStatusDegraded }, v1alpha1.ReasonAppUnhealthy},
		{"an object is not there", func(a *argo.Application) { a.Status.Health.Status = health.HealthStatusMissing }, v1alpha1.ReasonAppUnhealthy},
		{"its health is not known", func(a *argo.Application) { a.Status.Health.Status = "" }, v1alpha1.ReasonAppUnhealthy},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			app := readyApp("x", "system/x")
			if tc.change != nil {
				tc.change(&app)
			}
			got := notReady(&app, wantA)
			if got.reason != tc.want || got.reason != "" && got.message == "" {
				t.Errorf("it is %+v, want the reason %q and a message", got, tc.want)
			}
		})
	}
}

func TestJudgeLayer(t *testing.T) {
	layer := v1alpha1.Layer{Name: "system", Path: "system/*"}
	set := &argo.ApplicationSet{}
	sick := readyApp("x", "system/x")
	sick.Status.Health = argo.HealthStatus{Status: health.HealthStatusDegraded}
	tests := []struct {
		reason string
		facts  layerFacts
		want   v1alpha1.LayerStatus
	}{
		{"every directory has its Application, and all are ready",
			layerFacts{set: set, applications: []argo.Application{readyApp("x", "system/x")}, directories: []string{"system/x"}, known: true},
			v1alpha1.LayerStatus{Started: true, Revision: commitA, Ready: 1, Total: 1}},
		{"a directory has no Application yet",
			layerFacts{set: set, applications: []argo.Application{readyApp("x", "system/x")}, directories: []string{"system/x", "system/Y_y"}, known: true},
			v1alpha1.LayerStatus{Started: true, Revision: commitA, Ready: 1, Total: 2, Reason: v1alpha1.ReasonLayerApplications,
				NotReady: []v1alpha1.ApplicationNotReady{{Name: "y-y", Reason: v1alpha1.ReasonAppMissing}}}},
		{"an Application is sick",
			layerFacts{set: set, applications: []argo.Application{sick}, directories: []string{"system/x"}, known: true},
			v1alpha1.LayerStatus{Started: true, Revision: commitA, Ready: 0, Total: 1, Reason: v1alpha1.ReasonLayerApplications,
				NotReady: []v1alpha1.ApplicationNotReady{{Name: "x", Reason: v1alpha1.ReasonAppUnhealthy}}}},
		{"it waits for another layer",
			layerFacts{directories: []string{"system/x"}, known: true, waitsFor: "bootstrap"},
			v1alpha1.LayerStatus{Reason: v1alpha1.ReasonLayerWaits}},
		{"it may start, and has not",
			layerFacts{directories: []string{"system/x"}, known: true},
			v1alpha1.LayerStatus{Reason: v1alpha1.ReasonLayersNotStarted}},
		{"there is nothing in it: it holds nobody up",
			layerFacts{set: set, known: true}, v1alpha1.LayerStatus{Started: true}},
		{"there is nothing in it, as far as is known",
			layerFacts{set: set}, v1alpha1.LayerStatus{Started: true, Reason: v1alpha1.ReasonLayerNoApplications}},
		{"Argo CD cannot make its Applications",
			layerFacts{known: true, set: &argo.ApplicationSet{Status: argo.ApplicationSetStatus{Conditions: []argo.ApplicationSetCondition{{
				Type: argo.ApplicationSetConditionErrorOccurred, Status: argo.ApplicationSetConditionStatusTrue, Message: "no project"}}}}},
			v1alpha1.LayerStatus{Started: true, Reason: v1alpha1.ReasonLayerGeneratorFailed}},
		{"two directories have one name",
			layerFacts{set: set, known: true, sameName: "a and b"}, v1alpha1.LayerStatus{Started: true, Reason: v1alpha1.ReasonLayerSameName}},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			tc.facts.spec, tc.want.Name = layer, layer.Name
			got := judgeLayer(tc.facts, wantA)
			if (got.Reason != "") != (got.Message != "") {
				t.Errorf("reason %q, message %q", got.Reason, got.Message)
			}
			got.Message = ""
			for i := range got.NotReady {
				got.NotReady[i].Message = ""
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("the layer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestALayerStartsOnceItsDependenciesAreReadyAndStays(t *testing.T) {
	layers := []v1alpha1.Layer{
		{Name: "bootstrap"}, {Name: "system"}, {Name: "platform", DependsOn: []string{"system"}}, {Name: "apps", DependsOn: []string{"system", "platform"}},
	}
	tests := []struct {
		reason         string
		started, ready []string
		want           map[string]string
	}{
		{"at first", nil, nil, map[string]string{"platform": "system", "apps": "system"}},
		{"system is started, not ready", []string{"bootstrap", "system"}, nil, map[string]string{"platform": "system", "apps": "system"}},
		{"system is ready", []string{"bootstrap", "system"}, []string{"system"}, map[string]string{"apps": "platform"}},
		{"platform is ready", []string{"bootstrap", "system", "platform"}, []string{"system", "platform"}, map[string]string{}},
		{"a layer that seems ready and was not started holds up", []string{"system"}, []string{"system", "platform"}, map[string]string{"apps": "platform"}},
		{"system degrades when all were started: nothing is taken away", []string{"bootstrap", "system", "platform", "apps"}, nil, map[string]string{}},
		{"system degrades before apps were started", []string{"system", "platform"}, []string{"platform"}, map[string]string{"apps": "system"}},
	}
	for _, tc := range tests {
		started, ready := map[string]bool{}, map[string]bool{}
		for _, s := range tc.started {
			started[s] = true
		}
		for _, r := range tc.ready {
			ready[r] = true
		}
		if diff := cmp.Diff(tc.want, waits(layers, started, func(n string) bool { return ready[n] })); diff != "" {
			t.Errorf("%s: who waits for whom (-want +got):\n%s", tc.reason, diff)
		}
	}
	if diff := cmp.Diff([]string{"apps", "system", "platform"}, needed(layers, "apps")); diff != "" {
		t.Errorf("what apps need (-want +got):\n%s", diff)
	}
}

func TestTwoDirectoriesOfOneNameAreFound(t *testing.T) {
	all := map[string][]string{"system/*": {"system/git", "system/web"}, "platform/*": {"platform/Git"}, "apps/*": {"apps/web_1", "apps/web-1"}}
	got := sameNames([]v1alpha1.Layer{{Name: "system", Path: "system/*"}, {Name: "platform", Path: "platform/*"}, {Name: "apps", Path: "apps/*"}},
		func(p string) []string { return all[p] })
	if !strings.Contains(got["platform"], "system/git and platform/Git") || !strings.Contains(got["apps"], "web-1") || got["system"] != "" {
		t.Errorf("found %v", got)
	}
}

func TestAFailedSyncIsAskedForAgain(t *testing.T) {
	failed := func(n string, ago time.Duration) argo.Application {
		a := readyApp("x", "system/x")
		a.Status.Sync.Status = argo.SyncStatusCodeOutOfSync
		a.Status.OperationState.Phase, a.Status.OperationState.FinishedAt = synccommon.OperationFailed, at(-ago)
		if n != "" {
			a.Status.OperationState.Operation.Info = []*argo.Info{{Name: rearmInfo, Value: n}}
		}
		return a
	}
	tests := []struct {
		reason string
		app    argo.Application
		change func(*argo.Application)
		again  string // the count in the operation's notes; empty: it is not asked for
		left   time.Duration
	}{
		{"it failed a minute ago", failed("", time.Minute), nil, "1", 0},
		{"it failed just now", failed("", 10*time.Second), nil, "", 50 * time.Second},
		{"it failed again: longer", failed("1", time.Minute), nil, "", time.Minute},
		{"it failed again, long enough ago", failed("1", 2*time.Minute), nil, "2", 0},
		{"it failed often: half an hour at most", failed("40", 29*time.Minute), nil, "", time.Minute},
		{"it failed often, long enough ago", failed("40", 30*time.Minute), nil, "41", 0},
		{"the note is nonsense", failed("-7", time.Minute), nil, "1", 0},
		{"it succeeded", readyApp("x", "system/x"), nil, "", 0},
		{"it failed and is Synced all the same", failed("", time.Hour), func(a *argo.Application) { a.Status.Sync.Status = argo.SyncStatusCodeSynced }, "", 0},
		{"there is a newer commit, which Argo CD tries by itself", failed("", time.Hour), func(a *argo.Application) { a.Status.Sync.Revision = commitB }, "", 0},
		{"one is asked for already", failed("", time.Hour), func(a *argo.Application) { a.Operation = &argo.Operation{} }, "", 0},
		{"one runs", failed("", time.Hour), func(a *argo.Application) { a.Status.OperationState.Phase = synccommon.OperationRunning }, "", 0},
		{"it is being deleted", failed("", time.Hour), func(a *argo.Application) { a.DeletionTimestamp = at(0) }, "", 0},
		{"a person syncs it", failed("", time.Hour), func(a *argo.Application) { a.Spec.SyncPolicy.Automated = nil }, "", 0},
		{"there never was one", failed("", time.Hour), func(a *argo.Application) { a.Status.OperationState = nil }, "", 0},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			app := tc.app
			if tc.change != nil {
				tc.change(&app)
			}
			operation, left := rearm(&app, noon)
			again := ""
			if operation != nil {
				again = operation.Info[0].Value
				if operation.Sync.Revision != commitA || !operation.Sync.Prune || operation.Retry.Limit != 5 {
					t.Errorf("the operation is %+v", operation)
				}
			}
			if again != tc.again || left != tc.left {
				t.Errorf("asked for again: %q, wait %s; want %q, %s", again, left, tc.again, tc.left)
			}
		})
	}
}

func TestAnApplicationGoesWhenItsDirectoryIsSeenToBeGoneTwice(t *testing.T) {
	apps := []argo.Application{readyApp("x", "system/x"), readyApp("y", "system/y")}
	absent := map[string]int{}
	step := func(reason string, directories []string, trusted, look bool, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, removable(apps, directories, commitA, trusted, look, absent)); diff != "" {
			t.Errorf("%s: removed (-want +got):\n%s", reason, diff)
		}
	}
	step("all are there", []string{"system/x", "system/y"}, true, true)
	step("one is gone", []string{"system/x"}, true, true)
	step("one is gone, and nobody looked again", []string{"system/x"}, true, false)
	step("it is back", []string{"system/x", "system/y"}, true, true)
	step("it is gone again", []string{"system/x"}, true, true)
	step("the source is not trusted for a moment", []string{"system/x"}, false, true)
	step("it is trusted again", []string{"system/x"}, true, true)
	step("and looked at again", []string{"system/x"}, true, true, "y")
	apps[1].DeletionTimestamp = at(0)
	step("it is on its way", []string{"system/x"}, true, true)
}
