package node

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// verdict is what is so of a declared Node.
type verdict struct {
	phase   v1alpha1.Phase
	nodeRef *v1alpha1.CoreNodeReference
	// joined and ready lack what the clock and the generation add.
	joined, ready metav1.Condition
}

// judge matches a declared Node to its core Node: by its name, and by its
// address, since a name alone is only what a machine says of itself. m.core is the
// core Node of the declared name, if there is one; m.others are the core Nodes of
// other names that have the declared address.
func judge(m *machine) verdict {
	declared, named, others := m.node, m.core, m.others
	address := string(declared.Spec.Address)
	switch {
	case named == nil && len(others) > 0:
		return apart(v1alpha1.PhaseDeclared, v1alpha1.ReasonNameMismatch, fmt.Sprintf(
			"the address %s is that of the core Node %q: give the machine there the host name %q, or declare it by its name",
			address, others[0].name, declared.Name))
	case named == nil:
		return apart(v1alpha1.PhaseDeclared, v1alpha1.ReasonNotJoined, fmt.Sprintf(
			"there is no core Node %q yet: the machine is not installed, or k3s does not run on it", declared.Name))
	case len(named.addresses) == 0:
		return apart(v1alpha1.PhaseJoining, v1alpha1.ReasonAddressMismatch, fmt.Sprintf(
			"the core Node %q has no InternalIP yet: its kubelet has not told one", named.name))
	case !slices.Contains(named.addresses, address):
		return apart(v1alpha1.PhaseJoining, v1alpha1.ReasonAddressMismatch, fmt.Sprintf(
			"the core Node %q has the address %s and not the declared %s: another machine has this name, or the machine has another address",
			named.name, strings.Join(named.addresses, ", "), address))
	}

	v := verdict{
		nodeRef: &v1alpha1.CoreNodeReference{Name: named.name, UID: named.uid},
		joined: metav1.Condition{
			Type: v1alpha1.ConditionJoined, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonMatched,
			Message: fmt.Sprintf("core Node %q with the address %s", named.name, address),
		},
		ready: metav1.Condition{Type: v1alpha1.ConditionReady, Status: named.ready},
	}
	switch named.ready {
	case metav1.ConditionTrue:
		v.phase, v.ready.Reason = v1alpha1.PhaseReady, v1alpha1.ReasonMemberReady
		v.ready.Message = "the core Node is ready"
		return v
	case metav1.ConditionFalse:
		v.ready.Reason = v1alpha1.ReasonMemberNotReady
		v.ready.Message = "the core Node is not ready: " + named.message
	default:
		v.ready.Status, v.ready.Reason = metav1.ConditionUnknown, v1alpha1.ReasonMemberUnknown
		v.ready.Message = "it is not known whether the core Node is ready: " + named.message
	}
	v.phase = v1alpha1.PhaseJoining
	if m.wasReady() {
		v.phase = v1alpha1.PhaseNotReady
	}
	return v
}

// apart is the verdict on a Node that is no core Node's.
func apart(phase v1alpha1.Phase, reason, message string) verdict {
	return verdict{
		phase:  phase,
		joined: metav1.Condition{Type: v1alpha1.ConditionJoined, Status: metav1.ConditionFalse, Reason: reason, Message: message},
		ready:  metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: reason, Message: message},
	}
}
