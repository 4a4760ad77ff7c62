// Package seed turns the first blank machine into a one-node cluster that runs
// the operator. It can be killed at any point and run again: what is to be done
// follows from the world and from a small state directory, and what is right
// already is not touched.
package seed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	helmchart "helm.sh/helm/v3/pkg/chart"

	"github.com/rhizome-dev/rhizome/bootstrapper/host"
	"github.com/rhizome-dev/rhizome/bootstrapper/install"
	"github.com/rhizome-dev/rhizome/bootstrapper/progress"
	"github.com/rhizome-dev/rhizome/bootstrapper/state"
	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe/media"
)

// Options are what a person may choose. The zero value of each is its default.
type Options struct {
	// Dir holds the manifests.
	Dir string
	// State is the state directory; empty: state.DefaultPath.
	State string
	// Cache is the directory of the media cache; empty: below the user's caches.
	Cache string
	// Kubeconfig is where the kubeconfig is written; empty: in the state directory.
	Kubeconfig string
	// Interface to boot machines on; empty: the one with an address in the
	// cluster's network.
	Interface string
	// BootFiles is the directory of loaders and installers; empty: beside the
	// program, or where a package puts it.
	BootFiles string
	// OperatorImage is an image reference, or the path of an OCI archive, which
	// then travels with the installation; empty: the chart's own.
	OperatorImage string
	// Values is the path of a file of values for the operator's chart; empty: none.
	// What a release has been given before stays, where the file says nothing else.
	Values string
	// Node is the name of the first node; empty: the first control-plane node by
	// name.
	Node string
	// HTTPPort and HTTPSPort of the PXE service; zero: its defaults.
	HTTPPort, HTTPSPort uint16
	// Timeouts by phase; a phase that is not named has a generous default.
	Timeouts map[string]time.Duration
	// NoWake: a person turns the machine on.
	NoWake bool
	// Retry permits another installation of a machine that failed too often, or was
	// installed and never asked for its credentials: a person has looked.
	Retry bool

	// Display shows progress, and Logger takes what is for debugging.
	Display *progress.Display
	Logger  *slog.Logger
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// The phases, in their order.
const (
	phaseCheck      = "check"
	phaseMedia      = "media"
	phaseFound      = "found"
	phasePXE        = "pxe"
	phaseClaim      = "claim"
	phaseWake       = "wake"
	phaseBoot       = "boot"
	phaseInstall    = "install"
	phaseJoin       = "join"
	phaseKubeconfig = "kubeconfig"
	phaseChart      = "chart"
	phaseManifests  = "manifests"
	phaseDone       = "done"
)

// phase is one step of the flow. run may end its phase itself, with Skip;
// otherwise what it returns is said when it is done.
type phase struct {
	name  string
	limit time.Duration
	run   func(*flow, context.Context, *progress.Phase) (string, error)
}

// phases is the whole seed. The limits are for slow machines on slow networks: a
// person who waits is told meanwhile what is going on.
var phases = []phase{
	{phaseCheck, 5 * time.Minute, (*flow).check},
	{phaseMedia, 6 * time.Hour, (*flow).media},
	{phaseFound, 2 * time.Minute, (*flow).found},
	{phasePXE, time.Minute, (*flow).pxe},
	{phaseClaim, time.Minute, (*flow).claim},
	{phaseWake, 25 * time.Minute, (*flow).wake},
	{phaseBoot, 30 * time.Minute, (*flow).boot},
	{phaseInstall, 3 * time.Hour, (*flow).install},
	{phaseJoin, time.Hour, (*flow).join},
	{phaseKubeconfig, 10 * time.Minute, (*flow).kubeconfig},
	{phaseChart, 30 * time.Minute, (*flow).chart},
	{phaseManifests, 30 * time.Minute, (*flow).manifests},
	{phaseDone, time.Minute, (*flow).done},
}

// Phases are the names of the phases, in their order.
func Phases() []string {
	names := make([]string, len(phases))
	for i, p := range phases {
		names[i] = p.name
	}
	return names
}

// flow is one run.
type flow struct {
	Options

	inv     inventory.Inventory
	cluster *v1alpha1.Cluster
	first   *v1alpha1.Node
	link    host.Choice

	state   *state.Directory
	secrets state.Secrets
	claims  *provision.Ledger
	plan    plan
	// finished is when a seed of this cluster first came to its end; zero before.
	finished time.Time
	sighted  []sighting // what answered when the plan was made

	cache    *media.Cache
	sizes    map[string]int64  // bytes by digest
	released *v1alpha1.Cluster // with the files of the k3s project's release
	// bootFiles are the loaders and installers.
	bootFiles     fs.FS
	operator      operatorImage
	operatorChart *helmchart.Chart
	values        map[string]any // of the values file
	archive       *state.Archive // of the operator's image, as it travelled; nil: none
	watch         *watch
	service       *service
	client        *install.Client
	summary       []string
}

// Run seeds. Its error is a *Failure, which the display has shown already.
func Run(ctx context.Context, o Options) error {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	f := &flow{Options: o, sizes: map[string]int64{}}
	defer f.close()
	for _, p := range phases {
		if err := f.step(ctx, p); err != nil {
			return err
		}
	}
	f.Display.Summary(f.summary...)
	return nil
}

func (f *flow) step(ctx context.Context, p phase) error {
	limit := p.limit
	if t := f.Timeouts[p.name]; t > 0 {
		limit = t
	}
	shown := f.Display.Phase(p.name)
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	said, err := p.run(f, limited, shown)
	if err != nil {
		failure := failureOf(ctx, p.name, limit, err)
		shown.Fail(failure.Cause.Error(), failure.Fix)
		return failure
	}
	shown.Done("%s", said)
	return nil
}

// close ends what runs: the PXE service is closed before the lock is released.
func (f *flow) close() {
	if f.service != nil {
		f.service.stop()
	}
	if f.state != nil {
		f.state.Close()
	}
}

// openState takes the state directory and reads what is in it. The secrets are
// made here, before anything that rests on them is started.
func (f *flow) openState(p *progress.Phase) error {
	path := f.State
	if path == "" {
		var err error
		if path, err = state.DefaultPath(f.cluster.Name); err != nil {
			return err
		}
	}
	var err error
	if f.state, err = state.Open(path); err != nil {
		var inUse *state.InUseError
		if errors.As(err, &inUse) {
			return withFix(err, "wait for it to end, or end it")
		}
		return err
	}
	intent, known, err := f.state.Intent()
	if err != nil {
		return err
	}
	f.finished = intent.Finished
	if f.claims, err = f.state.Claims(); err != nil {
		return err
	}
	if err := f.chooseFirst(intent, known); err != nil {
		return err
	}
	var made bool
	if f.secrets, made, err = f.state.Secrets(f.Now()); err != nil {
		return err
	}
	if made {
		p.Note("made the cluster's authorities and tokens: they are kept in %s; guard it and keep a copy", path)
	}
	return nil
}

// chooseFirst settles which node founds the cluster. Once one had a claim it does
// not change: two founders are two clusters. Until then nothing was installed, and
// the manifests may be mended as one likes.
func (f *flow) chooseFirst(intent state.Intent, known bool) error {
	name := f.Node
	if known && intent.Cluster != f.cluster.Name {
		return withFix(fmt.Errorf("the state directory %s is of the cluster %q, and %s declares %q", f.state.Path(), intent.Cluster, f.Dir, f.cluster.Name),
			"name another directory with --state")
	}
	settled := known && (len(f.claims.All()) > 0 || !intent.Finished.IsZero())
	if settled {
		if name != "" && name != intent.Node {
			return withFix(fmt.Errorf("--node %s: this cluster was begun with %s as its first node", name, intent.Node),
				"leave --node out; to begin anew, with nothing of this cluster alive, name another directory with --state")
		}
		name = intent.Node
	}
	var err error
	if f.first, err = f.inv.FirstNode(name); err != nil && !intent.Finished.IsZero() {
		// It left the cluster since. Another may be spoken to, and founds nothing: judge
		// sees to that.
		f.first, err = f.inv.FirstNode("")
	}
	switch {
	case err != nil && settled:
		return withFix(fmt.Errorf("this cluster was begun with %s as its first node: %w", name, err),
			"declare it again; to begin anew, with nothing of this cluster alive, name another directory with --state")
	case err != nil:
		return err
	case settled || known && intent.Node == f.first.Name:
		return nil
	}
	return f.state.SetIntent(state.Intent{Cluster: f.cluster.Name, Node: f.first.Name, Begun: f.Now()})
}

// kubeconfigPath is where the kubeconfig goes.
func (f *flow) kubeconfigPath() string {
	if f.Kubeconfig != "" {
		return f.Kubeconfig
	}
	return f.state.KubeconfigPath()
}

// cachePath is where the media cache lies.
func (f *flow) cachePath() (string, error) {
	if f.Cache != "" {
		return f.Cache, nil
	}
	base, err := os.UserCacheDir()
	if err != nil {
		return "", withFix(fmt.Errorf("cannot choose a cache directory: %w", err), "name one with --cache")
	}
	return filepath.Join(base, "rhizome", "media"), nil
}
