package provision

import (
	"fmt"
	"net/netip"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
)

// network is a node's static network configuration, parsed.
type network struct {
	mac         pxe.MAC
	address     netip.Prefix
	gateway     netip.Addr
	nameservers []netip.Addr
}

// networkOf reads the addresses of the node and its cluster. Its errors name the
// field.
func networkOf(c *v1alpha1.Cluster, n *v1alpha1.Node) (network, error) {
	var out network
	address, err := netip.ParseAddr(string(n.Spec.Address))
	if err != nil {
		return out, fmt.Errorf("Node/%s: spec.address: %w", n.Name, err)
	}
	field, at := "spec.network", v1alpha1.NetworkSegment{CIDR: c.Spec.Network.CIDR, Gateway: c.Spec.Network.Gateway}
	if s, ok := inventory.SegmentOf(c, address); ok {
		field, at = fmt.Sprintf("spec.network.segments[%s]", s.CIDR), s
	}
	cidr, err := netip.ParsePrefix(string(at.CIDR))
	if err != nil {
		return out, fmt.Errorf("Cluster/%s: %s.cidr: %w", c.Name, field, err)
	}
	if !cidr.Contains(address) {
		return out, fmt.Errorf("Node/%s: spec.address: %s is not in the Cluster's spec.network.cidr %s", n.Name, address, cidr)
	}
	if out.gateway, err = netip.ParseAddr(string(at.Gateway)); err != nil {
		return out, fmt.Errorf("Cluster/%s: %s.gateway: %w", c.Name, field, err)
	}
	if out.mac, err = pxe.ParseMAC(string(n.Spec.MAC)); err != nil {
		return out, fmt.Errorf("Node/%s: spec.mac: %w", n.Name, err)
	}
	for i, s := range c.Spec.Network.Nameservers {
		ns, err := netip.ParseAddr(string(s))
		if err != nil {
			return out, fmt.Errorf("Cluster/%s: spec.network.nameservers[%d]: %w", c.Name, i, err)
		}
		out.nameservers = append(out.nameservers, ns)
	}
	if len(out.nameservers) == 0 {
		out.nameservers = []netip.Addr{out.gateway}
	}
	out.address = netip.PrefixFrom(address, cidr.Bits())
	return out, nil
}

func diskHint(n *v1alpha1.Node) plan.DiskHint {
	d := n.Spec.Disk
	if d == nil {
		return plan.DiskHint{}
	}
	hint := plan.DiskHint{Path: d.Path, Serial: d.Serial, WWN: d.WWN}
	if d.MinSize != nil {
		hint.MinBytes = d.MinSize.Value()
	}
	if d.MaxSize != nil {
		hint.MaxBytes = d.MaxSize.Value()
	}
	return hint
}

// architectureOf is the declared architecture, with the schema's default.
func architectureOf(n *v1alpha1.Node) pxe.Arch {
	if n.Spec.Architecture == "" {
		return pxe.AMD64
	}
	return pxe.Arch(n.Spec.Architecture)
}

// OpenClaim makes a new claim for a node. uuid is the machine's if it is known
// from an earlier installation. It is not kept: hand it to the Claims' owner.
func OpenClaim(c *v1alpha1.Cluster, n *v1alpha1.Node, purpose Purpose, attempt int, uuid string, now Clock) (Claim, error) {
	net, err := networkOf(c, n)
	if err != nil {
		return Claim{}, err
	}
	ttl := DefaultTTL
	if c.Spec.PXE.ClaimTTL != nil && c.Spec.PXE.ClaimTTL.Duration > 0 {
		ttl = c.Spec.PXE.ClaimTTL.Duration
	}
	claim := Claim{
		ID: NewClaimID(), Node: n.Name, MAC: net.mac, Address: net.address.Addr(),
		Purpose: purpose, Attempt: attempt,
		Opened: now(), Finish: DefaultFinish,
	}
	if knownUUID(uuid) {
		claim.UUID = uuid
	}
	claim.Expires = claim.Opened.Add(ttl)
	return claim, nil
}
