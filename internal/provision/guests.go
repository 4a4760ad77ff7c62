package provision

import (
	"fmt"
	"net/netip"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/pxe/dhcp"
)

// Guests is the Cluster's pool of addresses for machines that nobody declared; nil if
// it has none. What is declared is asked for at every packet: no address of a Node,
// the virtual IP or the load balancer pool is ever handed out, whenever it was declared.
func Guests(c *v1alpha1.Cluster, declared func() inventory.Inventory) (*dhcp.Pool, error) {
	if c.Spec.Network.DHCPPool == nil || c.Spec.Network.DHCP != v1alpha1.DHCPServer {
		return nil, nil
	}
	cidr, err := netip.ParsePrefix(string(c.Spec.Network.CIDR))
	if err != nil {
		return nil, fmt.Errorf("Cluster/%s: spec.network.cidr: %w", c.Name, err)
	}
	addresses, err := netip.ParsePrefix(string(*c.Spec.Network.DHCPPool))
	if err != nil {
		return nil, fmt.Errorf("Cluster/%s: spec.network.dhcpPool: %w", c.Name, err)
	}
	gateway, err := netip.ParseAddr(string(c.Spec.Network.Gateway))
	if err != nil {
		return nil, fmt.Errorf("Cluster/%s: spec.network.gateway: %w", c.Name, err)
	}
	nameservers := []netip.Addr{gateway}
	if len(c.Spec.Network.Nameservers) > 0 {
		nameservers = nil
	}
	for i, s := range c.Spec.Network.Nameservers {
		a, err := netip.ParseAddr(string(s))
		if err != nil {
			return nil, fmt.Errorf("Cluster/%s: spec.network.nameservers[%d]: %w", c.Name, i, err)
		}
		nameservers = append(nameservers, a)
	}
	pool, err := dhcp.NewPool(dhcp.PoolConfig{
		Range: addresses, Network: cidr, Gateway: gateway, Nameservers: nameservers,
		Taken: func(a netip.Addr) bool { return taken(declared(), a) },
	})
	if err != nil {
		return nil, fmt.Errorf("Cluster/%s: spec.network.dhcpPool: %w", c.Name, err)
	}
	return pool, nil
}

// taken says whether an address is somebody's by declaration.
func taken(inv inventory.Inventory, a netip.Addr) bool {
	if _, ok := inv.MachineAt(v1alpha1.Address(a.String())); ok {
		return true
	}
	cluster, err := inv.Cluster()
	if err != nil {
		return true // in doubt
	}
	if vip := cluster.Spec.ControlPlane.VirtualIP; vip != nil && string(*vip) == a.String() {
		return true
	}
	services := inventory.Pool(*cluster)
	return services.IsValid() && services.Contains(a)
}
