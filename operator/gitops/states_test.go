//go:build linux

package gitops

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// watchGitOps tells of each change of the GitOps, beginning with how it is now.
func (s *scene) watchGitOps() watch.Interface {
	s.t.Helper()
	w, err := s.client.Watch(s.t.Context(), &v1alpha1.GitOpsList{})
	s.must(err)
	s.t.Cleanup(w.Stop)
	return w
}

// Gitea is killed in each state on the way to the home: as soon as the state is said, and
// for as long as it takes the operator to say that Gitea is down. It comes back, and the
// way goes on. Nothing is lost in any.
func TestGiteaIsKilledInEachState(t *testing.T) {
	s := atTheSeed(t, func(o *Options) { o.MigrationStale, o.TryAgain = time.Second, time.Second }, "ARGOCD_RECONCILIATION_TIMEOUT=1h")
	before := s.nothingIsLost(nil)
	toKill := map[string]bool{
		v1alpha1.ReasonHomeMissing: true, v1alpha1.ReasonHomeUnsettled: true, v1alpha1.ReasonHomeUnproven: true,
		v1alpha1.ReasonSwitching: true, v1alpha1.ReasonHomeActive: true,
	}
	changes := s.watchGitOps()
	s.operate()
	s.gitea.Restart(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for len(toKill) > 0 {
		state := ""
		for state == "" {
			select {
			case e := <-changes.ResultChan():
				if g, ok := e.Object.(*v1alpha1.GitOps); ok {
					if c := meta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionSwitched); c != nil && toKill[c.Reason] {
						state = c.Reason
					}
				}
			case <-ctx.Done():
				t.Fatalf("never seen: %v; %s", slices.Sorted(maps.Keys(toKill)), conditions(s.gitops()))
			}
		}
		s.gitea.Kill()
		delete(toKill, state)
		s.until("Gitea is killed in the state "+state, func(context.Context) string {
			g := s.gitops()
			// Whether Gitea answers is not said of a switch: it is awaited.
			if g.Status.Phase == v1alpha1.PhaseSourceSwitching {
				return ""
			}
			for _, kind := range []string{v1alpha1.ConditionSwitched, v1alpha1.ConditionSourceReady} {
				if c := meta.FindStatusCondition(g.Status.Conditions, kind); c != nil && c.Reason == v1alpha1.ReasonHomeUnreachable {
					return ""
				}
			}
			return conditions(g)
		})
		before = s.nothingIsLost(before)
		// What is said from now on is new.
		changes.Stop()
		changes = s.watchGitOps()
		s.gitea.Restart(t)
	}
	s.says("it arrives", home, map[string]string{"Ready": "True GitOpsReady", "SourceReady": "True HomeActive"})
	s.argo.Await(t, s.hub.Head(t, "lab"), appNames()...)
	s.nothingIsLost(before)
}
