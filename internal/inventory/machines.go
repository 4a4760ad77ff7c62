package inventory

import "github.com/rhizome-dev/rhizome/crds/v1alpha1"

// machines finds Nodes without looking at each.
type machines struct {
	nodes     []v1alpha1.Node // those that it is of
	byMAC     map[v1alpha1.MAC]int
	byAddress map[v1alpha1.Address]int
}

// Indexed is the inventory, which finds its machines in no time however many they
// are. Its Nodes must not be changed any more; with other Nodes in their place it
// looks at each again.
func (inv Inventory) Indexed() Inventory {
	m := &machines{inv.Nodes, make(map[v1alpha1.MAC]int, len(inv.Nodes)), make(map[v1alpha1.Address]int, len(inv.Nodes))}
	for i := len(inv.Nodes) - 1; i >= 0; i-- { // the first of several stays
		m.byMAC[inv.Nodes[i].Spec.MAC] = i
		m.byAddress[inv.Nodes[i].Spec.Address] = i
	}
	inv.machines = m
	return inv
}

// Machine is the Node that declares this MAC, the first one if there are several.
func (inv Inventory) Machine(mac v1alpha1.MAC) (*v1alpha1.Node, bool) {
	if mac == "" {
		return nil, false
	}
	if inv.indexed() {
		i, ok := inv.machines.byMAC[mac]
		return inv.nodeAt(i, ok)
	}
	for i := range inv.Nodes {
		if inv.Nodes[i].Spec.MAC == mac {
			return &inv.Nodes[i], true
		}
	}
	return nil, false
}

// MachineAt is the Node that declares this address, the first one if there are
// several.
func (inv Inventory) MachineAt(address v1alpha1.Address) (*v1alpha1.Node, bool) {
	if address == "" {
		return nil, false
	}
	if inv.indexed() {
		i, ok := inv.machines.byAddress[address]
		return inv.nodeAt(i, ok)
	}
	for i := range inv.Nodes {
		if inv.Nodes[i].Spec.Address == address {
			return &inv.Nodes[i], true
		}
	}
	return nil, false
}

func (inv Inventory) nodeAt(i int, ok bool) (*v1alpha1.Node, bool) {
	if !ok {
		return nil, false
	}
	return &inv.Nodes[i], true
}

// indexed says whether the index is that of the Nodes as they are.
func (inv Inventory) indexed() bool {
	m := inv.machines
	return m != nil && len(inv.Nodes) > 0 && len(m.nodes) == len(inv.Nodes) && &m.nodes[0] == &inv.Nodes[0]
}
