package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// GitOps describes where the cluster's desired state comes from: Argo CD, the
// layers, the seed source (GitHub) and the home source (the cluster's own
// Gitea). There is one. The schema stands; no controller acts on it yet.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,path=gitops,singular=gitops
// +kubebuilder:printcolumn:name="Source",type=string,JSONPath=`.status.activeSource`
// +kubebuilder:printcolumn:name="Revision",type=string,JSONPath=`.status.revision`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
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
	// Layers in which directories of the repository are applied.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:default={{name: "bootstrap", path: "bootstrap/*"}, {name: "system", path: "system/*"}, {name: "platform", path: "platform/*", dependsOn: {"system"}}, {name: "apps", path: "apps/*", dependsOn: {"system","platform"}}}
	// +kubebuilder:validation:XValidation:rule="self.all(l, !has(l.dependsOn) || l.dependsOn.all(d, self.exists(o, o.name == d)))",message="dependsOn must name layers of this list"
	Layers []Layer `json:"layers,omitempty"`
}

// ArgoCDSpec is the Helm chart that Argo CD is installed from.
type ArgoCDSpec struct {
	// Repository is the chart repository's URL.
	// +optional
	// +kubebuilder:default="https://argoproj.github.io/argo-helm"
	Repository URL `json:"repository,omitempty"`
	// Chart is the chart's name.
	// +optional
	// +kubebuilder:default="argo-cd"
	// +kubebuilder:validation:MaxLength=253
	Chart string `json:"chart,omitempty"`
	// Version of the chart.
	// +optional
	// +kubebuilder:default="7.9.1"
	// +kubebuilder:validation:MaxLength=64
	Version string `json:"version,omitempty"`
}

// GitSource is a branch of a git repository.
type GitSource struct {
	// URL of the repository: https, http or ssh.
	// +kubebuilder:validation:Pattern=`^(https?|ssh|git)://.+|^[^@/]+@[^:/]+:.+$`
	// +kubebuilder:validation:MaxLength=2048
	URL string `json:"url"`
	// Branch to follow.
	// +optional
	// +kubebuilder:default=main
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Branch string `json:"branch,omitempty"`
	// Credentials is a Secret with username and password, or sshPrivateKey.
	// +optional
	Credentials *SecretReference `json:"credentials,omitempty"`
}

// HomeSource is a repository of the cluster's own Gitea.
type HomeSource struct {
	// URL is Gitea's base URL as seen from within the cluster.
	// +kubebuilder:validation:Pattern=`^https?://.+`
	// +kubebuilder:validation:MaxLength=2048
	URL string `json:"url"`
	// Owner is the organisation of the repository.
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9][A-Za-z0-9._-]*$`
	// +kubebuilder:validation:MaxLength=40
	Owner string `json:"owner"`
	// Repository is its name.
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9._-]+$`
	// +kubebuilder:validation:MaxLength=100
	Repository string `json:"repository"`
	// Credentials is a Secret with username and password of an administrator.
	Credentials SecretReference `json:"credentials"`
}

// Layer is a set of directories that is applied once those it depends on are
// ready.
//
// +kubebuilder:validation:XValidation:rule="!has(self.dependsOn) || !(self.name in self.dependsOn)",message="dependsOn must not name the layer itself"
type Layer struct {
	// Name of the layer.
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	// +kubebuilder:validation:MaxLength=40
	Name string `json:"name"`
	// Path is a pattern of directories, such as system/*.
	// +kubebuilder:validation:Pattern=`^[^/].*$`
	// +kubebuilder:validation:MaxLength=255
	Path string `json:"path"`
	// DependsOn names the layers that must be ready first.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=40
	DependsOn []string `json:"dependsOn,omitempty"`
}

// GitOpsStatus is what is so.
type GitOpsStatus struct {
	// ObservedGeneration is the generation of the spec that the status speaks of.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// ActiveSource is Seed or Home.
	// +optional
	// +kubebuilder:validation:MaxLength=16
	ActiveSource string `json:"activeSource,omitempty"`
	// Revision is the last synced commit.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Revision string `json:"revision,omitempty"`
	// Conditions of the source of truth.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
