package crds_test

import "slices"

const (
	publicKeyWanted = "must be a public key on one line, such as 'ssh-ed25519 AAAA... you@home': the content of a .pub file"
	outsideVirtual  = "must be a machine's address within network.cidr: the virtual IP is answered on the machines' own network"
	outsideGateway  = "must be a machine's address within network.cidr: the router's on the machines' own network"
	notAPart        = "must be a part of network.cidr, and not all of it: the rest is the machines'"
	podOverlap      = "must not overlap network.cidr: pods need addresses that no machine has"
	serviceSize     = "must be between /12 and /28: Kubernetes takes no larger one, and cluster DNS is its tenth address"
	imageWanted     = "must be an image with a tag or a digest, such as ghcr.io/kube-vip/kube-vip:v0.9.2"
	releaseWanted   = "must be a k3s release such as v1.33.5+k3s1, with the part after the plus sign"
	hostNameWanted  = "must be a host name in lower case, such as k8s.example.org, or an IP address"
)

var clusterRefused = slices.Concat([]bad{
	// spec.network
	{name: "gateway in another network", of: "cluster", set: fields{"spec.network.gateway": "192.168.2.1"}, field: "spec.network.gateway", message: outsideGateway},
	{name: "gateway is the network's own address", of: "cluster", set: fields{"spec.network.gateway": "192.168.1.0"}, field: "spec.network.gateway", message: outsideGateway},
	{name: "network too small for machines", of: "cluster",
		set:   fields{"spec.network.cidr": "192.168.1.0/30", "spec.network.dhcpPool": remove{}, "spec.controlPlane": remove{}, "spec.loadBalancerPool": "192.168.1.2/31"},
		field: "spec.network.cidr", message: "must be /29 or larger, to have room for machines"},
	{name: "network too small for the default pool", of: "cluster",
		set:   fields{"spec.network.cidr": "192.168.1.0/27", "spec.network.dhcpPool": remove{}, "spec.loadBalancerPool": remove{}},
		field: "spec.network.cidr", message: "is smaller than /26, which leaves no room for the default load balancer pool (the last /27): set loadBalancerPool"},
	{name: "a nameserver twice", of: "cluster", set: fields{"spec.network.nameservers": []any{"9.9.9.9", "9.9.9.9"}},
		field: "spec.network.nameservers", message: "must name each server once"},
	{name: "a pool of guests beside the router's DHCP server", of: "cluster", set: fields{"spec.network.dhcp": "Proxy", "spec.network.dhcpPool": "192.168.1.128/26"},
		field: "spec.network.dhcpPool", message: "needs dhcp: Server, since the network's own DHCP server has the addresses otherwise"},
	{name: "a pool of guests in another network", of: "cluster", set: fields{"spec.network.dhcp": "Server", "spec.network.dhcpPool": "192.168.2.0/26"},
		field: "spec.network.dhcpPool", message: "must be a part of network.cidr"},
	{name: "a large pool of guests", of: "cluster", set: fields{"spec.network.dhcpPool": "192.168.0.0/19"},
		field: "spec.network.dhcpPool", message: "must be /20 or smaller", more: true},
	{name: "a segment whose gateway is elsewhere", of: "cluster", set: fields{"spec.network.segments": []any{map[string]any{"cidr": "10.9.0.0/24", "gateway": "192.168.1.1"}}},
		field: "spec.network.segments[0].gateway", message: "must be a machine's address within the segment's cidr: its router's"},
	{name: "a segment without room", of: "cluster", set: fields{"spec.network.segments": []any{map[string]any{"cidr": "10.9.0.0/31", "gateway": "10.9.0.1"}}},
		field: "spec.network.segments[0].cidr", message: "must be /30 or larger, to have room for machines"},

	// spec.controlPlane
	{name: "virtual IP in another network", of: "cluster", set: fields{"spec.controlPlane.virtualIP": "192.168.2.5"}, field: "spec.controlPlane.virtualIP", message: outsideVirtual},
	{name: "virtual IP is the network's own address", of: "cluster", set: fields{"spec.controlPlane.virtualIP": "192.168.1.0"}, field: "spec.controlPlane.virtualIP", message: outsideVirtual},
	{name: "virtual IP is the gateway's", of: "cluster", set: fields{"spec.controlPlane.virtualIP": "192.168.1.1"},
		field: "spec.controlPlane.virtualIP", message: "must not be network.gateway: give the control plane an address of its own"},
	{name: "image without a tag", of: "cluster", set: fields{"spec.controlPlane.virtualIPImage": "ghcr.io/kube-vip/kube-vip"}, field: "spec.controlPlane.virtualIPImage", message: imageWanted},
	{name: "image with a space", of: "cluster", set: fields{"spec.controlPlane.virtualIPImage": "ghcr.io/kube-vip/kube-vip:v0 --privileged"}, field: "spec.controlPlane.virtualIPImage", message: imageWanted},
	{name: "extra name with a scheme", of: "cluster", set: fields{"spec.controlPlane.extraNames[0]": "https://k8s.example.org"}, field: "spec.controlPlane.extraNames[0]", message: hostNameWanted},
	{name: "extra name in upper case", of: "cluster", set: fields{"spec.controlPlane.extraNames[0]": "K8s.example.org"}, field: "spec.controlPlane.extraNames[0]", message: hostNameWanted},

	// spec.kubernetes
	{name: "a release of Kubernetes and not of k3s", of: "cluster", set: fields{"spec.kubernetes.version": "v1.33.5"}, field: "spec.kubernetes.version", message: releaseWanted},
	{name: "a release without its v", of: "cluster", set: fields{"spec.kubernetes.version": "1.33.5+k3s1"}, field: "spec.kubernetes.version", message: releaseWanted},
	{name: "a component that is no name", of: "cluster", set: fields{"spec.kubernetes.disable[0]": "traefik,servicelb"}, field: "spec.kubernetes.disable[0]",
		message: "must be the name of a component that k3s packages, such as traefik"},
	{name: "pods in the machines' network", of: "cluster", set: fields{"spec.kubernetes.podCIDR": "192.168.0.0/16"}, field: "spec.kubernetes.podCIDR", message: podOverlap},
	{name: "machines in the pods' network", of: "cluster", set: fields{"spec.kubernetes.podCIDR": "192.168.1.0/24"}, field: "spec.kubernetes.podCIDR", message: podOverlap},
	{name: "services in the machines' network", of: "cluster", set: fields{"spec.kubernetes.serviceCIDR": "192.168.0.0/16"}, field: "spec.kubernetes.serviceCIDR",
		message: "must not overlap network.cidr: services need addresses that no machine has"},
	{name: "services in the pods' network", of: "cluster", set: fields{"spec.kubernetes.serviceCIDR": "10.42.128.0/17"}, field: "spec.kubernetes.serviceCIDR", message: "must not overlap podCIDR"},
	{name: "pods in the services' network", of: "cluster", set: fields{"spec.kubernetes.podCIDR": "10.43.1.0/24"}, field: "spec.kubernetes.serviceCIDR", message: "must not overlap podCIDR"},
	{name: "too few pods", of: "cluster", set: fields{"spec.kubernetes.podCIDR": "10.42.0.0/25"}, field: "spec.kubernetes.podCIDR",
		message: "must be /24 or larger: each machine takes a /24 of it for its pods"},
	{name: "too many services", of: "cluster", set: fields{"spec.kubernetes.serviceCIDR": "172.0.0.0/8"}, field: "spec.kubernetes.serviceCIDR", message: serviceSize},
	{name: "too few services", of: "cluster", set: fields{"spec.kubernetes.serviceCIDR": "10.43.0.0/29"}, field: "spec.kubernetes.serviceCIDR", message: serviceSize},
	{name: "another pod network later", of: "cluster", update: true, set: fields{"spec.kubernetes.podCIDR": "10.44.0.0/16"}, field: "spec.kubernetes.podCIDR",
		message: "is immutable: a cluster keeps the pod network that it was founded with"},
	{name: "another service network later", of: "cluster", update: true, set: fields{"spec.kubernetes.serviceCIDR": "10.45.0.0/16"}, field: "spec.kubernetes.serviceCIDR",
		message: "is immutable: a cluster keeps the service network that it was founded with"},

	// spec.loadBalancerPool
	{name: "pool in another network", of: "cluster", set: fields{"spec.loadBalancerPool": "192.168.2.0/27"}, field: "spec.loadBalancerPool", message: notAPart},
	{name: "pool with the gateway", of: "cluster", set: fields{"spec.loadBalancerPool": "192.168.1.0/30"}, field: "spec.loadBalancerPool",
		message: "must not contain network.gateway: choose a range that no machine or router uses"},
	{name: "pool with the virtual IP", of: "cluster", set: fields{"spec.loadBalancerPool": "192.168.1.4/30"}, field: "spec.loadBalancerPool",
		message: "must not contain controlPlane.virtualIP: a Service could be given the control plane's address"},

	// spec.sshKeys
	{name: "a private key", of: "cluster", set: fields{"spec.sshKeys[0]": "-----BEGIN OPENSSH PRIVATE KEY-----"}, field: "spec.sshKeys[0]", message: publicKeyWanted},
	{name: "two keys in one entry", of: "cluster", set: fields{"spec.sshKeys[0]": "ssh-ed25519 AAAAC3Nz one\nssh-ed25519 AAAAC3Nz two"}, field: "spec.sshKeys[0]", message: publicKeyWanted},
	{name: "the path of a key", of: "cluster", set: fields{"spec.sshKeys[0]": "~/.ssh/id_ed25519.pub"}, field: "spec.sshKeys[0]", message: publicKeyWanted},

	// spec.pxe
	{name: "a time to live without a unit", of: "cluster", set: fields{"spec.pxe.claimTTL": "30"}, field: "spec.pxe.claimTTL", message: "must be a duration such as 30m or 1h30m"},
	{name: "a claim that is too short", of: "cluster", set: fields{"spec.pxe.claimTTL": "59s"}, field: "spec.pxe.claimTTL", message: "must be between 1m and 24h"},
	{name: "a claim that is too long", of: "cluster", set: fields{"spec.pxe.claimTTL": "25h"}, field: "spec.pxe.claimTTL", message: "must be between 1m and 24h"},
	{name: "a join without a unit", of: "cluster", set: fields{"spec.growth.joinTimeout": "30"}, field: "spec.growth.joinTimeout", message: "must be a duration such as 30m or 1h30m"},
	{name: "a join that is too short", of: "cluster", set: fields{"spec.growth.joinTimeout": "59s"}, field: "spec.growth.joinTimeout", message: "must be between 1m and 24h"},
	{name: "a drain without a unit", of: "cluster", set: fields{"spec.growth.drainTimeout": "10"}, field: "spec.growth.drainTimeout", message: "must be a duration such as 10m or 1h30m"},
	{name: "a drain that is too long", of: "cluster", set: fields{"spec.growth.drainTimeout": "25h"}, field: "spec.growth.drainTimeout", message: "must be between 1s and 24h"},
},
	healingRefused,
	addressRefused("cluster", "spec.network.gateway"),
	addressRefused("cluster", "spec.network.nameservers[0]"),
	addressRefused("cluster", "spec.controlPlane.virtualIP"),
	cidrRefused("cluster", "spec.network.cidr"),
	cidrRefused("cluster", "spec.network.dhcpPool"),
	cidrRefused("cluster", "spec.network.segments[0].cidr"),
	addressRefused("cluster", "spec.network.segments[0].gateway"),
	cidrRefused("cluster", "spec.loadBalancerPool"),
	cidrRefused("cluster", "spec.kubernetes.podCIDR"),
	cidrRefused("cluster", "spec.kubernetes.serviceCIDR"),
	[]bad{
		{name: "an executable without a digest", of: "cluster", set: fields{"spec.kubernetes.files[0].binary.sha256": remove{}},
			field: "spec.kubernetes.files[0].binary", message: "must have a url and its sha256"},
		{name: "an archive of images without a URL", of: "cluster", set: fields{"spec.kubernetes.files[0].images[0].url": remove{}},
			field: "spec.kubernetes.files[0].images[0]", message: "must have a url and its sha256"},
	},
	fileRefused("cluster", "spec.kubernetes.files[0].binary"),
	fileRefused("cluster", "spec.kubernetes.files[0].images[0]"),
	nameRefused("cluster", "spec.operatingSystem", "an OperatingSystem"),
)
