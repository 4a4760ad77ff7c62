package gitops

import (
	"strings"
	"testing"

	argo "github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

func TestTheLoadBalancerPool(t *testing.T) {
	tests := []struct {
		reason string
		change func(*poolFacts)
		ranges string
		why    string
		says   string
	}{
		{"by default the last /27, without the broadcast address", nil, "192.168.1.224-192.168.1.254", v1alpha1.ReasonPoolApplied, ""},
		{"another one is declared", func(f *poolFacts) { f.cluster.Spec.LoadBalancerPool = ptr.To(v1alpha1.CIDR("192.168.1.64/28")) },
			"192.168.1.64-192.168.1.79", v1alpha1.ReasonPoolApplied, ""},
		{"the first addresses of the network", func(f *poolFacts) {
			f.cluster.Spec.LoadBalancerPool = ptr.To(v1alpha1.CIDR("192.168.1.0/29"))
			f.cluster.Spec.Network.Gateway = "192.168.1.254"
		}, "192.168.1.1-192.168.1.7", v1alpha1.ReasonPoolApplied, ""},
		{"MetalLB is not there", func(f *poolFacts) { f.defined = false }, "", v1alpha1.ReasonNoMetalLB, "system layer"},
		{"no Cluster is there", func(f *poolFacts) { f.cluster = nil }, "", v1alpha1.ReasonNoPool, "Cluster"},
		{"the network is small", func(f *poolFacts) { f.cluster.Spec.Network.CIDR = "192.168.1.0/28" }, "", v1alpha1.ReasonNoPool, "loadBalancerPool"},
		{"a node is in it", func(f *poolFacts) { f.nodes[0].Spec.Address = "192.168.1.230" }, "", v1alpha1.ReasonPoolOverlaps, "the Node alpha"},
		{"the gateway is in it", func(f *poolFacts) { f.cluster.Spec.Network.Gateway = "192.168.1.254" }, "", v1alpha1.ReasonPoolOverlaps, "the gateway"},
		{"the virtual IP is in it", func(f *poolFacts) { f.cluster.Spec.ControlPlane.VirtualIP = ptr.To(v1alpha1.Address("192.168.1.225")) },
			"", v1alpha1.ReasonPoolOverlaps, "the virtual IP"},
		{"a nameserver is in it", func(f *poolFacts) { f.cluster.Spec.Network.Nameservers = []v1alpha1.Address{"192.168.1.226"} },
			"", v1alpha1.ReasonPoolOverlaps, "a nameserver"},
		{"addresses that DHCP hands out are in it", func(f *poolFacts) { f.cluster.Spec.Network.DHCPPool = ptr.To(v1alpha1.CIDR("192.168.1.240/28")) },
			"", v1alpha1.ReasonPoolOverlaps, "192.168.1.240/28, which DHCP hands out"},
		{"it is a part of what DHCP hands out", func(f *poolFacts) { f.cluster.Spec.Network.DHCPPool = ptr.To(v1alpha1.CIDR("192.168.1.128/25")) },
			"", v1alpha1.ReasonPoolOverlaps, "which DHCP hands out"},
		{"DHCP hands out others", func(f *poolFacts) { f.cluster.Spec.Network.DHCPPool = ptr.To(v1alpha1.CIDR("192.168.1.128/26")) },
			"192.168.1.224-192.168.1.254", v1alpha1.ReasonPoolApplied, ""},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			f := poolFacts{
				defined: true,
				cluster: &v1alpha1.Cluster{Spec: v1alpha1.ClusterSpec{Network: v1alpha1.NetworkSpec{CIDR: "192.168.1.0/24", Gateway: "192.168.1.1"}}},
				nodes:   []v1alpha1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "alpha"}, Spec: v1alpha1.NodeSpec{Address: "192.168.1.10"}}},
			}
			if tc.change != nil {
				tc.change(&f)
			}
			ranges, c := judgePool(f)
			if ranges != tc.ranges || c.Reason != tc.why || (c.Status == metav1.ConditionTrue) != (ranges != "") || !strings.Contains(c.Message, tc.says) || c.Message == "" {
				t.Errorf("the pool is %q, %+v; want %q, %s", ranges, c, tc.ranges, tc.why)
			}
		})
	}
}

func TestMetalLBIsWhereItsDefinitionsCameFrom(t *testing.T) {
	if got := metalLBNamespace(nil); got != "metallb" {
		t.Errorf("without an Application: %q", got)
	}
	app := readyApp("lb", "system/lb")
	app.Spec.Destination.Namespace = "lb"
	app.Status.Resources = []argo.ResourceStatus{{Kind: "CustomResourceDefinition", Name: "ipaddresspools.metallb.io"}}
	if got := metalLBNamespace([]argo.Application{readyApp("x", "x"), app}); got != "lb" {
		t.Errorf("with one: %q", got)
	}
}
