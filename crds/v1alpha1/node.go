package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Node is a machine that is to be a member of the cluster. Its name is the
// machine's host name and the name of the core Node that it becomes.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName={rnode,rnodes}
// +kubebuilder:printcolumn:name="Role",type=string,JSONPath=`.spec.role`
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.address`
// +kubebuilder:printcolumn:name="MAC",type=string,JSONPath=`.spec.mac`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Doing",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Since",type=date,JSONPath=`.status.phaseSince`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.size() <= 63 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name must be a host name: lower-case letters, digits and dashes, 63 characters at most"
type Node struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   NodeSpec   `json:"spec"`
	Status NodeStatus `json:"status,omitempty"`
}

// NodeList is a list of Nodes.
//
// +kubebuilder:object:root=true
type NodeList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Node `json:"items"`
}

// Role of a member.
//
// +kubebuilder:validation:Enum=ControlPlane;Worker
type Role string

// The roles.
const (
	ControlPlane Role = "ControlPlane"
	Worker       Role = "Worker"
)

// NodeSpec declares a machine.
type NodeSpec struct {
	// Role of the member. Immutable: a machine changes its role by being removed
	// and declared again.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="is immutable: remove the Node and declare it again"
	Role Role `json:"role"`
	// MAC of the interface that boots from the network. Immutable.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="is immutable: another machine is another Node"
	MAC MAC `json:"mac"`
	// Address is the machine's static address, within the Cluster's
	// network.cidr. Immutable.
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="is immutable: remove the Node and declare it again"
	Address Address `json:"address"`
	// Architecture of the machine. Immutable.
	// +optional
	// +kubebuilder:default=amd64
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="is immutable: remove the Node and declare it again"
	Architecture Architecture `json:"architecture,omitempty"`
	// Disk says which disk the operating system is installed on. Empty: the only
	// one that the machine has; a machine with several is refused.
	// +optional
	Disk *DiskHint `json:"disk,omitempty"`
	// Power says how the machine is turned on. Empty: Wake-on-LAN.
	// +optional
	Power *PowerSpec `json:"power,omitempty"`
	// OperatingSystem overrides the Cluster's.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",message="must be the name of an OperatingSystem: lower-case letters, digits, dashes and dots"
	OperatingSystem string `json:"operatingSystem,omitempty"`
	// Labels of the core Node.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	// +kubebuilder:validation:XValidation:rule="self.all(k, k.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$'))",message="must have label keys such as example.org/rack or rack"
	// +kubebuilder:validation:XValidation:rule="self.all(k, !k.matches('^([^/]*[.])?(kubernetes|k8s)[.]io/') || k.matches('^([^/]*[.])?(kubelet|node)[.]kubernetes[.]io/') || k in ['topology.kubernetes.io/region', 'topology.kubernetes.io/zone'])",message="must not use the domains kubernetes.io and k8s.io, but for node.kubernetes.io/, kubelet.kubernetes.io/, topology.kubernetes.io/region and topology.kubernetes.io/zone: a kubelet that is given others does not start"
	Labels map[string]LabelValue `json:"labels,omitempty"`
	// Taints of the core Node.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, a.key == b.key && a.effect == b.effect))",message="must hold each key and effect once"
	Taints []Taint `json:"taints,omitempty"`
	// Boot overrides how this machine boots.
	// +optional
	Boot *BootSpec `json:"boot,omitempty"`
	// Healing is what may be done without a person when this machine is sick.
	// +optional
	Healing *NodeHealingSpec `json:"healing,omitempty"`
}

// LabelValue is the value of a label.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule="self.matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$')",message="must be letters, digits, dashes, underscores and dots, and begin and end with a letter or digit"
type LabelValue string

// DiskHint selects exactly one disk of a machine. Every field that is set must
// match; a hint that matches no disk, or more than one, installs nothing.
//
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:XValidation:rule="!has(self.minSize) || !has(self.maxSize) || !isQuantity(string(self.minSize)) || !isQuantity(string(self.maxSize)) || quantity(string(self.minSize)).compareTo(quantity(string(self.maxSize))) <= 0",message="must not be greater than maxSize",fieldPath=".minSize"
// +kubebuilder:validation:XValidation:rule="!has(self.minSize) || !isQuantity(string(self.minSize)) || quantity(string(self.minSize)).isGreaterThan(quantity('0'))",message="must be greater than zero, such as 100Gi",fieldPath=".minSize"
// +kubebuilder:validation:XValidation:rule="!has(self.maxSize) || !isQuantity(string(self.maxSize)) || quantity(string(self.maxSize)).isGreaterThan(quantity('0'))",message="must be greater than zero, such as 500Gi",fieldPath=".maxSize"
type DiskHint struct {
	// Path of the device, such as /dev/sda or a link below /dev/disk.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('^/dev/[A-Za-z0-9/_.:+-]*[A-Za-z0-9]$') && !self.contains('/../') && !self.contains('//')",message="must be a device such as /dev/sda or /dev/disk/by-id/ata-..."
	Path string `json:"path,omitempty"`
	// Serial number as the disk reports it.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self.matches('^[!-~]([ -~]*[!-~])?$')",message="must be printable, without spaces at its ends, as 'lsblk -o NAME,SERIAL' prints it"
	Serial string `json:"serial,omitempty"`
	// WWN is the World Wide Name as the disk reports it.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self.matches('^[0-9A-Za-z._:-]+$')",message="must be a World Wide Name such as 0x5000c500a1b2c3d4 or eui.0025385b71b00001, as 'lsblk -o NAME,WWN' prints it"
	WWN string `json:"wwn,omitempty"`
	// MinSize is the least size in bytes.
	// +optional
	MinSize *resource.Quantity `json:"minSize,omitempty"`
	// MaxSize is the greatest size in bytes.
	// +optional
	MaxSize *resource.Quantity `json:"maxSize,omitempty"`
}

// PowerSpec says how the machine is turned on. Exactly one way.
//
// +kubebuilder:validation:XValidation:rule="[has(self.wakeOnLAN), has(self.redfish), has(self.webhook)].filter(x, x).size() == 1",message="must have exactly one of wakeOnLAN, redfish and webhook"
type PowerSpec struct {
	// WakeOnLAN wakes the machine by a magic packet.
	// +optional
	WakeOnLAN *WakeOnLANSpec `json:"wakeOnLAN,omitempty"`
	// Redfish drives the machine's board management controller.
	// +optional
	Redfish *RedfishSpec `json:"redfish,omitempty"`
	// Webhook asks a service of yours, over HTTPS, to turn the machine on and off:
	// docs/reference/power.md says what it is asked.
	// +optional
	Webhook *WebhookSpec `json:"webhook,omitempty"`
}

// WakeOnLANSpec wakes a machine by a magic packet.
type WakeOnLANSpec struct {
	// MAC to wake, if it is not the one that boots.
	// +optional
	MAC *MAC `json:"mac,omitempty"`
}

// RedfishSpec drives a board management controller.
type RedfishSpec struct {
	// Endpoint is the controller's base URL.
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="self.matches('^https://[A-Za-z0-9.:-]+(/[A-Za-z0-9._~/-]*)?$') && isURL(self)",message="must be the https URL of a board management controller, such as https://192.168.1.20, without user name and password"
	Endpoint string `json:"endpoint"`
	// SystemID selects the system when the controller has several.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9._~:@-]+$')",message="must be the Id of a member of the controller's Systems, such as 1 or System.Embedded.1"
	SystemID string `json:"systemID,omitempty"`
	// Credentials is a Secret with the keys username and password, and ca.crt (PEM)
	// if the controller's certificate is signed by an authority of yours.
	Credentials SecretReference `json:"credentials"`
	// Fingerprint pins the controller's certificate by the SHA-256 of its DER
	// form: neither its name nor its dates nor who signed it matter then. Empty: the
	// authority in the Secret, or else the system's.
	// +optional
	Fingerprint *SHA256 `json:"fingerprint,omitempty"`
}

// WebhookSpec asks a service over HTTPS.
type WebhookSpec struct {
	// URL that requests are posted to.
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule="self.matches('^https://[A-Za-z0-9.:-]+(/[A-Za-z0-9._~/-]*)?$') && isURL(self)",message="must be an https URL such as https://plugs.example.org/power, without user name, password and query"
	URL string `json:"url"`
	// Credentials is a Secret with the key token, which is sent as the bearer token,
	// and ca.crt (PEM) if the service's certificate is signed by an authority of
	// yours.
	Credentials SecretReference `json:"credentials"`
	// Fingerprint pins the service's certificate by the SHA-256 of its DER form, as
	// that of a Redfish controller.
	// +optional
	Fingerprint *SHA256 `json:"fingerprint,omitempty"`
}

// Taint of a core Node.
type Taint struct {
	// Key of the taint, in the form of a label's key.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:XValidation:rule="self.matches('^([a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$')",message="must be a taint key such as example.org/dedicated or dedicated"
	Key string `json:"key"`
	// Value of the taint, in the form of a label's value.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$')",message="must be letters, digits, dashes, underscores and dots, and begin and end with a letter or digit"
	Value string `json:"value,omitempty"`
	// Effect on pods that do not tolerate the taint.
	// +kubebuilder:validation:Enum=NoSchedule;PreferNoSchedule;NoExecute
	Effect string `json:"effect"`
}

// BootSpec overrides how one machine boots.
type BootSpec struct {
	// Loader overrides the Cluster's pxe.loader.
	// +optional
	Loader LoaderPolicy `json:"loader,omitempty"`
	// Local is how the machine is told to boot its own disk. Empty: by its
	// firmware.
	// +optional
	Local LocalBoot `json:"local,omitempty"`
	// AfterInstall overrides the Cluster's pxe.afterInstall.
	// +optional
	AfterInstall AfterInstall `json:"afterInstall,omitempty"`
}

// LocalBoot is a way to boot the machine's own disk.
//
// +kubebuilder:validation:Enum=Auto;Exit;SANBoot;ChainLoad;Silence
type LocalBoot string

// The ways to boot the machine's own disk.
const (
	// LocalBootAuto chooses by firmware.
	LocalBootAuto LocalBoot = "Auto"
	// LocalBootExit leaves the loader, so that the firmware goes on to its next
	// boot entry.
	LocalBootExit LocalBoot = "Exit"
	// LocalBootSANBoot boots the first BIOS disk (iPXE's sanboot).
	LocalBootSANBoot LocalBoot = "SANBoot"
	// LocalBootChainLoad searches the disks for a boot loader and runs it.
	LocalBootChainLoad LocalBoot = "ChainLoad"
	// LocalBootSilence gives no answer at all.
	LocalBootSilence LocalBoot = "Silence"
)
