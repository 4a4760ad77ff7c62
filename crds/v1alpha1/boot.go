package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BootObservation is what was last seen of a machine's network boot. The PXE pods
// write it.
type BootObservation struct {
	// Stage is the last step seen.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Stage string `json:"stage,omitempty"`
	// Message says what exactly, for people.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
	// Firmware, such as UEFI or BIOS.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Firmware string `json:"firmware,omitempty"`
	// Architecture, as the firmware tells it.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Architecture string `json:"architecture,omitempty"`
	// UUID of the machine (SMBIOS), once seen.
	// +optional
	// +kubebuilder:validation:MaxLength=36
	UUID string `json:"uuid,omitempty"`
	// LastSeen is when the machine was last heard of. While a stage goes on it is
	// brought up to date every half minute.
	// +optional
	LastSeen *metav1.Time `json:"lastSeen,omitempty"`
	// Done and Total are bytes of the disk image as downloaded, while it is written.
	// +optional
	Done int64 `json:"done,omitempty"`
	// +optional
	Total int64 `json:"total,omitempty"`
	// Stages are when each step was last seen, by its name: DHCP, Loader, Config,
	// Kernel, Initrd, InitConfig, Installing, Installed, Failed, Media, Credentials,
	// Refused.
	// +optional
	// +listType=map
	// +listMapKey=stage
	// +kubebuilder:validation:MaxItems=16
	Stages []BootStage `json:"stages,omitempty"`
}

// BootStage is when a step of a network boot was last seen.
type BootStage struct {
	// Stage is the step.
	// +kubebuilder:validation:MaxLength=64
	Stage string `json:"stage"`
	// At is when it was last seen.
	At metav1.Time `json:"at"`
	// Message says what exactly, for people.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
}

// DiscoveredMachine asked to boot from the network and is not declared.
type DiscoveredMachine struct {
	// MAC of the interface that asked.
	MAC MAC `json:"mac"`
	// Architecture, Firmware and UUID as the firmware tells them.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Architecture string `json:"architecture,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Firmware string `json:"firmware,omitempty"`
	// +optional
	// +kubebuilder:validation:MaxLength=36
	UUID string `json:"uuid,omitempty"`
	// FirstSeen and LastSeen are when it asked; LastSeen to five minutes.
	FirstSeen metav1.Time `json:"firstSeen"`
	LastSeen  metav1.Time `json:"lastSeen"`
}

// PXEPod is one of the pods that boot machines from the network, as it speaks of
// itself.
type PXEPod struct {
	// Node that it runs on.
	// +kubebuilder:validation:MaxLength=253
	Node string `json:"node"`
	// Pod is its name.
	// +kubebuilder:validation:MaxLength=253
	Pod string `json:"pod"`
	// Address that machines reach it at.
	Address Address `json:"address"`
	// Ready: it serves all files that a declared machine may need.
	Ready bool `json:"ready"`
	// Message says what it does, or lacks.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
	// Looked: it looked for DHCP and boot servers that are not ours, as it does once an
	// hour. The two fields below say what answered.
	// +optional
	Looked bool `json:"looked,omitempty"`
	// DHCPServers are the addresses of those that hand out addresses, one after the
	// other.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	DHCPServers string `json:"dhcpServers,omitempty"`
	// BootServers are those that tell machines what to boot, and what.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	BootServers string `json:"bootServers,omitempty"`
}
