//go:build linux

package gitops

import (
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/test/gitserver"
)

// waited waits for what a git server held up.
func (s *scene) waited(what string, waiting <-chan struct{}) {
	s.t.Helper()
	select {
	case <-waiting:
	case <-time.After(patience):
		s.t.Fatalf("%s: it never came; %s", what, conditions(s.gitops()))
	}
}

// The repository is on its way into Gitea when Gitea dies, and the operator; then when
// GitHub dies. Nothing moves, nothing is lost, and in the end it arrives.
func TestAMigrationThatIsCutOffIsTakenUpAgain(t *testing.T) {
	s := atTheSeed(t, func(o *Options) { o.MigrationStale, o.TryAgain = time.Second, time.Second })
	before := s.nothingIsLost(nil)
	// What Gitea asks for now waits: the operator and Argo CD have seen the commit.
	waiting, release := s.hub.Hold(t, gitserver.ClonedByGit)
	s.gitea.Restart(t)
	s.operate()
	s.waited("the migration begins", waiting)
	s.says("the migration runs", seed, map[string]string{"Switched": "False HomeMigrating", "SourceReady": "True SeedActive"})
	s.gitea.Kill()
	s.says("Gitea dies in its midst", seed, map[string]string{"Switched": "False HomeUnreachable", "SourceReady": "True SeedActive"})
	s.stop()
	before = s.nothingIsLost(before)
	// The git that Gitea ran would go on without it, where in a cluster it dies with it.
	s.hub.Stop()
	release()
	s.hub.Restart(t)

	waiting, release = s.hub.Hold(t, gitserver.ClonedByGit)
	s.gitea.Restart(t)
	s.operate()
	s.waited("what is left is taken away, and the migration begins anew", waiting)
	s.hub.Stop()
	release()
	s.says("GitHub dies in its midst", seed, map[string]string{"SourceReady": "False SeedUnreachable"})
	if g := s.gitops(); g.Status.Phase != v1alpha1.PhaseSourceFrozen {
		t.Errorf("without a seed that can be read the phase is %s", g.Status.Phase)
	}
	before = s.nothingIsLost(before)
	s.hub.Restart(t)
	s.says("it arrives", home, map[string]string{"Ready": "True GitOpsReady", "SourceReady": "True HomeActive"})
	s.argo.Await(t, s.hub.Head(t, "lab"), appNames()...)
	s.nothingIsLost(before)
}
