package provision

import (
	"fmt"
	"maps"
	"slices"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/initconfig"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
)

const reportPath = "/v1/report"

// plan is what the in-memory installer does, all but the image's compression and
// the way into the new system.
func (b *Backend) plan(node *v1alpha1.Node, claim Claim, service Service, image Medium, documents map[string][]byte, n initconfig.Network) plan.Plan {
	seed := map[string]string{}
	for name, content := range documents {
		seed[name] = string(content)
	}
	out := plan.Plan{
		Node:      node.Name,
		Claim:     claim.ID,
		CA:        string(service.CA),
		ReportURL: service.SecureURL + reportPath,
		Image: plan.Image{
			URL:    service.BaseURL + image.Path(),
			SHA256: image.SHA256,
			Size:   b.c.MediaSize(image.SHA256),
		},
		Disk:    diskHint(node),
		Seed:    seed,
		Network: plan.Network{MAC: n.MAC, Address: n.Address.String(), Gateway: n.Gateway.String()},
	}
	for _, other := range service.Others {
		out.OtherReportURLs = append(out.OtherReportURLs, other.SecureURL+reportPath)
		out.Image.Mirrors = append(out.Image.Mirrors, other.BaseURL+image.Path())
	}
	for _, ns := range n.Nameservers {
		out.Network.Nameservers = append(out.Network.Nameservers, ns.String())
	}
	return out
}

// NodeConfig is what a node's installed system is to be: a machine that fetches
// k3s from the PXE service, exchanges its claim for its credentials, and starts.
// media are the node's, by Media.
func NodeConfig(inv inventory.Inventory, node *v1alpha1.Node, claim Claim, service Service, media []Medium) (initconfig.NodeConfig, error) {
	cluster, err := inv.Cluster()
	if err != nil {
		return initconfig.NodeConfig{}, err
	}
	net, err := networkOf(cluster, node)
	if err != nil {
		return initconfig.NodeConfig{}, err
	}
	files, units, err := joinParts(node, claim, service, media)
	if err != nil {
		return initconfig.NodeConfig{}, err
	}
	return initconfig.NodeConfig{
		HostName: node.Name,
		// Every claim has its own, and none of its secret.
		InstanceID: fmt.Sprintf("%s-%s-%d", node.Name, claim.Opened.UTC().Format("20060102T150405Z"), claim.Attempt),
		Network: initconfig.Network{
			MAC: string(net.mac), Address: net.address, Gateway: net.gateway, Nameservers: net.nameservers,
			WakeOnLAN: node.Spec.Power == nil || node.Spec.Power.WakeOnLAN != nil,
		},
		SSHKeys: slices.Clone(cluster.Spec.SSHKeys),
		Files:   files,
		Units:   units,
		// The boot's own services for these are over before the files are there.
		Commands: [][]string{
			{"modprobe", "--all", "br_netfilter", "overlay"},
			{"sysctl", "--quiet", "--system"},
		},
	}, nil
}

// sysctls are the kernel settings that k3s and the many watchers of a cluster
// want. k3s sets the first ones itself at its start; here they hold from the boot
// on, whatever the distribution's firewall or network scripts do in between.
var sysctls = map[string]string{
	"net.ipv4.ip_forward":                 "1",
	"net.bridge.bridge-nf-call-iptables":  "1",
	"net.bridge.bridge-nf-call-ip6tables": "1",
	"fs.inotify.max_user_instances":       "8192",
	"fs.inotify.max_user_watches":         "524288",
}

func kernelFiles() []initconfig.File {
	var settings []byte
	for _, key := range slices.Sorted(maps.Keys(sysctls)) {
		// A dash: a kernel without the setting is no failure (sysctl.d(5)).
		settings = fmt.Appendf(settings, "-%s = %s\n", key, sysctls[key])
	}
	return []initconfig.File{
		{Path: "/etc/modules-load.d/rhizome-k3s.conf", Content: []byte("br_netfilter\noverlay\n")},
		{Path: "/etc/sysctl.d/90-rhizome-k3s.conf", Content: settings},
	}
}
