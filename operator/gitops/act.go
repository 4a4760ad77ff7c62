package gitops

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	argo "github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/plaintext"
	"github.com/rhizome-dev/rhizome/internal/source"
	"github.com/rhizome-dev/rhizome/internal/status"
)

// The names of tasks.
const (
	taskInstall = "install"
	taskMigrate = "migrate"
)

// migrateTimeout bounds the wait for Gitea's answer. Gitea goes on without it.
const migrateTimeout = 30 * time.Minute

// act does what follows from the world, and returns the status to write down and when
// to look again. trouble is what could not be done; what could be is in the status
// all the same.
func (r *reconciler) act(ctx context.Context, w *world) (next *v1alpha1.GitOpsStatus, after time.Duration, trouble error) {
	g, now := w.g, w.now
	av, v := judgeArgo(w.argo), decide(&w.facts)
	note := func(err error) {
		if err != nil {
			trouble = errors.Join(trouble, err)
		}
	}
	if av.install {
		r.install(ctx, g, av.handedOver)
	}
	next = g.Status.DeepCopy()
	next.ObservedGeneration = g.Generation
	next.ActiveSource = w.facts.active
	next.Phase = v.phase
	next.Layers = w.layers
	next.ArgoCD = &v1alpha1.ArgoCDStatus{Version: w.argo.release, HandedOver: av.handedOver}
	if w.facts.switching && or0(g.Status.Switch).To == "" {
		// The record was lost: it is made anew, with all the time that a switch has.
		next.Switch = &v1alpha1.SourceSwitch{To: v1alpha1.SourceHome, Revision: first(w.synced), StartedAt: ptrTime(now)}
	}
	if revision := syncedTo(w); revision != "" {
		next.Revision = revision
	}

	step := false // the next pass does what this one writes down
	if av.usable {
		step = writeDown(next, &w.facts, v, first(w.synced), now)
		note(r.do(ctx, w, v))
		if !step {
			note(r.applyLayers(ctx, w, v.follow))
			note(r.tend(ctx, w, v))
		}
	}
	pool, lb := r.pool(ctx, w)
	next.LoadBalancerPool = pool
	behind := r.mirror(ctx, w, v)

	layers := layersReady(w.layers)
	switch {
	case !av.usable:
		layers = condition(v1alpha1.ConditionLayersReady, metav1.ConditionFalse, v1alpha1.ReasonLayersNotStarted, "they wait for Argo CD: the condition ArgoCDReady says how far it is")
	case next.ActiveSource == "":
		layers = condition(v1alpha1.ConditionLayersReady, metav1.ConditionFalse, v1alpha1.ReasonLayersNotStarted, "there is no source that they could follow: the condition SourceReady says why")
	}
	wanted := []metav1.Condition{av.ready, v.source, layers, v.switched, behind, lb}
	sum := ready(av.ready, v.source, layers)
	if trouble != nil {
		sum = condition(v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonGitOpsTrouble, source.Redact(trouble.Error()))
	}
	wanted = append([]metav1.Condition{sum}, wanted...)
	for i := range wanted {
		wanted[i].Message = plaintext.Clip(wanted[i].Message, 4000)
	}
	next.Conditions = status.Conditions(g.Status.Conditions, wanted, g.Generation, now)

	after = r.observer.next(r.Now())
	if step {
		after = time.Millisecond
	}
	if v.act != actNothing || v.phase == v1alpha1.PhaseSourceSwitching || layers.Status != metav1.ConditionTrue || trouble != nil {
		after = min(after, 5*time.Second)
	}
	return next, max(after, time.Millisecond), trouble
}

func ptrTime(t time.Time) *metav1.Time { m := metav1.NewTime(t).Rfc3339Copy(); return &m }

// writeDown writes a step of the source into the status, and says whether there is one.
func writeDown(next *v1alpha1.GitOpsStatus, f *facts, v verdict, synced string, now time.Time) bool {
	s := or0(next.Switch)
	switch v.act {
	case actBegin, actFallBack:
		next.ActiveSource = v.follow
	case actSwitch:
		next.Switch = &v1alpha1.SourceSwitch{To: v1alpha1.SourceHome, Revision: synced, StartedAt: ptrTime(now), Failures: s.Failures}
	case actFinish:
		next.ActiveSource, next.Switch = v1alpha1.SourceHome, nil
	case actRollBack:
		next.ActiveSource = v1alpha1.SourceSeed
		next.Switch = &v1alpha1.SourceSwitch{Failures: s.Failures + 1, RolledBackAt: ptrTime(now), Message: plaintext.Clip(v.switched.Message, 1000)}
	case actNothing, actMigrate, actProve:
		return next.ActiveSource != f.active
	}
	return true
}

// ready sums up: the first that is not True says why not.
func ready(of ...metav1.Condition) metav1.Condition {
	for _, c := range of {
		if c.Status != metav1.ConditionTrue {
			return condition(v1alpha1.ConditionReady, metav1.ConditionFalse, c.Reason, c.Message)
		}
	}
	return condition(v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonGitOpsReady, of[1].Message+"; "+of[2].Message)
}

// same says whether two statuses say the same.
func same(a, b *v1alpha1.GitOpsStatus) bool {
	x, y := a.DeepCopy(), b.DeepCopy()
	x.Conditions, y.Conditions = nil, nil
	return status.Same(a.Conditions, b.Conditions) && equal(x, y)
}

func equal(a, b any) bool { return equality.Semantic.DeepEqual(a, b) }

// syncedTo is the commit that every Application of every layer was synced to; empty:
// they differ, or there is none.
func syncedTo(w *world) string {
	revision := ""
	for _, apps := range w.apps {
		for i := range apps {
			s := apps[i].Status.Sync
			if s.Status != argo.SyncStatusCodeSynced || revision != "" && s.Revision != revision {
				return ""
			}
			revision = s.Revision
		}
	}
	return revision
}

// install begins to install Argo CD, or to put back what is gone.
func (r *reconciler) install(ctx context.Context, g *v1alpha1.GitOps, handedOver bool) {
	spec, log := g.Spec.ArgoCD, ctrl.LoggerFrom(ctx)
	r.tasks.begin(taskInstall, r.Now, r.TryAgain, func() error {
		h, err := helm(r.installer, spec.Namespace, log)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), helmTimeout)
		defer cancel()
		return installChart(ctx, h, spec, handedOver)
	}, r.again)
}

// do does the act of a verdict, but for pointing the layers.
func (r *reconciler) do(ctx context.Context, w *world, v verdict) error {
	if v.act != actBegin || v.follow == v1alpha1.SourceSeed {
		if err := r.seedCredentials(ctx, w); err != nil {
			return err
		}
	}
	switch v.act {
	case actMigrate:
		m := source.Migration{
			Owner: w.access.owner, Name: w.access.name, From: w.access.seed.url,
			Username: string(w.access.seedData[source.KeyUsername]), Password: string(w.access.seedData[source.KeyPassword]),
			Stale: r.MigrationStale,
		}
		gitea := *w.access.gitea
		gitea.Client = &http.Client{Timeout: migrateTimeout}
		r.tasks.begin(taskMigrate, r.Now, r.TryAgain, func() error {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), migrateTimeout)
			defer cancel()
			return gitea.Migrate(ctx, m)
		}, func() { r.observer.hurry(); r.again() })
	case actProve:
		if err := r.homeCredentials(ctx, w); err != nil {
			return err
		}
		return r.prove(ctx, w)
	case actFinish, actRollBack, actFallBack:
		if w.proof != nil {
			return client.IgnoreNotFound(r.Live.Delete(ctx, w.proof))
		}
	case actNothing:
		if w.facts.active == v1alpha1.SourceHome && v.trusted {
			if w.proof != nil {
				if err := client.IgnoreNotFound(r.Live.Delete(ctx, w.proof)); err != nil {
					return fmt.Errorf("cannot take the Application %s away: %w", proofName, err)
				}
			}
			return r.makeHook(ctx, w)
		}
	case actBegin, actSwitch:
	}
	return nil
}

// applyLayers points every layer that may start at a source.
func (r *reconciler) applyLayers(ctx context.Context, w *world, follow v1alpha1.SourceName) error {
	if follow == "" {
		return nil
	}
	at := w.access.seed
	if follow == v1alpha1.SourceHome {
		at = w.access.home
	}
	var failed error
	for i, l := range w.g.Spec.Layers {
		set := w.sets[l.Name]
		if set == nil && w.layers[i].Reason == v1alpha1.ReasonLayerWaits || w.layers[i].Reason == v1alpha1.ReasonLayerSameName {
			continue
		}
		want := applicationSet(w.g, l, at)
		if set != nil && asWanted(set, want) {
			continue
		}
		object, err := applied(want)
		if err != nil {
			return err
		}
		// The ApplicationSet controller, and a person's edit, own fields that are ours.
		if err := r.Live.Patch(ctx, object, client.Apply, client.FieldOwner(Manager), client.ForceOwnership); err != nil {
			failed = errors.Join(failed, fmt.Errorf("cannot apply the ApplicationSet %s: %w", want.Name, err))
			continue
		}
		ctrl.LoggerFrom(ctx).Info("layer", "name", l.Name, "follows", at.url, "branch", at.branch)
	}
	return failed
}

// asWanted says whether an ApplicationSet is as it is wanted already, so that it need
// not be written every few seconds.
func asWanted(is, want *argo.ApplicationSet) bool {
	have := is.DeepCopy()
	for i := range have.Spec.Generators {
		if g := have.Spec.Generators[i].Git; g != nil {
			// Argo CD writes its defaults here.
			g.Template = argo.ApplicationSetTemplate{}
		}
	}
	a, errA := applied(have)
	b, errB := applied(want)
	return errA == nil && errB == nil && equal(a.Object["spec"], b.Object["spec"]) && is.Labels[layerLabel] == want.Labels[layerLabel]
}

// tend keeps Applications going: it tells Argo CD of a new commit, asks for failed
// syncs again, and removes what is gone from the source.
func (r *reconciler) tend(ctx context.Context, w *world, v verdict) error {
	var failed error
	note := func(err error) {
		if client.IgnoreNotFound(err) != nil {
			failed = errors.Join(failed, err)
		}
	}
	at, seen := w.access.seed, w.seed
	if v.follow == v1alpha1.SourceHome {
		at, seen = w.access.home, w.home
	}
	if head := seen.tree.Head; v.follow != "" && seen.reachable && head != r.told && len(w.sets) > 0 {
		note(r.refresh(ctx, w.sets, w.apps, wantedOf(at, head)))
		if failed == nil {
			r.told = head
		}
	}
	note(r.lookAgain(ctx, w, seen.reachable))
	look := w.looks != r.looks
	r.looks = w.looks
	readyLayers := map[string]bool{}
	for _, s := range w.layers {
		readyLayers[s.Name] = s.Reason == ""
	}
	for _, l := range w.g.Spec.Layers {
		apps := w.apps[l.Name]
		for _, name := range removable(apps, seen.tree.Matching(l.Path), seen.tree.Head, v.trusted && v.act == actNothing && seen.reachable, look, r.absent) {
			note(r.remove(ctx, l, &apps[slices.IndexFunc(apps, func(a argo.Application) bool { return a.Name == name })]))
		}
		if !dependenciesReady(l, readyLayers) {
			continue
		}
		for i := range apps {
			operation, _ := rearm(&apps[i], w.now)
			if operation == nil {
				continue
			}
			before := apps[i].DeepCopy()
			apps[i].Operation = operation
			note(r.Live.Patch(ctx, &apps[i], client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})))
			ctrl.LoggerFrom(ctx).Info("a failed sync is asked for again", "application", apps[i].Name)
		}
	}
	for name := range maps.Clone(r.absent) {
		there := false
		for _, apps := range w.apps {
			there = there || slices.ContainsFunc(apps, func(a argo.Application) bool { return a.Name == name })
		}
		if !there {
			delete(r.absent, name)
		}
	}
	return failed
}

// lookAgain asks Argo CD to look again at Applications whose error may have passed, if
// what they follow can be read.
func (r *reconciler) lookAgain(ctx context.Context, w *world, reachable bool) error {
	asked := map[types.UID]time.Time{}
	var again []argo.Application
	for _, apps := range w.apps {
		for i := range apps {
			app := &apps[i]
			asked[app.UID] = r.asked[app.UID]
			if reachable && lookAgain(app, asked[app.UID], w.now) {
				asked[app.UID] = w.now
				again = append(again, *app)
			}
		}
	}
	r.asked = asked
	return r.refresh(ctx, nil, map[string][]argo.Application{"": again}, wanted{})
}

func dependenciesReady(l v1alpha1.Layer, ready map[string]bool) bool {
	return !slices.ContainsFunc(l.DependsOn, func(d string) bool { return !ready[d] })
}

// remove deletes an Application whose directory is gone. Of a layer that keeps its
// objects, it loses first what would take them along.
func (r *reconciler) remove(ctx context.Context, l v1alpha1.Layer, app *argo.Application) error {
	if l.Removal != v1alpha1.LayerRemovalDelete || app.Name == argoRelease {
		before := app.DeepCopy()
		app.UnSetCascadedDeletion()
		if len(before.Finalizers) != len(app.Finalizers) {
			if err := r.Live.Patch(ctx, app, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
				return fmt.Errorf("cannot keep the objects of the Application %s: %w", app.Name, err)
			}
		}
	}
	if err := r.Live.Delete(ctx, app, client.Preconditions{UID: &app.UID, ResourceVersion: &app.ResourceVersion}); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot remove the Application %s: %w", app.Name, err)
	}
	ctrl.LoggerFrom(ctx).Info("the directory is gone, and so is its Application", "application", app.Name, "layer", l.Name, "objects", l.Removal)
	return nil
}

// refresh asks Argo CD to look at what the layers follow now.
func (r *reconciler) refresh(ctx context.Context, sets map[string]*argo.ApplicationSet, apps map[string][]argo.Application, want wanted) error {
	var failed error
	annotate := func(o client.Object, key, value string) {
		patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, key, value))
		if err := client.IgnoreNotFound(r.Live.Patch(ctx, o, patch)); err != nil {
			failed = errors.Join(failed, fmt.Errorf("cannot ask Argo CD to look at %s: %w", o.GetName(), err))
		}
	}
	for _, set := range sets {
		annotate(set.DeepCopy(), annotationSetRefresh, "true")
	}
	for _, layer := range apps {
		for i := range layer {
			if app := &layer[i]; want.revision == "" || app.Status.Sync.Revision != want.revision {
				annotate(app.DeepCopy(), argo.AnnotationKeyRefresh, string(argo.RefreshTypeNormal))
			}
		}
	}
	return failed
}

// annotationSetRefresh makes the ApplicationSet controller look anew.
const annotationSetRefresh = "argocd.argoproj.io/application-set-refresh"
