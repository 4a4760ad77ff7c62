package node

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

func TestAServerCountsBeforeK3sHasMarkedIt(t *testing.T) {
	declared := func(name string, role v1alpha1.Role) *machine {
		n := &v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		n.Spec.Role = role
		return &machine{node: n}
	}
	core := func(name string, labels map[string]string) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	}
	marked := map[string]string{labelControlPlane: "true"}
	machines := []*machine{declared("a", v1alpha1.ControlPlane), declared("b", v1alpha1.ControlPlane), declared("c", v1alpha1.ControlPlane), declared("w", v1alpha1.Worker)}
	cores := map[string]*corev1.Node{
		"a": core("a", marked), "b": core("b", nil), "w": core("w", nil), "undeclared": core("undeclared", marked),
	}
	var names []string
	for _, s := range serversOf(machines, cores) {
		names = append(names, s.name)
	}
	if diff := cmp.Diff([]string{"a", "b", "undeclared"}, names); diff != "" {
		t.Errorf("servers (-want +got):\n%s", diff)
	}
}
