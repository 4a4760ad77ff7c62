// Package host judges whether the machine that the bootstrapper runs on can seed
// a cluster: its network, its ports, its privileges, and who else answers there.
package host

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/rhizome-dev/rhizome/pxe/dhcp"
)

// Facts are what was observed of this machine. Judge draws the conclusions.
type Facts struct {
	// System is the operating system by its Go name, linux or darwin.
	System     string
	Interfaces []Interface
	// Route is the default route; zero when there is none.
	Route      Route
	Privileges Privileges
	// Ports are the ports that were tried on the chosen interface; none when no
	// interface could be chosen.
	Ports []Port
	// Files are the files of this machine that the manifests name, if Question.Files.
	Files []File
	// Foreign are the DHCP and boot servers that answered. Probed says whether
	// anybody was asked, and ProbeError why the answer is not to be trusted.
	Foreign    []dhcp.Foreign
	Probed     bool
	ProbeError string
}

// Interface is a network interface.
type Interface struct {
	Name      string
	Up        bool
	Loopback  bool
	MAC       string         // canonical, empty when it has none
	Addresses []netip.Prefix // IPv4, with the prefix length of their network
}

// Route is a default route.
type Route struct {
	Interface string
	Gateway   netip.Addr
}

// Privileges are what this process may do.
type Privileges struct {
	LowPorts   bool // open ports below 1024 (root, or CAP_NET_BIND_SERVICE)
	RawSockets bool // send and see raw packets (root, or CAP_NET_RAW)
}

// Port is a port that seeding needs.
type Port struct {
	Protocol string // UDP or TCP
	Number   uint16
	Purpose  string // such as DHCP
	Taken    bool
	By       string // the program that has it, if that is known
}

// Choice is the interface that seeding uses, and our address on it.
type Choice struct {
	Interface Interface
	Address   netip.Addr
	Network   netip.Prefix // of the interface's address
}

// Choose finds the interface that stands in the cluster's network: the one that
// is named, or, when name is empty, the only one with an address in it. The error
// says what there is to choose from.
func Choose(interfaces []Interface, cidr netip.Prefix, name string) (Choice, error) {
	var found []Choice
	for _, i := range interfaces {
		if !i.Up || i.Loopback || name != "" && i.Name != name {
			continue
		}
		for _, a := range i.Addresses {
			if cidr.Contains(a.Addr()) {
				found = append(found, Choice{i, a.Addr(), a})
				break
			}
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		names := make([]string, len(found))
		for n, c := range found {
			names[n] = fmt.Sprintf("%s (%s)", c.Interface.Name, c.Network)
		}
		return Choice{}, &choiceError{ruleSeveralInterfaces, fmt.Sprintf("several interfaces stand in the cluster's network %s: %s", cidr, strings.Join(names, ", ")), "name one of them with --interface"}
	}
	fix := fmt.Sprintf("connect this machine to the network %s, or correct network.cidr", cidr)
	if name == "" {
		return Choice{}, &choiceError{ruleNoInterface, fmt.Sprintf("no interface of this machine stands in the cluster's network %s; there is %s", cidr, addresses(interfaces)), fix}
	}
	if !slices.ContainsFunc(interfaces, func(i Interface) bool { return i.Name == name }) {
		return Choice{}, &choiceError{ruleNoInterface, fmt.Sprintf("there is no interface %q; there is %s", name, addresses(interfaces)), "name one that there is with --interface"}
	}
	return Choice{}, &choiceError{ruleNoInterface, fmt.Sprintf("the interface %s is not up with an address in the cluster's network %s; there is %s", name, cidr, addresses(interfaces)), fix}
}

// choiceError is why no interface could be chosen.
type choiceError struct{ rule, message, fix string }

func (e *choiceError) Error() string { return e.message + "; " + e.fix }

// addresses lists what an interface could be chosen from.
func addresses(interfaces []Interface) string {
	var all []string
	for _, i := range interfaces {
		if i.Loopback {
			continue
		}
		switch {
		case !i.Up:
			all = append(all, i.Name+" (down)")
		case len(i.Addresses) == 0:
			all = append(all, i.Name+" (no IPv4 address)")
		default:
			for _, a := range i.Addresses {
				all = append(all, fmt.Sprintf("%s (%s)", i.Name, a))
			}
		}
	}
	if len(all) == 0 {
		return "no interface but the loopback"
	}
	return strings.Join(all, ", ")
}
