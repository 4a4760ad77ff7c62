package chart

// The chart's copies of what is made elsewhere: the definitions, and the rules
// that the operator's code asks for in its comments (those of the PXE pods stand in
// templates/pxe.yaml). Then, from the chart, what the kustomization applies.
//
//go:generate sh -c "rm -f crds/*.yaml && cp ../crds/rhizome.dev_*.yaml crds/"
//go:generate go run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.18.0 rbac:roleName=operator paths=../operator/... output:rbac:dir=rbac
//go:generate go run ./kustomize
