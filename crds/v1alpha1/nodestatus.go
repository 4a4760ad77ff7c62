package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Phase of a machine's life.
//
// +kubebuilder:validation:Enum=Declared;Claimed;Waking;Booting;Installing;Joining;Ready;NotReady;Removing;Failed
type Phase string

// The phases.
const (
	// PhaseDeclared: the machine is no member, and nothing is done about it yet: the
	// condition Admitted says why.
	PhaseDeclared Phase = "Declared"
	// PhaseClaimed: a claim is open.
	PhaseClaimed Phase = "Claimed"
	// PhaseWaking: the machine has been told to turn on.
	PhaseWaking Phase = "Waking"
	// PhaseBooting: the machine was seen to boot from the network.
	PhaseBooting Phase = "Booting"
	// PhaseInstalling: the installer runs.
	PhaseInstalling Phase = "Installing"
	// PhaseJoining: the core Node exists and has not been Ready yet, or it is not
	// the declared machine's.
	PhaseJoining Phase = "Joining"
	// PhaseReady: the core Node is Ready.
	PhaseReady Phase = "Ready"
	// PhaseNotReady: the core Node was Ready and is not now.
	PhaseNotReady Phase = "NotReady"
	// PhaseRemoving: the machine is being taken out of the cluster.
	PhaseRemoving Phase = "Removing"
	// PhaseFailed: as many installations as may failed; a person has to look.
	PhaseFailed Phase = "Failed"
)

// NodeStatus is what is so.
type NodeStatus struct {
	// ObservedGeneration is the generation of the spec that the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Phase of the machine's life.
	// +optional
	Phase Phase `json:"phase,omitempty"`
	// PhaseSince is when the phase was entered.
	// +optional
	PhaseSince *metav1.Time `json:"phaseSince,omitempty"`
	// Boot is what was last seen of the machine's network boot.
	// +optional
	Boot *BootObservation `json:"boot,omitempty"`
	// Claim is the current or last permission to install the machine.
	// +optional
	Claim *ClaimStatus `json:"claim,omitempty"`
	// Attempts counts the installations since the last success.
	// +optional
	Attempts int32 `json:"attempts,omitempty"`
	// Installed is the last installation that ended in a member. Empty: the machine
	// was not installed by the cluster (the first node, at first).
	// +optional
	Installed *InstallationRecord `json:"installed,omitempty"`
	// Honoured are the values of the annotations that were acted on, by the last
	// part of their name: reinstall, retry.
	// +optional
	// +kubebuilder:validation:MaxProperties=8
	Honoured map[string]string `json:"honoured,omitempty"`
	// NodeRef is the core Node that the machine became.
	// +optional
	NodeRef *CoreNodeReference `json:"nodeRef,omitempty"`
	// Repair is what is being done about a member that is sick.
	// +optional
	Repair *RepairStatus `json:"repair,omitempty"`
	// Repairs are the actions that are over, the last one last.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Repairs []RepairRecord `json:"repairs,omitempty"`
	// Reach is what PXE pods on other members find when they try to reach this one,
	// while it is not Ready.
	// +optional
	// +listType=map
	// +listMapKey=from
	// +kubebuilder:validation:MaxItems=16
	Reach []Reach `json:"reach,omitempty"`
	// Conditions: Joined (the machine is the core Node of its name), Ready (and that
	// core Node is Ready), Admitted (it may be installed now, or why not), Adopted
	// (the first node's config founds no second cluster), Drained and Removal
	// (while the machine leaves the cluster, or why it may not), Healthy and Repair (of a
	// member that is or was sick).
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// ClaimStatus is what a person may know of a claim; its identifier is a secret
// and is not here.
type ClaimStatus struct {
	// Attempt counts the claims since the last success, from 1.
	// +optional
	Attempt int32 `json:"attempt,omitempty"`
	// State of the claim: Open, Consumed, Installed, Exchanged, Expired or Failed.
	// +kubebuilder:validation:MaxLength=32
	State string `json:"state"`
	// Opened is when the claim was opened.
	Opened metav1.Time `json:"opened"`
	// Expires is when the claim ends if it is not consumed.
	Expires metav1.Time `json:"expires"`
	// Message says more, such as why an installation failed.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
}

// InstallationRecord is an installation that ended in a member.
type InstallationRecord struct {
	// At is when the member was first Ready.
	At metav1.Time `json:"at"`
	// OperatingSystem that was installed.
	// +kubebuilder:validation:MaxLength=253
	OperatingSystem string `json:"operatingSystem"`
	// Seconds from the opening of the claim to At.
	// +optional
	Seconds int64 `json:"seconds,omitempty"`
}

// CoreNodeReference names a core Node.
type CoreNodeReference struct {
	// Name of the core Node, which is that of the Node.
	Name string `json:"name"`
	// UID of the core Node: one that was deleted and came back is another.
	UID string `json:"uid"`
}
