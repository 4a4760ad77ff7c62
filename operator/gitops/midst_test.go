//go:build linux

package gitops

import (
	"context"
	"testing"

	argo "github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/test/gitserver"
)

// In the midst of the switch a commit is pushed to Gitea, an ApplicationSet is edited
// by hand, Gitea dies and comes back, and the operator too. The switch arrives at the
// new commit.
func TestASwitchArrivesWhateverHappensInItsMidst(t *testing.T) {
	// Without Argo CD's own polling it is the operator that brings it to look.
	s := atTheSeed(t, nil, "ARGOCD_RECONCILIATION_TIMEOUT=1h")
	before := s.nothingIsLost(nil)

	s.gitea.Restart(t)
	s.operate()
	s.hangAtTheSwitch()
	second := gitserver.NewClone(t, s.gitea.PushURL(t, "home", "lab")).Commit(t, "second", map[string]string{"apps/apps-one/more.yaml": configMap("more", "1")})
	edited := &argo.ApplicationSet{}
	s.until("a set is edited by hand", func(ctx context.Context) string {
		if err := s.client.Get(ctx, client.ObjectKey{Namespace: s.argoNamespace, Name: setName("system")}, edited); err != nil {
			return err.Error()
		}
		edited.Spec.Template.Spec.Source.RepoURL = s.hub.URL("nothing")
		return errorText(s.client.Update(ctx, edited))
	})
	s.gitea.Kill()
	s.stop()
	s.operate()
	s.gitea.Restart(t)
	s.until("the edited set is put right", func(ctx context.Context) string {
		s.must(s.client.Get(ctx, client.ObjectKeyFromObject(edited), edited))
		if at, whole := follows(edited); !whole || at.url != s.gitea.Repository("home", "lab") {
			return at.url
		}
		return ""
	})
	if g := s.gitops(); g.Status.ActiveSource == home {
		t.Error("the switch was finished, although nothing was seen to arrive")
	}
	if err := s.argo.ApplicationController().Resume(); err != nil {
		t.Fatal(err)
	}
	s.says("it arrives", home, map[string]string{"Ready": "True GitOpsReady", "SourceReady": "True HomeActive"})
	s.argo.Await(t, second, appNames()...)
	before = s.nothingIsLost(before)
	if g := s.gitops(); g.Status.Switch != nil {
		t.Errorf("the finished switch is still written down: %+v", g.Status.Switch)
	}

	// Argo CD does not know a project for a moment, as a controller that has just
	// started: it would look again in an hour.
	project := &argo.AppProject{ObjectMeta: metav1.ObjectMeta{Namespace: s.argoNamespace, Name: "default"}}
	s.must(s.client.Get(t.Context(), client.ObjectKeyFromObject(project), project))
	s.must(s.client.Delete(t.Context(), project))
	s.until("Argo CD says that the project is gone", func(ctx context.Context) string {
		app := &argo.Application{ObjectMeta: metav1.ObjectMeta{Namespace: s.argoNamespace, Name: "apps-one"}}
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"annotations":{"argocd.argoproj.io/refresh":"normal"}}}`))
		if err := s.client.Patch(ctx, app, patch); err != nil {
			return err.Error()
		}
		if t := noError(app, wanted{}); t.reason == "" {
			return "it says nothing"
		}
		return ""
	})
	s.says("an Application says of an error", home, map[string]string{"LayersReady": "False GeneratorFailed"})
	again := &argo.AppProject{ObjectMeta: metav1.ObjectMeta{Namespace: project.Namespace, Name: project.Name}, Spec: project.Spec}
	s.must(s.client.Create(t.Context(), again))
	s.says("it is looked at again", home, map[string]string{"Ready": "True GitOpsReady"})
	s.nothingIsLost(before)
}
