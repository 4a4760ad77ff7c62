package boot

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/pxe/dhcp"
)

// link is the network interface that machines are booted over.
type link struct {
	Interface string
	Address   netip.Addr   // ours on it
	Network   netip.Prefix // the machines'
}

// linkWish is what a link must be.
type linkWish struct {
	network netip.Prefix
	// own is the declared address of the member that this runs on; zero: not declared.
	own netip.Addr
	// shared is the virtual IP of the control plane, which moves; zero: none.
	shared netip.Addr
	mode   dhcp.Mode
	// guests is what the pool of undeclared machines rests on; empty: there is none.
	guests string
}

// wishOf reads the Cluster's network.
func wishOf(s *snapshot, nodeName string) (linkWish, error) {
	if s.cluster == nil {
		return linkWish{}, fmt.Errorf("no Cluster is declared: declare one (kind: Cluster, apiVersion: %s)", v1alpha1.GroupVersion)
	}
	network, err := netip.ParsePrefix(string(s.cluster.Spec.Network.CIDR))
	if err != nil {
		return linkWish{}, fmt.Errorf("Cluster/%s: spec.network.cidr: %w", s.cluster.Name, err)
	}
	wish := linkWish{network: network.Masked()}
	if s.cluster.Spec.Network.DHCP == v1alpha1.DHCPServer {
		wish.mode = dhcp.Server
		if pool := s.cluster.Spec.Network.DHCPPool; pool != nil {
			wish.guests = fmt.Sprint(*pool, s.cluster.Spec.Network.Gateway, s.cluster.Spec.Network.Nameservers)
		}
	}
	if node, ok := s.inventory.Node(nodeName); ok {
		wish.own, _ = netip.ParseAddr(string(node.Spec.Address))
	}
	if ip := s.cluster.Spec.ControlPlane.VirtualIP; ip != nil {
		wish.shared, _ = netip.ParseAddr(string(*ip))
	}
	return wish, nil
}

// card is a network interface of the host.
type card struct {
	name      string
	up        bool
	loopback  bool
	addresses []netip.Prefix
}

func findLink(w linkWish) (link, error) {
	list, err := net.Interfaces()
	if err != nil {
		return link{}, fmt.Errorf("cannot list the network interfaces: %w", err)
	}
	var cards []card
	for _, i := range list {
		c := card{name: i.Name, up: i.Flags&net.FlagUp != 0, loopback: i.Flags&net.FlagLoopback != 0}
		addresses, err := i.Addrs()
		if err != nil {
			continue // the interface went away meanwhile
		}
		for _, a := range addresses {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
				c.addresses = append(c.addresses, p)
			}
		}
		cards = append(cards, c)
	}
	return chooseLink(cards, w)
}

// chooseLink finds our address in the machines' network: the declared one, else the
// only one that is neither shared nor, by its prefix length of 32, a guest that may
// move on any moment. In doubt it chooses none: machines would be told an address
// that does not answer.
func chooseLink(cards []card, w linkWish) (link, error) {
	var found []link
	var have []string
	for _, c := range cards {
		if !c.up || c.loopback {
			continue
		}
		for _, a := range c.addresses {
			have = append(have, fmt.Sprintf("%s on %s", a, c.name))
			if !w.network.Contains(a.Addr()) {
				continue
			}
			l := link{c.name, a.Addr(), w.network}
			if a.Addr() == w.own {
				return l, nil
			}
			if a.Addr() != w.shared && a.Bits() != 32 {
				found = append(found, l)
			}
		}
	}
	if len(have) == 0 {
		have = []string{"none"}
	}
	slices.Sort(have)
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return link{}, fmt.Errorf("no address of this host stands in the Cluster's network %s; it has: %s; connect the host to that network, correct spec.network.cidr, or let spec.pxe.nodeSelector choose other members",
			w.network, strings.Join(have, ", "))
	}
	return link{}, fmt.Errorf("several addresses of this host stand in the Cluster's network %s, and none is the declared one of its Node; it has: %s; declare the member, or take the others away",
		w.network, strings.Join(have, ", "))
}
