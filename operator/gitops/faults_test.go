//go:build linux

package gitops

import (
	"context"
	"fmt"
	"testing"
	"time"

	sdk "code.gitea.io/sdk/gitea"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/test/gitserver"
)

// atTheSeed brings a scene to where every layer is ready from the seed, Gitea is
// down, and the operator is stopped. environment is of Argo CD's programs.
func atTheSeed(t *testing.T, change func(*Options), environment ...string) *scene {
	t.Helper()
	s := setUp(t)
	if change != nil {
		change(&s.options)
	}
	s.operate()
	s.argoCD(environment...)
	s.says("ready from the seed", seed, map[string]string{"Ready": "True GitOpsReady"})
	s.count()
	s.stop()
	return s
}

// hangAtTheSwitch lets Argo CD's controller hang as soon as the switch begins, so that
// it cannot apply what it reads. It is told by a watch: Argo CD would be there in a
// second.
func (s *scene) hangAtTheSwitch() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	w, err := s.client.Watch(ctx, &v1alpha1.GitOpsList{})
	s.must(err)
	defer w.Stop()
	for e := range w.ResultChan() {
		if g, ok := e.Object.(*v1alpha1.GitOps); ok && g.Status.Switch != nil && g.Status.Switch.To != "" {
			s.must(s.argo.ApplicationController().Pause())
			return
		}
	}
	s.t.Fatalf("the switch never began: %s", conditions(s.gitops()))
}

// A Gitea that somebody else filled, or did not, is moved to only when it has
// everything.
func TestAHomeThatLacksSomethingIsNotMovedTo(t *testing.T) {
	s := atTheSeed(t, nil)
	before := s.nothingIsLost(nil)
	held := func(what, reason string) {
		t.Helper()
		s.says(what, seed, map[string]string{"Switched": "False " + reason, "Ready": "True GitOpsReady"})
		s.nothingIsLost(before)
	}
	s.gitea.Forget(t)
	s.operate()
	held("Gitea is in install mode", v1alpha1.ReasonHomeInstallMode)

	s.stop()
	s.gitea.Remember(t)
	c := s.gitea.Client(t)
	if _, _, err := c.CreateOrg(sdk.CreateOrgOption{Name: "home"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.MigrateRepo(sdk.MigrateRepoOption{RepoOwner: "home", RepoName: "lab", CloneAddr: s.hub.URL("lab"), Mirror: true, Service: sdk.GitServicePlain}); err != nil {
		t.Fatal(err)
	}
	s.operate()
	held("the home is a pull mirror", v1alpha1.ReasonHomeMirror)

	s.stop()
	if _, err := c.DeleteRepo("home", "lab"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.CreateOrgRepo("home", sdk.CreateRepoOption{Name: "lab", DefaultBranch: "main"}); err != nil {
		t.Fatal(err)
	}
	s.operate()
	held("the home is empty", v1alpha1.ReasonHomeEmpty)

	other := gitserver.NewClone(t, s.gitea.PushURL(t, "home", "lab"))
	other.Commit(t, "hello", map[string]string{"README.md": "a new repository\n"})
	held("the home has a README", v1alpha1.ReasonHomeReadmeOnly)

	other.Commit(t, "files", firstFiles())
	held("the home has all directories, and not the seed's history", v1alpha1.ReasonHomeDiverged)

	// The seed goes on while the home has what it had before.
	old := s.hub.Head(t, "lab")
	newer := s.seed.Commit(t, "newer", map[string]string{"apps/apps-one/more.yaml": configMap("more", "1")})
	s.argo.Await(t, newer, "apps-one")
	before = s.nothingIsLost(before)
	s.until("the commit is recorded", func(ctx context.Context) string {
		if g := s.gitops(); g.Status.Revision != newer {
			return g.Status.Revision
		}
		return ""
	})
	s.copySeed(old)
	held("the home is behind", v1alpha1.ReasonHomeBehind)

	// A person wants it all the same: not against the rule.
	s.pin(v1alpha1.PinHome)
	held("pinned to a home that is behind", v1alpha1.ReasonPinHeld)
	s.pin(v1alpha1.PinAuto)

	s.copySeed(newer)
	s.says("the home has everything", home, map[string]string{"Ready": "True GitOpsReady"})
	before = s.nothingIsLost(before)

	// A person wants the seed back, which has everything.
	s.pin(v1alpha1.PinSeed)
	s.says("pinned to the seed", seed, map[string]string{"Ready": "True GitOpsReady", "Switched": "False PinnedToSeed"})
	s.argo.Await(t, newer, appNames()...)
	s.nothingIsLost(before)
}

// The switch, with what may go wrong in its midst.
func TestASwitchThatDoesNotArriveIsRolledBack(t *testing.T) {
	s := atTheSeed(t, func(o *Options) { o.SwitchTimeout, o.HoldOff = 30*time.Second, 30*time.Second })
	before := s.nothingIsLost(nil)
	s.gitea.Restart(t)
	s.operate()
	s.hangAtTheSwitch()
	s.until("the switch is rolled back", func(context.Context) string {
		g := s.gitops()
		if g.Status.ActiveSource == home {
			t.Fatal("the switch was finished, although nothing was seen to arrive")
		}
		if g.Status.Switch == nil || g.Status.Switch.Failures == 0 {
			return conditions(g)
		}
		return ""
	})
	// The operator dies right then.
	s.stop()
	if err := s.argo.ApplicationController().Resume(); err != nil {
		t.Fatal(err)
	}
	s.operate()
	s.says("back at the seed, and it waits", seed, map[string]string{"Switched": "False RolledBack"})
	before = s.nothingIsLost(before)
	s.gitea.Kill()
	before = s.nothingIsLost(before)
	s.gitea.Restart(t)
	s.says("the next try arrives", home, map[string]string{"Ready": "True GitOpsReady"})
	before = s.nothingIsLost(before)
	if g := s.gitops(); g.Status.Switch != nil {
		t.Errorf("the finished switch is still written down: %+v", g.Status.Switch)
	}

	// GitHub dies: nobody cares. Then it is back, Gitea is gone for long, and the seed
	// has everything.
	s.hub.Stop()
	s.says("GitHub is down", home, map[string]string{"Ready": "True GitOpsReady", "GitHubBehind": "Unknown SeedUnknown"})
	s.stop()
	s.options.FallBackAfter = 5 * time.Second
	s.operate()
	s.gitea.Kill()
	s.says("both are down: frozen", home, map[string]string{"SourceReady": "False HomeUnreachable"})
	before = s.nothingIsLost(before)
	s.hub.Restart(t)
	s.says("the seed stands in", seed, map[string]string{"Ready": "True GitOpsReady"})
	s.nothingIsLost(before)
}

// A cluster that is made anew finds the Gitea of before, which has what the seed
// lacks: it begins with the seed, goes back home, and loses nothing, although the
// operator dies again and again. The push mirror then brings the seed up to date.
func TestARebuiltClusterGoesBackHome(t *testing.T) {
	s := setUp(t)
	s.gitea.Restart(t)
	c := s.gitea.Client(t)
	if _, _, err := c.CreateOrg(sdk.CreateOrgOption{Name: "home"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.CreateOrgRepo("home", sdk.CreateRepoOption{Name: "lab", DefaultBranch: "main"}); err != nil {
		t.Fatal(err)
	}
	first := s.hub.Head(t, "lab")
	s.copySeed(first)
	ahead := gitserver.NewClone(t, s.gitea.PushURL(t, "home", "lab")).Commit(t, "ahead", map[string]string{"apps/two/config.yaml": configMap("two", "2")})
	s.gitea.Kill()

	s.operate()
	s.argoCD()
	s.says("the seed again", seed, map[string]string{"Ready": "True GitOpsReady", "Switched": "False HomeUnreachable"})
	s.argo.Await(t, first, appNames()...)
	s.count()
	before := s.nothingIsLost(nil)

	s.gitea.Restart(t)
	s.until("home, with an operator that dies every few seconds", func(ctx context.Context) string {
		g := s.gitops()
		if g.Status.ActiveSource == home {
			return ""
		}
		s.stop()
		s.operate()
		select {
		case <-ctx.Done():
		case <-time.After(4 * time.Second):
		}
		return conditions(g)
	})
	s.says("home", home, map[string]string{"SourceReady": "True HomeActive", "GitHubBehind": "True SeedLacksCommits"})
	s.argo.Await(t, ahead, append(appNames(), "two")...)
	before = s.nothingIsLost(before)

	s.must(s.client.Create(t.Context(), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "push", Namespace: s.release},
		Data:       map[string][]byte{"username": []byte("pusher"), "password": []byte("secret")},
	}))
	s.hub.Require("pusher", "secret")
	s.until("the mirror is declared", func(ctx context.Context) string {
		g := s.gitops()
		g.Spec.Home.PushMirror = &v1alpha1.PushMirror{Credentials: v1alpha1.SecretReference{Name: "push"}}
		g.Spec.Seed.Credentials = &v1alpha1.SecretReference{Name: "push"}
		return errorText(s.client.Update(ctx, g))
	})
	s.says("the seed is brought up to date", home, map[string]string{"GitHubBehind": "False SeedCurrent", "Ready": "True GitOpsReady"})
	if got := s.hub.Head(t, "lab"); got != ahead {
		t.Errorf("the seed is at %s, want %s", got, ahead)
	}
	before = s.nothingIsLost(before)

	// The seed is the source again: what Gitea has must not be pushed over it.
	s.pin(v1alpha1.PinSeed)
	s.says("back at the seed", seed, map[string]string{"Ready": "True GitOpsReady", "GitHubBehind": "False SeedIsSource"})
	s.until("Gitea pushes to the seed no more", func(context.Context) string {
		mirrors, _, err := c.ListPushMirrors("home", "lab", sdk.ListOptions{})
		if err != nil || len(mirrors) > 0 {
			return fmt.Sprintf("%d push mirrors, %v", len(mirrors), err)
		}
		return ""
	})
	s.nothingIsLost(before)
}
