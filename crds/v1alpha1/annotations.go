package v1alpha1

// The annotations of a Node by which a person asks for something once. Each is
// acted on when its value differs from the one that status.honoured holds.
const (
	// AnnotationReinstall asks for a new installation: any new value, such as a
	// date, is a new request. All guards of a removal hold.
	AnnotationReinstall = "rhizome.dev/reinstall"
	// AnnotationRetry clears Failed: any new value permits spec.pxe.maxAttempts of
	// the Cluster again.
	AnnotationRetry = "rhizome.dev/retry"
)

// AnnotationRemoval is how a person decides about a Node that is being deleted:
// RemovalConfirm or RemovalKeep.
const AnnotationRemoval = "rhizome.dev/removal"

// The values of AnnotationRemoval.
const (
	// RemovalConfirm lifts the rule MassRemoval for this Node. It lifts no other.
	RemovalConfirm = "Confirm"
	// RemovalKeep lets the resource go and leaves the machine a member: declared
	// again, it is recognised.
	RemovalKeep = "Keep"
)

// AnnotationPaused on a Node holds everything that would be done to its machine;
// on a Cluster, to all machines. Its value is the reason, for people.
const AnnotationPaused = "rhizome.dev/paused"

// FinalizerMember on a Node: the machine is taken out of the cluster before the
// resource goes. Set before the first claim, and on every member.
const FinalizerMember = "rhizome.dev/member"

// LabelClaim is on every Secret that keeps a claim; its value is the name of the
// Node.
const LabelClaim = "rhizome.dev/claim"
