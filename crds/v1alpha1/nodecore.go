package v1alpha1

// The annotations by which the operator remembers on a core Node what it did to
// it.
const (
	// AnnotationApplied holds the labels and taints that came from the declared Node,
	// as JSON: only these are taken away again.
	AnnotationApplied = "rhizome.dev/applied"
	// AnnotationCordoned is there when the operator made the core Node
	// unschedulable, and not a person.
	AnnotationCordoned = "rhizome.dev/cordoned"
	// AnnotationDrained is when the drain was over (RFC 3339).
	AnnotationDrained = "rhizome.dev/drained"
	// AnnotationLeftEtcd is when the member was seen to have left etcd (RFC 3339).
	AnnotationLeftEtcd = "rhizome.dev/left-etcd"
)

// LabelToken is on every bootstrap token that the operator made, in kube-system;
// its value is the name of the Node that joins with it.
const LabelToken = "rhizome.dev/token"
