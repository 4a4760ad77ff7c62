package inventory

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

func TestAnIndexFindsWhatASearchFinds(t *testing.T) {
	machine := func(name string, mac v1alpha1.MAC, address v1alpha1.Address) v1alpha1.Node {
		return v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.NodeSpec{MAC: mac, Address: address}}
	}
	searched := Inventory{Nodes: []v1alpha1.Node{
		machine("alpha", "52:54:00:00:00:01", "192.168.1.10"),
		machine("beta", "52:54:00:00:00:02", "192.168.1.10"),
		machine("gamma", "52:54:00:00:00:01", "192.168.1.12"),
		machine("delta", "", ""),
	}}
	indexed := searched.Indexed()
	replaced := indexed
	replaced.Nodes = []v1alpha1.Node{machine("omega", "52:54:00:00:00:01", "192.168.1.10")}
	grown := indexed
	grown.Nodes = append(grown.Nodes[:len(grown.Nodes):len(grown.Nodes)], machine("epsilon", "52:54:00:00:00:05", "192.168.1.15"))
	for _, c := range []struct {
		name      string
		inventory Inventory
		mac       v1alpha1.MAC
		address   v1alpha1.Address
		want      string
	}{
		{"searched", searched, "52:54:00:00:00:01", "192.168.1.10", "alpha"},
		{"indexed: the first of several", indexed, "52:54:00:00:00:01", "192.168.1.10", "alpha"},
		{"searched: nobody's", searched, "52:54:00:00:00:09", "192.168.1.19", ""},
		{"indexed: nobody's", indexed, "52:54:00:00:00:09", "192.168.1.19", ""},
		{"searched: not known", searched, "", "", ""},
		{"indexed: not known", indexed, "", "", ""},
		{"indexed, then others in their place", replaced, "52:54:00:00:00:01", "192.168.1.10", "omega"},
		{"indexed, then one added", grown, "52:54:00:00:00:05", "192.168.1.15", "epsilon"},
		{"empty", Inventory{}.Indexed(), "52:54:00:00:00:01", "192.168.1.10", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for how, find := range map[string]func() (*v1alpha1.Node, bool){
				"by MAC":     func() (*v1alpha1.Node, bool) { return c.inventory.Machine(c.mac) },
				"by address": func() (*v1alpha1.Node, bool) { return c.inventory.MachineAt(c.address) },
			} {
				got := ""
				if n, ok := find(); ok {
					got = n.Name
				}
				if got != c.want {
					t.Errorf("%s: found %q, want %q", how, got, c.want)
				}
			}
		})
	}
}
