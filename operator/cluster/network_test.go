package cluster

import (
	"strings"
	"testing"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

func TestNetworkQuiet(t *testing.T) {
	const router = "192.168.1.1"
	pod := func(node, dhcp, boot string) v1alpha1.PXEPod {
		return v1alpha1.PXEPod{Node: node, Looked: true, DHCPServers: dhcp, BootServers: boot}
	}
	for _, c := range []struct {
		reason string
		mode   v1alpha1.DHCPMode
		pods   []v1alpha1.PXEPod
		want   string
		says   string
	}{
		{"without a PXE pod nothing is known", v1alpha1.DHCPProxy, nil, "Unknown NotLooked", "no PXE pod has looked"},
		{"a pod that has not looked yet knows nothing", v1alpha1.DHCPProxy, []v1alpha1.PXEPod{{Node: "a", Ready: true}}, "Unknown NotLooked", ""},
		{"the router keeps DHCP, as is meant", v1alpha1.DHCPProxy, []v1alpha1.PXEPod{pod("a", router, ""), pod("b", router, "")}, "True NothingForeign", "addresses come from 192.168.1.1"},
		{"the router's DHCP server is off", v1alpha1.DHCPProxy, []v1alpha1.PXEPod{pod("a", "", "")}, "False NoDHCPServer", "nobody hands out addresses"},
		{"the zero mode is Proxy", "", []v1alpha1.PXEPod{pod("a", "", "")}, "False NoDHCPServer", ""},
		{"one pod of two sees the router", v1alpha1.DHCPProxy, []v1alpha1.PXEPod{pod("a", "", ""), pod("b", router, "")}, "True NothingForeign", ""},
		{"we are the DHCP server, alone", v1alpha1.DHCPServer, []v1alpha1.PXEPod{pod("a", "", "")}, "True NothingForeign", "seen from a"},
		{"we are the DHCP server, and the router is too", v1alpha1.DHCPServer, []v1alpha1.PXEPod{pod("a", router, "")}, "False ForeignDHCPServer", "192.168.1.1; switch that DHCP server off"},
		{"a boot server of somebody", v1alpha1.DHCPProxy, []v1alpha1.PXEPod{pod("a", router, ""), pod("b", router, "192.168.1.9 (pxelinux.0)")}, "False ForeignBootServer", "192.168.1.9 (pxelinux.0)"},
		{"a boot server is worse than a DHCP server", v1alpha1.DHCPServer, []v1alpha1.PXEPod{pod("a", router, "192.168.1.9 (pxelinux.0)")}, "False ForeignBootServer", ""},
	} {
		cluster := &v1alpha1.Cluster{Status: v1alpha1.ClusterStatus{PXE: c.pods}}
		cluster.Spec.Network.DHCP = c.mode
		got := networkQuiet(cluster)
		if s := string(got.Status) + " " + got.Reason; s != c.want || !strings.Contains(got.Message, c.says) || got.Message == "" {
			t.Errorf("%s: %s, %q; want %s, %q", c.reason, s, got.Message, c.want, c.says)
		}
	}
}
