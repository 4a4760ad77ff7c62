package crds

// The definitions out of the types, and the reference out of both.
//
//go:generate go run sigs.k8s.io/controller-tools/cmd/controller-gen@v0.18.0 object paths=./v1alpha1 crd paths=./v1alpha1 output:crd:dir=.
//go:generate go run ./reference
