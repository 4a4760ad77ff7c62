package host

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
)

// Question is what the machine is to be good for.
type Question struct {
	Inventory inventory.Inventory
	// Interface is the one that the person named; empty: the only one that fits.
	Interface string
	// HTTPPort and HTTPSPort of the PXE service.
	HTTPPort, HTTPSPort uint16
	// Files: look at the files of this machine that the first node's installation
	// needs, too. A seed has its cache, and says it itself.
	Files bool
}

// network is the cluster's, if it is known.
func (q Question) network() (netip.Prefix, bool) {
	if len(q.Inventory.Clusters) == 0 {
		return netip.Prefix{}, false
	}
	p, err := netip.ParsePrefix(string(q.Inventory.Clusters[0].Spec.Network.CIDR))
	return p.Masked(), err == nil
}

// The names of the rules.
const (
	ruleNoInterface       = "NoInterface"
	ruleSeveralInterfaces = "SeveralInterfaces"
	ruleNetmask           = "NetmaskDiffers"
	ruleOwnAddress        = "OwnAddressTaken"
	ruleOwnInPool         = "OwnAddressInPool"
	rulePrivileges        = "NoPrivileges"
	rulePort              = "PortTaken"
	ruleProbe             = "ProbeFailed"
	ruleNoDHCP            = "NoDHCPServer"
	ruleForeignDHCP       = "ForeignDHCPServer"
	ruleForeignBoot       = "ForeignBootServer"
	ruleFile              = "LocalFileMissing"
)

// Rules are the rules that the machine is judged by.
func Rules() []inventory.Rule {
	return []inventory.Rule{
		{Name: ruleNoInterface, Severity: inventory.Error, Says: "an interface of this machine is up with an address in network.cidr", Why: "network boot begins with broadcasts, which no router passes on"},
		{Name: ruleSeveralInterfaces, Severity: inventory.Error, Says: "only one interface stands in network.cidr, or --interface names one", Why: "machines must be told one address"},
		{Name: ruleNetmask, Severity: inventory.Warning, Says: "the interface's prefix length is that of network.cidr", Why: "the two sides would not agree which addresses are neighbours"},
		{Name: ruleOwnAddress, Severity: inventory.Error, Says: "this machine's address is neither a Node's nor the virtual IP", Why: "two machines would answer to one address"},
		{Name: ruleOwnInPool, Severity: inventory.Warning, Says: "this machine's address is not in the load balancer pool", Why: "a Service could be given it later"},
		{Name: rulePrivileges, Severity: inventory.Error, Says: "the process is root or, on Linux, has CAP_NET_BIND_SERVICE and CAP_NET_RAW", Why: "DHCP and TFTP have low ports"},
		{Name: rulePort, Severity: inventory.Error, Says: "the ports of DHCP (UDP 67, 4011), TFTP (UDP 69), HTTP and HTTPS are free", Why: "machines ask there"},
		{Name: ruleProbe, Severity: inventory.Warning, Says: "other DHCP and boot servers can be looked for", Why: "what they would do to a network boot stays unknown"},
		{Name: ruleNoDHCP, Severity: inventory.Warning, Says: "with network.dhcp Proxy, a DHCP server answers", Why: "machines get their addresses from it"},
		{Name: ruleForeignDHCP, Severity: inventory.Error, Says: "with network.dhcp Server, no other DHCP server answers", Why: "machines would take the address of whoever is faster"},
		{Name: ruleForeignBoot, Severity: inventory.Error, Says: "no other boot server answers", Why: "machines would boot from whoever is faster"},
		{Name: ruleFile, Severity: inventory.Error, Says: "a file:// URL that the first node's installation needs names a file that can be read here (`check` only: a seed may have it in its cache)", Why: "there would be nothing to install"},
	}
}

var severities = func() map[string]inventory.Severity {
	m := map[string]inventory.Severity{}
	for _, r := range Rules() {
		m[r.Name] = r.Severity
	}
	return m
}()

// object is what the findings are about.
const object = "this machine"

// Judge says what keeps this machine from seeding the cluster. What follows from
// the cluster's network is passed over when there is no Cluster or its cidr
// cannot be read: that is found elsewhere.
func Judge(q Question, f Facts) []inventory.Finding {
	var all []inventory.Finding
	find := func(rule, field, message, fix string) {
		all = append(all, inventory.Finding{Rule: rule, Severity: severities[rule], Object: object, Field: field, Message: message, Fix: fix})
	}
	judgePrivileges(f, find)
	for _, p := range f.Ports {
		if !p.Taken {
			continue
		}
		by, fix := "", fmt.Sprintf("stop the program that has it: %s shows which", portCommand(f.System, p))
		if p.By != "" {
			by, fix = " by "+p.By, "stop that program"
		}
		find(rulePort, fmt.Sprintf("%s port %d", p.Protocol, p.Number), fmt.Sprintf("is in use%s, and %s needs it", by, p.Purpose), fix)
	}
	if cidr, ok := q.network(); ok {
		choice, err := Choose(f.Interfaces, cidr, q.Interface)
		var choiceErr *choiceError
		if errors.As(err, &choiceErr) {
			find(choiceErr.rule, "interface", choiceErr.message, choiceErr.fix)
		} else {
			judgeAddress(q, cidr, choice, find)
			judgeForeign(q, f, choice, find)
		}
	}
	return append(all, judgeFiles(q, f)...)
}

type finder func(rule, field, message, fix string)

func judgePrivileges(f Facts, find finder) {
	var lacking []string
	if !f.Privileges.LowPorts {
		lacking = append(lacking, "open ports below 1024")
	}
	if !f.Privileges.RawSockets {
		lacking = append(lacking, "use raw sockets")
	}
	if len(lacking) == 0 {
		return
	}
	fix := "run as root, with sudo"
	if f.System == "linux" {
		fix += ", or give the program CAP_NET_BIND_SERVICE and CAP_NET_RAW"
	}
	find(rulePrivileges, "privileges", "this process may not "+strings.Join(lacking, " and not "), fix)
}

func judgeAddress(q Question, cidr netip.Prefix, c Choice, find finder) {
	field := "interface " + c.Interface.Name
	if c.Network.Bits() != cidr.Bits() {
		find(ruleNetmask, field, fmt.Sprintf("has the address %s, whose prefix length is not that of network.cidr %s", c.Network, cidr), "correct whichever of the two is wrong")
	}
	const fix = "give this machine another address"
	for i := range q.Inventory.Nodes {
		n := &q.Inventory.Nodes[i]
		if string(n.Spec.Address) == c.Address.String() {
			find(ruleOwnAddress, field, fmt.Sprintf("has the address %s, which Node/%s is to have", c.Address, n.Name), fix+", or the Node")
		}
	}
	cluster := &q.Inventory.Clusters[0]
	if vip := cluster.Spec.ControlPlane.VirtualIP; vip != nil && string(*vip) == c.Address.String() {
		find(ruleOwnAddress, field, fmt.Sprintf("has the address %s, which is to be the control plane's virtual IP", c.Address), fix+", or choose another virtual IP")
	}
	if pool := inventory.Pool(*cluster); pool.IsValid() && pool.Contains(c.Address) {
		find(ruleOwnInPool, field, fmt.Sprintf("has the address %s, which lies in the load balancer pool %s", c.Address, pool), fix+", or set loadBalancerPool to another range")
	}
}

func judgeForeign(q Question, f Facts, c Choice, find finder) {
	if !f.Probed {
		return
	}
	field := "interface " + c.Interface.Name
	if f.ProbeError != "" {
		find(ruleProbe, field, "cannot look for other DHCP and boot servers: "+f.ProbeError, "run as root, and look at the network yourself")
		return
	}
	server := q.Inventory.Clusters[0].Spec.Network.DHCP == v1alpha1.DHCPServer
	offers := false
	for _, other := range f.Foreign {
		if other.OffersAddress {
			offers = true
			if server {
				find(ruleForeignDHCP, field, fmt.Sprintf("%s hands out addresses, and network.dhcp is Server", other.Server), "switch that DHCP server off, or set network.dhcp to Proxy")
			}
		}
		if other.BootFile != "" {
			find(ruleForeignBoot, field, fmt.Sprintf("%s offers the boot file %q to machines that boot from the network", other.Server, other.BootFile), "switch network boot off there, or stop that program")
		}
	}
	if !offers && !server {
		find(ruleNoDHCP, field, "nobody hands out addresses, and network.dhcp is Proxy", "connect the router or switch its DHCP server on, or set network.dhcp to Server")
	}
}

// portCommand shows who has a port.
func portCommand(system string, p Port) string {
	if system == "linux" {
		letter := map[string]string{"UDP": "u", "TCP": "t"}[p.Protocol]
		return fmt.Sprintf("ss -ln%sp 'sport = :%d'", letter, p.Number)
	}
	return fmt.Sprintf("sudo lsof -nP -i %s:%d", p.Protocol, p.Number)
}
