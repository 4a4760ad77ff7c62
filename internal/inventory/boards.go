package inventory

import (
	"net/netip"
	"net/url"
	"strings"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// boards calls do with every Node that has a board management controller, and where
// that is reached. Endpoints that are no URL are left to the schema.
func (c *checker) boards(do func(i int, spec *v1alpha1.RedfishSpec, endpoint *url.URL)) {
	for i := range c.inv.Nodes {
		if p := c.inv.Nodes[i].Spec.Power; p != nil && p.Redfish != nil {
			if u, err := url.Parse(p.Redfish.Endpoint); err == nil && u.Host != "" {
				do(i, p.Redfish, u)
			}
		}
	}
}

func duplicateBoard(c *checker) {
	keys := make([]string, len(c.inv.Nodes))
	c.boards(func(i int, spec *v1alpha1.RedfishSpec, u *url.URL) {
		host := strings.ToLower(strings.TrimSuffix(u.Host, ":443"))
		path := strings.TrimSuffix(strings.TrimSuffix(strings.TrimRight(u.Path, "/"), "/v1"), "/redfish")
		keys[i] = host + path + " " + spec.SystemID
	})
	duplicates(len(keys), func(i int) string { return keys[i] }, func(i, first int) {
		c.inNode(i, "spec.power.redfish.endpoint", "correct one of the two, or set systemID in both if the controller has several systems",
			"%s is the controller of %s too", c.inv.Nodes[i].Spec.Power.Redfish.Endpoint, c.where(kindNode, first, "spec.power.redfish.endpoint"))
	})
}

func boardIsMachine(c *checker) {
	c.boards(func(i int, _ *v1alpha1.RedfishSpec, u *url.URL) {
		a, err := netip.ParseAddr(u.Hostname())
		if err != nil {
			return
		}
		const fix = "write the address of the machine's board management controller"
		say := func(of string) { c.inNode(i, "spec.power.redfish.endpoint", fix, "%s is the address of %s", a, of) }
		c.eachNode(func(j int, _ *v1alpha1.Node, b netip.Addr) {
			if a == b {
				say(c.where(kindNode, j, "spec.address"))
			}
		})
		if gateway, ok := c.gateway(); ok && a == gateway {
			say("the router, " + c.where(kindCluster, 0, "spec.network.gateway"))
		}
		if vip, ok := c.virtualIP(); ok && a == vip {
			say("the control plane, " + c.where(kindCluster, 0, "spec.controlPlane.virtualIP"))
		}
		if c.pool.IsValid() && c.pool.Contains(a) {
			c.inNode(i, "spec.power.redfish.endpoint", fix, "%s lies in %s", a, c.poolName())
		}
	})
}
