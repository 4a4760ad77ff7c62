package cluster

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// networkQuiet is the condition NetworkQuiet: what the PXE pods found who looked for
// DHCP and boot servers that are not ours. The worst comes first.
func networkQuiet(c *v1alpha1.Cluster) metav1.Condition {
	var looked, dhcp, boot []string
	note := func(list *[]string, found string) {
		if found != "" && !slices.Contains(*list, found) {
			*list = append(*list, found)
		}
	}
	for _, pod := range c.Status.PXE {
		if pod.Looked {
			looked = append(looked, pod.Node)
			note(&dhcp, pod.DHCPServers)
			note(&boot, pod.BootServers)
		}
	}
	ours := c.Spec.Network.DHCP == v1alpha1.DHCPServer
	q := metav1.Condition{Type: v1alpha1.ConditionNetworkQuiet, Status: metav1.ConditionFalse}
	switch {
	case len(looked) == 0:
		q.Status, q.Reason = metav1.ConditionUnknown, v1alpha1.ReasonNotLooked
		q.Message = "no PXE pod has looked for foreign DHCP and boot servers"
	case len(boot) > 0:
		q.Reason = v1alpha1.ReasonForeignBootServer
		q.Message = "another boot server answers on the machines' network: " + strings.Join(boot, ", ") +
			"; machines boot from whoever is faster: switch network boot off there, or stop that program"
	case ours && len(dhcp) > 0:
		q.Reason = v1alpha1.ReasonForeignDHCPServer
		q.Message = "others hand out addresses, and spec.network.dhcp is Server: " + strings.Join(dhcp, ", ") +
			"; switch that DHCP server off, or set spec.network.dhcp to Proxy"
	case !ours && len(dhcp) == 0:
		q.Reason = v1alpha1.ReasonNoDHCPServer
		q.Message = "nobody hands out addresses, and spec.network.dhcp is Proxy: connect the router or switch its DHCP server on, or set spec.network.dhcp to Server"
	default:
		q.Status, q.Reason = metav1.ConditionTrue, v1alpha1.ReasonNothingForeign
		q.Message = "no boot server but ours answers (seen from " + few(looked) + ")"
		if !ours {
			q.Message += "; addresses come from " + strings.Join(dhcp, ", ")
		}
	}
	return q
}
