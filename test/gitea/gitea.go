//go:build linux

// Package gitea runs the real Gitea for tests: on loopback, with SQLite, its data
// in a directory that ends with the test.
//
// What is not here: its web pages' styles and scripts, which are made by other
// tools than Go's. Its API, git over HTTP, webhooks, mirrors and its installation
// page are as they are.
package gitea

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	sdk "code.gitea.io/sdk/gitea"

	"github.com/rhizome-dev/rhizome/test/program"
)

// Admin is the name of the administrator.
const Admin = "admin-of-test"

// patience bounds waiting for what never comes. No test measures time with it.
const patience = 3 * time.Minute

// Gitea is a Gitea that runs, or one that was stopped. One goroutine at a time
// uses it.
type Gitea struct {
	// URL is where it is reached, without a slash at the end: the same while the
	// test lasts.
	URL string
	// Password is Admin's; empty while it is not installed.
	Password string

	binary, dir string
	settings    map[string]map[string]string // of app.ini, by section
	installed   bool
	process     *program.Process
}

// Option is what differs from the usual Gitea.
type Option func(*Gitea)

// NotInstalled leaves Gitea in install mode: nothing but the page that installs
// it, and a health check that passes. See Install.
func NotInstalled() Option { return func(g *Gitea) { g.installed = false } }

// Setting sets a key of app.ini, which is Gitea's own documentation's matter.
func Setting(section, key, value string) Option {
	return func(g *Gitea) { g.set(section, key, value) }
}

func (g *Gitea) set(section, key, value string) {
	if g.settings[section] == nil {
		g.settings[section] = map[string]string{}
	}
	g.settings[section][key] = value
}

// Start starts an empty Gitea with an administrator. It ends with the test.
//
// As it is set up, it migrates from loopback, mirrors to it and calls webhooks on
// it, all of which it refuses by default: so does one in a cluster, of the
// cluster's addresses.
func Start(t testing.TB, options ...Option) *Gitea {
	t.Helper()
	binary := program.Build(t, "test/gitea/program/build.sh")
	port := program.Port(t)
	g := &Gitea{URL: fmt.Sprintf("http://127.0.0.1:%d", port), binary: binary, dir: program.Dir(t, "gitea"), settings: map[string]map[string]string{}, installed: true}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range [][3]string{
		{"", "RUN_USER", me.Username},
		{"", "WORK_PATH", g.dir},
		{"server", "HTTP_ADDR", "127.0.0.1"},
		{"server", "HTTP_PORT", fmt.Sprint(port)},
		{"server", "ROOT_URL", g.URL + "/"},
		{"server", "DISABLE_SSH", "true"},
		{"server", "OFFLINE_MODE", "true"},
		{"server", "STATIC_ROOT_PATH", filepath.Join(filepath.Dir(binary), "static")},
		{"database", "DB_TYPE", "sqlite3"},
		{"database", "PATH", filepath.Join(g.dir, "gitea.db")},
		{"repository", "ROOT", filepath.Join(g.dir, "repositories")},
		{"log", "MODE", "console"},
		{"migrations", "ALLOW_LOCALNETWORKS", "true"},
		{"webhook", "ALLOWED_HOST_LIST", "loopback"},
		{"cron.update_checker", "ENABLED", "false"},
	} {
		g.set(s[0], s[1], s[2])
	}
	for _, o := range options {
		o(g)
	}
	g.set("security", "INSTALL_LOCK", fmt.Sprint(g.installed))
	if err := os.WriteFile(g.config(), []byte(ini(g.settings)), 0o600); err != nil {
		t.Fatal(err)
	}
	if g.installed {
		g.createAdmin(t)
	}
	g.Restart(t)
	return g
}

// ini writes settings by section in the format of app.ini. The section without a
// name comes first.
func ini(settings map[string]map[string]string) string {
	var b strings.Builder
	sections := make([]string, 0, len(settings))
	for s := range settings {
		sections = append(sections, s)
	}
	slices.Sort(sections)
	for _, s := range sections {
		if s != "" {
			fmt.Fprintf(&b, "[%s]\n", s)
		}
		for key, value := range settings[s] {
			fmt.Fprintf(&b, "%s = %s\n", key, value)
		}
	}
	return b.String()
}

func (g *Gitea) config() string { return filepath.Join(g.dir, "app.ini") }

// command is one of Gitea's own.
func (g *Gitea) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, g.binary, append([]string{"--config", g.config()}, args...)...)
	cmd.Dir = g.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + g.dir, "TMPDIR=" + os.TempDir(),
		// Tests run as root where a container or a virtual machine is all theirs.
		"GITEA_I_AM_BEING_UNSAFE_RUNNING_AS_ROOT=true"}
	return cmd
}

// passwordPattern is how `gitea admin user create` tells the password.
var passwordPattern = regexp.MustCompile(`generated random password is '([^']+)'`)

// createAdmin makes the database and the administrator in it.
func (g *Gitea) createAdmin(t testing.TB) {
	t.Helper()
	var last string
	for _, args := range [][]string{
		{"migrate"},
		// The password is Gitea's, so that it is in no argument.
		{"admin", "user", "create", "--username", Admin, "--email", "admin@example.org", "--admin", "--random-password", "--random-password-length", "32", "--must-change-password=false"},
	} {
		out, err := g.command(t.Context(), args...).CombinedOutput()
		if err != nil {
			t.Fatalf("gitea %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		last = string(out)
	}
	found := passwordPattern.FindStringSubmatch(last)
	if found == nil {
		t.Fatal("gitea admin user create told no password")
	}
	g.Password = found[1]
}

// Install does what a person does with the installation page of a Gitea that is
// NotInstalled, and restarts it.
func (g *Gitea) Install(t testing.TB) {
	t.Helper()
	g.Stop()
	g.lock(t, true)
	g.createAdmin(t)
	g.Restart(t)
}

// Forget puts an installed Gitea into install mode, with all that it has, as when its
// configuration is lost; Remember brings it back. Both restart it.
func (g *Gitea) Forget(t testing.TB) {
	t.Helper()
	g.Stop()
	g.lock(t, false)
	g.Restart(t)
}

// Remember ends what Forget began.
func (g *Gitea) Remember(t testing.TB) {
	t.Helper()
	g.Stop()
	g.lock(t, true)
	g.Restart(t)
}

// lock writes down whether it is installed.
func (g *Gitea) lock(t testing.TB, installed bool) {
	t.Helper()
	content, err := os.ReadFile(g.config())
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^INSTALL_LOCK\s*=.*$`)
	if err := os.WriteFile(g.config(), line.ReplaceAll(content, fmt.Appendf(nil, "INSTALL_LOCK = %t", installed)), 0o600); err != nil {
		t.Fatal(err)
	}
	g.installed = installed
}

// Restart starts a Gitea that has ended, with its data and at its address, and
// waits until it answers. One that runs is left as it is.
func (g *Gitea) Restart(t testing.TB) {
	t.Helper()
	if g.process != nil && g.process.Running() {
		return
	}
	address, err := url.Parse(g.URL)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// The installation page has a port of its own.
	cmd := g.command(context.Background(), "web", "--install-port", address.Port(), "--pid", filepath.Join(g.dir, "gitea.pid"))
	g.process = program.Start(t, "gitea", filepath.Join(g.dir, "gitea.log"), cmd)
	health := g.URL + "/api/healthz"
	if g.installed {
		health = g.URL + "/api/v1/version"
	}
	if err := g.process.Wait(ctx, program.Answers(health)); err != nil {
		t.Fatal(err)
	}
}

// FillUnnoticed gives an empty repository the branches of another, in the way of a
// Gitea that died after a push had arrived and before it took note of it.
func (g *Gitea) FillUnnoticed(t testing.TB, owner, name, from string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", "--git-dir", filepath.Join(g.dir, "repositories", owner, name+".git"), "fetch", "--quiet", from, "+refs/heads/*:refs/heads/*")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git fetch: %v\n%s", err, out)
	}
}

// Stop ends it as an orderly restart does.
func (g *Gitea) Stop() { g.process.Stop() }

// Kill ends it as a power cut does.
func (g *Gitea) Kill() { g.process.Kill() }

// Process is the running program, to pause or to watch.
func (g *Gitea) Process() *program.Process { return g.process }

// Client speaks to the API as the administrator.
func (g *Gitea) Client(t testing.TB) *sdk.Client {
	t.Helper()
	c, err := sdk.NewClient(g.URL, sdk.SetBasicAuth(Admin, g.Password), sdk.SetContext(t.Context()), sdk.SetHTTPClient(&http.Client{Timeout: patience}))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Token makes a token of the administrator with the scopes, such as
// "write:repository".
func (g *Gitea) Token(t testing.TB, name string, scopes ...string) string {
	t.Helper()
	option := sdk.CreateAccessTokenOption{Name: name}
	for _, s := range scopes {
		option.Scopes = append(option.Scopes, sdk.AccessTokenScope(s))
	}
	token, _, err := g.Client(t).CreateAccessToken(option)
	if err != nil {
		t.Fatalf("cannot make a token in Gitea: %v", err)
	}
	return token.Token
}

// Repository is the URL of a repository for git.
func (g *Gitea) Repository(owner, name string) string {
	return g.URL + "/" + owner + "/" + name + ".git"
}

// PushURL is Repository with the administrator's credentials in it.
func (g *Gitea) PushURL(t testing.TB, owner, name string) string {
	t.Helper()
	u, err := url.Parse(g.Repository(owner, name))
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(Admin, g.Password)
	return u.String()
}
