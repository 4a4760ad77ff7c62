package boot

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe"
)

// snapshot is everything that is declared at one moment. It is never changed, so it
// is read without a lock and without a copy.
type snapshot struct {
	// inventory has the Cluster in force alone, with the files of the k3s releases
	// that are known added.
	inventory inventory.Inventory
	// cluster is the Cluster in force as the API has it; nil: there is none.
	cluster *v1alpha1.Cluster
}

// nodeByMAC is the declared machine with this MAC; nil: there is none.
func (s *snapshot) nodeByMAC(mac pxe.MAC) *v1alpha1.Node {
	if s == nil {
		return nil
	}
	node, _ := s.inventory.Machine(v1alpha1.MAC(mac))
	return node
}

// release is a k3s release for one architecture.
type release struct {
	version string
	arch    v1alpha1.Architecture
}

// newSnapshot puts a snapshot together. Of several Clusters the oldest is in force,
// and of equally old ones the first by name, as for the operator. So it is with
// Nodes of one MAC.
func newSnapshot(clusters []v1alpha1.Cluster, systems []v1alpha1.OperatingSystem, nodes []v1alpha1.Node, sums map[release][]byte) (*snapshot, error) {
	slices.SortFunc(nodes, func(a, b v1alpha1.Node) int { return cmp.Compare(a.Name, b.Name) })
	s := &snapshot{inventory: inventory.Inventory{OperatingSystems: systems, Nodes: nodes}.Indexed()}
	if len(clusters) == 0 {
		return s, nil
	}
	inForce := slices.MinFunc(clusters, func(a, b v1alpha1.Cluster) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	s.cluster = &inForce
	with := inForce
	var problem error
	for _, arch := range []v1alpha1.Architecture{v1alpha1.AMD64, v1alpha1.ARM64} {
		text, known := sums[release{with.Spec.Kubernetes.Version, arch}]
		if _, declared := inventory.KubernetesFilesFor(&with, arch); declared || !known {
			continue
		}
		more, err := provision.WithRelease(with, arch, text)
		if err != nil {
			problem = err
			continue
		}
		with = more
	}
	s.inventory.Clusters = []v1alpha1.Cluster{with}
	return s, problem
}

// declared keeps the newest snapshot.
type declared struct {
	current atomic.Pointer[snapshot] // nil: nothing was read yet
	changed bell                     // current was replaced

	reader client.Reader
	events chan struct{}
	mu     sync.Mutex
	sums   map[release][]byte
}

func newDeclared(reader client.Reader) *declared {
	return &declared{reader: reader, events: make(chan struct{}, 1), sums: map[release][]byte{}}
}

// setSums adds the checksums of a release.
func (d *declared) setSums(r release, sums []byte) {
	d.mu.Lock()
	d.sums[r] = sums
	d.mu.Unlock()
	d.stir()
}

// stir asks for a new snapshot.
func (d *declared) stir() {
	select {
	case d.events <- struct{}{}:
	default: // it is asked for already
	}
}

// follow watches the declared kinds until ctx ends. It returns when all that was
// there is known.
func (d *declared) follow(ctx context.Context, informers cache.Informers) error {
	var synced []toolscache.InformerSynced
	for _, kind := range []client.Object{&v1alpha1.Cluster{}, &v1alpha1.OperatingSystem{}, &v1alpha1.Node{}} {
		informer, err := informers.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("cannot watch %T: %w", kind, err)
		}
		registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { d.stir() },
			UpdateFunc: func(_, _ any) { d.stir() },
			DeleteFunc: func(any) { d.stir() },
		})
		if err != nil {
			return fmt.Errorf("cannot watch %T: %w", kind, err)
		}
		synced = append(synced, registration.HasSynced)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), synced...) {
		return fmt.Errorf("cannot read what is declared: %w", context.Cause(ctx))
	}
	return d.rebuild(ctx)
}

// settle is how long events are gathered before a snapshot is made of them.
const settle = 50 * time.Millisecond

// run makes snapshots until ctx ends.
func (d *declared) run(ctx context.Context, warn func(error)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.events:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(settle):
		}
		if err := d.rebuild(ctx); err != nil && ctx.Err() == nil {
			warn(err)
		}
	}
}

// rebuild makes a snapshot of the cache. The objects are the cache's own: they are
// never changed, neither by it nor by us.
func (d *declared) rebuild(ctx context.Context) error {
	var clusters v1alpha1.ClusterList
	var systems v1alpha1.OperatingSystemList
	var nodes v1alpha1.NodeList
	for _, list := range []client.ObjectList{&clusters, &systems, &nodes} {
		if err := d.reader.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return fmt.Errorf("cannot list what is declared: %w", err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s, err := newSnapshot(clusters.Items, systems.Items, nodes.Items, d.sums)
	d.current.Store(s)
	d.changed.ring()
	return err
}

// isReadyMember says whether a machine needs nothing from us.
func isReadyMember(n *v1alpha1.Node) bool {
	return meta.IsStatusConditionTrue(n.Status.Conditions, v1alpha1.ConditionReady)
}
