package node

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/claims"
	"github.com/rhizome-dev/rhizome/internal/inventory"
)

// view is where facts are read: from the caches, or from the API server itself.
type view struct {
	reader client.Reader
	store  *claims.Store
	live   bool
}

// machine gathers what is known of one machine; nil: the Node is gone.
func (r *reconciler) machine(ctx context.Context, v view, name string) (*machine, error) {
	var n v1alpha1.Node
	if err := v.reader.Get(ctx, types.NamespacedName{Name: name}, &n); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	m := &machine{node: &n}
	var core corev1.Node
	switch err := v.reader.Get(ctx, types.NamespacedName{Name: name}, &core); {
	case err == nil:
		c := memberOf(&core)
		m.core = &c
	case !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("cannot read the core Node %s: %w", name, err)
	}
	// By an index that only the cache has. It finds fault, and permits nothing.
	var list corev1.NodeList
	address := string(n.Spec.Address)
	if err := r.cached.List(ctx, &list, client.MatchingFields{byInternalIP: address}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("cannot list the core Nodes with the address %s: %w", address, err)
	}
	for i := range list.Items {
		if list.Items[i].Name != name {
			m.others = append(m.others, memberOf(&list.Items[i]))
		}
	}
	m.claimOf(ctx, v.store)
	return m, nil
}

func (m *machine) claimOf(ctx context.Context, store *claims.Store) {
	claim, ok, err := store.OfNode(ctx, m.node.Name)
	switch {
	case err != nil:
		m.unreadable = err.Error()
	case ok:
		m.claim = &claim
	}
}

// cluster is the Cluster in force, nil if there is none.
func (r *reconciler) cluster(ctx context.Context, v view) (*v1alpha1.Cluster, error) {
	var list v1alpha1.ClusterList
	if err := v.reader.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("cannot list Clusters: %w", err)
	}
	return inForce(list.Items), nil
}

// alone is a fleet of which only the Cluster is known: enough for a member that
// nothing is to be done to.
func (r *reconciler) alone(ctx context.Context) (*fleet, error) {
	c, err := r.cluster(ctx, r.caches())
	if err != nil {
		return nil, err
	}
	return &fleet{now: r.Now(), cluster: c, image: r.Image, settle: r.Settle, etcdSettle: r.EtcdSettle}, nil
}

// fleet gathers what is known of all machines. Between two events it is gathered
// once: many Nodes that wait are looked at after every step of any of them.
func (r *reconciler) fleet(ctx context.Context, v view) (*fleet, error) {
	version := r.changes.Load()
	if !v.live && r.memo != nil && r.memoOf == version {
		f := *r.memo
		f.now = r.Now()
		return &f, nil
	}
	c, err := r.cluster(ctx, v)
	if err != nil {
		return nil, err
	}
	f := &fleet{now: r.Now(), cluster: c, repairing: r.Repairing(), image: r.Image, settle: r.Settle, etcdSettle: r.EtcdSettle}
	var nodes v1alpha1.NodeList
	if err := v.reader.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("cannot list Nodes: %w", err)
	}
	var systems v1alpha1.OperatingSystemList
	if err := v.reader.List(ctx, &systems, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("cannot list OperatingSystems: %w", err)
	}
	f.systems = systems.Items
	cores, err := r.cores(ctx, v)
	if err != nil {
		return nil, err
	}
	for i := range nodes.Items {
		m := &machine{node: &nodes.Items[i]}
		if core, ok := cores[m.node.Name]; ok {
			c := memberOf(core)
			m.core = &c
		}
		f.machines = append(f.machines, m)
	}
	slices.SortFunc(f.machines, func(a, b *machine) int { return strings.Compare(a.node.Name, b.node.Name) })
	f.servers = serversOf(f.machines, cores)
	if err := r.claimsOf(ctx, v, f); err != nil {
		return nil, err
	}
	f.findings = r.check(f)
	f.noCredentials = r.lacking(ctx)
	if !v.live {
		r.memo, r.memoOf = f, version
	}
	return f, nil
}

// serversOf are the servers by name: core Nodes that k3s marks as such, and those of
// declared control-plane machines. k3s sets its mark some seconds after the kubelet
// has registered, and a server counts from its first moment.
func serversOf(machines []*machine, cores map[string]*corev1.Node) []member {
	declared := map[string]bool{}
	for _, m := range machines {
		declared[m.node.Name] = m.isControlPlane()
	}
	var servers []member
	for _, core := range cores {
		if isServer(core) || declared[core.Name] {
			servers = append(servers, memberOf(core))
		}
	}
	slices.SortFunc(servers, func(a, b member) int { return strings.Compare(a.name, b.name) })
	return servers
}

// cores are the core Nodes by name. Servers, on which quorum depends, come from
// the view; the others from the cache, where there may be many.
func (r *reconciler) cores(ctx context.Context, v view) (map[string]*corev1.Node, error) {
	var list corev1.NodeList
	if err := r.cached.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("cannot list core Nodes: %w", err)
	}
	byName := make(map[string]*corev1.Node, len(list.Items))
	for i := range list.Items {
		if n := &list.Items[i]; !v.live || !isServer(n) {
			byName[n.Name] = n
		}
	}
	if v.live {
		var servers corev1.NodeList
		if err := v.reader.List(ctx, &servers, client.HasLabels{labelControlPlane}); err != nil {
			return nil, fmt.Errorf("cannot list the servers: %w", err)
		}
		for i := range servers.Items {
			byName[servers.Items[i].Name] = &servers.Items[i]
		}
	}
	return byName, nil
}

// claimsOf adds to every machine its claim.
func (r *reconciler) claimsOf(ctx context.Context, v view, f *fleet) error {
	var secrets corev1.SecretList
	if err := v.reader.List(ctx, &secrets, client.InNamespace(r.PXENamespace), client.HasLabels{v1alpha1.LabelClaim}); err != nil {
		return fmt.Errorf("cannot list the claims: %w", err)
	}
	for i := range secrets.Items {
		name := secrets.Items[i].Labels[v1alpha1.LabelClaim]
		at, ok := slices.BinarySearchFunc(f.machines, name, func(m *machine, name string) int { return cmp.Compare(m.node.Name, name) })
		if ok {
			f.machines[at].claimOf(ctx, v.store)
		}
	}
	return nil
}

// check finds what breaks a rule between the declared objects, anew only when a
// declaration changed.
func (r *reconciler) check(f *fleet) []inventory.Finding {
	h := fnv.New64a()
	add := func(o client.Object) { fmt.Fprintf(h, "%s %s %d;", o.GetName(), o.GetUID(), o.GetGeneration()) }
	if f.cluster != nil {
		add(f.cluster)
	}
	for i := range f.systems {
		add(&f.systems[i])
	}
	for _, m := range f.machines {
		add(m.node)
	}
	if sum := h.Sum64(); r.checked == nil || r.checkedOf != sum {
		r.checked, r.checkedOf = inventory.Check(f.inventory()), sum
		if r.checked == nil {
			r.checked = []inventory.Finding{}
		}
	}
	return r.checked
}
