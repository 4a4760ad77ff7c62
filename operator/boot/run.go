package boot

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/claims"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/internal/power"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/dhcp"
	"github.com/rhizome-dev/rhizome/pxe/media"
	"github.com/rhizome-dev/rhizome/pxe/server"
)

// What a PXE pod may do in the API; the chart gives it these rights by hand, to a
// service account of its own:
//
//	rhizome.dev nodes, clusters, operatingsystems: get, list, watch
//	rhizome.dev nodes/status, clusters/status: get, patch; an admission policy lets
//		them change boot, reach, pxe and discovered
//	secrets, in its own namespace: get, list, watch, update

// pod is the program and its parts.
type pod struct {
	Options
	cache    cache.Cache
	live     client.Client
	metrics  *metrics
	declared *declared
	claims   *claims.Store
	serving  *serving
	files    *files
	backend  *backend
	recorder *recorder
	discover *discoverer
	lookout  *lookout // set before anything is told of it

	changed   bell // what mine() says may have changed
	synced    atomic.Bool
	listening atomic.Bool
	link      atomic.Pointer[link] // nil: not found yet
	obstacle  atomic.Pointer[string]
}

// Run boots machines until ctx ends, and then returns nil.
func Run(ctx context.Context, cfg *rest.Config, o Options) error {
	if err := o.check(); err != nil {
		return err
	}
	ctrl.SetLogger(logr.FromSlogHandler(o.Logger.Handler()))
	p, err := newPod(cfg, o)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.serveHealth(ctx) })
	group.Go(func() error { return p.serveMetrics(ctx) })
	group.Go(func() error { return p.cache.Start(ctx) })
	group.Go(func() error { return p.boot(ctx, group) })
	err = group.Wait()
	if errors.Is(err, context.Canceled) {
		return nil // told to stop before all was read
	}
	return err
}

// newPod makes the parts. It asks the API server nothing, so that a pod starts, and
// says that it is not ready, while there is none.
func newPod(cfg *rest.Config, o Options) (*pod, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("cannot build the scheme: %w", err)
		}
	}
	cfg = rest.AddUserAgent(rest.CopyConfig(cfg), "rhizome-pxe")
	// Two hundred machines that boot at once are some thousand requests. The API
	// server defends itself.
	cfg.QPS, cfg.Burst = 200, 400
	mapper := kinds()
	strip := cache.TransformStripManagedFields()
	informers, err := cache.New(cfg, cache.Options{
		Scheme: scheme, Mapper: mapper, DefaultTransform: strip, ReaderFailOnMissingInformer: true,
		ByObject: map[client.Object]cache.ByObject{&corev1.Secret{}: {
			Namespaces: map[string]cache.Config{o.PXENamespace: {}},
			// Credentials are read when they are handed out, and not kept here.
			Transform: func(obj any) (any, error) {
				if s, ok := obj.(*corev1.Secret); ok {
					delete(s.Data, names.KeyCredentials)
				}
				return strip(obj)
			},
		}},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot set up the informers: %w", err)
	}
	live, err := client.New(cfg, client.Options{Scheme: scheme, Mapper: mapper})
	if err != nil {
		return nil, fmt.Errorf("cannot set up the client: %w", err)
	}
	if err := os.MkdirAll(o.MediaDir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the directory of media: %w; name another one with --media-dir", err)
	}
	kept, err := media.Open(o.MediaDir)
	if err != nil {
		return nil, err
	}
	p := &pod{Options: o, cache: informers, live: live, metrics: newMetrics()}
	p.declared = newDeclared(informers)
	p.claims = claims.New(informers, live, o.PXENamespace)
	p.claims.Logger = o.Logger
	p.serving = &serving{namespace: o.PXENamespace, logger: o.Logger, changed: &p.changed}
	p.files = newFiles(kept, o.MediaDir, o.ImageDirs, p.declared, o.Archives, o.Logger, p.metrics, o.Now)
	p.recorder = newRecorder(p.declared, informers, live, o.Logger, p.metrics, o.Now)
	p.discover = &discoverer{declared: p.declared, reader: informers, live: live, logger: o.Logger, metrics: p.metrics, now: o.Now, seen: map[pxe.MAC]stranger{}}
	return p, nil
}

// kinds maps the few kinds that are used, so that the API server is not asked for
// its own.
func kinds() meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{corev1.SchemeGroupVersion, v1alpha1.GroupVersion})
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Secret"), meta.RESTScopeNamespace)
	for _, kind := range []string{"Cluster", "OperatingSystem", "Node"} {
		mapper.Add(v1alpha1.GroupVersion.WithKind(kind), meta.RESTScopeRoot)
	}
	return mapper
}

// boot reads what is declared, finds the network, and boots machines.
func (p *pod) boot(ctx context.Context, group *errgroup.Group) error {
	if err := p.read(ctx); err != nil {
		return err
	}
	p.synced.Store(true)
	group.Go(func() error {
		return p.declared.run(ctx, func(err error) { p.Logger.Error("what is declared cannot be used", "error", err) })
	})
	l, began, err := p.awaitLink(ctx)
	if err != nil {
		return err
	}
	mode := began.mode
	p.connect(*l)
	p.lookout = &lookout{iface: l.Interface, logger: p.Logger, probe: dhcp.Probe, changed: &p.changed}
	s, err := p.listen(ctx, *l, mode)
	if err != nil {
		return err
	}
	p.listening.Store(true)
	p.changed.ring()
	p.Logger.Info("booting machines", "interface", l.Interface, "address", l.Address, "network", l.Network,
		"dhcp", mode.String(), "http", s.BaseURL(), "https", s.SecureURL())

	r := &registrar{declared: p.declared, reader: p.cache, live: p.live, logger: p.Logger, metrics: p.metrics, now: p.Now, mine: p.mine, changed: &p.changed}
	w := &waking{declared: p.declared, logger: p.Logger, metrics: p.metrics,
		waker: power.Waker{Interface: l.Interface, Address: l.Address, Network: l.Network}}
	peers := &prober{declared: p.declared, reader: p.cache, live: p.live, logger: p.Logger, metrics: p.metrics, now: p.Now, node: p.NodeName, every: p.ReachInterval, try: tryKubelet}
	for _, run := range []func(context.Context) error{
		s.Serve, p.files.run, p.recorder.run, p.discover.run, r.run, w.run, peers.run, p.forwardFiles, p.lookout.run,
		func(ctx context.Context) error { return p.watchNetwork(ctx, began) },
	} {
		group.Go(func() error { return run(ctx) })
	}
	return nil
}

// read waits until all that is declared, the claims and the certificate are known.
func (p *pod) read(ctx context.Context) error {
	if err := p.declared.follow(ctx, p.cache); err != nil {
		return err
	}
	if err := p.serving.follow(ctx, p.cache); err != nil {
		return err
	}
	return p.claims.Follow(ctx, p.cache)
}

// linkAgain is how often the host's interfaces are looked at while none will do.
const linkAgain = 5 * time.Second

// awaitLink waits until a Cluster is declared and this host stands in its network.
func (p *pod) awaitLink(ctx context.Context) (*link, linkWish, error) {
	for {
		changed := p.declared.changed.rung()
		s := p.declared.current.Load()
		wish, err := wishOf(s, p.NodeName)
		if err == nil {
			var l link
			if l, err = p.findLink(wish); err == nil {
				return &l, wish, nil
			}
		}
		p.hinder(err)
		select {
		case <-ctx.Done():
			return nil, linkWish{}, ctx.Err()
		case <-changed:
		case <-time.After(linkAgain):
		}
	}
}

// hinder notes and logs, once each, what keeps this pod from booting machines.
func (p *pod) hinder(err error) {
	text := err.Error()
	if old := p.obstacle.Swap(&text); old == nil || *old != text {
		p.Logger.Error("cannot boot machines yet", "error", err)
	}
}

// watchNetwork ends the program when the network that it serves is not the declared
// one any more: it starts anew with that.
func (p *pod) watchNetwork(ctx context.Context, began linkWish) error {
	for {
		changed := p.declared.changed.rung()
		wish, err := wishOf(p.declared.current.Load(), p.NodeName)
		if err == nil && (wish.network != began.network || wish.mode != began.mode || wish.guests != began.guests) {
			return fmt.Errorf("the Cluster's network changed: it was %s with DHCP mode %s %s and is %s with %s %s: starting anew",
				began.network, began.mode, began.guests, wish.network, wish.mode, wish.guests)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// connect makes the backend for the address.
func (p *pod) connect(l link) {
	p.backend = &backend{
		declared: p.declared, claims: p.claims, serving: p.serving, files: p.files, archives: p.Archives,
		address: l.Address, observe: p.observed, metrics: p.metrics, now: p.Now,
	}
	p.backend.ports.http, p.backend.ports.https = p.HTTPPort, p.HTTPSPort
	p.files.own = netip.AddrPortFrom(l.Address, p.HTTPPort)
	p.files.peers = func() []netip.AddrPort {
		var all []netip.AddrPort
		for _, a := range otherPods(p.declared.current.Load(), l.Address, false) {
			all = append(all, netip.AddrPortFrom(a, p.HTTPPort))
		}
		return all
	}
	p.link.Store(&l)
}

// listen opens the ports, as soon as they are free: the pod that this one follows
// may be ending.
func (p *pod) listen(ctx context.Context, l link, mode dhcp.Mode) (*server.Server, error) {
	guests, err := provision.Guests(p.declared.current.Load().cluster, p.backend.inventory)
	if err != nil {
		return nil, err
	}
	for {
		s, err := server.New(server.Config{
			Backend: p.backend, Interface: l.Interface, Address: l.Address, DHCP: mode, Pool: guests,
			HTTPPort: p.HTTPPort, HTTPSPort: p.HTTPSPort, GetCertificate: p.serving.certificate,
			BootFiles: os.DirFS(p.BootFiles), Media: p.files, Logger: p.Logger, Now: p.Now, Meter: p.metrics,
		})
		if err != nil {
			return nil, err
		}
		if err = s.Listen(); err == nil {
			return s, nil
		}
		p.hinder(err)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(2 * time.Second):
		}
	}
}

// observed takes what machines do to those who want to know. It does not block.
func (p *pod) observed(o pxe.Observation) {
	if o.Stage == pxe.StageRefused {
		p.metrics.refusals.WithLabelValues(ruleOf(o.Message)).Inc()
		p.Logger.Warn("refused", "mac", o.Machine.MAC, "from", o.From, "reason", o.Message)
	}
	if p.declared.current.Load().nodeByMAC(o.Machine.MAC) != nil {
		p.recorder.observe(o)
	} else if o.Stage == pxe.StageDHCP {
		p.discover.observe(o.Machine, o.Time)
	}
}

// rules are those that package provision refuses by.
var rules = map[string]bool{
	provision.RuleUndeclared: true, provision.RuleNoClaim: true, provision.RuleClaimUnknown: true,
	provision.RuleClaimExpired: true, provision.RuleClaimConsumed: true, provision.RuleClaimNotConsumed: true,
	provision.RuleClaimFailed: true, provision.RuleAlreadyInstalled: true, provision.RuleAlreadyExchanged: true,
	provision.RuleWrongAddress: true, provision.RuleWrongMachine: true, provision.RuleWrongArch: true,
	provision.RuleInvalidReport: true,
}

// forwardFiles tells of news of files.
func (p *pod) forwardFiles(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.files.changed.rung():
			p.changed.ring()
		}
	}
}

// mine is this pod's entry in Cluster.status.pxe.
func (p *pod) mine() v1alpha1.PXEPod {
	ready, message := p.status()
	mine := v1alpha1.PXEPod{Node: p.NodeName, Pod: p.PodName, Ready: ready, Message: clip(message, maxMessage)}
	if l := p.link.Load(); l != nil {
		mine.Address = v1alpha1.Address(l.Address.String())
		if p.listening.Load() {
			p.lookout.tell(&mine)
		}
	}
	return mine
}

// status is whether this pod serves all that a declared machine may need, and what
// it does or lacks.
func (p *pod) status() (bool, string) {
	ready, message := p.state()
	p.metrics.ready.Set(0)
	if ready {
		p.metrics.ready.Set(1)
	}
	return ready, message
}

func (p *pod) state() (bool, string) {
	if !p.synced.Load() {
		return false, "what is declared was not read from the API server yet"
	}
	l := p.link.Load()
	if l == nil || !p.listening.Load() {
		if o := p.obstacle.Load(); o != nil {
			return false, *o
		}
		return false, "starting"
	}
	if err := p.serving.covers(l.Address); err != nil {
		return false, err.Error()
	}
	return p.files.verdict()
}
