package gitops

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	argo "github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	"helm.sh/helm/v3/pkg/release"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/source"
)

// world is what one pass rests on.
type world struct {
	g   *v1alpha1.GitOps
	now time.Time

	argo argoFacts

	sets    map[string]*argo.ApplicationSet // by layer
	apps    map[string][]argo.Application   // by layer
	proof   *argo.Application
	itself  *argo.Application
	access  access
	looked  bool // the sources were looked at in this pass
	looks   int
	seed    sight
	home    sight
	facts   facts
	layers  []v1alpha1.LayerStatus
	synced  []string // every commit that was synced
	poolOK  bool     // MetalLB's definitions are there
	cluster *v1alpha1.Cluster
	nodes   []v1alpha1.Node
}

// gather looks at everything.
func (r *reconciler) gather(ctx context.Context, g *v1alpha1.GitOps) (*world, error) {
	w := &world{g: g, now: r.Now(), sets: map[string]*argo.ApplicationSet{}, apps: map[string][]argo.Application{}}
	var err error
	if w.argo.defined, err = r.defined(ctx, "applications.argoproj.io", "applicationsets.argoproj.io"); err != nil {
		return nil, err
	}
	if w.poolOK, err = r.defined(ctx, "ipaddresspools.metallb.io", "l2advertisements.metallb.io"); err != nil {
		return nil, err
	}
	if w.argo.defined {
		if !r.watching {
			if err := r.watch(); err != nil {
				return nil, fmt.Errorf("cannot watch Applications: %w", err)
			}
			r.watching = true
		}
		if err := r.gatherArgo(ctx, w); err != nil {
			return nil, err
		}
	}
	if err := r.gatherParts(ctx, w); err != nil {
		return nil, err
	}
	var clusters v1alpha1.ClusterList
	var nodes v1alpha1.NodeList
	for what, list := range map[string]client.ObjectList{"Clusters": &clusters, "Nodes": &nodes} {
		if err := r.Live.List(ctx, list); err != nil {
			return nil, fmt.Errorf("cannot list %s: %w", what, err)
		}
	}
	w.nodes = nodes.Items
	for i := range clusters.Items {
		if c := &clusters.Items[i]; w.cluster == nil || c.CreationTimestamp.Before(&w.cluster.CreationTimestamp) {
			w.cluster = c
		}
	}
	if w.access, err = r.access(ctx, g); err != nil {
		return nil, err
	}
	w.looked = r.observer.look(ctx, w.access, w.now)
	r.decideFacts(w)
	return w, nil
}

// defined says whether definitions are there and served.
func (r *reconciler) defined(ctx context.Context, names ...string) (bool, error) {
	for _, name := range names {
		crd := &metav1.PartialObjectMetadata{}
		crd.SetGroupVersionKind(crdKind)
		if err := r.Live.Get(ctx, client.ObjectKey{Name: name}, crd); apierrors.IsNotFound(err) {
			return false, nil
		} else if err != nil {
			return false, fmt.Errorf("cannot look for the definition %s: %w", name, err)
		}
	}
	return true, nil
}

// gatherArgo reads ApplicationSets and Applications of the layers.
func (r *reconciler) gatherArgo(ctx context.Context, w *world) error {
	namespace := client.InNamespace(w.g.Spec.ArgoCD.Namespace)
	var sets argo.ApplicationSetList
	var apps argo.ApplicationList
	for what, list := range map[string]client.ObjectList{"ApplicationSets": &sets, "Applications": &apps} {
		if err := r.Live.List(ctx, list, namespace); meta.IsNoMatchError(err) {
			// The definitions are too new to be served.
			w.argo.defined = false
			return nil
		} else if err != nil {
			return fmt.Errorf("cannot list %s: %w", what, err)
		}
	}
	for i := range sets.Items {
		if layer := sets.Items[i].Labels[layerLabel]; sets.Items[i].Name == setName(layer) {
			w.sets[layer] = &sets.Items[i]
		}
	}
	for i := range apps.Items {
		app := apps.Items[i]
		switch {
		case app.Name == proofName:
			w.proof = &apps.Items[i]
		case app.Labels[layerLabel] != "":
			w.apps[app.Labels[layerLabel]] = append(w.apps[app.Labels[layerLabel]], app)
			if app.Name == argoRelease {
				w.itself = &apps.Items[i]
			}
		}
	}
	return nil
}

// gatherParts looks at Argo CD itself.
func (r *reconciler) gatherParts(ctx context.Context, w *world) error {
	f, namespace := &w.argo, w.g.Spec.ArgoCD.Namespace
	f.version, f.parts = w.g.Spec.ArgoCD.Version, map[string]bool{}
	if s := w.g.Status.ArgoCD; s != nil {
		f.handedOver = s.HandedOver
	}
	f.managesItself = w.itself != nil
	// First: what an installation made that has just ended is seen below.
	f.installing, f.failure, _ = r.tasks.state(taskInstall)
	part := []client.ListOption{client.InNamespace(namespace), client.MatchingLabels{"app.kubernetes.io/part-of": "argocd"}}
	var deployments appsv1.DeploymentList
	var stateful appsv1.StatefulSetList
	for what, list := range map[string]client.ObjectList{"Deployments": &deployments, "StatefulSets": &stateful} {
		if err := r.Live.List(ctx, list, part...); err != nil {
			return fmt.Errorf("cannot list %s of %s: %w", what, namespace, err)
		}
	}
	for i := range deployments.Items {
		d := &deployments.Items[i]
		f.parts[d.Labels["app.kubernetes.io/component"]] = d.Status.ReadyReplicas > 0 && d.Status.ObservedGeneration >= d.Generation
	}
	for i := range stateful.Items {
		s := &stateful.Items[i]
		f.parts[s.Labels["app.kubernetes.io/component"]] = s.Status.ReadyReplicas > 0 && s.Status.ObservedGeneration >= s.Generation
	}
	var params corev1.ConfigMap
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "argocd-cmd-params-cm"}, &params)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot read the parameters of Argo CD: %w", err)
	}
	f.policy, f.override = params.Data["applicationsetcontroller.policy"], params.Data["applicationsetcontroller.enable.policy.override"]
	if s := w.g.Status.ArgoCD; s != nil && s.Version != "" {
		// It only changes with an installation by the operator.
		f.release = s.Version
	} else if len(f.parts) > 0 {
		h, err := helm(r.installer, namespace, ctrl.LoggerFrom(ctx))
		if err != nil {
			return err
		}
		last, err := lastRelease(h)
		if err != nil {
			return err
		}
		f.unfinished = last != nil && last.Info.Status != release.StatusDeployed
		if last != nil && !f.unfinished && last.Chart != nil && last.Chart.Metadata != nil {
			f.release = last.Chart.Metadata.Version
		}
	}
	return nil
}

// decideFacts makes of what was seen what the decision rests on.
func (r *reconciler) decideFacts(w *world) {
	o := &r.observer
	o.mu.Lock()
	w.seed, w.home, w.looks = o.sawSeed, o.sawHome, o.looks
	seedBranch, homeBranch := o.seed, o.home
	o.mu.Unlock()

	g, f := w.g, &w.facts
	f.pin, f.hasHome = g.Spec.Source, g.Spec.Home != nil
	f.active = g.Status.ActiveSource
	s := or0(g.Status.Switch)
	f.switching = s.To == v1alpha1.SourceHome && f.active == v1alpha1.SourceSeed
	f.late = f.switching && s.StartedAt != nil && w.now.Sub(s.StartedAt.Time) > r.SwitchTimeout
	if s.RolledBackAt != nil && !f.switching {
		until := s.RolledBackAt.Add(holdOff(r.HoldOff, s.Failures))
		f.holdOff = w.now.Before(until)
		f.words.rolledBack = fmt.Sprintf("%s; the next try is at %s", s.Message, until.UTC().Format(time.RFC3339))
	}
	r.adopt(w)

	w.synced = syncedCommits(g, w.apps)
	f.words.synced = short(first(w.synced))
	f.words.seedURL, f.words.seedError, f.words.seedHead = source.Redact(w.access.seed.url), w.seed.problem, short(w.seed.tree.Head)
	f.words.homeURL, f.words.homeError, f.words.homeHead = source.Redact(w.access.home.url), w.home.problem, short(w.home.tree.Head)

	if f.seed.reachable = w.seed.reachable; f.seed.reachable {
		f.seed.holds = holds(seedBranch, w.synced, homeBranch)
		f.words.seedLacking = lacking(g.Spec.Layers, w.apps, w.seed.tree)
		f.seed.directories = f.words.seedLacking == ""
	}
	f.home.state = stateOf(w.home.state)
	if w.home.reachable {
		f.home.holds = holds(homeBranch, w.synced, seedBranch)
		f.words.homeLacking = lacking(g.Spec.Layers, w.apps, w.home.tree)
		f.home.directories = f.words.homeLacking == ""
		f.home.current = !f.seed.reachable || homeBranch.Relate(w.seed.tree.Head, seedBranch) == source.Contains
		if len(w.home.tree.Directories) == 0 {
			f.home.state = homeReadmeOnly
		}
	}
	if running, failure, _ := r.tasks.state(taskMigrate); running {
		f.home.state = homeMigrating
	} else if failure != "" && f.home.state == homeMissing {
		f.words.homeError = failure
	}
	if w.looked && f.hasHome {
		_, _, violated := soundHome.evaluate(f)
		o.homeWas(!violated, w.now)
	}
	o.mu.Lock()
	f.home.settled = o.goodLooks >= 2
	f.home.lost = o.badLooks >= 3 && w.now.Sub(o.badSince) >= r.FallBackAfter
	if o.badLooks > 0 {
		f.words.lost = fmt.Sprintf("; it has been so since %s, and for %s nothing moves", o.badSince.UTC().Format(time.RFC3339), r.FallBackAfter)
	}
	o.mu.Unlock()

	f.proven, f.words.proof = proven(w.proof, wantedOf(w.access.home, w.home.tree.Head))
	r.judgeLayers(w)
}

// adopt goes on where a record was lost: what the ApplicationSets follow is so.
func (r *reconciler) adopt(w *world) {
	f := &w.facts
	seed, home := w.access.seed, w.access.home
	atSeed, atHome := 0, 0
	for _, set := range w.sets {
		switch at, _ := follows(set); at {
		case seed:
			atSeed++
		case home:
			atHome++
		}
	}
	n := len(w.sets)
	if f.active == "" && n > 0 {
		f.active = v1alpha1.SourceSeed
		switch {
		case atHome == n:
			f.active = v1alpha1.SourceHome
		case atHome > 0 && f.hasHome:
			f.switching = true
		}
	}
	switch f.active {
	case v1alpha1.SourceSeed:
		f.moved = n > 0 && atSeed == 0 && !f.switching
	case v1alpha1.SourceHome:
		f.moved = n > 0 && atHome == 0
	}
}

// judgeLayers says what is so of each layer, seen from the source that it is to
// follow.
func (r *reconciler) judgeLayers(w *world) {
	g, f := w.g, &w.facts
	at, seen := w.access.seed, w.seed
	if f.active == v1alpha1.SourceHome || f.switching {
		at, seen = w.access.home, w.home
	}
	head := ""
	directories := func(string) []string { return nil }
	if seen.reachable {
		head, directories = seen.tree.Head, seen.tree.Matching
	}
	want := wantedOf(at, head)
	same := sameNames(g.Spec.Layers, directories)
	started := map[string]bool{}
	for layer := range w.sets {
		started[layer] = true
	}
	all := map[string]layerFacts{}
	state := map[string]v1alpha1.LayerStatus{}
	for _, l := range g.Spec.Layers {
		all[l.Name] = layerFacts{
			spec: l, set: w.sets[l.Name], applications: w.apps[l.Name], directories: directories(l.Path), known: seen.reachable, sameName: same[l.Name],
		}
		state[l.Name] = judgeLayer(all[l.Name], want)
	}
	waiting := waits(g.Spec.Layers, started, func(name string) bool { return state[name].Reason == "" })
	f.arrived = len(w.sets) > 0
	total := 0
	forGitea := []string{}
	if g.Spec.Home != nil {
		forGitea = needed(g.Spec.Layers, g.Spec.Home.Layer)
	}
	f.platform = len(forGitea) > 0
	for _, l := range g.Spec.Layers {
		lf := all[l.Name]
		lf.waitsFor = waiting[l.Name]
		s := judgeLayer(lf, want)
		w.layers = append(w.layers, s)
		total += len(lf.applications)
		inner := slices.Contains(forGitea, l.Name)
		if inner && (s.Reason != "" || !s.Started) {
			f.platform = false
			if f.words.platform == "" {
				f.words.platform = l.Name + ": " + or(s.Message, "not started")
			}
		}
		if !s.Started {
			continue
		}
		// Gitea's own layers must be ready from the home. Of others it is enough that Argo
		// CD compares them with the right commit: one that was sick before stays sick.
		if inner && s.Reason != "" {
			f.arrived = false
			f.words.arriving = or(f.words.arriving, l.Name+": "+s.Message)
		}
		for i := range lf.applications {
			if t := notCompared(&lf.applications[i], want); t.reason != "" {
				f.arrived = false
				f.words.arriving = or(f.words.arriving, lf.applications[i].Name+": "+t.message)
			}
		}
	}
	f.arrived = f.arrived && total > 0 && head != ""
	f.words.arriving = or(f.words.arriving, "the home at "+short(head))
}

// notCompared says why an Application is not compared with the commit that is wanted.
func notCompared(app *argo.Application, want wanted) trouble {
	for _, rule := range []applicationRule{notDeleting, rightSource, noError, comparedToSpec, rightRevision} {
		if t := rule(app, want); t.reason != "" {
			return t
		}
	}
	return trouble{}
}

func wantedOf(at place, head string) wanted {
	return wanted{repoURL: at.url, branch: at.branch, revision: head}
}

// syncedCommits are all commits that anything was synced to, the recorded one first.
func syncedCommits(g *v1alpha1.GitOps, apps map[string][]argo.Application) []string {
	var all []string
	add := func(commit string) {
		if len(commit) == 40 && !slices.Contains(all, commit) {
			all = append(all, commit)
		}
	}
	add(g.Status.Revision)
	for _, layer := range apps {
		for i := range layer {
			s := &layer[i].Status
			if s.Sync.Status == argo.SyncStatusCodeSynced {
				add(s.Sync.Revision)
			}
			if n := len(s.History); n > 0 {
				add(s.History[n-1].Revision)
			}
			if o := s.OperationState; o != nil && o.SyncResult != nil {
				// One that failed may have applied a part.
				add(o.SyncResult.Revision)
			}
		}
	}
	return all
}

// holds is how a branch stands to all of some commits.
func holds(b *source.Branch, commits []string, other *source.Branch) relation {
	var others []*source.Branch
	if other != nil {
		others = append(others, other)
	}
	worst := contains
	for _, c := range commits {
		switch b.Relate(c, others...) {
		case source.Contains:
		case source.Diverged:
			return diverged
		case source.Behind:
			worst = behind
		default:
			if worst == contains {
				worst = unknown
			}
		}
	}
	return worst
}

// lacking names the layers with Applications that a tree has no directory for; if
// none has any, it is not enough that nothing lacks.
func lacking(layers []v1alpha1.Layer, apps map[string][]argo.Application, tree source.Tree) string {
	var missing []string
	some := false
	for _, l := range layers {
		found := len(tree.Matching(l.Path)) > 0
		some = some || found
		if !found && len(apps[l.Name]) > 0 {
			missing = append(missing, l.Path)
		}
	}
	if len(missing) == 0 && !some {
		return "any layer"
	}
	return strings.Join(missing, ", ")
}

func stateOf(s source.State) homeState {
	switch s {
	case source.InstallMode:
		return homeInstallMode
	case source.Unsupported:
		return homeUnsupported
	case source.Refused:
		return homeRefused
	case source.Missing:
		return homeMissing
	case source.Migrating:
		return homeMigrating
	case source.Mirror:
		return homeMirror
	case source.Empty:
		return homeEmpty
	case source.Present:
		return homeReadable
	case source.Unreachable:
	}
	return homeUnreachable
}

// holdOff doubles with each failure, up to a day.
func holdOff(first time.Duration, failures int32) time.Duration {
	wait := first
	for i := int32(1); i < failures && wait < 24*time.Hour; i++ {
		wait *= 2
	}
	return min(wait, 24*time.Hour)
}

func first(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return all[0]
}
