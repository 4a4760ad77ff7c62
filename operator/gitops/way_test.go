//go:build linux

package gitops

import (
	"context"
	"fmt"
	"testing"
	"time"

	sdk "code.gitea.io/sdk/gitea"
	argo "github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/test/gitserver"
)

// The whole way: first install from the seed, Gitea comes up, the repository moves,
// pushes arrive, Gitea is killed. Not one Application and not one object that they
// applied is deleted, or made anew.
func TestTheWholeWayToTheHome(t *testing.T) {
	s := setUp(t)
	s.operate()
	// Argo CD by itself looks at nothing anew.
	s.argoCD("ARGOCD_RECONCILIATION_TIMEOUT=1h")
	s.says("Gitea is not there: the seed", seed, map[string]string{
		"Ready": "True GitOpsReady", "ArgoCDReady": "True Running", "SourceReady": "True SeedActive", "LayersReady": "True AllReady",
		"Switched": "False HomeUnreachable", "GitHubBehind": "False SeedIsSource",
	})
	s.argo.Await(t, s.hub.Head(t, "lab"), appNames()...)
	s.count()
	before := s.nothingIsLost(nil)
	g := s.gitops()
	if g.Status.Revision != s.hub.Head(t, "lab") || len(g.Status.Layers) != 4 || g.Status.Layers[3].Ready != 1 {
		t.Errorf("the status is %+v", g.Status)
	}

	// A part of Argo CD is lost, and put back as it was.
	part := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: s.argoNamespace, Name: "argocd-repo-server"}}
	s.must(s.client.Delete(t.Context(), part))
	s.until("the part is back", func(ctx context.Context) string {
		back := &appsv1.Deployment{}
		if err := s.client.Get(ctx, client.ObjectKeyFromObject(part), back); err != nil {
			return err.Error()
		}
		back.Status = appsv1.DeploymentStatus{ObservedGeneration: back.Generation, Replicas: 1, ReadyReplicas: 1, AvailableReplicas: 1}
		return errorText(s.client.Status().Update(ctx, back))
	})
	s.says("Argo CD is whole again", seed, map[string]string{"ArgoCDReady": "True Running", "Ready": "True GitOpsReady"})
	before = s.nothingIsLost(before)

	s.gitea.Restart(t)
	s.says("the repository moves", home, map[string]string{
		"Ready": "True GitOpsReady", "SourceReady": "True HomeActive", "Switched": "True HomeActive", "GitHubBehind": "False SeedCurrent",
	})
	before = s.nothingIsLost(before)
	var sets argo.ApplicationSetList
	s.must(s.client.List(t.Context(), &sets, client.InNamespace(s.argoNamespace)))
	for i := range sets.Items {
		if at, whole := follows(&sets.Items[i]); !whole || at.url != s.gitea.Repository("home", "lab") {
			t.Errorf("the ApplicationSet %s follows %v", sets.Items[i].Name, at)
		}
	}
	var secret corev1.Secret
	s.must(s.client.Get(t.Context(), client.ObjectKey{Namespace: s.argoNamespace, Name: homeSecret}, &secret))
	if string(secret.Data["password"]) == s.gitea.Password {
		t.Error("Argo CD was given the administrator's password, not a token")
	}

	// A push to Gitea, and a new directory.
	clone := gitserver.NewClone(t, s.gitea.PushURL(t, "home", "lab"))
	second := clone.Commit(t, "second", map[string]string{"apps/two/config.yaml": configMap("two", "2")})
	s.argo.Await(t, second, append(appNames(), "two")...)
	s.says("the seed lacks it", home, map[string]string{"GitHubBehind": "True SeedLacksCommits", "SourceReady": "True HomeActive"})
	before = s.nothingIsLost(before)

	// An ApplicationSet is edited by hand, to follow a repository that has nothing, and
	// the operator is not there. Argo CD reads it, nobody is deleted, and it is put right.
	s.stop()
	s.hub.Repository(t, "nothing")
	s.hub.Clone(t, "nothing").Commit(t, "nothing", map[string]string{"README.md": "nothing is here\n"})
	edited := &argo.ApplicationSet{}
	s.must(s.client.Get(t.Context(), client.ObjectKey{Namespace: s.argoNamespace, Name: setName("apps")}, edited))
	edited.Spec.Generators[0].Git.RepoURL = s.hub.URL("nothing")
	s.must(s.client.Update(t.Context(), edited))
	s.until("Argo CD reads what has nothing", func(context.Context) string {
		// Once where the branch is, and once what is in it.
		if n := s.hub.Fetches("nothing"); n < 2 {
			return fmt.Sprintf("it has asked %d times", n)
		}
		return ""
	})
	before = s.nothingIsLost(before)
	s.operate()
	s.until("the edited set is put right", func(ctx context.Context) string {
		s.must(s.client.Get(ctx, client.ObjectKey{Namespace: s.argoNamespace, Name: setName("apps")}, edited))
		if at, whole := follows(edited); !whole || at.url != s.gitea.Repository("home", "lab") {
			return at.url
		}
		return ""
	})
	before = s.nothingIsLost(before)

	// Gitea is killed, and the operator too: frozen, whoever looks.
	s.gitea.Kill()
	s.says("Gitea is down", home, map[string]string{"SourceReady": "False HomeUnreachable", "Switched": "True HomeActive"})
	s.stop()
	s.operate()
	s.says("Gitea is down, and the operator is new", home, map[string]string{"SourceReady": "False HomeUnreachable", "Switched": "True HomeActive"})
	s.nothingIsLost(before)
	s.gitea.Restart(t)
	s.says("Gitea is back", home, map[string]string{"Ready": "True GitOpsReady"})

	// Gitea tells of a push: nobody looks by himself. That the webhook is there again
	// shows that the operator has looked once.
	s.stop()
	c := s.gitea.Client(t)
	hooks := func() []*sdk.Hook {
		all, _, err := c.ListRepoHooks("home", "lab", sdk.ListHooksOptions{})
		s.must(err)
		return all
	}
	for _, h := range hooks() {
		if _, err := c.DeleteRepoHook("home", "lab", h.ID); err != nil {
			t.Fatal(err)
		}
	}
	s.options.Poll = time.Hour
	s.operate()
	s.until("Gitea is to tell of pushes", func(context.Context) string {
		if n := len(hooks()); n != 1 {
			return fmt.Sprintf("%d webhooks", n)
		}
		return ""
	})
	told := clone.Commit(t, "told", map[string]string{"apps/two/config.yaml": configMap("two", "3")})
	s.argo.Await(t, told, append(appNames(), "two")...)
	before = s.nothingIsLost(before)

	// Gitea tells nobody: the operator looks by itself.
	s.stop()
	s.options.Poll, s.options.HookAddress, s.options.HookURL = time.Second, "", ""
	s.operate()
	polled := clone.Commit(t, "polled", map[string]string{"apps/two/config.yaml": configMap("two", "4")})
	s.argo.Await(t, polled, append(appNames(), "two")...)
	before = s.nothingIsLost(before)

	// A directory that is removed takes its Application, which no ApplicationSet may.
	third := clone.Commit(t, "third", map[string]string{"apps/two/config.yaml": ""})
	s.until("the Application of the removed directory goes, and what it applied", func(ctx context.Context) string {
		// No garbage collector runs here, which would finish the deletion.
		for key, o := range map[client.ObjectKey]client.Object{{Namespace: s.argoNamespace, Name: "two"}: &argo.Application{}, {Namespace: "two", Name: "two"}: &corev1.ConfigMap{}} {
			if err := s.client.Get(ctx, key, o); err == nil && o.GetDeletionTimestamp() == nil {
				return key.String()
			}
		}
		return ""
	})
	s.argo.Await(t, third, appNames()...)
	for _, name := range appNames() {
		if _, lives := before["Application "+name]; !lives {
			t.Errorf("%s was not counted", name)
		}
	}
}
