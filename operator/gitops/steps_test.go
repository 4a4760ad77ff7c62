//go:build linux

package gitops

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	sdk "code.gitea.io/sdk/gitea"
	"k8s.io/client-go/rest"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

var errKilled = errors.New("the operator was killed")

// life is one life of the operator's process.
type life struct {
	dead atomic.Bool
	died chan struct{}
	once sync.Once
}

func (l *life) die() { l.once.Do(func() { l.dead.Store(true); close(l.died) }) }

// deaths kills the operator right after each step that it takes, the first time that
// it takes it: the step is done, and nobody hears of it any more. A step is a write to
// the API server, Helm's among them, or to Gitea.
type deaths struct {
	mu   sync.Mutex
	of   []string
	seen map[string]bool
	life atomic.Pointer[life] // the one that runs
}

func (d *deaths) first(step string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.seen[step] {
		return false
	}
	d.seen[step] = true
	d.of = append(d.of, step)
	return true
}

// roundTrip does a request of a life.
func (d *deaths) roundTrip(l *life, base http.RoundTripper, r *http.Request) (*http.Response, error) {
	if l.dead.Load() {
		return nil, errKilled
	}
	step, err := stepOf(r)
	if err != nil {
		return nil, err
	}
	answer, err := base.RoundTrip(r)
	if err == nil && step != "" && answer.StatusCode < 300 && d.first(step) {
		l.die()
		_ = answer.Body.Close()
		return nil, errKilled
	}
	return answer, err
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// helmRevision is what of the name of Helm's own Secret counts its releases.
var helmRevision = regexp.MustCompile(`(sh\.helm\.release\.v1\.argocd\.v)\d+$`)

// stepOf names the step that a request takes; empty: none. Steps that differ only in
// what does not matter have the same name, so that the way has an end.
func stepOf(r *http.Request) (string, error) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead || strings.Contains(r.URL.Path, "/events") {
		return "", nil
	}
	path := helmRevision.ReplaceAllString(r.URL.Path, "$1")
	step := r.Method + " " + path
	if r.GetBody == nil {
		return step, nil
	}
	reader, err := r.GetBody()
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(reader)
	if err != nil {
		return "", err
	}
	switch {
	case strings.HasSuffix(path, "/gitops/homelab/status"):
		var g v1alpha1.GitOps
		if err := json.Unmarshal(body, &g); err != nil {
			return "", err
		}
		step += fmt.Sprintf(" %s %s, switch to %q", g.Status.ActiveSource, g.Status.Phase, or0(g.Status.Switch).To)
	case strings.Contains(path, "/applicationsets/") && strings.Contains(string(body), `"spec"`):
		// That it is made, and that it is pointed elsewhere.
		step += fmt.Sprintf(" %x", sha256.Sum256(body))
	}
	return step, nil
}

// begin runs the operator until end, and again whenever it has died.
func (d *deaths) begin(s *scene) (end func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			l := &life{died: make(chan struct{})}
			d.life.Store(l)
			access := rest.CopyConfig(s.operator)
			access.Wrap(func(base http.RoundTripper) http.RoundTripper {
				return roundTripper(func(r *http.Request) (*http.Response, error) { return d.roundTrip(l, base, r) })
			})
			options := s.options
			live, err := liveClient(access)
			if err != nil {
				s.t.Errorf("a client for the operator: %v", err)
				return
			}
			options.Live = live
			over, stop, err := s.run(access, options)
			if err != nil {
				s.t.Errorf("the operator does not start: %v", err)
				return
			}
			select {
			case err := <-over:
				if !l.dead.Load() {
					s.t.Errorf("the operator ended: %v", err)
				}
				stop()
				continue
			case <-l.died:
			case <-ctx.Done():
				l.die()
			}
			stop()
			<-over // of one that was killed it says nothing
		}
	}()
	end = sync.OnceFunc(func() { cancel(); <-ended })
	s.t.Cleanup(end)
	return end
}

// From nothing to the home, with an operator that is killed after every single step that
// it takes: of Helm, of the layers, of the migration, of the switch. Each is taken up by
// the next life, and in the end all is as it would have been.
func TestAnOperatorThatDiesAfterEachOfItsStepsArrives(t *testing.T) {
	s := setUp(t)
	d := &deaths{seen: map[string]bool{}}
	// What it says to Gitea, which is told from what the test says by its name.
	base := http.DefaultTransport
	http.DefaultTransport = roundTripper(func(r *http.Request) (*http.Response, error) {
		l := d.life.Load()
		if l == nil || r.UserAgent() != "rhizome" {
			return base.RoundTrip(r)
		}
		return d.roundTrip(l, base, r)
	})
	defer func() { http.DefaultTransport = base }()
	end := d.begin(s)
	defer end()

	s.argoCD("ARGOCD_RECONCILIATION_TIMEOUT=1h")
	s.says("ready from the seed", seed, map[string]string{"Ready": "True GitOpsReady"})
	s.count()
	before := s.nothingIsLost(nil)
	s.gitea.Restart(t)
	s.says("home", home, map[string]string{"Ready": "True GitOpsReady", "SourceReady": "True HomeActive"})
	s.until("Gitea tells of pushes", func(context.Context) string {
		hooks, _, err := s.gitea.Client(t).ListRepoHooks("home", "lab", sdk.ListHooksOptions{})
		if err != nil || len(hooks) != 1 {
			return fmt.Sprintf("%d webhooks, %v", len(hooks), err)
		}
		return ""
	})
	s.argo.Await(t, s.hub.Head(t, "lab"), appNames()...)
	s.nothingIsLost(before)
	end()
	if g := s.gitops(); g.Status.Switch != nil {
		t.Errorf("the finished switch is still written down: %+v", g.Status.Switch)
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	t.Logf("it died %d times, after:\n%s", len(d.of), strings.Join(d.of, "\n"))
	for what, min := range map[string]int{
		"POST /api/v1/namespaces/" + s.argoNamespace + "/secrets": 1, // Helm's record
		"/deployments":               1,
		"/statefulsets":              1,
		"/applicationsets/rhizome-":  8, // each is made, and pointed at the home
		"POST /api/v1/orgs":          1,
		"POST /api/v1/repos/migrate": 1,
		"/tokens":                    1,
		"/secrets/" + homeSecret:     1,
		"/applications/" + proofName: 2, // it is made, and taken away
		`switch to "Home"`:           1,
		"/status Home ":              1,
		"/hooks":                     1,
	} {
		n := len(slices.DeleteFunc(slices.Clone(d.of), func(step string) bool { return !strings.Contains(step, what) }))
		if n < min {
			t.Errorf("it died %d times after %q, want %d at least", n, what, min)
		}
	}
}
