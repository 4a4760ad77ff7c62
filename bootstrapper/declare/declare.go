// Package declare writes Node manifests for machines that were discovered.
package declare

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/pxe"
)

// Manifests are Nodes for the machines that the Cluster's status lists as
// discovered, as one YAML document each, in the order of their MAC addresses, and
// how many there are. A machine whose MAC a Node of the inventory has already is
// left out. The inventory must hold one Cluster.
func Manifests(inv inventory.Inventory) ([]byte, int, error) {
	cluster, err := inv.Cluster()
	if err != nil {
		return nil, 0, err
	}
	free, err := newAddresses(cluster, inv.Nodes)
	if err != nil {
		return nil, 0, err
	}
	taken := map[string]bool{}
	declared := map[v1alpha1.MAC]bool{}
	for i := range inv.Nodes {
		taken[inv.Nodes[i].Name], declared[inv.Nodes[i].Spec.MAC] = true, true
	}
	machines := slices.Clone(cluster.Status.Discovered)
	slices.SortFunc(machines, func(a, b v1alpha1.DiscoveredMachine) int { return strings.Compare(string(a.MAC), string(b.MAC)) })
	var out bytes.Buffer
	count := 0
	for _, m := range machines {
		mac, err := pxe.ParseMAC(string(m.MAC))
		if err != nil {
			return nil, 0, fmt.Errorf("status.discovered of Cluster/%s: %w", cluster.Name, err)
		}
		if declared[v1alpha1.MAC(mac)] {
			continue
		}
		declared[v1alpha1.MAC(mac)] = true
		address, ok := free.next()
		if !ok {
			return nil, 0, fmt.Errorf("network.cidr %s of Cluster/%s has no address left for %s: remove Nodes, or make room beside the load balancer pool",
				cluster.Spec.Network.CIDR, cluster.Name, mac)
		}
		architecture, sure := architectureOf(m.Architecture)
		if err := manifest.Execute(&out, map[string]any{
			"Name": nameFor(mac, taken), "MAC": mac, "Address": address, "Architecture": architecture,
			"Sure": sure, "Seen": seen(m), "First": utc(m.FirstSeen.Time), "Last": utc(m.LastSeen.Time),
		}); err != nil {
			return nil, 0, fmt.Errorf("cannot write the Node of %s: %w", mac, err)
		}
		count++
	}
	return out.Bytes(), count, nil
}

var manifest = template.Must(template.New("node").Parse(`---
# {{.Seen}}.
# First seen {{.First}}, last {{.Last}}.
# Before you commit this, check that it is your machine, and that it may be WIPED:
# once this Node is in the cluster, the operator installs it.
apiVersion: rhizome.dev/v1alpha1
kind: Node
metadata:
  # The machine's host name. It stays: choose it now.
  name: {{.Name}}
spec:
  # ControlPlane or Worker. It stays.
  role: Worker
  mac: "{{.MAC}}"
  # The next address that nothing declared has. It stays. It must be outside of what
  # the router hands out to others.
  address: {{.Address}}
{{- if not .Sure}}
  # The firmware did not say: check it.
{{- end}}
  architecture: {{.Architecture}}
  # The disk that is installed on. Without this: the only disk; a machine with
  # several is refused until one is named, by path, serial, wwn or size:
  # disk:
  #   serial: S4EVNX0N123456
`))

// seen is what is known of a machine, on one line. The words are the machine's own,
// and anybody on the network can say anything: what does not print is left out, so
// that a comment stays one.
func seen(m v1alpha1.DiscoveredMachine) string {
	parts := []string{"A machine that asked to boot from the network"}
	for _, p := range []struct{ what, said string }{{"firmware", m.Firmware}, {"architecture", m.Architecture}, {"UUID", m.UUID}} {
		clean := strings.Map(func(r rune) rune {
			if r < ' ' || r > '~' {
				return -1
			}
			return r
		}, p.said)
		if clean != "" {
			parts = append(parts, p.what+" "+clean)
		}
	}
	return strings.Join(parts, "; ")
}

func utc(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// architectureOf understands what firmware says; sure is false when it said
// nothing that is known.
func architectureOf(said string) (a v1alpha1.Architecture, sure bool) {
	switch said = strings.ToLower(said); {
	case strings.Contains(said, "arm64"), strings.Contains(said, "aarch64"):
		return v1alpha1.ARM64, true
	case strings.Contains(said, "amd64"), strings.Contains(said, "x86_64"), strings.Contains(said, "x86-64"):
		return v1alpha1.AMD64, true
	}
	return v1alpha1.AMD64, false
}

// nameFor makes a name of a MAC that no other Node has.
func nameFor(mac pxe.MAC, taken map[string]bool) string {
	base := "node-" + strings.ReplaceAll(string(mac), ":", "")
	name := base
	for n := 2; taken[name]; n++ {
		name = fmt.Sprintf("%s-%d", base, n)
	}
	taken[name] = true
	return name
}

// addresses gives out free ones of a network.
type addresses struct {
	cidr netip.Prefix
	pool netip.Prefix
	// guests is the pool of undeclared machines.
	guests netip.Prefix
	taken  map[netip.Addr]bool
	at     netip.Addr
}

// firstHost: many routers hand out only addresses above the first few, and have one
// of these themselves. `bootstrapper init` begins there too.
const firstHost = 10

func newAddresses(c *v1alpha1.Cluster, nodes []v1alpha1.Node) (*addresses, error) {
	cidr, err := netip.ParsePrefix(string(c.Spec.Network.CIDR))
	if err != nil || !cidr.Addr().Is4() {
		return nil, errors.Join(fmt.Errorf("Cluster/%s: spec.network.cidr: %q is no IPv4 network", c.Name, c.Spec.Network.CIDR), err)
	}
	a := &addresses{cidr: cidr.Masked(), pool: inventory.Pool(*c), taken: map[netip.Addr]bool{}, at: cidr.Masked().Addr()}
	if c.Spec.Network.DHCPPool != nil {
		a.guests, _ = netip.ParsePrefix(string(*c.Spec.Network.DHCPPool)) // invalid: none
	}
	take := func(text v1alpha1.Address) {
		if ip, err := netip.ParseAddr(string(text)); err == nil {
			a.taken[ip] = true
		}
	}
	take(c.Spec.Network.Gateway)
	for _, n := range c.Spec.Network.Nameservers {
		take(n)
	}
	if c.Spec.ControlPlane.VirtualIP != nil {
		take(*c.Spec.ControlPlane.VirtualIP)
	}
	for i := range nodes {
		take(nodes[i].Spec.Address)
	}
	if cidr.Bits() <= 27 {
		for range firstHost - 1 {
			a.at = a.at.Next()
		}
	}
	return a, nil
}

// next is a free address above those that were given: not the network's own, nor
// that of its broadcasts, nor one of the load balancer pool or of the pool of undeclared machines. Each is tried once.
func (a *addresses) next() (netip.Addr, bool) {
	for range 1 << min(32-a.cidr.Bits(), 20) {
		a.at = a.at.Next()
		if !a.cidr.Contains(a.at) {
			a.at = a.cidr.Addr().Next()
		}
		last := !a.cidr.Contains(a.at.Next())
		if a.at == a.cidr.Addr() || last || a.taken[a.at] || a.pool.IsValid() && a.pool.Contains(a.at) || a.guests.IsValid() && a.guests.Contains(a.at) {
			continue
		}
		a.taken[a.at] = true
		return a.at, true
	}
	return netip.Addr{}, false
}
