package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"code.gitea.io/sdk/gitea"
	"github.com/Masterminds/semver/v3"
)

// OldestGitea is the first release whose tokens have the scopes that are asked for.
const OldestGitea = "1.20.0"

// State is what a Gitea says of a repository, in the order in which it is found out.
type State int

// The states. Only Present says that its branch may be looked at.
const (
	// Unreachable says that nothing answers.
	Unreachable State = iota
	// InstallMode says that Gitea waits for its installation to be finished. Its health check
	// is content with that.
	InstallMode
	// Unsupported says that it is no Gitea, or one that is too old.
	Unsupported
	// Refused says that the credentials are refused.
	Refused
	// Missing says that there is no such repository.
	Missing
	// Migrating says that a migration was begun, and has not ended. Gitea does not say so: what
	// is told by is a repository without commits that remembers where it came from.
	Migrating
	// Mirror says that it is a pull mirror.
	Mirror
	// Empty says that it has no commits.
	Empty
	// Present says that it may be looked at.
	Present
)

// Gitea is a Gitea server, as its administrator sees it. It may be used by several
// goroutines.
type Gitea struct {
	// URL is the base URL, without a slash at its end.
	URL string
	// Username and Password of an administrator.
	Username, Password string
	// Client does the requests; nil: one that waits ten seconds.
	Client *http.Client
}

// CloneURL is where git reads a repository.
func (g *Gitea) CloneURL(owner, name string) string { return g.URL + "/" + owner + "/" + name + ".git" }

func (g *Gitea) client() *http.Client {
	if g.Client != nil {
		return g.Client
	}
	return &http.Client{Timeout: 10 * time.Second}
}

func (g *Gitea) sdk(ctx context.Context, options ...gitea.ClientOption) (*gitea.Client, error) {
	options = append([]gitea.ClientOption{
		gitea.SetContext(ctx), gitea.SetHTTPClient(g.client()), gitea.SetGiteaVersion(""), gitea.SetUserAgent("rhizome"),
	}, options...)
	return gitea.NewClient(g.URL, options...)
}

func (g *Gitea) asAdmin(ctx context.Context) (*gitea.Client, error) {
	return g.sdk(ctx, gitea.SetBasicAuth(g.Username, g.Password))
}

// Look says what Gitea says of a repository, and in words why it is not Present.
func (g *Gitea) Look(ctx context.Context, owner, name string) (State, string) {
	state, why := g.version(ctx)
	if state != Present {
		return state, why
	}
	c, err := g.asAdmin(ctx)
	if err != nil {
		return Unreachable, Redact(err.Error())
	}
	// An organisation that is not there and one that may not be seen answer alike:
	// whether the credentials are good is asked first.
	if _, answer, err := c.GetMyUserInfo(); err != nil {
		return refusal(answer), Redact(err.Error())
	}
	repo, answer, err := c.GetRepo(owner, name)
	switch {
	case err != nil && answer != nil && answer.StatusCode == http.StatusNotFound:
		return Missing, "there is no repository " + owner + "/" + name
	case err != nil:
		return refusal(answer), Redact(err.Error())
	case repo.Mirror:
		return Mirror, "it is a pull mirror of " + Redact(repo.OriginalURL)
	}
	empty, err := g.empty(ctx, repo)
	switch {
	case err != nil && repo.OriginalURL != "":
		// A migration that failed leaves a name without a repository.
		return Migrating, "it says that it comes from " + Redact(repo.OriginalURL) + ", and git cannot read it: " + Redact(err.Error())
	case err != nil:
		return Unreachable, Redact(err.Error())
	case empty && repo.OriginalURL != "":
		return Migrating, "it has no commits yet, and says that it comes from " + Redact(repo.OriginalURL)
	case empty:
		return Empty, "it has no commits"
	}
	return Present, ""
}

// empty says whether a repository has no branch. Gitea takes its own note of that
// some time after a push: one that died between the two calls a repository empty
// until the next push, so git has the last word.
func (g *Gitea) empty(ctx context.Context, repo *gitea.Repository) (bool, error) {
	if !repo.Empty {
		return false, nil
	}
	owner, name, _ := strings.Cut(repo.FullName, "/")
	url := g.CloneURL(owner, name)
	auth, err := Auth(url, map[string][]byte{KeyUsername: []byte(g.Username), KeyPassword: []byte(g.Password)})
	if err != nil {
		return false, err
	}
	session, refs, err := connect(ctx, url, auth)
	if errors.Is(err, ErrNoBranch) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return len(refs.References) == 0, session.Close()
}

func refusal(answer *gitea.Response) State {
	if answer != nil && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden) {
		return Refused
	}
	return Unreachable
}

// version tells a Gitea that works from one that waits to be installed, and from
// something else. Present: it works.
func (g *Gitea) version(ctx context.Context) (State, string) {
	code, kind, body, err := g.get(ctx, "/api/v1/version")
	if err != nil {
		return Unreachable, Redact(err.Error())
	}
	if code >= 500 {
		return Unreachable, fmt.Sprintf("it answers %d %s", code, http.StatusText(code))
	}
	var said struct {
		Version string `json:"version"`
	}
	if code != http.StatusOK || kind != "application/json" || json.Unmarshal(body, &said) != nil {
		// In install mode there is no API, but the health check is content.
		if code, _, _, err := g.get(ctx, "/api/healthz"); err == nil && code == http.StatusOK {
			return InstallMode, "it has no API yet"
		}
		return Unsupported, fmt.Sprintf("/api/v1/version answers %d %s, and not with a version", code, http.StatusText(code))
	}
	v, err := semver.NewVersion(strings.SplitN(said.Version, "+", 2)[0])
	if err != nil {
		return Unsupported, fmt.Sprintf("it calls its version %.40q", said.Version)
	}
	if core, err := v.SetPrerelease(""); err != nil || core.LessThan(semver.MustParse(OldestGitea)) {
		return Unsupported, fmt.Sprintf("its version is %s, and the oldest that can be used is %s", v, OldestGitea)
	}
	return Present, ""
}

func (g *Gitea) get(ctx context.Context, path string) (code int, kind string, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.URL+path, nil)
	if err != nil {
		return 0, "", nil, err
	}
	answer, err := g.client().Do(req)
	if err != nil {
		return 0, "", nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	kind, _, _ = mime.ParseMediaType(answer.Header.Get("Content-Type"))
	return answer.StatusCode, kind, body, err
}

// Migration is a repository to be copied into Gitea.
type Migration struct {
	Owner, Name string
	// From is the URL to clone, with the user name and password for it, if any.
	From, Username, Password string
	// Stale is how long a migration may take before what is there of it is taken for a
	// leftover. Zero: an hour.
	Stale time.Duration
}

// Migrate copies a repository: the organisation is made if it is not there, and the
// repository is private and no mirror. Gitea answers when it is done, which may take
// long, and goes on when nobody waits any more: an error says nothing of whether
// the copy will be there, a look does. That it is there already is no error.
//
// Gitea keeps the empty repository of a migration that failed, so that a person
// reads why, and refuses another. It is taken away: of this migration at once, and
// of one that nobody knows the end of after an hour, if git can read that it has no
// commits.
func (g *Gitea) Migrate(ctx context.Context, m Migration) error {
	c, err := g.asAdmin(ctx)
	if err != nil {
		return errors.New(Redact(err.Error()))
	}
	if _, answer, err := c.GetOrg(m.Owner); err != nil {
		if answer == nil || answer.StatusCode != http.StatusNotFound {
			return fmt.Errorf("cannot read the organisation %s: %s", m.Owner, Redact(err.Error()))
		}
		_, answer, err = c.CreateOrg(gitea.CreateOrgOption{Name: m.Owner, Visibility: gitea.VisibleTypePrivate})
		if err != nil && (answer == nil || answer.StatusCode != http.StatusUnprocessableEntity) {
			return fmt.Errorf("cannot make the organisation %s: %s", m.Owner, Redact(err.Error()))
		}
		if err != nil {
			// Taken by a person, or made by somebody else meanwhile.
			if _, _, again := c.GetOrg(m.Owner); again != nil {
				return fmt.Errorf("cannot make the organisation %s: %s", m.Owner, Redact(err.Error()))
			}
		}
	}
	if m.Stale == 0 {
		m.Stale = time.Hour
	}
	if err := g.discard(ctx, c, m, m.Stale); err != nil {
		return err
	}
	_, answer, err := c.MigrateRepo(gitea.MigrateRepoOption{
		RepoOwner: m.Owner, RepoName: m.Name, CloneAddr: m.From, Service: gitea.GitServicePlain,
		AuthUsername: m.Username, AuthPassword: m.Password, Mirror: false, Private: true,
	})
	if err != nil && answer != nil && answer.StatusCode == http.StatusConflict {
		return nil
	}
	if err != nil && answer != nil {
		// Gitea says that it failed, so it has ended.
		err = errors.Join(err, g.discard(ctx, c, m, 0))
	}
	if err != nil {
		return fmt.Errorf("cannot migrate %s into %s/%s: %s", Redact(m.From), m.Owner, m.Name, Redact(err.Error()))
	}
	return nil
}

// discard takes away what is left of a migration: a repository without a commit that
// says that it comes from where this one does, of some age.
func (g *Gitea) discard(ctx context.Context, c *gitea.Client, m Migration, age time.Duration) error {
	repo, answer, err := c.GetRepo(m.Owner, m.Name)
	if answer != nil && answer.StatusCode == http.StatusNotFound {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot look for what is left of a migration: %s", Redact(err.Error()))
	}
	if repo.Mirror || repo.OriginalURL != m.From || time.Since(repo.Created) < age {
		return nil
	}
	if !repo.Empty {
		return nil
	}
	if age > 0 {
		// It may have been pushed to since.
		switch empty, err := g.empty(ctx, repo); {
		case err != nil:
			return g.makeReadable(c, err)
		case !empty:
			return nil
		}
	}
	if _, err := c.DeleteRepo(m.Owner, m.Name); err != nil {
		return fmt.Errorf("cannot take away what is left of a migration: %s", Redact(err.Error()))
	}
	return nil
}

// reinitMissing is Gitea's own task that makes an empty repository where it has a
// record of one and no files, and touches nothing else.
const reinitMissing = "reinit_missing_repos"

// makeReadable is for what is left of a migration when git cannot read it. A Gitea that
// died before it had made the files has a record alone, and only it can say so: it is
// asked to make the files, so that git, the next time, says whether there are commits.
// Nothing is deleted that could not be read.
func (g *Gitea) makeReadable(c *gitea.Client, unreadable error) error {
	if _, err := c.RunCronTasks(reinitMissing); err != nil {
		return fmt.Errorf("cannot look whether what is left of a migration has commits, and Gitea does not mend it; if it has none, delete it in Gitea: %s; %s",
			Redact(unreadable.Error()), Redact(err.Error()))
	}
	return fmt.Errorf("cannot look whether what is left of a migration has commits; Gitea was asked to make what has no files (%s), and it is looked at again: %s",
		reinitMissing, Redact(unreadable.Error()))
}

// Token makes a token that may read repositories and nothing else. One of the same
// name, whose text nobody knows any more, is replaced.
func (g *Gitea) Token(ctx context.Context, name string) (string, error) {
	c, err := g.asAdmin(ctx)
	if err != nil {
		return "", errors.New(Redact(err.Error()))
	}
	if answer, err := c.DeleteAccessToken(name); err != nil && (answer == nil || answer.StatusCode != http.StatusNotFound) {
		return "", fmt.Errorf("cannot replace the token %s: %s", name, Redact(err.Error()))
	}
	token, _, err := c.CreateAccessToken(gitea.CreateAccessTokenOption{Name: name, Scopes: []gitea.AccessTokenScope{"read:repository"}})
	if err != nil {
		return "", fmt.Errorf("cannot make the token %s: %s", name, Redact(err.Error()))
	}
	return token.Token, nil
}

// Admits says whether a token reads a repository. An error says that it is not
// known.
func (g *Gitea) Admits(ctx context.Context, token, owner, name string) (bool, error) {
	c, err := g.sdk(ctx, gitea.SetToken(token))
	if err != nil {
		return false, errors.New(Redact(err.Error()))
	}
	_, answer, err := c.GetRepo(owner, name)
	switch {
	case err == nil:
		return true, nil
	case answer == nil || answer.StatusCode >= 500:
		return false, fmt.Errorf("cannot try the token: %s", Redact(err.Error()))
	}
	return false, nil
}

// Hook sees to it that pushes to a repository are told to a URL, signed with a
// secret.
func (g *Gitea) Hook(ctx context.Context, owner, name, target, secret string) error {
	c, err := g.asAdmin(ctx)
	if err != nil {
		return errors.New(Redact(err.Error()))
	}
	hooks, _, err := c.ListRepoHooks(owner, name, gitea.ListHooksOptions{})
	if err != nil {
		return fmt.Errorf("cannot list the webhooks of %s/%s: %s", owner, name, Redact(err.Error()))
	}
	config := map[string]string{"url": target, "content_type": "json", "secret": secret, "http_method": "post"}
	for _, h := range hooks {
		if h.Config["url"] != target {
			continue
		}
		// Gitea does not tell the secret: it is written again, so that it is this one.
		active := true
		if _, err := c.EditRepoHook(owner, name, h.ID, gitea.EditHookOption{Config: config, Events: []string{"push"}, Active: &active}); err != nil {
			return fmt.Errorf("cannot change the webhook of %s/%s: %s", owner, name, Redact(err.Error()))
		}
		return nil
	}
	_, _, err = c.CreateRepoHook(owner, name, gitea.CreateHookOption{Type: gitea.HookTypeGitea, Config: config, Events: []string{"push"}, Active: true})
	if err != nil {
		return fmt.Errorf("cannot make the webhook of %s/%s: %s", owner, name, Redact(err.Error()))
	}
	return nil
}

// PushMirror is where a repository is pushed to.
type PushMirror struct {
	URL, Username, Password string
	Interval                time.Duration
}

// Mirroring says whether a repository is pushed to a URL, and the last error of it.
func (g *Gitea) Mirroring(ctx context.Context, owner, name, target string) (is bool, lastError string, err error) {
	_, found, err := g.mirrors(ctx, owner, name, target)
	if err != nil || len(found) == 0 {
		return false, "", err
	}
	return true, Redact(found[0].LastError), nil
}

// StartMirror makes Gitea push a repository to a URL, by force, now and after each
// push to it. The caller has seen, just now, that nothing is lost by it.
func (g *Gitea) StartMirror(ctx context.Context, owner, name string, m PushMirror) error {
	c, found, err := g.mirrors(ctx, owner, name, m.URL)
	if err != nil || len(found) > 0 {
		return err
	}
	_, _, err = c.PushMirrors(owner, name, gitea.CreatePushMirrorOption{
		RemoteAddress: m.URL, RemoteUsername: m.Username, RemotePassword: m.Password, Interval: m.Interval.String(), SyncONCommit: true,
	})
	if err != nil {
		return fmt.Errorf("cannot make the push mirror of %s/%s: %s", owner, name, Redact(err.Error()))
	}
	return nil
}

// PushNow makes Gitea push a repository to all its push mirrors: a new one is not
// pushed to by itself before its interval has passed. The caller has seen, just now,
// that nothing is lost by it.
func (g *Gitea) PushNow(ctx context.Context, owner, name string) error {
	// The SDK has no method for it.
	at := g.URL + "/api/v1/repos/" + url.PathEscape(owner) + "/" + url.PathEscape(name) + "/push_mirrors-sync"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, nil)
	if err != nil {
		return err
	}
	req.SetBasicAuth(g.Username, g.Password)
	answer, err := g.client().Do(req)
	if err != nil {
		return fmt.Errorf("cannot have %s/%s pushed: %s", owner, name, Redact(err.Error()))
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("cannot have %s/%s pushed: Gitea answers %s", owner, name, answer.Status)
	}
	return nil
}

// StopMirror ends it.
func (g *Gitea) StopMirror(ctx context.Context, owner, name, target string) error {
	c, found, err := g.mirrors(ctx, owner, name, target)
	if err != nil {
		return err
	}
	for _, m := range found {
		if _, err := c.DeletePushMirror(owner, name, m.RemoteName); err != nil {
			return fmt.Errorf("cannot take the push mirror of %s/%s away: %s", owner, name, Redact(err.Error()))
		}
	}
	return nil
}

func (g *Gitea) mirrors(ctx context.Context, owner, name, target string) (*gitea.Client, []*gitea.PushMirrorResponse, error) {
	c, err := g.asAdmin(ctx)
	if err != nil {
		return nil, nil, errors.New(Redact(err.Error()))
	}
	all, _, err := c.ListPushMirrors(owner, name, gitea.ListOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("cannot list the push mirrors of %s/%s: %s", owner, name, Redact(err.Error()))
	}
	var found []*gitea.PushMirrorResponse
	for _, m := range all {
		if Redact(m.RemoteAddress) == target {
			found = append(found, m)
		}
	}
	return c, found, nil
}
