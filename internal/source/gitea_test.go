//go:build linux

package source_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	sdk "code.gitea.io/sdk/gitea"

	"github.com/rhizome-dev/rhizome/internal/source"
	"github.com/rhizome-dev/rhizome/test/gitea"
	"github.com/rhizome-dev/rhizome/test/gitserver"
)

func TestWhatGiteaSaysOfARepository(t *testing.T) {
	hub := gitserver.Start(t)
	hub.Repository(t, "lab")
	first := hub.Clone(t, "lab").Commit(t, "first", map[string]string{"system/x/x.yaml": "x: 1\n"})
	real := gitea.Start(t, gitea.NotInstalled())
	g := &source.Gitea{URL: real.URL, Username: gitea.Admin}
	says := func(reason, owner, name string, want source.State) {
		t.Helper()
		if got, why := g.Look(t.Context(), owner, name); got != want || (want != source.Present) != (why != "") {
			t.Errorf("%s: %d %q, want %d", reason, got, why, want)
		}
	}
	says("it waits for its installation", "home", "lab", source.InstallMode)
	real.Install(t)
	g.Password = "wrong"
	says("the password is wrong", "home", "lab", source.Refused)
	g.Password = real.Password
	says("there is nothing", "home", "lab", source.Missing)

	m := source.Migration{Owner: "home", Name: "lab", From: hub.URL("lab")}
	hub.Stop()
	if err := g.Migrate(t.Context(), m); err == nil {
		t.Error("a migration from a server that is down is said to have worked")
	}
	says("nothing is left of a migration that failed", "home", "lab", source.Missing)
	hub.Restart(t)
	for _, reason := range []string{"a migration", "one that was done already"} {
		if err := g.Migrate(t.Context(), m); err != nil {
			t.Errorf("%s: %v", reason, err)
		}
	}
	says("it was migrated", "home", "lab", source.Present)

	c := real.Client(t)
	repo, _, err := c.GetRepo("home", "lab")
	if err != nil || repo.Mirror || !repo.Private {
		t.Errorf("the copy is %+v (%v), want a private repository that is no mirror", repo, err)
	}
	if _, _, err := c.CreateOrgRepo("home", sdk.CreateRepoOption{Name: "empty"}); err != nil {
		t.Fatal(err)
	}
	says("a person made it", "home", "empty", source.Empty)
	real.FillUnnoticed(t, "home", "empty", hub.URL("lab"))
	if repo, _, err := c.GetRepo("home", "empty"); err != nil || !repo.Empty {
		t.Fatalf("Gitea has taken note of the push: %+v, %v", repo, err)
	}
	says("Gitea died between a push and its note of it", "home", "empty", source.Present)
	if _, _, err := c.MigrateRepo(sdk.MigrateRepoOption{RepoOwner: "home", RepoName: "mirror", CloneAddr: hub.URL("lab"), Mirror: true, Service: sdk.GitServicePlain}); err != nil {
		t.Fatal(err)
	}
	says("a pull mirror", "home", "mirror", source.Mirror)

	// The token reads what it is for, and nothing else may be done with it.
	token, err := g.Token(t.Context(), "rhizome-home-lab")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := g.Token(t.Context(), "rhizome-home-lab"); err != nil || again == token {
		t.Errorf("a token whose text is lost is not replaced: %v", err)
	} else if admitted, err := g.Admits(t.Context(), token, "home", "lab"); admitted || err != nil {
		t.Errorf("the replaced token is admitted: %t, %v", admitted, err)
	} else {
		token = again
	}
	if admitted, err := g.Admits(t.Context(), token, "home", "lab"); !admitted || err != nil {
		t.Errorf("the token is not admitted: %v", err)
	}
	auth, err := source.Auth(g.CloneURL("home", "lab"), map[string][]byte{source.KeyUsername: []byte("any"), source.KeyPassword: []byte(token)})
	if err != nil {
		t.Fatal(err)
	}
	if tree, err := source.NewBranch(g.CloneURL("home", "lab"), "main").Look(t.Context(), auth); err != nil || tree.Head != first {
		t.Errorf("git with the token sees %+v, %v; want %s", tree, err, first)
	}
	reader, err := sdk.NewClient(real.URL, sdk.SetToken(token), sdk.SetGiteaVersion(""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.DeleteRepo("home", "lab"); err == nil {
		t.Error("the token may delete the repository")
	}

	// The push mirror brings what is pushed back to the seed.
	if is, _, err := g.Mirroring(t.Context(), "home", "lab", hub.URL("lab")); is || err != nil {
		t.Errorf("it mirrors already: %v", err)
	}
	zeroth := gitserver.NewClone(t, real.PushURL(t, "home", "lab")).Commit(t, "before the mirror", map[string]string{"system/z/z.yaml": "z: 1\n"})
	for range 2 {
		if err := g.StartMirror(t.Context(), "home", "lab", source.PushMirror{URL: hub.URL("lab"), Username: "u", Password: "p", Interval: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	arrives := func(what, commit string) {
		t.Helper()
		for deadline := time.Now().Add(3 * time.Minute); hub.Head(t, "lab") != commit; time.Sleep(200 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s does not come back to the seed", what)
			}
		}
	}
	if err := g.PushNow(t.Context(), "home", "lab"); err != nil {
		t.Fatal(err)
	}
	arrives("what was there before the mirror", zeroth)
	second := gitserver.NewClone(t, real.PushURL(t, "home", "lab")).Commit(t, "second", map[string]string{"system/y/y.yaml": "y: 1\n"})
	arrives("a push", second)
	if is, failed, err := g.Mirroring(t.Context(), "home", "lab", hub.URL("lab")); !is || failed != "" || err != nil {
		t.Errorf("mirroring %t, %q, %v", is, failed, err)
	}
	if err := g.StopMirror(t.Context(), "home", "lab", hub.URL("lab")); err != nil {
		t.Error(err)
	}
	if all, _, err := c.ListPushMirrors("home", "lab", sdk.ListOptions{}); err != nil || len(all) != 0 {
		t.Errorf("mirrors that are left: %v, %v", all, err)
	}

	// One webhook, however often it is asked for.
	for range 2 {
		if err := g.Hook(t.Context(), "home", "lab", "http://127.0.0.1:9/v1/push", "secret"); err != nil {
			t.Fatal(err)
		}
	}
	if hooks, _, err := c.ListRepoHooks("home", "lab", sdk.ListHooksOptions{}); err != nil || len(hooks) != 1 {
		t.Errorf("webhooks: %v, %v", hooks, err)
	}

	real.Kill()
	says("it is dead", "home", "lab", source.Unreachable)
}

func TestWhatIsNoGiteaIsToldApart(t *testing.T) {
	tests := []struct {
		reason, version string
		code            int
		want            source.State
	}{
		{"too old", `{"version":"1.19.4"}`, http.StatusOK, source.Unsupported},
		{"Gitea of a distribution", `{"version":"1.17.0+dfsg"}`, http.StatusOK, source.Unsupported},
		{"no version", `{"version":"the best"}`, http.StatusOK, source.Unsupported},
		{"something else", `{}`, http.StatusNotFound, source.Unsupported},
		{"a proxy before a dead Gitea", `bad gateway`, http.StatusBadGateway, source.Unreachable},
	}
	for _, tc := range tests {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasSuffix(r.URL.Path, "/version") {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(tc.code)
			_, _ = w.Write([]byte(tc.version))
		}))
		g := &source.Gitea{URL: s.URL}
		if got, why := g.Look(t.Context(), "home", "lab"); got != tc.want || why == "" {
			t.Errorf("%s: %d %q, want %d", tc.reason, got, why, tc.want)
		}
		s.Close()
	}
}
