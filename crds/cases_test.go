package crds_test

// accepted are good objects at the edge of a rule.
var accepted = []struct {
	name, of string
	set      fields
}{
	{name: "the least that a cluster must say", of: "cluster", set: fields{"spec": map[string]any{
		"network":         map[string]any{"cidr": "10.0.0.0/26", "gateway": "10.0.0.1"},
		"kubernetes":      map[string]any{"version": "v1.33.5+k3s1"},
		"operatingSystem": "debian",
	}}},
	{name: "a small network with a pool of its own", of: "cluster", set: fields{
		"spec.network.cidr": "192.168.1.0/29", "spec.network.dhcpPool": remove{}, "spec.loadBalancerPool": "192.168.1.6/31", "spec.controlPlane.virtualIP": "192.168.1.5",
	}},
	{name: "pod and service networks of the extreme sizes", of: "cluster", set: fields{
		"spec.kubernetes.podCIDR": "10.42.0.0/24", "spec.kubernetes.serviceCIDR": "172.16.0.0/12",
	}},
	{name: "the least service network", of: "cluster", set: fields{"spec.kubernetes.serviceCIDR": "10.43.0.0/28"}},
	{name: "a release candidate of k3s", of: "cluster", set: fields{"spec.kubernetes.version": "v1.34.0-rc1+k3s1"}},
	{name: "an image by tag and digest", of: "cluster", set: fields{"spec.controlPlane.virtualIPImage": "registry.home:5000/kube-vip:v0.9.2@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}},
	{name: "the shortest claim", of: "cluster", set: fields{"spec.pxe.claimTTL": "60s"}},
	{name: "the longest claim", of: "cluster", set: fields{"spec.pxe.claimTTL": "24h0m0s"}},
	{name: "the shortest join", of: "cluster", set: fields{"spec.growth.joinTimeout": "1m"}},
	{name: "the shortest drain", of: "cluster", set: fields{"spec.growth.drainTimeout": "1s"}},
	{name: "the last step turned off", of: "cluster", set: fields{"spec.healing.reinstall": map[string]any{"tries": int64(0)}, "spec.healing.maxReinstallsPerDay": int64(0)}},
	{name: "a maintenance window of whole days", of: "cluster", set: fields{"spec.healing.maintenanceWindows": []any{map[string]any{"days": []any{"Sunday"}}}}},
	{name: "a time zone with two slashes", of: "cluster", set: fields{"spec.healing.maintenanceWindows[0].timeZone": "America/Argentina/Buenos_Aires"}},
	{name: "an installer's medium", of: "operatingsystem", set: fields{
		"spec.format": "Kickstart",
		"spec.media":  []any{map[string]any{"architecture": "amd64", "url": "https://example.org/Fedora.iso", "sha256": zeros64}},
	}},
	{name: "a file of this machine with odd characters", of: "operatingsystem", set: fields{"spec.media[0].url": "file:///srv/my%20images/debian~13+1.raw"}},
	{name: "a disk's size in plain bytes", of: "node", set: fields{"spec.disk.minSize": int64(1000000000), "spec.disk.maxSize": "1G"}},
	{name: "a node without anything optional", of: "node", set: fields{"spec": map[string]any{
		"role": "Worker", "mac": "52:54:00:12:34:56", "address": "192.168.1.10",
	}}},
	{name: "a plain device", of: "node", set: fields{"spec.disk.path": "/dev/nvme0n1"}},
	{name: "a WWN with the leading 0x", of: "node", set: fields{"spec.disk.wwn": "0x5000c500a1b2c3d4"}},
	{name: "a label in a domain below node.kubernetes.io's parent", of: "node", set: fields{"spec.labels": map[string]any{"mykubernetes.io/rack": "a1"}}},
	{name: "a repository over ssh", of: "gitops", set: fields{"spec.seed.url": "git@github.com:you/homelab.git"}},
	{name: "a repository over ssh with a port", of: "gitops", set: fields{"spec.seed.url": "ssh://git@git.home:2222/you/homelab.git"}},
	{name: "charts in a registry", of: "gitops", set: fields{"spec.argoCD.repository": "oci://ghcr.io/argoproj/argo-helm"}},
	{name: "the layers by default", of: "gitops", set: fields{"spec.layers": remove{}, "spec.home.layer": remove{}}},
	{name: "a seed that stays the source", of: "gitops", set: fields{"spec.home": remove{}}},
	{name: "the source pinned to the home", of: "gitops", set: fields{"spec.source": "Home"}},
	{name: "the rarest push mirror", of: "gitops", set: fields{"spec.home.pushMirror.interval": "168h"}},
}

const zeros64 = "0000000000000000000000000000000000000000000000000000000000000000"

// The rules of types that stand in several places. Each place is a case: a rule
// that was lost in one of them would be noticed.

func addressRefused(of, field string) []bad {
	return []bad{
		{name: field + " is no address", of: of, set: fields{field: "192.168.1.300"}, field: field,
			message: "must be an IPv4 address such as 192.168.1.10, without a prefix length"},
		{name: field + " is not one machine's", of: of, set: fields{field: "224.0.0.1"}, field: field, more: true,
			message: "must be the address of one machine: not 0.0.0.0, loopback, link-local, multicast or broadcast"},
	}
}

func cidrRefused(of, field string) []bad {
	const message = "must be an IPv4 network such as 192.168.1.0/24, with no host bits set"
	return []bad{
		{name: field + " has host bits", of: of, set: fields{field: "192.168.1.9/27"}, field: field, message: message, more: true},
		{name: field + " is no network", of: of, set: fields{field: "192.168.1.0"}, field: field, message: message, more: true},
		{name: field + " is an IPv6 network", of: of, set: fields{field: "fd00::/64"}, field: field, message: message, more: true},
	}
}

func macRefused(of, field string) []bad {
	const form = "must be a MAC address in lower case with colons, such as 52:54:00:12:34:56"
	return []bad{
		{name: field + " in upper case", of: of, set: fields{field: "52:54:00:AB:CD:EF"}, field: field, message: form},
		{name: field + " with dashes", of: of, set: fields{field: "52-54-00-12-34-56"}, field: field, message: form},
		{name: field + " is multicast", of: of, set: fields{field: "01:00:5e:00:00:01"}, field: field,
			message: "must be the MAC address of one machine: this one is a multicast address (the second digit is odd)"},
		{name: field + " is all zeros", of: of, set: fields{field: "00:00:00:00:00:00"}, field: field,
			message: "must be the MAC address of a machine: this one is all zeros"},
	}
}

func fileRefused(of, file string) []bad {
	const form = "must be an absolute http, https or file URL, such as https://example.org/debian.raw.xz or file:///srv/debian.raw.xz"
	url := file + ".url"
	return append([]bad{
		{name: url + " by ftp", of: of, set: fields{url: "ftp://example.org/k3s"}, field: url, message: form},
		{name: url + " is a path", of: of, set: fields{url: "/srv/k3s"}, field: url, message: form},
		{name: url + " has a quote", of: of, set: fields{url: "https://example.org/k3s'"}, field: url, message: form},
		{name: url + " is a file of another machine", of: of, set: fields{url: "file://server/srv/k3s"}, field: url, message: form},
		{name: url + " has credentials", of: of, set: fields{url: "https://me:secret@example.org/k3s"}, field: url,
			message: "must not hold a user name or password: whoever may read this resource may read them"},
		{name: url + " is a directory", of: of, set: fields{url: "https://example.org/images/"}, field: url,
			message: "must name a file, not a directory: the path must not end with a slash"},
	}, digestRefused(of, file+".sha256")...)
}

func digestRefused(of, field string) []bad {
	const message = "must be a SHA-256 digest: 64 lower-case hexadecimal digits, as sha256sum prints them"
	return []bad{
		{name: field + " is too short", of: of, set: fields{field: "e3b0c442"}, field: field, message: message},
		{name: field + " in upper case", of: of, set: fields{field: "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855"}, field: field, message: message},
	}
}

func nameRefused(of, field, what string) []bad {
	return []bad{{name: field + " is no name", of: of, set: fields{field: "Not_A_Name"}, field: field,
		message: "must be the name of " + what + ": lower-case letters, digits, dashes and dots"}}
}
