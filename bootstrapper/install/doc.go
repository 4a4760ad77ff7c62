// Package install puts the operator into a cluster: its custom resource
// definitions, its Helm chart and the manifests that it is to act on.
package install
