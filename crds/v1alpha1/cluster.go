package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Cluster describes the one cluster: its network, its control plane, its
// Kubernetes release and what machines get by default. There is one, named
// "cluster" unless it is named otherwise; a second one is reported and ignored.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Doing",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.spec.kubernetes.version`
// +kubebuilder:printcolumn:name="Endpoint",type=string,JSONPath=`.status.endpoint`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Cluster struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   ClusterSpec   `json:"spec"`
	Status ClusterStatus `json:"status,omitempty"`
}

// ClusterList is a list of Clusters.
//
// +kubebuilder:object:root=true
type ClusterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Cluster `json:"items"`
}

// ClusterSpec is what a person wants of the cluster.
//
// +kubebuilder:validation:XValidation:rule="!has(self.controlPlane) || !has(self.controlPlane.virtualIP) || !isIP(self.controlPlane.virtualIP) || !isCIDR(self.network.cidr) || (cidr(self.network.cidr).containsIP(self.controlPlane.virtualIP) && !self.network.cidr.startsWith(self.controlPlane.virtualIP + '/'))",message="must be a machine's address within network.cidr: the virtual IP is answered on the machines' own network",fieldPath=".controlPlane.virtualIP"
// +kubebuilder:validation:XValidation:rule="!has(self.controlPlane) || !has(self.controlPlane.virtualIP) || self.controlPlane.virtualIP != self.network.gateway",message="must not be network.gateway: give the control plane an address of its own",fieldPath=".controlPlane.virtualIP"
// +kubebuilder:validation:XValidation:rule="!has(self.loadBalancerPool) || !isCIDR(self.loadBalancerPool) || !isCIDR(self.network.cidr) || (cidr(self.network.cidr).containsCIDR(self.loadBalancerPool) && cidr(self.loadBalancerPool).prefixLength() > cidr(self.network.cidr).prefixLength())",message="must be a part of network.cidr, and not all of it: the rest is the machines'",fieldPath=".loadBalancerPool"
// +kubebuilder:validation:XValidation:rule="!has(self.loadBalancerPool) || !isCIDR(self.loadBalancerPool) || !isIP(self.network.gateway) || !cidr(self.loadBalancerPool).containsIP(self.network.gateway)",message="must not contain network.gateway: choose a range that no machine or router uses",fieldPath=".loadBalancerPool"
// +kubebuilder:validation:XValidation:rule="!has(self.loadBalancerPool) || !isCIDR(self.loadBalancerPool) || !has(self.controlPlane) || !has(self.controlPlane.virtualIP) || !isIP(self.controlPlane.virtualIP) || !cidr(self.loadBalancerPool).containsIP(self.controlPlane.virtualIP)",message="must not contain controlPlane.virtualIP: a Service could be given the control plane's address",fieldPath=".loadBalancerPool"
// +kubebuilder:validation:XValidation:rule="has(self.loadBalancerPool) || !isCIDR(self.network.cidr) || cidr(self.network.cidr).prefixLength() <= 26",message="is smaller than /26, which leaves no room for the default load balancer pool (the last /27): set loadBalancerPool",fieldPath=".network.cidr"
// +kubebuilder:validation:XValidation:rule="!isCIDR(self.network.cidr) || !isCIDR(self.kubernetes.podCIDR) || (!cidr(self.network.cidr).containsIP(cidr(self.kubernetes.podCIDR).ip()) && !cidr(self.kubernetes.podCIDR).containsIP(cidr(self.network.cidr).ip()))",message="must not overlap network.cidr: pods need addresses that no machine has",fieldPath=".kubernetes.podCIDR"
// +kubebuilder:validation:XValidation:rule="!isCIDR(self.network.cidr) || !isCIDR(self.kubernetes.serviceCIDR) || (!cidr(self.network.cidr).containsIP(cidr(self.kubernetes.serviceCIDR).ip()) && !cidr(self.kubernetes.serviceCIDR).containsIP(cidr(self.network.cidr).ip()))",message="must not overlap network.cidr: services need addresses that no machine has",fieldPath=".kubernetes.serviceCIDR"
type ClusterSpec struct {
	// Network is the network that the machines stand in.
	Network NetworkSpec `json:"network"`
	// ControlPlane says how the control plane is reached.
	// +optional
	ControlPlane ControlPlaneSpec `json:"controlPlane,omitempty"`
	// Kubernetes is the release of k3s and where its files come from.
	Kubernetes KubernetesSpec `json:"kubernetes"`
	// OperatingSystem names the OperatingSystem of every Node that names none.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",message="must be the name of an OperatingSystem: lower-case letters, digits, dashes and dots"
	OperatingSystem string `json:"operatingSystem"`
	// LoadBalancerPool is the range of addresses for Services of type
	// LoadBalancer. Empty: the last /27 of network.cidr.
	// +optional
	LoadBalancerPool *CIDR `json:"loadBalancerPool,omitempty"`
	// SSHKeys are the public keys, in authorized_keys form, that may log in to
	// every machine. None: nobody may.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=4096
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^(ssh|ecdsa|sk)-[a-z0-9@.-]+ AAAA[A-Za-z0-9+/]+={0,2}( [^\\\\n\\\\r]*)?$')",message="must be a public key on one line, such as 'ssh-ed25519 AAAA... you@home': the content of a .pub file"
	SSHKeys []string `json:"sshKeys,omitempty"`
	// PXE is the policy of network boot.
	// +optional
	// +kubebuilder:default={}
	PXE PXESpec `json:"pxe,omitempty"`
	// Growth is how declared machines become members, and how members leave.
	// +optional
	// +kubebuilder:default={}
	Growth GrowthSpec `json:"growth,omitempty"`
	// Healing is what may be done without a person about a member that is sick.
	// +optional
	// +kubebuilder:default={}
	Healing HealingSpec `json:"healing,omitempty"`
}

// NetworkSpec is the network that the machines stand in. IPv4 only.
//
// +kubebuilder:validation:XValidation:rule="!has(self.dhcpPool) || self.dhcp == 'Server'",message="needs dhcp: Server, since the network's own DHCP server has the addresses otherwise",fieldPath=".dhcpPool"
// +kubebuilder:validation:XValidation:rule="!has(self.dhcpPool) || !isCIDR(self.dhcpPool) || !isCIDR(self.cidr) || cidr(self.cidr).containsCIDR(self.dhcpPool)",message="must be a part of network.cidr",fieldPath=".dhcpPool"
// +kubebuilder:validation:XValidation:rule="!has(self.dhcpPool) || !isCIDR(self.dhcpPool) || cidr(self.dhcpPool).prefixLength() >= 20",message="must be /20 or smaller",fieldPath=".dhcpPool"
// +kubebuilder:validation:XValidation:rule="!isCIDR(self.cidr) || !isIP(self.gateway) || (cidr(self.cidr).containsIP(self.gateway) && !self.cidr.startsWith(self.gateway + '/'))",message="must be a machine's address within network.cidr: the router's on the machines' own network",fieldPath=".gateway"
// +kubebuilder:validation:XValidation:rule="!isCIDR(self.cidr) || cidr(self.cidr).prefixLength() <= 29",message="must be /29 or larger, to have room for machines",fieldPath=".cidr"
type NetworkSpec struct {
	// CIDR is the network, with no host bits set.
	CIDR CIDR `json:"cidr"`
	// Gateway is the machines' default route. It must lie within cidr.
	Gateway Address `json:"gateway"`
	// Nameservers are the machines' DNS servers. None: the gateway.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, a == b))",message="must name each server once"
	Nameservers []Address `json:"nameservers,omitempty"`
	// DHCP is Proxy (default: the router keeps handing out addresses, we add only
	// what a network boot needs) or Server (we hand out the declared addresses to
	// the declared machines; there must be no other DHCP server).
	// +optional
	// +kubebuilder:default=Proxy
	DHCP DHCPMode `json:"dhcp,omitempty"`
	// DHCPPool is a part of cidr whose addresses are handed out, with dhcp Server, to
	// machines that nobody declared: phones, printers, guests. They are told nothing to
	// boot. None: only declared machines get an address.
	// +optional
	DHCPPool *CIDR `json:"dhcpPool,omitempty"`
	// Segments are further networks that declared machines stand in. Their routers pass
	// DHCP on to the PXE pods (a DHCP relay), and reach cidr.
	// +optional
	// +listType=map
	// +listMapKey=cidr
	// +kubebuilder:validation:MaxItems=16
	Segments []NetworkSegment `json:"segments,omitempty"`
}

// NetworkSegment is a network of machines behind a router.
//
// +kubebuilder:validation:XValidation:rule="!isCIDR(self.cidr) || !isIP(self.gateway) || (cidr(self.cidr).containsIP(self.gateway) && !self.cidr.startsWith(self.gateway + '/'))",message="must be a machine's address within the segment's cidr: its router's",fieldPath=".gateway"
// +kubebuilder:validation:XValidation:rule="!isCIDR(self.cidr) || cidr(self.cidr).prefixLength() <= 30",message="must be /30 or larger, to have room for machines",fieldPath=".cidr"
type NetworkSegment struct {
	// CIDR is the segment's network, with no host bits set.
	CIDR CIDR `json:"cidr"`
	// Gateway is the default route of the segment's machines.
	Gateway Address `json:"gateway"`
}

// DHCPMode says who hands out addresses.
//
// +kubebuilder:validation:Enum=Proxy;Server
type DHCPMode string

// The DHCP modes.
const (
	DHCPProxy  DHCPMode = "Proxy"
	DHCPServer DHCPMode = "Server"
)

// ControlPlaneSpec says how the control plane is reached.
type ControlPlaneSpec struct {
	// VirtualIP is an address of network.cidr that follows the healthy
	// control-plane nodes (kube-vip). Empty: the first node's address is the
	// endpoint.
	// +optional
	VirtualIP *Address `json:"virtualIP,omitempty"`
	// VirtualIPImage is the kube-vip image that holds the virtual IP.
	// +optional
	// +kubebuilder:default="ghcr.io/kube-vip/kube-vip:v0.9.2"
	// +kubebuilder:validation:MaxLength=512
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9][a-z0-9._-]*(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)*(:[A-Za-z0-9_][A-Za-z0-9._-]*(@sha256:[0-9a-f]{64})?|@sha256:[0-9a-f]{64})$')",message="must be an image with a tag or a digest, such as ghcr.io/kube-vip/kube-vip:v0.9.2"
	VirtualIPImage string `json:"virtualIPImage,omitempty"`
	// ExtraNames are further host names and addresses that the API server's
	// certificate covers.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=253
	// +kubebuilder:validation:items:XValidation:rule="isIP(self) || self.matches('^([*][.])?[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')",message="must be a host name in lower case, such as k8s.example.org, or an IP address"
	ExtraNames []string `json:"extraNames,omitempty"`
}

// KubernetesSpec is the release of k3s and where its files come from.
//
// +kubebuilder:validation:XValidation:rule="!isCIDR(self.podCIDR) || !isCIDR(self.serviceCIDR) || (!cidr(self.podCIDR).containsIP(cidr(self.serviceCIDR).ip()) && !cidr(self.serviceCIDR).containsIP(cidr(self.podCIDR).ip()))",message="must not overlap podCIDR",fieldPath=".serviceCIDR"
// +kubebuilder:validation:XValidation:rule="!isCIDR(self.podCIDR) || cidr(self.podCIDR).prefixLength() <= 24",message="must be /24 or larger: each machine takes a /24 of it for its pods",fieldPath=".podCIDR"
// +kubebuilder:validation:XValidation:rule="!isCIDR(self.serviceCIDR) || (cidr(self.serviceCIDR).prefixLength() >= 12 && cidr(self.serviceCIDR).prefixLength() <= 28)",message="must be between /12 and /28: Kubernetes takes no larger one, and cluster DNS is its tenth address",fieldPath=".serviceCIDR"
type KubernetesSpec struct {
	// Version is a k3s release such as v1.33.5+k3s1.
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^v[0-9]+[.][0-9]+[.][0-9]+(-[0-9A-Za-z.-]+)?[+][0-9A-Za-z.-]+$')",message="must be a k3s release such as v1.33.5+k3s1, with the part after the plus sign"
	Version string `json:"version"`
	// Files are the release's files for each architecture. An architecture that is
	// not listed uses the k3s project's release of the version, with the digests
	// that the release itself publishes.
	// +optional
	// +listType=map
	// +listMapKey=architecture
	// +kubebuilder:validation:MaxItems=2
	Files []KubernetesFiles `json:"files,omitempty"`
	// PodCIDR is the network of the pods. Immutable.
	// +optional
	// +kubebuilder:default="10.42.0.0/16"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="is immutable: a cluster keeps the pod network that it was founded with"
	PodCIDR CIDR `json:"podCIDR,omitempty"`
	// ServiceCIDR is the network of the services. Immutable.
	// +optional
	// +kubebuilder:default="10.43.0.0/16"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="is immutable: a cluster keeps the service network that it was founded with"
	ServiceCIDR CIDR `json:"serviceCIDR,omitempty"`
	// Disable lists packaged components of k3s that are not to be deployed.
	// Empty: servicelb and traefik, whose work the system layer does.
	// +optional
	// +kubebuilder:default={"servicelb","traefik"}
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=63
	// +kubebuilder:validation:items:XValidation:rule="self.matches('^[a-z0-9-]+$')",message="must be the name of a component that k3s packages, such as traefik"
	Disable []string `json:"disable,omitempty"`
}

// KubernetesFiles are the files of one architecture of a k3s release.
type KubernetesFiles struct {
	// Architecture of the files.
	Architecture Architecture `json:"architecture"`
	// Binary is the k3s executable.
	// +kubebuilder:validation:XValidation:rule="has(self.url) && has(self.sha256)",message="must have a url and its sha256"
	Binary File `json:"binary"`
	// Images are archives of container images (tar, tar.gz or tar.zst) that every
	// node imports before it starts pods.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:XValidation:rule="has(self.url) && has(self.sha256)",message="must have a url and its sha256"
	Images []File `json:"images,omitempty"`
}

// PXESpec is the policy of network boot.
type PXESpec struct {
	// Pods says when the cluster runs PXE pods: WhenNeeded (default: while some
	// declared machine is no Ready member) or Always, which also discovers machines
	// that nobody declared.
	// +optional
	// +kubebuilder:default=WhenNeeded
	Pods PXEPodPolicy `json:"pods,omitempty"`
	// NodeSelector chooses the members that PXE pods run on. Empty: any.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	// Loader is the boot loader that machines get: Auto (default: the faster one
	// that works on the firmware at hand), IPXE, GRUB, or Signed, which Secure Boot
	// accepts: the distribution's shim, GRUB and kernel, on x86-64. Signed needs
	// network.dhcp Server, and firmware that boots by PXE, not by HTTP.
	// +optional
	// +kubebuilder:default=Auto
	Loader LoaderPolicy `json:"loader,omitempty"`
	// AfterInstall is how a machine comes from our installer (format Image) into its
	// new system: Restart (default), or Kexec, which starts the system's kernel at once
	// and saves the firmware's time. Where that cannot be done the machine restarts.
	// Firmware or cards that need a reset to work want Restart.
	// +optional
	// +kubebuilder:default=Restart
	AfterInstall AfterInstall `json:"afterInstall,omitempty"`
	// ClaimTTL is how long a machine may take from the opening of its claim to
	// the fetch of its init config: from a minute to a day.
	// +optional
	// +kubebuilder:default="30m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(h|m|s))+$')",message="must be a duration such as 30m or 1h30m"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]+(h|m|s))+$') || (duration(self) >= duration('1m') && duration(self) <= duration('24h'))",message="must be between 1m and 24h"
	ClaimTTL *metav1.Duration `json:"claimTTL,omitempty"`
	// MaxAttempts is how many installations in a row may fail before a person has
	// to look.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MaxAttempts int32 `json:"maxAttempts,omitempty"`
}

// PXEPodPolicy says when the cluster runs PXE pods.
//
// +kubebuilder:validation:Enum=WhenNeeded;Always
type PXEPodPolicy string

// The policies of PXE pods.
const (
	PXEWhenNeeded PXEPodPolicy = "WhenNeeded"
	PXEAlways     PXEPodPolicy = "Always"
)

// GrowthSpec is how declared machines become members, and how members leave.
type GrowthSpec struct {
	// MaxConcurrent is how many workers are installed at once. Control-plane nodes
	// are installed one after another, whatever it says.
	// +optional
	// +kubebuilder:default=5
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MaxConcurrent int32 `json:"maxConcurrent,omitempty"`
	// JoinTimeout is how long a machine that has its credentials may take to be
	// Ready: from a minute to a day.
	// +optional
	// +kubebuilder:default="30m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(h|m|s))+$')",message="must be a duration such as 30m or 1h30m"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]+(h|m|s))+$') || (duration(self) >= duration('1m') && duration(self) <= duration('24h'))",message="must be between 1m and 24h"
	JoinTimeout *metav1.Duration `json:"joinTimeout,omitempty"`
	// DrainTimeout is how long disruption budgets are respected when a member
	// leaves; after it, the pods that are left go with the member: from a second to a
	// day.
	// +optional
	// +kubebuilder:default="10m"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(h|m|s))+$')",message="must be a duration such as 10m or 1h30m"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]+(h|m|s))+$') || (duration(self) >= duration('1s') && duration(self) <= duration('24h'))",message="must be between 1s and 24h"
	DrainTimeout *metav1.Duration `json:"drainTimeout,omitempty"`
}

// AfterInstall is how a machine comes from the installer into its new system.
//
// +kubebuilder:validation:Enum=Restart;Kexec
type AfterInstall string

// The ways into the new system.
const (
	// AfterInstallRestart restarts the machine.
	AfterInstallRestart AfterInstall = "Restart"
	// AfterInstallKexec starts the new system's kernel by kexec.
	AfterInstallKexec AfterInstall = "Kexec"
)

// LoaderPolicy says which boot loader a machine gets.
//
// +kubebuilder:validation:Enum=Auto;IPXE;GRUB;Signed
type LoaderPolicy string

// The loader policies.
const (
	LoaderAuto LoaderPolicy = "Auto"
	LoaderIPXE LoaderPolicy = "IPXE"
	LoaderGRUB LoaderPolicy = "GRUB"
	// LoaderSigned is what Secure Boot accepts.
	LoaderSigned LoaderPolicy = "Signed"
)

// ClusterStatus is what is so.
type ClusterStatus struct {
	// ObservedGeneration is the generation of the spec that the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Endpoint is the URL of the API server as machines reach it.
	// +optional
	Endpoint string `json:"endpoint,omitempty"`
	// LoadBalancerPool is the pool in force.
	// +optional
	LoadBalancerPool string `json:"loadBalancerPool,omitempty"`
	// Nodes counts the declared Nodes.
	// +optional
	Nodes int32 `json:"nodes,omitempty"`
	// ReadyNodes counts the declared Nodes that are Ready.
	// +optional
	ReadyNodes int32 `json:"readyNodes,omitempty"`
	// PXE are the pods that boot machines from the network.
	// +optional
	// +listType=map
	// +listMapKey=node
	// +kubebuilder:validation:MaxItems=16
	PXE []PXEPod `json:"pxe,omitempty"`
	// Discovered are the machines that asked to boot from the network and are not
	// declared: those that asked last, 64 at most.
	// +optional
	// +listType=map
	// +listMapKey=mac
	// +kubebuilder:validation:MaxItems=64
	Discovered []DiscoveredMachine `json:"discovered,omitempty"`
	// Healing is what the healing of members has to remember of all of them.
	// +optional
	Healing *HealingStatus `json:"healing,omitempty"`
	// Conditions: Ready, APIHealthy, FirstNodeJoined, Valid, PXEReady,
	// MembersDeclared, NetworkQuiet, Healing.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// The condition types of a Cluster, beside Ready.
const (
	// ConditionAPIHealthy: the API server says that it is ready.
	ConditionAPIHealthy = "APIHealthy"
	// ConditionFirstNodeJoined: a declared control-plane Node became a core Node.
	ConditionFirstNodeJoined = "FirstNodeJoined"
	// ConditionValid: no rule between the declared objects is broken.
	ConditionValid = "Valid"
	// ConditionPXEReady: the PXE pods that are wanted are ready.
	ConditionPXEReady = "PXEReady"
	// ConditionMembersDeclared: every core Node is a declared Node's.
	ConditionMembersDeclared = "MembersDeclared"
	// ConditionNetworkQuiet: on the machines' network answer the DHCP and boot servers
	// that are meant to and no others, as far as the PXE pods have looked.
	ConditionNetworkQuiet = "NetworkQuiet"
)

// The reasons of a Cluster's conditions. Those of Valid are, besides, the names
// of the broken rules, such as DuplicateAddress.
const (
	// ReasonClusterReady: APIHealthy, FirstNodeJoined and Valid are True, and if a
	// machine waits, a PXE pod is ready.
	ReasonClusterReady = "ClusterReady"
	// ReasonAPIReady: the API server says that it is ready.
	ReasonAPIReady = "APIReady"
	// ReasonAPINotReady: the API server says what it lacks, or does not answer.
	ReasonAPINotReady = "APINotReady"
	// ReasonNodeMatched: a control-plane Node is Joined.
	ReasonNodeMatched = "NodeMatched"
	// ReasonNoNodeMatched: no control-plane Node is Joined yet.
	ReasonNoNodeMatched = "NoNodeMatched"
	// ReasonNoRuleBroken: there is nothing to say against the declared objects.
	ReasonNoRuleBroken = "NoRuleBroken"
	// ReasonWarnings: there is something to say, that stops nothing.
	ReasonWarnings = "Warnings"
	// ReasonPXENotNeeded: no machine waits, so that no PXE pod runs.
	ReasonPXENotNeeded = "NotNeeded"
	// ReasonPXEPodsReady: as many PXE pods as are wanted are ready.
	ReasonPXEPodsReady = "PodsReady"
	// ReasonPXEPodsStarting: PXE pods start, or fetch the files that they serve.
	ReasonPXEPodsStarting = "PodsStarting"
	// ReasonPXENotConfigured: the operator lacks what PXE pods need, such as the
	// cluster's tokens, which the seed hands over.
	ReasonPXENotConfigured = "NotConfigured"
	// ReasonAllDeclared: every core Node is a declared Node's.
	ReasonAllDeclared = "AllDeclared"
	// ReasonUndeclaredMembers: the message names core Nodes that nobody declared.
	ReasonUndeclaredMembers = "UndeclaredMembers"
	// ReasonNothingForeign: no PXE pod found a server that is not meant to answer.
	ReasonNothingForeign = "NothingForeign"
	// ReasonForeignBootServer: another boot server answers, and machines boot from
	// whoever is faster.
	ReasonForeignBootServer = "ForeignBootServer"
	// ReasonForeignDHCPServer: network.dhcp is Server, and another server hands out
	// addresses.
	ReasonForeignDHCPServer = "ForeignDHCPServer"
	// ReasonNoDHCPServer: network.dhcp is Proxy, and nobody hands out addresses.
	ReasonNoDHCPServer = "NoDHCPServer"
	// ReasonNotLooked: no PXE pod runs, or none has looked yet.
	ReasonNotLooked = "NotLooked"
	// ReasonSecondCluster: there is an older Cluster, and this one is ignored.
	ReasonSecondCluster = "SecondCluster"
)
