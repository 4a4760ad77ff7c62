package cluster

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// membersDeclared is the condition MembersDeclared. A core Node is a declared
// Node's by its name; that it has another address than declared is said by the
// Node itself.
func membersDeclared(nodes []v1alpha1.Node, cores []corev1.Node) metav1.Condition {
	declared := map[string]bool{}
	for i := range nodes {
		declared[nodes[i].Name] = true
	}
	var strangers []string
	for i := range cores {
		if !declared[cores[i].Name] {
			strangers = append(strangers, cores[i].Name)
		}
	}
	if len(strangers) == 0 {
		return metav1.Condition{
			Type: v1alpha1.ConditionMembersDeclared, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAllDeclared,
			Message: fmt.Sprintf("%d core Nodes, all of them declared", len(cores)),
		}
	}
	slices.Sort(strangers)
	return metav1.Condition{
		Type: v1alpha1.ConditionMembersDeclared, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonUndeclaredMembers,
		Message: fmt.Sprintf("members that no Node declares: %s; they are left alone: declare each, or drain and delete its core Node", few(strangers)),
	}
}
