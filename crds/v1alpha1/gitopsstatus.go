package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// SourceName is one of the two sources of truth.
//
// +kubebuilder:validation:Enum=Seed;Home
type SourceName string

// The sources.
const (
	SourceSeed SourceName = "Seed"
	SourceHome SourceName = "Home"
)

// SourcePhase is where the source of truth stands at a glance.
//
// +kubebuilder:validation:MaxLength=16
type SourcePhase string

// The phases.
const (
	// PhaseSourceWaiting: there is no source yet.
	PhaseSourceWaiting SourcePhase = "Waiting"
	// PhaseSourceSeed: the layers follow the seed.
	PhaseSourceSeed SourcePhase = "Seed"
	// PhaseSourceMigrating: the repository is being copied into Gitea.
	PhaseSourceMigrating SourcePhase = "Migrating"
	// PhaseSourceProving: Argo CD is being asked to read the home.
	PhaseSourceProving SourcePhase = "Proving"
	// PhaseSourceSwitching: the layers were pointed at the home and are not all
	// ready from there yet.
	PhaseSourceSwitching SourcePhase = "Switching"
	// PhaseSourceHome: the layers follow the home.
	PhaseSourceHome SourcePhase = "Home"
	// PhaseSourceFrozen: the source cannot be used, and none other may be.
	PhaseSourceFrozen SourcePhase = "Frozen"
)

// GitOpsStatus is what is so.
type GitOpsStatus struct {
	// ObservedGeneration is the generation of the spec that the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// ActiveSource is the source that the layers follow: Seed or Home.
	// +optional
	ActiveSource SourceName `json:"activeSource,omitempty"`
	// Phase is where the source of truth stands.
	// +optional
	Phase SourcePhase `json:"phase,omitempty"`
	// Revision is the last commit that every Application was synced to.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Revision string `json:"revision,omitempty"`
	// Switch is the switch of the source that runs, or the last one that was rolled
	// back.
	// +optional
	Switch *SourceSwitch `json:"switch,omitempty"`
	// ArgoCD is what was installed.
	// +optional
	ArgoCD *ArgoCDStatus `json:"argoCD,omitempty"`
	// Layers in the order of the spec.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	Layers []LayerStatus `json:"layers,omitempty"`
	// LoadBalancerPool is the range that MetalLB was given.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	LoadBalancerPool string `json:"loadBalancerPool,omitempty"`
	// Conditions: Ready, ArgoCDReady, SourceReady, Switched, LayersReady,
	// GitHubBehind, LoadBalancerReady.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// SourceSwitch is a switch of the source of truth. It is written down before the
// layers are touched, so that whoever goes on after a crash knows of it.
type SourceSwitch struct {
	// To is the source that the layers are pointed at; empty: no switch runs.
	// +optional
	To SourceName `json:"to,omitempty"`
	// Revision is the last synced commit when it began.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Revision string `json:"revision,omitempty"`
	// StartedAt is when it began.
	// +optional
	StartedAt *metav1.Time `json:"startedAt,omitempty"`
	// Failures counts the switches in a row that were rolled back.
	// +optional
	Failures int32 `json:"failures,omitempty"`
	// RolledBackAt is when the last one was rolled back.
	// +optional
	RolledBackAt *metav1.Time `json:"rolledBackAt,omitempty"`
	// Message says why.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
}

// ArgoCDStatus is what the operator knows of Argo CD.
type ArgoCDStatus struct {
	// Version of the chart that was installed.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Version string `json:"version,omitempty"`
	// HandedOver: Argo CD manages itself, and the operator only repairs it when it is
	// gone.
	// +optional
	HandedOver bool `json:"handedOver,omitempty"`
}

// LayerStatus is what is so of a layer.
type LayerStatus struct {
	// Name of the layer.
	// +kubebuilder:validation:MaxLength=40
	Name string `json:"name"`
	// Started: its ApplicationSet was made.
	// +optional
	Started bool `json:"started,omitempty"`
	// Revision that all its Applications are synced to; empty: they differ.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Revision string `json:"revision,omitempty"`
	// Ready counts the Applications that are ready.
	Ready int32 `json:"ready"`
	// Total counts all its Applications.
	Total int32 `json:"total"`
	// Reason why the layer is not ready; empty: it is.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`
	// Message says more.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`
	// NotReady are the Applications that are not, 32 at most.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=32
	NotReady []ApplicationNotReady `json:"notReady,omitempty"`
}

// ApplicationNotReady is an Application that is not ready, and why.
type ApplicationNotReady struct {
	// Name of the Application.
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Reason in one word.
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason"`
	// Message says more.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Message string `json:"message,omitempty"`
}

// The condition types of a GitOps, beside Ready.
const (
	// ConditionArgoCDReady: Argo CD runs.
	ConditionArgoCDReady = "ArgoCDReady"
	// ConditionSourceReady: the active source can be read and has what was synced.
	ConditionSourceReady = "SourceReady"
	// ConditionSwitched: the layers follow the home. False names the rule that holds
	// the switch, or how far it is.
	ConditionSwitched = "Switched"
	// ConditionLayersReady: every Application of every layer is ready.
	ConditionLayersReady = "LayersReady"
	// ConditionGitHubBehind: the home is the source, and the seed lacks commits of
	// it. True means that a rebuild from nothing would begin with older manifests.
	ConditionGitHubBehind = "GitHubBehind"
	// ConditionLoadBalancerReady: MetalLB was given its pool.
	ConditionLoadBalancerReady = "LoadBalancerReady"
)
