package gitops

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/source"
)

// lookTimeout bounds one look at a source. The first one fetches the whole history.
const lookTimeout = time.Minute

// sight is what was seen of a source.
type sight struct {
	place     place
	reachable bool // the branch could be read
	tree      source.Tree
	state     source.State // of the home
	problem   string
}

// observer looks at both sources, at most once in an interval unless it is told to.
// What it remembers of former looks is lost with the process, so that nothing moves
// soon after a start.
type observer struct {
	poll time.Duration

	mu         sync.Mutex
	due        bool
	at         time.Time
	seed, home *source.Branch
	sawSeed    sight
	sawHome    sight
	// looks counts looks, so that others can tell a new one.
	looks int
	// goodLooks and badLooks count looks at the home in a row, as homeWas was told;
	// badSince is when the first bad one was.
	goodLooks, badLooks int
	badSince            time.Time
}

// hurry makes the next look be due.
func (o *observer) hurry() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.due = true
}

// next is when the next look is due, from now.
func (o *observer) next(now time.Time) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.due || o.at.IsZero() || now.Before(o.at) {
		return 0
	}
	return max(o.at.Add(o.poll).Sub(now), 0)
}

// homeWas tells whether the home, at the last look, was sound.
func (o *observer) homeWas(sound bool, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if sound {
		o.goodLooks, o.badLooks, o.badSince = o.goodLooks+1, 0, time.Time{}
		return
	}
	if o.badLooks == 0 {
		o.badSince = now
	}
	o.goodLooks, o.badLooks = 0, o.badLooks+1
}

// access is what a look at the sources needs.
type access struct {
	seed     place
	seedData map[string][]byte // of the seed's Secret
	gitea    *source.Gitea     // nil: there is no home
	home     place
	owner    string
	name     string
	// trouble is what is wrong with a Secret.
	seedTrouble, homeTrouble string
}

// look looks at both sources if it is due, and says whether it did.
func (o *observer) look(ctx context.Context, a access, now time.Time) bool {
	o.mu.Lock()
	changed := a.seed != o.sawSeed.place || a.gitea != nil && a.home != o.sawHome.place
	if !changed && !o.due && !o.at.IsZero() && !now.Before(o.at) && now.Sub(o.at) < o.poll {
		o.mu.Unlock()
		return false
	}
	o.due = false
	if o.seed == nil || a.seed != o.sawSeed.place {
		o.seed = source.NewBranch(a.seed.url, a.seed.branch)
	}
	if a.gitea == nil {
		o.home = nil
	} else if o.home == nil || a.home != o.sawHome.place {
		o.home, o.goodLooks, o.badLooks = source.NewBranch(a.home.url, a.home.branch), 0, 0
	}
	seed, home := o.seed, o.home
	o.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	var sawSeed, sawHome sight
	var both sync.WaitGroup
	both.Go(func() { sawSeed = lookAtSeed(ctx, seed, a) })
	if home != nil {
		both.Go(func() { sawHome = lookAtHome(ctx, home, a) })
	}
	both.Wait()

	o.mu.Lock()
	defer o.mu.Unlock()
	o.at, o.sawSeed, o.sawHome = now, sawSeed, sawHome
	o.looks++
	return true
}

func lookAtSeed(ctx context.Context, b *source.Branch, a access) sight {
	s := sight{place: a.seed}
	if a.seedTrouble != "" {
		s.problem = a.seedTrouble
		return s
	}
	auth, err := source.Auth(a.seed.url, a.seedData)
	if err == nil {
		s.tree, err = b.Look(ctx, auth)
	}
	if err != nil {
		s.problem = err.Error()
		return s
	}
	s.reachable = true
	return s
}

func lookAtHome(ctx context.Context, b *source.Branch, a access) sight {
	s := sight{place: a.home, state: source.Refused, problem: a.homeTrouble}
	if a.homeTrouble != "" {
		return s
	}
	if s.state, s.problem = a.gitea.Look(ctx, a.owner, a.name); s.state != source.Present {
		return s
	}
	auth, err := source.Auth(a.home.url, map[string][]byte{source.KeyUsername: []byte(a.gitea.Username), source.KeyPassword: []byte(a.gitea.Password)})
	if err == nil {
		s.tree, err = b.Look(ctx, auth)
	}
	switch {
	case errors.Is(err, source.ErrNoBranch):
		s.state, s.problem = source.Empty, err.Error()
	case err != nil:
		s.state, s.problem = source.Unreachable, err.Error()
	default:
		s.reachable = true
	}
	return s
}

// places are where the two sources of a spec are; the home is empty without one.
func places(g *v1alpha1.GitOps) (seed, home place) {
	seed = place{g.Spec.Seed.URL, g.Spec.Seed.Branch}
	if h := g.Spec.Home; h != nil {
		home = place{giteaOf(h, nil).CloneURL(h.Owner, h.Repository), g.Spec.Seed.Branch}
	}
	return seed, home
}

func giteaOf(h *v1alpha1.HomeSource, data map[string][]byte) *source.Gitea {
	base := h.URL
	for len(base) > 0 && base[len(base)-1] == '/' {
		base = base[:len(base)-1]
	}
	return &source.Gitea{URL: base, Username: string(data[source.KeyUsername]), Password: string(data[source.KeyPassword])}
}

// access gathers what a look needs, credentials included.
func (r *reconciler) access(ctx context.Context, g *v1alpha1.GitOps) (access, error) {
	var a access
	a.seed, a.home = places(g)
	var err error
	if ref := g.Spec.Seed.Credentials; ref != nil {
		if a.seedData, a.seedTrouble, err = r.credentials(ctx, ref.Name); err != nil {
			return a, err
		}
	}
	if h := g.Spec.Home; h != nil {
		var data map[string][]byte
		if data, a.homeTrouble, err = r.credentials(ctx, h.Credentials.Name); err != nil {
			return a, err
		}
		if a.homeTrouble == "" && (len(data[source.KeyUsername]) == 0 || len(data[source.KeyPassword]) == 0) {
			a.homeTrouble = "the Secret " + r.Namespace + "/" + h.Credentials.Name + " must have the keys username and password"
		}
		a.gitea, a.owner, a.name = giteaOf(h, data), h.Owner, h.Repository
	}
	return a, nil
}

// credentials are the data of a Secret in the release's namespace; trouble says that
// it is not there.
func (r *reconciler) credentials(ctx context.Context, name string) (data map[string][]byte, trouble string, err error) {
	var s corev1.Secret
	key := client.ObjectKey{Namespace: r.Namespace, Name: name}
	err = r.argo.Get(ctx, key, &s)
	switch {
	case apierrors.IsNotFound(err):
		return nil, "there is no Secret " + key.String(), nil
	case apierrors.IsForbidden(err):
		return nil, fmt.Sprintf("the Secret %s may not be read; the operator's --install-as names who may: %v", key, err), nil
	case err != nil:
		return nil, "", fmt.Errorf("cannot read the Secret %s: %w", key, err)
	}
	return s.Data, "", nil
}
