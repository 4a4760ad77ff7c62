package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// GitOps describes where the cluster's desired state comes from: Argo CD, the
// layers, the seed source (GitHub) and the home source (the cluster's own
// Gitea). There is one.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,path=gitops,singular=gitops
// +kubebuilder:printcolumn:name="Source",type=string,JSONPath=`.status.activeSource`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Revision",type=string,JSONPath=`.status.revision`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type GitOps struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec   GitOpsSpec   `json:"spec"`
	Status GitOpsStatus `json:"status,omitempty"`
}

// GitOpsList is a list of GitOps resources.
//
// +kubebuilder:object:root=true
type GitOpsList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []GitOps `json:"items"`
}

// GitOpsSpec is what a person wants.
//
// +kubebuilder:validation:XValidation:rule="!has(self.home) || self.layers.exists(l, l.name == self.home.layer)",message="must be the name of a layer in spec.layers: the one that Gitea is deployed in",fieldPath=".home.layer"
// +kubebuilder:validation:XValidation:rule="self.source != 'Home' || has(self.home)",message="cannot be Home without spec.home",fieldPath=".source"
type GitOpsSpec struct {
	// ArgoCD is the Helm chart that Argo CD is installed from.
	// +optional
	// +kubebuilder:default={}
	ArgoCD ArgoCDSpec `json:"argoCD,omitempty"`
	// Seed is the source at first: a repository outside of the cluster.
	Seed GitSource `json:"seed"`
	// Home is the source once the cluster hosts it itself. Empty: the seed stays.
	// +optional
	Home *HomeSource `json:"home,omitempty"`
	// Source pins the source of truth: Auto (default: the seed at first, the home
	// once it has everything), Seed or Home. A pin does not move the layers to a
	// source that lacks what was synced already.
	// +optional
	// +kubebuilder:default=Auto
	Source SourcePin `json:"source,omitempty"`
	// Layers in which directories of the repository are applied.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:default={{name: "bootstrap", path: "bootstrap/*"}, {name: "system", path: "system/*"}, {name: "platform", path: "platform/*", dependsOn: {"system"}}, {name: "apps", path: "apps/*", dependsOn: {"system","platform"}, removal: Delete}}
	// +kubebuilder:validation:XValidation:rule="[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15].all(i, i >= self.size() || !has(self[i].dependsOn) || self[i].dependsOn.all(d, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15].exists(j, j < i && self[j].name == d)))",message="must name in dependsOn only layers that stand before it in the list, so that none waits for itself"
	Layers []Layer `json:"layers,omitempty"`
}

// ArgoCDSpec is the Helm chart that Argo CD is installed from.
type ArgoCDSpec struct {
	// Repository is the chart repository's URL.
	// +optional
	// +kubebuilder:default="https://argoproj.github.io/argo-helm"
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule=`self.matches(r"^(https?|oci)://[^/@]+(/[A-Za-z0-9._~/%-]*)?$")`,message="must be an http, https or oci URL of a chart repository, such as https://argoproj.github.io/argo-helm, without user name and password"
	Repository string `json:"repository,omitempty"`
	// Chart is the chart's name.
	// +optional
	// +kubebuilder:default="argo-cd"
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9._]*[a-z0-9])?$')",message="must be the name of a chart, such as argo-cd"
	Chart string `json:"chart,omitempty"`
	// Version of the chart.
	// +optional
	// +kubebuilder:default="7.9.1"
	// +kubebuilder:validation:MaxLength=64
	// +kubebuilder:validation:XValidation:rule="self.matches('^v?[0-9]+[.][0-9]+[.][0-9]+([-+][0-9A-Za-z.+-]+)?$')",message="must be one version, such as 7.9.1, not a range"
	Version string `json:"version,omitempty"`
	// Namespace that Argo CD is installed in. Immutable.
	// +optional
	// +kubebuilder:default=argocd
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="must be the name of a namespace: lower-case letters, digits and dashes"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="is immutable: the Applications live in the namespace that Argo CD was installed in"
	Namespace string `json:"namespace,omitempty"`
	// Values of the chart. They are used once, when Argo CD is installed; afterwards
	// it manages itself from the repository.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	Values *runtime.RawExtension `json:"values,omitempty"`
}

// SourcePin says which source the layers follow.
//
// +kubebuilder:validation:Enum=Auto;Seed;Home
type SourcePin string

// The pins.
const (
	PinAuto SourcePin = "Auto"
	PinSeed SourcePin = "Seed"
	PinHome SourcePin = "Home"
)

// GitSource is a branch of a git repository.
type GitSource struct {
	// URL of the repository: https, http or ssh.
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule=`self.matches(r"^((https?|git)://[^/@\s]+/|ssh://([A-Za-z0-9._-]+@)?[^/@\s]+/|[A-Za-z0-9._-]+@[^:/@\s]+:)[^\s]+$")`,message="must be the URL of a git repository, such as https://github.com/you/homelab.git or git@github.com:you/homelab.git; credentials go into a Secret"
	URL string `json:"url"`
	// Branch to follow.
	// +optional
	// +kubebuilder:default=main
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9][A-Za-z0-9._/-]*$') && !self.contains('..') && !self.endsWith('/') && !self.endsWith('.lock')",message="must be the name of a branch, such as main"
	Branch string `json:"branch,omitempty"`
	// Credentials is a Secret with username and password, or sshPrivateKey.
	// +optional
	Credentials *SecretReference `json:"credentials,omitempty"`
}

// HomeSource is a repository of the cluster's own Gitea.
type HomeSource struct {
	// URL is Gitea's base URL as seen from within the cluster.
	// +kubebuilder:validation:MaxLength=2048
	// +kubebuilder:validation:XValidation:rule=`self.matches(r"^https?://[^/@\s]+(/[A-Za-z0-9._~/-]*)?$")`,message="must be the http or https URL of Gitea, such as http://gitea-http.gitea:3000, without user name and password"
	URL string `json:"url"`
	// Owner is the organisation of the repository.
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9][A-Za-z0-9._-]*$')",message="must be the name of a Gitea organisation: letters, digits, dashes, underscores and dots"
	Owner string `json:"owner"`
	// Repository is its name.
	// +kubebuilder:validation:MaxLength=100
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9._-]+$')",message="must be the name of a repository: letters, digits, dashes, underscores and dots"
	Repository string `json:"repository"`
	// Credentials is a Secret with username and password of an administrator, who
	// makes the organisation, the repository and the token that Argo CD reads with.
	Credentials SecretReference `json:"credentials"`
	// Layer that Gitea is deployed in. It and all that it depends on must be ready
	// before the repository moves.
	// +optional
	// +kubebuilder:default=platform
	// +kubebuilder:validation:MaxLength=40
	Layer string `json:"layer,omitempty"`
	// PushMirror sends what is pushed to Gitea back to the seed. Empty: nothing is
	// sent back.
	// +optional
	PushMirror *PushMirror `json:"pushMirror,omitempty"`
}

// PushMirror is how Gitea writes to the seed. It is made only while Gitea has all
// that the seed has.
type PushMirror struct {
	// Credentials is a Secret with username and password of somebody who may push to
	// the seed. Its url must be http or https.
	Credentials SecretReference `json:"credentials"`
	// Interval between two pushes, beside one after each push to Gitea: from ten
	// minutes to a week.
	// +optional
	// +kubebuilder:default="8h"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(h|m|s))+$')",message="must be a duration such as 8h or 30m"
	// +kubebuilder:validation:XValidation:rule="!self.matches('^([0-9]+(h|m|s))+$') || (duration(self) >= duration('10m') && duration(self) <= duration('168h'))",message="must be between 10m and 168h"
	Interval *metav1.Duration `json:"interval,omitempty"`
}

// Layer is a set of directories that is applied once those it depends on are
// ready.
type Layer struct {
	// Name of the layer.
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="must be lower-case letters, digits and dashes, such as platform"
	Name string `json:"name"`
	// Path is a pattern of directories, such as system/*.
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:XValidation:rule="self.matches('^[A-Za-z0-9*_.-]+(/[A-Za-z0-9*_.-]+)*$') && !self.matches('(^|/)[.][.](/|$)')",message="must be a directory of the repository or a pattern of directories, such as system/*, without a leading slash and without .."
	Path string `json:"path"`
	// DependsOn names the layers that must be ready first.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=40
	DependsOn []string `json:"dependsOn,omitempty"`
	// Removal says what becomes of the objects that a directory applied when the
	// directory goes: Keep (default) or Delete.
	// +optional
	// +kubebuilder:default=Keep
	Removal LayerRemoval `json:"removal,omitempty"`
}

// LayerRemoval says what becomes of what a directory applied when it goes.
//
// +kubebuilder:validation:Enum=Keep;Delete
type LayerRemoval string

// What becomes of the objects of a directory that goes.
const (
	LayerRemovalKeep   LayerRemoval = "Keep"
	LayerRemovalDelete LayerRemoval = "Delete"
)
