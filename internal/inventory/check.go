package inventory

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// Check judges the rules between objects, and those of single objects that no
// schema can state. Values that the schema refuses are passed over: they are
// reported by whoever validates the schema. The findings are sorted.
func Check(inv Inventory) []Finding {
	c := &checker{inv: inv}
	if len(inv.Clusters) > 0 {
		// Of several, the first is judged: the operator ignores the others.
		c.cluster = &inv.Clusters[0]
		c.cidr, c.hasCIDR = network(c.cluster.Spec.Network.CIDR)
		c.pool = Pool(*c.cluster)
	}
	for _, rule := range rules {
		c.rule = rule.Rule
		rule.check(c)
	}
	Sort(c.findings)
	return c.findings
}

// Rules are the rules that Check judges, in the order of their documentation.
func Rules() []Rule {
	all := make([]Rule, len(rules))
	for i, r := range rules {
		all[i] = r.Rule
	}
	return all
}

// checker collects the findings of the rule that is being judged.
type checker struct {
	inv      Inventory
	rule     Rule
	findings []Finding

	cluster *v1alpha1.Cluster // nil when there is none
	cidr    netip.Prefix
	hasCIDR bool
	pool    netip.Prefix // zero when there is none
}

// The kinds, as they stand in a Key.
const (
	kindCluster         = "Cluster"
	kindOperatingSystem = "OperatingSystem"
	kindNode            = "Node"
	kindGitOps          = "GitOps"
)

func (c *checker) find(kind string, index int, field, fix, message string, args ...any) {
	f := Finding{Rule: c.rule.Name, Severity: c.rule.Severity, Field: field, Message: fmt.Sprintf(message, args...), Fix: fix}
	if kind != "" {
		f.Object = c.object(kind, index)
		if o, ok := c.inv.Origins[Key{kind, index}]; ok {
			f.File, f.Line = o.File, o.At(field)
		}
	}
	c.findings = append(c.findings, f)
}

func (c *checker) inCluster(field, fix, message string, args ...any) {
	c.find(kindCluster, 0, field, fix, message, args...)
}

func (c *checker) inNode(i int, field, fix, message string, args ...any) {
	c.find(kindNode, i, field, fix, message, args...)
}

func (c *checker) object(kind string, index int) string {
	name := ""
	switch kind {
	case kindCluster:
		name = c.inv.Clusters[index].Name
	case kindOperatingSystem:
		name = c.inv.OperatingSystems[index].Name
	case kindNode:
		name = c.inv.Nodes[index].Name
	case kindGitOps:
		name = c.inv.GitOps[index].Name
	}
	return kind + "/" + name
}

// where is an object as another's finding names it: with its file, if it has one,
// since duplicates may have the same name.
func (c *checker) where(kind string, index int, field string) string {
	if o, ok := c.inv.Origins[Key{kind, index}]; ok {
		return fmt.Sprintf("%s (%s:%d)", c.object(kind, index), o.File, o.At(field))
	}
	return c.object(kind, index)
}

// eachNode calls do with every node whose address can be read.
func (c *checker) eachNode(do func(i int, n *v1alpha1.Node, a netip.Addr)) {
	for i := range c.inv.Nodes {
		if a, ok := address(c.inv.Nodes[i].Spec.Address); ok {
			do(i, &c.inv.Nodes[i], a)
		}
	}
}

// virtualIP is the control plane's address, if there is one that can be read.
func (c *checker) virtualIP() (netip.Addr, bool) {
	if c.cluster == nil || c.cluster.Spec.ControlPlane.VirtualIP == nil {
		return netip.Addr{}, false
	}
	return address(*c.cluster.Spec.ControlPlane.VirtualIP)
}

func (c *checker) gateway() (netip.Addr, bool) {
	if c.cluster == nil {
		return netip.Addr{}, false
	}
	return address(c.cluster.Spec.Network.Gateway)
}

// poolName says which pool is meant: the default one stands in no manifest.
func (c *checker) poolName() string {
	if c.cluster.Spec.LoadBalancerPool == nil {
		return fmt.Sprintf("the load balancer pool %s (the last /%d of network.cidr, since spec.loadBalancerPool is not set)", c.pool, poolBits)
	}
	return fmt.Sprintf("the load balancer pool %s", c.pool)
}

// duplicates calls found for every second and later index with the same key, and
// the first one. An empty key is nobody's.
func duplicates(n int, key func(i int) string, found func(i, first int)) {
	seen := map[string]int{}
	for i := range n {
		k := key(i)
		if k == "" {
			continue
		}
		if first, ok := seen[k]; ok {
			found(i, first)
			continue
		}
		seen[k] = i
	}
}

// names of nodes, for a message.
func nodeNames(nodes []v1alpha1.Node, which func(*v1alpha1.Node) bool) []string {
	var names []string
	for i := range nodes {
		if which(&nodes[i]) {
			names = append(names, nodes[i].Name)
		}
	}
	slices.Sort(names)
	return names
}

func isControlPlane(n *v1alpha1.Node) bool { return n.Spec.Role == v1alpha1.ControlPlane }

// list is a few names in words.
func list(names []string) string { return strings.Join(names, ", ") }
