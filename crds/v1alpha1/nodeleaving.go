package v1alpha1

// The annotations by which the operator remembers on a core Node that k3s on its
// machine is kept from starting again: the machine is to leave the cluster, and
// still holds what it joined with.
const (
	// AnnotationBarring is when that was begun (RFC 3339), written before anything is
	// done on the machine.
	AnnotationBarring = "rhizome.dev/barring"
	// AnnotationBarred is when it was done (RFC 3339), or in words why it could not be.
	AnnotationBarred = "rhizome.dev/barred"
)

// ReasonBarring of the condition Removal: k3s on the machine is kept from starting
// again. It comes after ReasonDraining and before ReasonLeavingEtcd.
const ReasonBarring = "Barring"
