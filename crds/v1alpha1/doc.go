// Package v1alpha1 holds the types of the API group rhizome.dev: Cluster,
// OperatingSystem, Node and GitOps. All are cluster-scoped.
//
// +kubebuilder:object:generate=true
// +groupName=rhizome.dev
package v1alpha1
