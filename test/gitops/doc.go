// Package gitops tests GitOps as a person gets it: the operator's chart, installed by
// Helm as `bootstrapper seed` does, the operator's command with the arguments of the
// chart's Deployment and the rights of its service account, and the real Argo CD.
//
// What is not here: pods. Nothing starts what the charts make; the test runs the
// programs beside the API server, and says of Argo CD's pods that they are ready.
package gitops
