package v1alpha1

// The annotations by which the operator remembers on a core Node how far its
// leaving is: that k3s on the machine, which still holds what it joined with, is
// kept from starting again, and that it is gone from etcd.
const (
	// AnnotationBarring is when that was begun (RFC 3339), written before anything is
	// done on the machine.
	AnnotationBarring = "rhizome.dev/barring"
	// AnnotationBarred is when it was done (RFC 3339), or in words why it could not be.
	AnnotationBarred = "rhizome.dev/barred"
	// AnnotationAskedEtcd is when k3s was asked to remove the member from etcd (RFC
	// 3339).
	AnnotationAskedEtcd = "rhizome.dev/asked-etcd"
	// AnnotationEtcdProof is when etcd's own list of members proved that the member is
	// gone (RFC 3339).
	AnnotationEtcdProof = "rhizome.dev/etcd-proof"
)

// ReasonBarring of the condition Removal: k3s on the machine is kept from starting
// again. It comes after ReasonDraining and before ReasonLeavingEtcd.
const ReasonBarring = "Barring"
