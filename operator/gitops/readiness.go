package gitops

import (
	"fmt"
	"slices"
	"strings"

	argo "github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	"github.com/argoproj/gitops-engine/pkg/health"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/plaintext"
)

// wanted is what an Application has to be at.
type wanted struct {
	repoURL, branch string
	// revision is the commit of the branch; empty: it is not known, and not asked for.
	revision string
}

// trouble is why an Application is not ready.
type trouble struct{ reason, message string }

// applicationRule is one thing that must be so of a ready Application. It returns a
// trouble with a reason, or an empty one.
type applicationRule func(*argo.Application, wanted) trouble

// applicationRules in the order in which they are asked. "Synced" and "Healthy"
// alone say little: an Application that could not load anything reads Healthy, one
// that has not looked since the commit reads Synced.
var applicationRules = []applicationRule{
	notDeleting, rightSource, noOperation, noError, comparedSince, comparedToSpec, rightRevision, syncSucceeded, synced, hasResources, healthy,
}

// notReady says why an Application is not ready; an empty reason: it is.
func notReady(app *argo.Application, want wanted) trouble {
	for _, rule := range applicationRules {
		if t := rule(app, want); t.reason != "" {
			return t
		}
	}
	return trouble{}
}

func notDeleting(app *argo.Application, _ wanted) trouble {
	if app.DeletionTimestamp != nil {
		return trouble{v1alpha1.ReasonAppDeleting, "it is being deleted"}
	}
	return trouble{}
}

func rightSource(app *argo.Application, want wanted) trouble {
	s := app.Spec.GetSource()
	if s.RepoURL != want.repoURL || s.TargetRevision != want.branch {
		return trouble{v1alpha1.ReasonAppOtherSource, fmt.Sprintf("it follows %s of %s", s.TargetRevision, s.RepoURL)}
	}
	return trouble{}
}

func noOperation(app *argo.Application, _ wanted) trouble {
	if app.Operation != nil {
		return trouble{v1alpha1.ReasonAppOperating, "a sync is asked for"}
	}
	if o := app.Status.OperationState; o != nil && !o.Phase.Completed() {
		return trouble{v1alpha1.ReasonAppOperating, "a sync runs: " + o.Message}
	}
	return trouble{}
}

func noError(app *argo.Application, _ wanted) trouble {
	for _, c := range app.Status.Conditions {
		if c.IsError() {
			return trouble{v1alpha1.ReasonAppError, c.Type + ": " + c.Message}
		}
	}
	return trouble{}
}

// comparedSince: what status says of sync and health is of after the last sync, and
// no look is asked for.
func comparedSince(app *argo.Application, _ wanted) trouble {
	at := app.Status.ReconciledAt
	if at == nil {
		return trouble{v1alpha1.ReasonAppNotCompared, "it was never compared"}
	}
	if _, asked := app.IsRefreshRequested(); asked {
		return trouble{v1alpha1.ReasonAppNotCompared, "it is to be compared anew"}
	}
	if o := app.Status.OperationState; o != nil && o.FinishedAt != nil && at.Before(o.FinishedAt) {
		return trouble{v1alpha1.ReasonAppNotCompared, "it was not compared since its last sync"}
	}
	return trouble{}
}

func comparedToSpec(app *argo.Application, _ wanted) trouble {
	was, is := app.Status.Sync.ComparedTo.Source, app.Spec.GetSource()
	if !was.Equals(&is) {
		return trouble{v1alpha1.ReasonAppNotCompared, "it was compared with another source than it has now"}
	}
	return trouble{}
}

func rightRevision(app *argo.Application, want wanted) trouble {
	if want.revision != "" && app.Status.Sync.Revision != want.revision {
		return trouble{v1alpha1.ReasonAppOldRevision, fmt.Sprintf("it is at %s, and the source at %s", short(app.Status.Sync.Revision), short(want.revision))}
	}
	return trouble{}
}

// syncSucceeded: a sync that failed is of no more interest once everything is as git
// says all the same.
func syncSucceeded(app *argo.Application, _ wanted) trouble {
	o := app.Status.OperationState
	if o != nil && o.Phase.Completed() && !o.Phase.Successful() && app.Status.Sync.Status != argo.SyncStatusCodeSynced {
		return trouble{v1alpha1.ReasonAppSyncFailed, or(o.Message, "the last sync failed")}
	}
	return trouble{}
}

func synced(app *argo.Application, _ wanted) trouble {
	if app.Status.Sync.Status == argo.SyncStatusCodeSynced {
		return trouble{}
	}
	var differ []string
	for _, r := range app.Status.Resources {
		if r.Status != argo.SyncStatusCodeSynced && r.Status != "" {
			differ = append(differ, r.Kind+"/"+r.Name)
		}
	}
	return trouble{v1alpha1.ReasonAppOutOfSync, strings.TrimSuffix(fmt.Sprintf("it is %s: %s", or(string(app.Status.Sync.Status), "Unknown"), few(differ)), ": ")}
}

func hasResources(app *argo.Application, _ wanted) trouble {
	if len(app.Status.Resources) == 0 {
		return trouble{v1alpha1.ReasonAppNoResources, "its directory makes no objects at all"}
	}
	return trouble{}
}

func healthy(app *argo.Application, _ wanted) trouble {
	if app.Status.Health.Status == health.HealthStatusHealthy {
		return trouble{}
	}
	var sick []string
	for _, r := range app.Status.Resources {
		if r.Health != nil && r.Health.Status != health.HealthStatusHealthy {
			sick = append(sick, strings.TrimRight(fmt.Sprintf("%s/%s is %s: %s", r.Kind, r.Name, r.Health.Status, r.Health.Message), ": "))
		}
	}
	return trouble{v1alpha1.ReasonAppUnhealthy, strings.TrimSuffix(fmt.Sprintf("it is %s: %s", or(string(app.Status.Health.Status), "of unknown health"), few(sick)), ": ")}
}

// layerFacts is what the readiness of a layer rests on.
type layerFacts struct {
	spec v1alpha1.Layer
	// set is its ApplicationSet, nil if there is none.
	set *argo.ApplicationSet
	// applications of the layer.
	applications []argo.Application
	// directories are those that the source has for the layer, and known says that the
	// source could be read.
	directories []string
	known       bool
	// sameName names an Application that another directory would make too.
	sameName string
	// waitsFor names a layer that it depends on and that is not ready.
	waitsFor string
}

// judgeLayer says what is so of a layer. It is ready when its reason is empty: all
// its directories have Applications, and all are ready. A layer that the source has
// no directory for is ready when it has no Applications either: there is nothing to
// wait for.
func judgeLayer(f layerFacts, want wanted) v1alpha1.LayerStatus {
	s := v1alpha1.LayerStatus{Name: f.spec.Name, Started: f.set != nil}
	have := map[string]bool{}
	revisions := map[string]bool{}
	for i := range f.applications {
		app := &f.applications[i]
		have[app.Name] = true
		revisions[app.Status.Sync.Revision] = true
		s.Total++
		if t := notReady(app, want); t.reason != "" {
			s.NotReady = append(s.NotReady, v1alpha1.ApplicationNotReady{Name: app.Name, Reason: t.reason, Message: plaintext.Clip(t.message, 500)})
			continue
		}
		s.Ready++
	}
	for _, d := range f.directories {
		if name := applicationName(d); !have[name] && f.set != nil {
			s.Total++
			s.NotReady = append(s.NotReady, v1alpha1.ApplicationNotReady{Name: name, Reason: v1alpha1.ReasonAppMissing, Message: "Argo CD has not made it for " + d + " yet"})
		}
	}
	slices.SortFunc(s.NotReady, func(a, b v1alpha1.ApplicationNotReady) int { return strings.Compare(a.Name, b.Name) })
	if len(revisions) == 1 {
		for r := range revisions {
			s.Revision = r
		}
	}
	switch {
	case f.sameName != "":
		s.Reason, s.Message = v1alpha1.ReasonLayerSameName, f.sameName
	case f.set == nil && f.waitsFor != "":
		s.Reason, s.Message = v1alpha1.ReasonLayerWaits, "waits for "+f.waitsFor
	case f.set == nil:
		s.Reason, s.Message = v1alpha1.ReasonLayersNotStarted, "it has no ApplicationSet yet"
	case generatorError(f.set) != "":
		s.Reason, s.Message = v1alpha1.ReasonLayerGeneratorFailed, plaintext.Clip(generatorError(f.set), 500)
	case len(s.NotReady) > 0:
		s.Reason, s.Message = v1alpha1.ReasonLayerApplications, plaintext.Clip(fmt.Sprintf("%d of %d are ready; %s: %s: %s", s.Ready, s.Total, s.NotReady[0].Name, s.NotReady[0].Reason, s.NotReady[0].Message), 500)
	case s.Total == 0 && !f.known:
		s.Reason, s.Message = v1alpha1.ReasonLayerNoApplications, "it has no Applications, and the source cannot be read"
	}
	if len(s.NotReady) > 32 {
		s.NotReady = s.NotReady[:32]
	}
	return s
}

// generatorError is what the ApplicationSet controller says against a set.
func generatorError(set *argo.ApplicationSet) string {
	for _, c := range set.Status.Conditions {
		if c.Type == argo.ApplicationSetConditionErrorOccurred && c.Status == argo.ApplicationSetConditionStatusTrue {
			return c.Message
		}
	}
	return ""
}

// layersReady is the condition LayersReady.
func layersReady(layers []v1alpha1.LayerStatus) metav1.Condition {
	c := condition(v1alpha1.ConditionLayersReady, metav1.ConditionTrue, v1alpha1.ReasonLayersAllReady, "")
	total := int32(0)
	var wrong []string
	for _, l := range layers {
		total += l.Total
		if l.Reason != "" {
			if len(wrong) == 0 {
				c.Status, c.Reason = metav1.ConditionFalse, l.Reason
			}
			wrong = append(wrong, l.Name+": "+l.Message)
		}
	}
	c.Message = fmt.Sprintf("%d Applications in %d layers are ready", total, len(layers))
	if len(wrong) > 0 {
		c.Message = plaintext.Clip(strings.Join(wrong, "; "), 2000)
	}
	return c
}

// needed are the names of a layer and of all that it depends on.
func needed(layers []v1alpha1.Layer, name string) []string {
	all := []string{}
	var add func(string)
	add = func(name string) {
		if slices.Contains(all, name) {
			return
		}
		all = append(all, name)
		for _, l := range layers {
			if l.Name == name {
				for _, d := range l.DependsOn {
					add(d)
				}
			}
		}
	}
	add(name)
	return all
}

func short(revision string) string {
	if revision == "" {
		return "no commit"
	}
	return revision[:min(len(revision), 12)]
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// few are the first of some texts, and how many more there are.
func few(all []string) string {
	const shown = 3
	if len(all) <= shown {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:shown], ", "), len(all)-shown)
}
