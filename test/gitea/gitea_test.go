//go:build linux

package gitea_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	sdk "code.gitea.io/sdk/gitea"

	"github.com/rhizome-dev/rhizome/test/gitea"
	"github.com/rhizome-dev/rhizome/test/gitserver"
)

// status is how a GET is answered.
func status(t *testing.T, url string) int {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	return answer.StatusCode
}

func TestWhatIsInGiteaOutlivesItsDeath(t *testing.T) {
	g := gitea.Start(t)
	if _, _, err := g.Client(t).CreateRepo(sdk.CreateRepoOption{Name: "lab", DefaultBranch: "main", AutoInit: true}); err != nil {
		t.Fatal(err)
	}
	want := gitserver.NewClone(t, g.PushURL(t, gitea.Admin, "lab")).Commit(t, "first", map[string]string{"a": "1\n"})
	g.Kill()
	if answer, err := http.Get(g.URL + "/api/healthz"); err == nil {
		answer.Body.Close()
		t.Fatalf("a killed Gitea answers: %s", answer.Status)
	}
	g.Restart(t)
	branch, _, err := g.Client(t).GetRepoBranch(gitea.Admin, "lab", "main")
	if err != nil {
		t.Fatal(err)
	}
	if branch.Commit.ID != want {
		t.Errorf("the branch is at %s, want %s", branch.Commit.ID, want)
	}
}

func TestATokenDoesWhatItsScopesSay(t *testing.T) {
	g := gitea.Start(t)
	if _, _, err := g.Client(t).CreateRepo(sdk.CreateRepoOption{Name: "lab", AutoInit: true, DefaultBranch: "main"}); err != nil {
		t.Fatal(err)
	}
	c, err := sdk.NewClient(g.URL, sdk.SetToken(g.Token(t, "reader", "read:repository")), sdk.SetGiteaVersion(""))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.GetRepo(gitea.Admin, "lab"); err != nil {
		t.Errorf("it cannot read: %v", err)
	}
	if _, err := c.DeleteRepo(gitea.Admin, "lab"); err == nil {
		t.Error("it can write")
	}
}

func TestInInstallModeGiteaIsHealthyAndHasNoAPI(t *testing.T) {
	g := gitea.Start(t, gitea.NotInstalled())
	if got := status(t, g.URL+"/api/healthz"); got != http.StatusOK {
		t.Errorf("the health check answers %d", got)
	}
	if got := status(t, g.URL+"/api/v1/version"); got != http.StatusNotFound {
		t.Errorf("the API answers %d in install mode", got)
	}
	g.Install(t)
	version, _, err := g.Client(t).ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if version != "1.26.0" {
		t.Errorf("once installed it is version %q", version)
	}
}

func TestWebhooksAndPushMirrorsReachLoopback(t *testing.T) {
	hub := gitserver.Start(t)
	hub.Repository(t, "lab")
	hub.Require("writer", "secret")
	pushes := make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var push struct{ After string }
		if err := json.NewDecoder(r.Body).Decode(&push); err != nil {
			t.Errorf("%s: %v", r.Header.Get("X-Gitea-Event"), err)
		}
		pushes <- push.After
	}))
	t.Cleanup(receiver.Close)
	g := gitea.Start(t)
	api := g.Client(t)
	if _, _, err := api.CreateRepo(sdk.CreateRepoOption{Name: "lab", DefaultBranch: "main", AutoInit: true}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := api.CreateRepoHook(gitea.Admin, "lab", sdk.CreateHookOption{Type: sdk.HookTypeGitea, Active: true, Events: []string{"push"},
		Config: map[string]string{"url": receiver.URL, "content_type": "json"}}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := api.PushMirrors(gitea.Admin, "lab", sdk.CreatePushMirrorOption{RemoteAddress: hub.URL("lab"), RemoteUsername: "writer", RemotePassword: "secret",
		Interval: "0s", SyncONCommit: true}); err != nil {
		t.Fatal(err)
	}
	want := gitserver.NewClone(t, g.PushURL(t, gitea.Admin, "lab")).Commit(t, "first", map[string]string{"a": "1\n"})
	select {
	case got := <-pushes:
		if got != want {
			t.Errorf("the webhook told of %s, want %s", got, want)
		}
	case <-time.After(time.Minute):
		t.Error("no webhook was called")
	}
	for end := time.Now().Add(time.Minute); hub.Head(t, "lab") != want; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the mirror is at %q, want %q", hub.Head(t, "lab"), want)
		}
	}
}

func TestAGiteaThatHangsIsKilledToo(t *testing.T) {
	g := gitea.Start(t)
	if err := g.Process().Pause(); err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Timeout: time.Second}
	if answer, err := client.Get(g.URL + "/api/healthz"); err == nil {
		answer.Body.Close()
		t.Errorf("a Gitea that hangs answers %s", answer.Status)
	}
	if err := g.Process().Resume(); err != nil {
		t.Fatal(err)
	}
	if got := status(t, g.URL+"/api/healthz"); got != http.StatusOK {
		t.Errorf("once resumed it answers %d", got)
	}
	if err := g.Process().Pause(); err != nil {
		t.Fatal(err)
	}
	g.Kill()
	if g.Process().Running() {
		t.Error("a killed Gitea runs")
	}
}
