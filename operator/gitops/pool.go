package gitops

import (
	"fmt"
	"net/netip"

	argo "github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
)

// MetalLB's objects, which are written without its types: two fields need no module
// of a load balancer.
var (
	addressPools   = schema.GroupVersionKind{Group: "metallb.io", Version: "v1beta1", Kind: "IPAddressPool"}
	advertisements = schema.GroupVersionKind{Group: "metallb.io", Version: "v1beta1", Kind: "L2Advertisement"}
)

// poolName is the name of both of MetalLB's objects.
const poolName = "rhizome"

// metalLBNamespace is where MetalLB looks for its objects: the namespace of the
// Application that brought its definitions, or that of the directory metallb.
func metalLBNamespace(apps []argo.Application) string {
	for i := range apps {
		for _, r := range apps[i].Status.Resources {
			if r.Kind == "CustomResourceDefinition" && r.Name == "ipaddresspools."+addressPools.Group && apps[i].Spec.Destination.Namespace != "" {
				return apps[i].Spec.Destination.Namespace
			}
		}
	}
	return "metallb"
}

// poolFacts is what the load balancer pool rests on.
type poolFacts struct {
	// defined: MetalLB's definitions are there.
	defined bool
	cluster *v1alpha1.Cluster
	nodes   []v1alpha1.Node
}

// judgePool is the pool to give to MetalLB, and the condition LoadBalancerReady as it
// is once MetalLB has it. No pool: nothing is written.
func judgePool(f poolFacts) (ranges string, c metav1.Condition) {
	refuse := func(reason, message string) (string, metav1.Condition) {
		return "", condition(v1alpha1.ConditionLoadBalancerReady, metav1.ConditionFalse, reason, message)
	}
	switch {
	case !f.defined:
		return refuse(v1alpha1.ReasonNoMetalLB, "MetalLB's definitions are not there: the system layer brings them")
	case f.cluster == nil:
		return refuse(v1alpha1.ReasonNoPool, "no Cluster is declared")
	}
	pool := inventory.Pool(*f.cluster)
	if !pool.IsValid() {
		return refuse(v1alpha1.ReasonNoPool, fmt.Sprintf("network.cidr %s leaves no room for the last /27: set the Cluster's spec.loadBalancerPool", f.cluster.Spec.Network.CIDR))
	}
	if what := inPool(pool, f); what != "" {
		return refuse(v1alpha1.ReasonPoolOverlaps, fmt.Sprintf("the load balancer pool %s holds %s: set the Cluster's spec.loadBalancerPool to a range that nothing else uses", pool, what))
	}
	ranges = usable(pool, *f.cluster)
	return ranges, condition(v1alpha1.ConditionLoadBalancerReady, metav1.ConditionTrue, v1alpha1.ReasonPoolApplied, "MetalLB hands out "+ranges)
}

// inPool names what stands in the pool and must not.
func inPool(pool netip.Prefix, f poolFacts) string {
	type taken struct {
		address v1alpha1.Address
		of      string
	}
	all := []taken{{f.cluster.Spec.Network.Gateway, "the gateway"}}
	if ip := f.cluster.Spec.ControlPlane.VirtualIP; ip != nil {
		all = append(all, taken{*ip, "the virtual IP of the control plane"})
	}
	for i := range f.nodes {
		all = append(all, taken{f.nodes[i].Spec.Address, "the Node " + f.nodes[i].Name})
	}
	for _, s := range f.cluster.Spec.Network.Nameservers {
		all = append(all, taken{s, "a nameserver"})
	}
	for _, t := range all {
		if ip, err := netip.ParseAddr(string(t.address)); err == nil && pool.Contains(ip) {
			return fmt.Sprintf("%s, %s", ip, t.of)
		}
	}
	if guests := f.cluster.Spec.Network.DHCPPool; guests != nil {
		if p, err := netip.ParsePrefix(string(*guests)); err == nil && pool.Overlaps(p) {
			return fmt.Sprintf("addresses of %s, which DHCP hands out (network.dhcpPool)", p)
		}
	}
	return ""
}

// usable is the range of a pool without the network's own address and its broadcast
// address, which no machine may have.
func usable(pool netip.Prefix, c v1alpha1.Cluster) string {
	first, end := pool.Masked().Addr(), last(pool)
	if cidr, err := netip.ParsePrefix(string(c.Spec.Network.CIDR)); err == nil && cidr.Bits() < 31 {
		if first == cidr.Masked().Addr() {
			first = first.Next()
		}
		if end == last(cidr) {
			end = end.Prev()
		}
	}
	return first.String() + "-" + end.String()
}

func last(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}

// poolObjects are what MetalLB is given.
func poolObjects(namespace, ranges string) []*unstructured.Unstructured {
	labels := map[string]any{"app.kubernetes.io/managed-by": Manager}
	object := func(gvk schema.GroupVersionKind, spec map[string]any) *unstructured.Unstructured {
		u := &unstructured.Unstructured{Object: map[string]any{
			"metadata": map[string]any{"name": poolName, "namespace": namespace, "labels": labels},
			"spec":     spec,
		}}
		u.SetGroupVersionKind(gvk)
		return u
	}
	return []*unstructured.Unstructured{
		object(addressPools, map[string]any{"addresses": []any{ranges}}),
		object(advertisements, map[string]any{"ipAddressPools": []any{poolName}}),
	}
}
