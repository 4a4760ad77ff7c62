// Package inventory holds the declared objects of one cluster together and
// judges the rules that no schema can: those between objects.
package inventory

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// Inventory is everything that is declared of one cluster. The zero value is
// empty. It is not changed by anything in this package, so it may be read from
// many goroutines at once.
type Inventory struct {
	Clusters         []v1alpha1.Cluster
	OperatingSystems []v1alpha1.OperatingSystem
	Nodes            []v1alpha1.Node
	GitOps           []v1alpha1.GitOps

	// Origins says where objects were read from. It is nil for objects that came
	// from the API server.
	Origins map[Key]Origin

	machines *machines // nil: none was made
}

// Key points at one object of an inventory: by place, not by name, since two
// objects may wrongly have the same name.
type Key struct {
	Kind  string // Cluster, OperatingSystem, Node or GitOps
	Index int    // in the inventory's slice of that kind
}

// Origin is where an object was read from.
type Origin struct {
	File   string
	Line   int            // of the object's first line, counted from 1
	Fields map[string]int // line of each field by its path, such as spec.media[0].sha256
}

// At is the line of a field, or of the nearest enclosing field that is written
// down: a field that was defaulted has no line of its own.
func (o Origin) At(field string) int {
	for field != "" {
		if line, ok := o.Fields[field]; ok {
			return line
		}
		field = field[:max(strings.LastIndexAny(field, ".["), 0)]
	}
	return o.Line
}

// Cluster is the one Cluster. There being none, or more than one, is an error.
func (inv Inventory) Cluster() (*v1alpha1.Cluster, error) {
	switch len(inv.Clusters) {
	case 0:
		return nil, fmt.Errorf("no Cluster is declared: declare one (kind: Cluster, apiVersion: %s)", v1alpha1.GroupVersion)
	case 1:
		return &inv.Clusters[0], nil
	}
	names := make([]string, len(inv.Clusters))
	for i, c := range inv.Clusters {
		names[i] = c.Name
	}
	return nil, fmt.Errorf("%d Clusters are declared (%s): keep one", len(names), strings.Join(names, ", "))
}

// FirstNode is the node that a seed founds the cluster on: the control-plane
// node with this name, or, when name is empty, the first one by name.
func (inv Inventory) FirstNode(name string) (*v1alpha1.Node, error) {
	var first *v1alpha1.Node
	for i := range inv.Nodes {
		n := &inv.Nodes[i]
		if name != "" && n.Name == name {
			if n.Spec.Role != v1alpha1.ControlPlane {
				return nil, fmt.Errorf("Node/%s has the role %s: the first node must have the role %s", name, n.Spec.Role, v1alpha1.ControlPlane)
			}
			return n, nil
		}
		if n.Spec.Role == v1alpha1.ControlPlane && (first == nil || n.Name < first.Name) {
			first = n
		}
	}
	if name != "" {
		return nil, fmt.Errorf("no Node %q is declared: name one of those that are, or declare it", name)
	}
	if first == nil {
		return nil, fmt.Errorf("no Node with the role %s is declared: declare one", v1alpha1.ControlPlane)
	}
	return first, nil
}

// Node is the Node with this name.
func (inv Inventory) Node(name string) (*v1alpha1.Node, bool) {
	i := slices.IndexFunc(inv.Nodes, func(n v1alpha1.Node) bool { return n.Name == name })
	if i < 0 {
		return nil, false
	}
	return &inv.Nodes[i], true
}

// OperatingSystemOf is the operating system that a node is installed with: the
// one it names, otherwise the cluster's.
func (inv Inventory) OperatingSystemOf(n *v1alpha1.Node) (*v1alpha1.OperatingSystem, error) {
	name := n.Spec.OperatingSystem
	if name == "" {
		c, err := inv.Cluster()
		if err != nil {
			return nil, err
		}
		name = c.Spec.OperatingSystem
	}
	for i := range inv.OperatingSystems {
		if inv.OperatingSystems[i].Name == name {
			return &inv.OperatingSystems[i], nil
		}
	}
	return nil, fmt.Errorf("Node/%s: no OperatingSystem %q is declared: declare it, or name one that is", n.Name, name)
}

// MediumOf is the operating system that a node is installed with, and its
// medium for the node's architecture.
func (inv Inventory) MediumOf(n *v1alpha1.Node) (*v1alpha1.OperatingSystem, *v1alpha1.Medium, error) {
	system, err := inv.OperatingSystemOf(n)
	if err != nil {
		return nil, nil, err
	}
	for i := range system.Spec.Media {
		if system.Spec.Media[i].Architecture == architecture(n) {
			return system, &system.Spec.Media[i], nil
		}
	}
	return nil, nil, fmt.Errorf("OperatingSystem/%s has no medium for %s, which Node/%s needs: add one to spec.media", system.Name, architecture(n), n.Name)
}

// KubernetesFilesFor are the declared files of the k3s release for an
// architecture; false means that the k3s project's release is used.
func KubernetesFilesFor(c *v1alpha1.Cluster, arch v1alpha1.Architecture) (v1alpha1.KubernetesFiles, bool) {
	for _, f := range c.Spec.Kubernetes.Files {
		if f.Architecture == arch {
			return f, true
		}
	}
	return v1alpha1.KubernetesFiles{}, false
}

// architecture is the node's, with the default that the schema would set.
func architecture(n *v1alpha1.Node) v1alpha1.Architecture {
	if n.Spec.Architecture == "" {
		return v1alpha1.AMD64
	}
	return n.Spec.Architecture
}

// poolBits is the prefix length of the default load balancer pool.
const poolBits = 27

// Pool is the range of addresses for Services of type LoadBalancer: the declared
// one, otherwise the last /27 of network.cidr. The zero Prefix means that there
// is none: the cidr cannot be read, or it is a /27 or smaller, so that the
// default would swallow every machine. The last /27 holds the network's
// broadcast address, which must not be handed out.
func Pool(c v1alpha1.Cluster) netip.Prefix {
	if c.Spec.LoadBalancerPool != nil {
		p, _ := network(*c.Spec.LoadBalancerPool)
		return p
	}
	cidr, ok := network(c.Spec.Network.CIDR)
	if !ok || cidr.Bits() >= poolBits {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(last(cidr), poolBits).Masked()
}

// SegmentOf is the segment of the Cluster that an address lies in; false for one of
// network.cidr, and for one of no network. c may be nil.
func SegmentOf(c *v1alpha1.Cluster, a netip.Addr) (v1alpha1.NetworkSegment, bool) {
	if c == nil {
		return v1alpha1.NetworkSegment{}, false
	}
	for _, s := range c.Spec.Network.Segments {
		if cidr, ok := network(s.CIDR); ok && cidr.Contains(a) {
			return s, true
		}
	}
	return v1alpha1.NetworkSegment{}, false
}

// network reads an IPv4 network.
func network(c v1alpha1.CIDR) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(string(c))
	if err != nil || !p.Addr().Is4() {
		return netip.Prefix{}, false
	}
	return p.Masked(), true
}

// address reads an IPv4 address.
func address(a v1alpha1.Address) (netip.Addr, bool) {
	ip, err := netip.ParseAddr(string(a))
	return ip, err == nil && ip.Is4()
}

// last is the highest address of an IPv4 network: its broadcast address.
func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}
