package inventory

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// rule is a documented rule and how it is judged.
type rule struct {
	Rule
	check func(*checker)
}

// rules in the order of their documentation. Each has its own test case.
var rules = []rule{
	{Rule{"NoCluster", Error, "a Cluster is declared", "without it nothing is known of the network and the release"}, noCluster},
	{Rule{"SecondCluster", Error, "only one Cluster is declared", "a second one would be ignored"}, secondCluster},
	{Rule{"SecondGitOps", Error, "at most one GitOps is declared", "a second one would be ignored"}, secondGitOps},
	{Rule{"DuplicateName", Error, "no two objects of a kind have the same name", "one of them would overwrite the other"}, duplicateName},

	{Rule{"GatewayOutside", Error, "network.gateway is a machine's address within network.cidr", "machines could not reach their default route"}, gatewayOutside},
	{Rule{"NetworkOverlap", Error, "network.cidr, network.segments, kubernetes.podCIDR and kubernetes.serviceCIDR do not overlap", "packets to a machine would be taken for packets to a pod or a service, or to another machine"}, networkOverlap},
	{Rule{"NameserverIsNode", Warning, "no nameserver is a declared node, the virtual IP or in the load balancer pool", "names must resolve before the cluster runs"}, nameserverIsNode},

	{Rule{"NoPool", Error, "the load balancer pool is set if network.cidr is a /27 or smaller", "the default, the last /27, would be the whole network"}, noPool},
	{Rule{"PoolOutside", Error, "the load balancer pool is a part of network.cidr, and not all of it", "its addresses are answered on the machines' network, and machines need some too"}, poolOutside},
	{Rule{"GatewayInPool", Error, "network.gateway is not in the load balancer pool", "a Service could be given the router's address"}, gatewayInPool},

	{Rule{"DHCPPoolTaken", Error, "network.dhcpPool holds neither the address of a Node, the virtual IP nor a part of the load balancer pool", "a guest could be given an address that is somebody's"}, dhcpPoolTaken},

	{Rule{"VirtualIPOutside", Error, "the virtual IP is a machine's address within network.cidr", "it is answered on the machines' network"}, virtualIPOutside},
	{Rule{"VirtualIPTaken", Error, "the virtual IP is neither the gateway's nor a node's address", "two machines would answer to one address"}, virtualIPTaken},
	{Rule{"VirtualIPInPool", Error, "the virtual IP is not in the load balancer pool", "a Service could be given the control plane's address"}, virtualIPInPool},

	{Rule{"NoControlPlane", Error, "a Node with the role ControlPlane is declared", "a cluster is founded on one"}, noControlPlane},
	{Rule{"EvenControlPlane", Warning, "the number of control-plane nodes is odd", "an even number survives no more failures than one less, and fails more often"}, evenControlPlane},
	{Rule{"DuplicateMAC", Error, "no two Nodes have the same MAC address", "one machine cannot be two"}, duplicateMAC},
	{Rule{"DuplicateAddress", Error, "no two Nodes have the same address", "two machines would answer to one address"}, duplicateAddress},
	{Rule{"AddressOutside", Error, "a Node's address is a machine's address within network.cidr or one of network.segments: neither outside, nor the network's own, nor its broadcast address", "the machine could not be reached"}, addressOutside},
	{Rule{"ServerInSegment", Error, "with a virtual IP, every control-plane Node stands in network.cidr", "the address is answered on that network, and could not move to a machine elsewhere"}, serverInSegment},
	{Rule{"AddressIsGateway", Error, "a Node's address is not a gateway's", "the machine would take the network's router away from all others"}, addressIsGateway},
	{Rule{"AddressInPool", Error, "a Node's address is not in the load balancer pool", "a Service could be given the machine's address"}, addressInPool},
	{Rule{"SignedByProxy", Warning, "a Node with the boot loader Signed gets its address from us (network.dhcp Server)", "the signed GRUB asks for its config where its address comes from; such a machine is told nothing to boot"}, signedByProxy},
	{Rule{"SignedOnARM", Error, "a Node with the boot loader Signed is amd64", "the boot files have no signed loader for another architecture"}, signedOnARM},
	{Rule{"SignedImage", Error, "a Node with the boot loader Signed has an OperatingSystem of the format Image", "the signed GRUB reads files by TFTP alone, by which our own installer is served and no distribution's"}, signedImage},
	{Rule{"DuplicateBoard", Error, "no two Nodes have the same Redfish endpoint and systemID", "one of them would be turned on and off in place of the other"}, duplicateBoard},
	{Rule{"BoardIsMachine", Error, "a Redfish endpoint is not at the address of a Node, of the gateway, the virtual IP or the load balancer pool", "a machine that is off answers nobody: its controller has an address of its own"}, boardIsMachine},

	{Rule{"UnknownOperatingSystem", Error, "the OperatingSystem that the Cluster or a Node names is declared", "there would be nothing to install"}, unknownOperatingSystem},
	{Rule{"NoMedium", Error, "the OperatingSystem of a Node has a medium for the Node's architecture", "there would be nothing to install"}, noMedium},
	{Rule{"MediumNotLocked", Error, "the digests of the medium that a Node is installed from are known", "a file is used only if it is what was meant"}, mediumNotLocked},
	{Rule{"FilesIncomplete", Warning, "kubernetes.files, if it is set, lists the architecture of every Node", "the others would take the release from the k3s project, not from where the listed ones come"}, filesIncomplete},
}

func noCluster(c *checker) {
	if len(c.inv.Clusters) == 0 {
		c.find("", 0, "", fmt.Sprintf("declare one: apiVersion %s, kind Cluster", v1alpha1.GroupVersion), "no Cluster is declared")
	}
}

func secondCluster(c *checker) {
	for i := 1; i < len(c.inv.Clusters); i++ {
		c.find(kindCluster, i, "", "remove one of the two", "a Cluster is declared already: %s", c.where(kindCluster, 0, ""))
	}
}

func secondGitOps(c *checker) {
	for i := 1; i < len(c.inv.GitOps); i++ {
		c.find(kindGitOps, i, "", "remove one of the two", "a GitOps is declared already: %s", c.where(kindGitOps, 0, ""))
	}
}

func duplicateName(c *checker) {
	of := func(kind string, n int, name func(i int) string) {
		duplicates(n, name, func(i, first int) {
			c.find(kind, i, "metadata.name", "rename or remove one of the two", "the name is taken already: %s", c.where(kind, first, "metadata.name"))
		})
	}
	of(kindNode, len(c.inv.Nodes), func(i int) string { return c.inv.Nodes[i].Name })
	of(kindOperatingSystem, len(c.inv.OperatingSystems), func(i int) string { return c.inv.OperatingSystems[i].Name })
}

func gatewayOutside(c *checker) {
	if gateway, ok := c.gateway(); ok && c.hasCIDR {
		if why := unusable(c.cidr, gateway); why != "" {
			c.inCluster("spec.network.gateway", "write the router's address on the machines' network", "%s %s", gateway, why)
		}
	}
}

func networkOverlap(c *checker) {
	if c.cluster == nil {
		return
	}
	type named struct {
		field string
		net   netip.Prefix
	}
	var all []named
	add := func(field string, cidr v1alpha1.CIDR) {
		if p, ok := network(cidr); ok {
			all = append(all, named{field, p})
		}
	}
	add("spec.network.cidr", c.cluster.Spec.Network.CIDR)
	for i, s := range c.cluster.Spec.Network.Segments {
		add(fmt.Sprintf("spec.network.segments[%d].cidr", i), s.CIDR)
	}
	add("spec.kubernetes.podCIDR", c.cluster.Spec.Kubernetes.PodCIDR)
	add("spec.kubernetes.serviceCIDR", c.cluster.Spec.Kubernetes.ServiceCIDR)
	for i, a := range all {
		for _, b := range all[i+1:] {
			if a.net.Overlaps(b.net) {
				c.inCluster(b.field, "choose a private network that nothing else uses, such as 10.44.0.0/16", "%s overlaps %s %s", b.net, a.field, a.net)
			}
		}
	}
}

func nameserverIsNode(c *checker) {
	if c.cluster == nil {
		return
	}
	for i, s := range c.cluster.Spec.Network.Nameservers {
		a, ok := address(s)
		if !ok {
			continue
		}
		field := fmt.Sprintf("spec.network.nameservers[%d]", i)
		const fix = "name a server that runs without the cluster, such as the router"
		c.eachNode(func(j int, n *v1alpha1.Node, b netip.Addr) {
			if a == b {
				c.inCluster(field, fix, "%s is the address of %s", a, c.where(kindNode, j, "spec.address"))
			}
		})
		if vip, ok := c.virtualIP(); ok && a == vip {
			c.inCluster(field, fix, "%s is the virtual IP of the control plane", a)
		}
		if c.pool.IsValid() && c.pool.Contains(a) {
			c.inCluster(field, fix, "%s lies in %s", a, c.poolName())
		}
	}
}

func noPool(c *checker) {
	if c.hasCIDR && c.cluster.Spec.LoadBalancerPool == nil && !c.pool.IsValid() {
		c.inCluster("spec.network.cidr", "set spec.loadBalancerPool to a part of the network that no machine uses, such as its last /29",
			"%s leaves no room for the default load balancer pool, the last /%d", c.cidr, poolBits)
	}
}

func poolOutside(c *checker) {
	if !c.hasCIDR || c.cluster.Spec.LoadBalancerPool == nil || !c.pool.IsValid() {
		return
	}
	switch {
	case !c.cidr.Overlaps(c.pool):
		c.inCluster("spec.loadBalancerPool", "choose a part of it", "%s lies outside of network.cidr %s", c.pool, c.cidr)
	case c.pool.Bits() < c.cidr.Bits():
		c.inCluster("spec.loadBalancerPool", "choose a part of it", "%s is larger than network.cidr %s", c.pool, c.cidr)
	case c.pool == c.cidr:
		c.inCluster("spec.loadBalancerPool", "choose a part of it", "%s is all of network.cidr", c.pool)
	}
}

func gatewayInPool(c *checker) {
	if gateway, ok := c.gateway(); ok && c.pool.IsValid() && c.pool.Contains(gateway) {
		c.inCluster("spec.network.gateway", "set spec.loadBalancerPool to a range that no machine and no router uses", "%s lies in %s", gateway, c.poolName())
	}
}

func dhcpPoolTaken(c *checker) {
	if c.cluster == nil || c.cluster.Spec.Network.DHCPPool == nil {
		return
	}
	guests, ok := network(*c.cluster.Spec.Network.DHCPPool)
	if !ok {
		return
	}
	const field, fix = "spec.network.dhcpPool", "choose a range that nothing else has"
	if c.pool.IsValid() && guests.Overlaps(c.pool) {
		c.inCluster(field, fix, "%s overlaps %s", guests, c.poolName())
	}
	if vip, ok := c.virtualIP(); ok && guests.Contains(vip) {
		c.inCluster(field, fix, "%s holds the virtual IP %s", guests, vip)
	}
	c.eachNode(func(i int, _ *v1alpha1.Node, a netip.Addr) {
		if guests.Contains(a) {
			c.inNode(i, "spec.address", "choose an address outside of it, or set the Cluster's spec.network.dhcpPool to another range", "%s lies in network.dhcpPool %s", a, guests)
		}
	})
}

func virtualIPOutside(c *checker) {
	if vip, ok := c.virtualIP(); ok && c.hasCIDR {
		if why := unusable(c.cidr, vip); why != "" {
			c.inCluster("spec.controlPlane.virtualIP", "choose a free address of the network", "%s %s", vip, why)
		}
	}
}

func virtualIPTaken(c *checker) {
	vip, ok := c.virtualIP()
	if !ok {
		return
	}
	const fix = "choose an address that nothing else has"
	if gateway, ok := c.gateway(); ok && vip == gateway {
		c.inCluster("spec.controlPlane.virtualIP", fix, "%s is network.gateway", vip)
	}
	c.eachNode(func(i int, _ *v1alpha1.Node, a netip.Addr) {
		if a == vip {
			c.inCluster("spec.controlPlane.virtualIP", fix, "%s is the address of %s", vip, c.where(kindNode, i, "spec.address"))
		}
	})
}

func virtualIPInPool(c *checker) {
	if vip, ok := c.virtualIP(); ok && c.pool.IsValid() && c.pool.Contains(vip) {
		c.inCluster("spec.controlPlane.virtualIP", "choose an address outside of the pool, or set spec.loadBalancerPool to another range", "%s lies in %s", vip, c.poolName())
	}
}

func noControlPlane(c *checker) {
	if !slices.ContainsFunc(c.inv.Nodes, func(n v1alpha1.Node) bool { return isControlPlane(&n) }) {
		c.find("", 0, "", "give the role ControlPlane to one Node, or to three", "no Node with the role %s is declared", v1alpha1.ControlPlane)
	}
}

func evenControlPlane(c *checker) {
	names := nodeNames(c.inv.Nodes, isControlPlane)
	if n := len(names); n > 0 && n%2 == 0 {
		c.find("", 0, "", "make them an odd number: declare one more, or make one a Worker",
			"%d control-plane nodes are declared (%s): an even number survives the loss of no more of them than %d would", n, list(names), n-1)
	}
}

func duplicateMAC(c *checker) {
	duplicates(len(c.inv.Nodes), func(i int) string { return string(c.inv.Nodes[i].Spec.MAC) }, func(i, first int) {
		if strings.HasPrefix(string(c.inv.Nodes[i].Spec.MAC), "FILL-IN") {
			return
		}
		c.inNode(i, "spec.mac", "correct one of the two", "%s is the MAC of %s too", c.inv.Nodes[i].Spec.MAC, c.where(kindNode, first, "spec.mac"))
	})
}

func duplicateAddress(c *checker) {
	key := func(i int) string {
		if a, ok := address(c.inv.Nodes[i].Spec.Address); ok {
			return a.String()
		}
		return ""
	}
	duplicates(len(c.inv.Nodes), key, func(i, first int) {
		c.inNode(i, "spec.address", "give one of the two another address", "%s is the address of %s too", key(i), c.where(kindNode, first, "spec.address"))
	})
}

func addressOutside(c *checker) {
	if !c.hasCIDR {
		return
	}
	c.eachNode(func(i int, _ *v1alpha1.Node, a netip.Addr) {
		if s, ok := SegmentOf(c.cluster, a); ok {
			if cidr, _ := network(s.CIDR); a == cidr.Addr() || a == last(cidr) {
				c.inNode(i, "spec.address", "choose a free address of the segment", "%s is the address of the segment %s itself, or its broadcast address", a, cidr)
			}
			return
		}
		if why := unusable(c.cidr, a); why != "" {
			c.inNode(i, "spec.address", "choose a free address of the network", "%s %s", a, why)
		}
	})
}

func serverInSegment(c *checker) {
	if _, ok := c.virtualIP(); !ok {
		return
	}
	c.eachNode(func(i int, n *v1alpha1.Node, a netip.Addr) {
		if s, ok := SegmentOf(c.cluster, a); ok && isControlPlane(n) {
			c.inNode(i, "spec.address", "give it an address of network.cidr, or make it a Worker", "%s stands in the segment %s, which the virtual IP cannot move to", a, s.CIDR)
		}
	})
}

// loaderOf is the boot loader that a Node asks for.
func (c *checker) loaderOf(n *v1alpha1.Node) v1alpha1.LoaderPolicy {
	if n.Spec.Boot != nil && n.Spec.Boot.Loader != "" {
		return n.Spec.Boot.Loader
	}
	if c.cluster == nil {
		return ""
	}
	return c.cluster.Spec.PXE.Loader
}

func signedByProxy(c *checker) {
	if c.cluster == nil || c.cluster.Spec.Network.DHCP == v1alpha1.DHCPServer {
		return
	}
	for i := range c.inv.Nodes {
		if c.loaderOf(&c.inv.Nodes[i]) == v1alpha1.LoaderSigned {
			c.inNode(i, "spec.boot.loader", "set the Cluster's spec.network.dhcp to Server, or switch the machine's Secure Boot off and choose another loader",
				"is Signed, which boots only if the address is ours to give, and network.dhcp is Proxy")
		}
	}
}

func signedOnARM(c *checker) {
	for i := range c.inv.Nodes {
		if n := &c.inv.Nodes[i]; c.loaderOf(n) == v1alpha1.LoaderSigned && architecture(n) != v1alpha1.AMD64 {
			c.inNode(i, "spec.boot.loader", "switch the machine's Secure Boot off and choose another loader", "is Signed, and there is no signed loader for %s", architecture(n))
		}
	}
}

func signedImage(c *checker) {
	for i := range c.inv.Nodes {
		n := &c.inv.Nodes[i]
		if c.loaderOf(n) != v1alpha1.LoaderSigned {
			continue
		}
		// One that is not declared is another rule's.
		if system, err := c.inv.OperatingSystemOf(n); err == nil && system.Spec.Format != v1alpha1.FormatImage {
			c.inNode(i, "spec.boot.loader", "name an OperatingSystem of the format Image, or switch the machine's Secure Boot off and choose another loader",
				"is Signed, which installs the format Image alone, and OperatingSystem/%s has the format %s", system.Name, system.Spec.Format)
		}
	}
}

func addressIsGateway(c *checker) {
	gateway, ok := c.gateway()
	c.eachNode(func(i int, _ *v1alpha1.Node, a netip.Addr) {
		if s, in := SegmentOf(c.cluster, a); in && string(s.Gateway) == a.String() {
			c.inNode(i, "spec.address", "choose an address that nothing else has", "%s is the gateway of the segment %s", a, s.CIDR)
		}
		if ok && a == gateway {
			c.inNode(i, "spec.address", "choose an address that nothing else has", "%s is network.gateway of %s", a, c.where(kindCluster, 0, "spec.network.gateway"))
		}
	})
}

func addressInPool(c *checker) {
	if !c.pool.IsValid() {
		return
	}
	c.eachNode(func(i int, _ *v1alpha1.Node, a netip.Addr) {
		if c.pool.Contains(a) {
			c.inNode(i, "spec.address", "choose an address outside of the pool, or set the Cluster's spec.loadBalancerPool to another range", "%s lies in %s", a, c.poolName())
		}
	})
}

func unknownOperatingSystem(c *checker) {
	known := make([]string, 0, len(c.inv.OperatingSystems))
	for i := range c.inv.OperatingSystems {
		known = append(known, c.inv.OperatingSystems[i].Name)
	}
	slices.Sort(known)
	fix := "declare it: kind OperatingSystem"
	if len(known) > 0 {
		fix = "declare it, or name one that is declared: " + list(known)
	}
	if c.cluster != nil {
		if name := c.cluster.Spec.OperatingSystem; name != "" && !slices.Contains(known, name) {
			c.inCluster("spec.operatingSystem", fix, "no OperatingSystem %q is declared", name)
		}
	}
	for i := range c.inv.Nodes {
		if name := c.inv.Nodes[i].Spec.OperatingSystem; name != "" && !slices.Contains(known, name) {
			c.inNode(i, "spec.operatingSystem", fix, "no OperatingSystem %q is declared", name)
		}
	}
}

func noMedium(c *checker) {
	for i := range c.inv.Nodes {
		n := &c.inv.Nodes[i]
		system, err := c.inv.OperatingSystemOf(n)
		if err != nil {
			continue
		}
		if _, _, err := c.inv.MediumOf(n); err != nil {
			c.inNode(i, "spec.architecture", fmt.Sprintf("add a medium for %s to spec.media of OperatingSystem/%s, or name another operating system", architecture(n), system.Name),
				"OperatingSystem/%s has no medium for %s", system.Name, architecture(n))
		}
	}
}

func mediumNotLocked(c *checker) {
	type place struct{ system, medium int }
	seen := map[place]bool{}
	for i := range c.inv.Nodes {
		system, medium, err := c.inv.MediumOf(&c.inv.Nodes[i])
		if err != nil {
			continue // said by another rule
		}
		at := place{
			slices.IndexFunc(c.inv.OperatingSystems, func(o v1alpha1.OperatingSystem) bool { return o.Name == system.Name }),
			slices.IndexFunc(system.Spec.Media, func(m v1alpha1.Medium) bool { return m.Architecture == medium.Architecture }),
		}
		if at.system < 0 || seen[at] {
			continue
		}
		seen[at] = true
		say := func(field string, url v1alpha1.URL) {
			c.find(kindOperatingSystem, at.system, field, "run 'bootstrapper media lock' on the manifest, which downloads the file and fills in its digest",
				"is missing: %s, which Node/%s needs, is not used while its digest is not known", url, c.inv.Nodes[i].Name)
		}
		field := fmt.Sprintf("spec.media[%d]", at.medium)
		if medium.URL != "" && medium.SHA256 == "" {
			say(field+".sha256", medium.URL)
		}
		for j, f := range medium.Files {
			if f.SHA256 == "" {
				say(fmt.Sprintf("%s.files[%d].sha256", field, j), f.URL)
			}
		}
	}
}

func filesIncomplete(c *checker) {
	if c.cluster == nil || len(c.cluster.Spec.Kubernetes.Files) == 0 {
		return
	}
	seen := map[v1alpha1.Architecture]bool{}
	for i := range c.inv.Nodes {
		arch := architecture(&c.inv.Nodes[i])
		if _, ok := KubernetesFilesFor(c.cluster, arch); ok || seen[arch] {
			continue
		}
		seen[arch] = true
		c.inCluster("spec.kubernetes.files", fmt.Sprintf("add an entry for %s, or leave the list empty to take every architecture from there", arch),
			"has no entry for %s, which Node/%s needs: its files would be taken from the k3s project's release", arch, c.inv.Nodes[i].Name)
	}
}

// unusable says why an address cannot be a machine's on a network; empty: it can.
func unusable(cidr netip.Prefix, a netip.Addr) string {
	switch {
	case !cidr.Contains(a):
		return fmt.Sprintf("lies outside of network.cidr %s", cidr)
	case cidr.Bits() >= 31: // RFC 3021: such a network has no such addresses
		return ""
	case a == cidr.Addr():
		return fmt.Sprintf("is the address of the network %s itself", cidr)
	case a == last(cidr):
		return fmt.Sprintf("is the broadcast address of network.cidr %s", cidr)
	}
	return ""
}
