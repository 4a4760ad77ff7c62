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
	// +kubebuilder:validation:items:MaxLength=8192
	SSHKeys []string `json:"sshKeys,omitempty"`
	// PXE is the policy of network boot.
	// +optional
	// +kubebuilder:default={}
	PXE PXESpec `json:"pxe,omitempty"`
	// Healing is what may be done without a person about a member that is sick.
	// +optional
	// +kubebuilder:default={}
	Healing HealingSpec `json:"healing,omitempty"`
}

// NetworkSpec is the network that the machines stand in. IPv4 only.
type NetworkSpec struct {
	// CIDR is the network, with no host bits set.
	CIDR CIDR `json:"cidr"`
	// Gateway is the machines' default route. It must lie within cidr.
	Gateway Address `json:"gateway"`
	// Nameservers are the machines' DNS servers. None: the gateway.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=8
	Nameservers []Address `json:"nameservers,omitempty"`
	// DHCP is Proxy (default: the router keeps handing out addresses, we add only
	// what a network boot needs) or Server (we hand out the declared addresses to
	// the declared machines; there must be no other DHCP server).
	// +optional
	// +kubebuilder:default=Proxy
	DHCP DHCPMode `json:"dhcp,omitempty"`
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
	VirtualIPImage string `json:"virtualIPImage,omitempty"`
	// ExtraNames are further host names and addresses that the API server's
	// certificate covers.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=253
	ExtraNames []string `json:"extraNames,omitempty"`
}

// KubernetesSpec is the release of k3s and where its files come from.
type KubernetesSpec struct {
	// Version is a k3s release such as v1.33.5+k3s1.
	// +kubebuilder:validation:Pattern=`^v[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?\+[0-9A-Za-z.-]+$`
	// +kubebuilder:validation:MaxLength=64
	Version string `json:"version"`
	// Files are the release's files for each architecture. An architecture that is
	// not listed uses the k3s project's release of the version, with the digests
	// that the release itself publishes.
	// +optional
	// +listType=map
	// +listMapKey=architecture
	// +kubebuilder:validation:MaxItems=2
	Files []KubernetesFiles `json:"files,omitempty"`
	// PodCIDR is the network of the pods.
	// +optional
	// +kubebuilder:default="10.42.0.0/16"
	PodCIDR CIDR `json:"podCIDR,omitempty"`
	// ServiceCIDR is the network of the services.
	// +optional
	// +kubebuilder:default="10.43.0.0/16"
	ServiceCIDR CIDR `json:"serviceCIDR,omitempty"`
	// Disable lists packaged components of k3s that are not to be deployed.
	// Empty: servicelb and traefik, whose work the system layer does.
	// +optional
	// +kubebuilder:default={"servicelb","traefik"}
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:Pattern=`^[a-z0-9-]+$`
	// +kubebuilder:validation:items:MaxLength=63
	Disable []string `json:"disable,omitempty"`
}

// KubernetesFiles are the files of one architecture of a k3s release.
type KubernetesFiles struct {
	// Architecture of the files.
	Architecture Architecture `json:"architecture"`
	// Binary is the k3s executable.
	Binary File `json:"binary"`
	// Images are archives of container images (tar, tar.gz or tar.zst) that every
	// node imports before it starts pods.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Images []File `json:"images,omitempty"`
}

// PXESpec is the policy of network boot.
type PXESpec struct {
	// Loader is the boot loader that machines get: Auto (default: the faster one
	// that works on the firmware at hand), IPXE or GRUB.
	// +optional
	// +kubebuilder:default=Auto
	Loader LoaderPolicy `json:"loader,omitempty"`
	// ClaimTTL is how long a machine may take from the opening of its claim to
	// the fetch of its init config.
	// +optional
	// +kubebuilder:default="30m"
	ClaimTTL *metav1.Duration `json:"claimTTL,omitempty"`
	// MaxAttempts is how many installations in a row may fail before a person has
	// to look.
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	MaxAttempts int32 `json:"maxAttempts,omitempty"`
}

// LoaderPolicy says which boot loader a machine gets.
//
// +kubebuilder:validation:Enum=Auto;IPXE;GRUB
type LoaderPolicy string

// The loader policies.
const (
	LoaderAuto LoaderPolicy = "Auto"
	LoaderIPXE LoaderPolicy = "IPXE"
	LoaderGRUB LoaderPolicy = "GRUB"
)

// HealingSpec is what may be done without a person about a sick member.
type HealingSpec struct {
	// Mode is Disabled, DryRun (default: say what would be done) or Enabled.
	// +optional
	// +kubebuilder:default=DryRun
	Mode HealingMode `json:"mode,omitempty"`
}

// HealingMode says whether repairs are made.
//
// +kubebuilder:validation:Enum=Disabled;DryRun;Enabled
type HealingMode string

// The healing modes.
const (
	HealingDisabled HealingMode = "Disabled"
	HealingDryRun   HealingMode = "DryRun"
	HealingEnabled  HealingMode = "Enabled"
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
	// Nodes counts the declared Nodes, and ReadyNodes those that are Ready.
	// +optional
	Nodes int32 `json:"nodes,omitempty"`
	// +optional
	ReadyNodes int32 `json:"readyNodes,omitempty"`
	// Conditions: Ready, APIHealthy, FirstNodeJoined, Valid.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
