package gitops

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/source"
)

func logger(ctx context.Context) logr.Logger { return ctrl.LoggerFrom(ctx).WithName("gitops") }

// pool gives MetalLB its pool, and says how it stands.
func (r *reconciler) pool(ctx context.Context, w *world) (string, metav1.Condition) {
	ranges, c := judgePool(poolFacts{defined: w.poolOK, cluster: w.cluster, nodes: w.nodes})
	if ranges == "" {
		return w.g.Status.LoadBalancerPool, c
	}
	all := w.apps["system"]
	for _, apps := range w.apps {
		all = append(all[:len(all):len(all)], apps...)
	}
	for _, object := range poolObjects(metalLBNamespace(all), ranges) {
		err := r.Live.Patch(ctx, object, client.Apply, client.FieldOwner(Manager), client.ForceOwnership)
		switch {
		case apierrors.IsNotFound(err):
			return w.g.Status.LoadBalancerPool, condition(c.Type, metav1.ConditionFalse, v1alpha1.ReasonNoMetalLB,
				fmt.Sprintf("MetalLB's namespace %s is not there yet", object.GetNamespace()))
		case err != nil:
			return w.g.Status.LoadBalancerPool, condition(c.Type, metav1.ConditionFalse, v1alpha1.ReasonPoolRefused,
				fmt.Sprintf("cannot apply the %s %s: %v", object.GetKind(), object.GetName(), err))
		}
	}
	return ranges, c
}

// mirrorFacts is what the way back to the seed rests on.
type mirrorFacts struct {
	atHome, wanted bool
	// sound: the home has everything that was synced.
	sound         bool
	seedReachable bool
	// hasHome: the seed has the home's head; hasSeed: the home has the seed's head.
	hasHome, hasSeed bool
	seedHead         string
	homeHead         string
}

// judgeMirror says what the seed lacks, and whether Gitea may push to it by force:
// only while the layers follow the home, and it has everything that was synced and all
// that the seed has. A Gitea that came back from an old backup, or that the layers have
// left, would push what is old over what is new.
func judgeMirror(f mirrorFacts) (push bool, c metav1.Condition) {
	say := func(status metav1.ConditionStatus, reason, format string, args ...any) metav1.Condition {
		return condition(v1alpha1.ConditionGitHubBehind, status, reason, fmt.Sprintf(format, args...))
	}
	switch {
	case !f.atHome:
		return false, say(metav1.ConditionFalse, v1alpha1.ReasonSeedIsSource, "the seed is the source")
	case !f.seedReachable:
		return false, say(metav1.ConditionUnknown, v1alpha1.ReasonSeedUnknown, "the seed cannot be read")
	case f.hasHome:
		return f.wanted && f.sound && f.hasSeed, say(metav1.ConditionFalse, v1alpha1.ReasonSeedCurrent, "the seed has everything that the home has")
	case !f.hasSeed:
		return false, say(metav1.ConditionTrue, v1alpha1.ReasonSeedDiverged, "the seed at %s has commits that the home at %s lacks: merge them into the home; until then nothing is pushed to the seed",
			short(f.seedHead), short(f.homeHead))
	}
	return f.wanted && f.sound, say(metav1.ConditionTrue, v1alpha1.ReasonSeedLacksCommits, "the seed is at %s, and lacks commits of the home at %s: a cluster that is rebuilt from nothing would begin with them missing",
		short(f.seedHead), short(f.homeHead))
}

// mirrorEvery is how often Gitea is asked about its push mirror, while nothing else
// is wanted of it.
const mirrorEvery = time.Minute

// mirror looks after the way back to the seed, on what was seen in this pass.
func (r *reconciler) mirror(ctx context.Context, w *world, v verdict) metav1.Condition {
	f := mirrorFacts{
		atHome: w.facts.active == v1alpha1.SourceHome && v.follow != v1alpha1.SourceSeed, sound: v.trusted,
		seedReachable: w.facts.seed.reachable, seedHead: w.seed.tree.Head, homeHead: w.home.tree.Head,
	}
	home := w.g.Spec.Home
	f.wanted = home != nil && home.PushMirror != nil
	if f.atHome && f.seedReachable && w.home.reachable {
		o := &r.observer
		o.mu.Lock()
		seedBranch, homeBranch := o.seed, o.home
		o.mu.Unlock()
		f.hasHome = seedBranch.Relate(w.home.tree.Head, homeBranch) == source.Contains
		f.hasSeed = homeBranch.Relate(w.seed.tree.Head, seedBranch) == source.Contains
	} else if f.atHome && !w.home.reachable {
		f.seedReachable = false
	}
	push, c := judgeMirror(f)
	if !w.home.reachable || w.access.gitea == nil {
		return c
	}
	// What was seen must be of now, for the push is one by force.
	if w.looked && (push != r.pushing || w.now.Sub(r.mirrored) >= mirrorEvery || w.now.Before(r.mirrored)) {
		r.mirrored, r.pushing, r.mirrorFailed = w.now, push, ""
		if err := r.setMirror(ctx, w, push, c.Status == metav1.ConditionTrue); err != nil {
			logger(ctx).Error(err, "the push mirror")
			r.mirrorFailed = err.Error()
		}
	}
	if r.mirrorFailed != "" && f.atHome {
		c.Message += "; " + r.mirrorFailed
		if push && c.Status == metav1.ConditionTrue {
			c.Reason = v1alpha1.ReasonMirrorFailed
		}
	}
	return c
}

// setMirror makes the push mirror, and pushes where the seed is behind; or takes it away.
func (r *reconciler) setMirror(ctx context.Context, w *world, push, behind bool) error {
	a, seed := w.access, w.access.seed.url
	if !push {
		is, _, err := a.gitea.Mirroring(ctx, a.owner, a.name, seed)
		if err != nil || !is {
			return err
		}
		return a.gitea.StopMirror(ctx, a.owner, a.name, seed)
	}
	m := w.g.Spec.Home.PushMirror
	data, trouble, err := r.credentials(ctx, m.Credentials.Name)
	if err != nil {
		return err
	}
	if trouble != "" {
		return fmt.Errorf("the push mirror: %s", trouble)
	}
	interval := 8 * time.Hour
	if m.Interval != nil {
		interval = m.Interval.Duration
	}
	if err := a.gitea.StartMirror(ctx, a.owner, a.name, source.PushMirror{
		URL: seed, Username: string(data[source.KeyUsername]), Password: string(data[source.KeyPassword]), Interval: interval,
	}); err != nil {
		return err
	}
	if behind {
		if err := a.gitea.PushNow(ctx, a.owner, a.name); err != nil {
			return err
		}
	}
	_, failed, err := a.gitea.Mirroring(ctx, a.owner, a.name, seed)
	if err == nil && failed != "" {
		return fmt.Errorf("gitea cannot push to the seed: %s", failed)
	}
	return err
}
