package node

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

func TestJudge(t *testing.T) {
	const address = "192.168.1.10"
	core := func(change func(*member)) *member {
		m := &member{name: "alpha", uid: "uid-1", addresses: []string{address}, ready: metav1.ConditionTrue, message: "kubelet is posting ready status"}
		if change != nil {
			change(m)
		}
		return m
	}
	tests := []struct {
		reason string
		before v1alpha1.NodeStatus
		named  *member
		others []member
		// What is wanted: phase, whether there is a reference, the conditions' status
		// and reason, and a part of Ready's message.
		phase         v1alpha1.Phase
		ref           bool
		joined, ready string
		message       string
	}{
		{
			reason: "a machine that no core Node speaks of is only declared",
			phase:  v1alpha1.PhaseDeclared, joined: "False NotJoined", ready: "False NotJoined",
			message: `there is no core Node "alpha" yet`,
		},
		{
			reason: "a core Node that has the address and another name is told, with what to do",
			others: []member{{name: "localhost", addresses: []string{address}}},
			phase:  v1alpha1.PhaseDeclared, joined: "False NameMismatch", ready: "False NameMismatch",
			message: `give the machine there the host name "alpha"`,
		},
		{
			reason: "a core Node of the name whose kubelet told no address yet is no match yet",
			named:  core(func(m *member) { m.addresses = nil }),
			phase:  v1alpha1.PhaseJoining, joined: "False AddressMismatch", ready: "False AddressMismatch",
			message: "has no InternalIP yet",
		},
		{
			reason: "a core Node of the name with another address is not the machine, ready or not",
			named:  core(func(m *member) { m.addresses = []string{"192.168.1.11", "fd00::11"} }),
			phase:  v1alpha1.PhaseJoining, joined: "False AddressMismatch", ready: "False AddressMismatch",
			message: "has the address 192.168.1.11, fd00::11 and not the declared 192.168.1.10",
		},
		{
			reason: "an address that begins like the declared one is another",
			named:  core(func(m *member) { m.addresses = []string{address + "0"} }),
			phase:  v1alpha1.PhaseJoining, joined: "False AddressMismatch", ready: "False AddressMismatch",
		},
		{
			reason: "name and address match, and the core Node is ready",
			named:  core(nil),
			phase:  v1alpha1.PhaseReady, ref: true, joined: "True Matched", ready: "True MemberReady",
			message: "the core Node is ready",
		},
		{
			reason: "one of several addresses is enough",
			named:  core(func(m *member) { m.addresses = []string{"fd00::10", address} }),
			phase:  v1alpha1.PhaseReady, ref: true, joined: "True Matched", ready: "True MemberReady",
		},
		{
			reason: "a second core Node with the address changes nothing for the one that has both",
			named:  core(nil),
			others: []member{{name: "beta", addresses: []string{address}}},
			phase:  v1alpha1.PhaseReady, ref: true, joined: "True Matched", ready: "True MemberReady",
		},
		{
			reason: "a core Node that was never ready is joining",
			named: core(func(m *member) {
				m.ready, m.message = metav1.ConditionFalse, "container runtime network not ready"
			}),
			phase: v1alpha1.PhaseJoining, ref: true, joined: "True Matched", ready: "False MemberNotReady",
			message: "the core Node is not ready: container runtime network not ready",
		},
		{
			reason: "a kubelet that fell silent leaves readiness unknown",
			before: v1alpha1.NodeStatus{Phase: v1alpha1.PhaseReady, NodeRef: &v1alpha1.CoreNodeReference{Name: "alpha", UID: "uid-1"}},
			named: core(func(m *member) {
				m.ready, m.message = metav1.ConditionUnknown, "Kubelet stopped posting node status."
			}),
			phase: v1alpha1.PhaseNotReady, ref: true, joined: "True Matched", ready: "Unknown MemberUnknown",
			message: "Kubelet stopped posting node status.",
		},
		{
			reason: "a member that was ready and is not stays a member",
			before: v1alpha1.NodeStatus{Phase: v1alpha1.PhaseNotReady, NodeRef: &v1alpha1.CoreNodeReference{Name: "alpha", UID: "uid-1"}},
			named:  core(func(m *member) { m.ready = metav1.ConditionFalse }),
			phase:  v1alpha1.PhaseNotReady, ref: true, joined: "True Matched", ready: "False MemberNotReady",
		},
		{
			reason: "a core Node that was deleted and came back joins anew",
			before: v1alpha1.NodeStatus{Phase: v1alpha1.PhaseReady, NodeRef: &v1alpha1.CoreNodeReference{Name: "alpha", UID: "uid-0"}},
			named:  core(func(m *member) { m.ready = metav1.ConditionFalse }),
			phase:  v1alpha1.PhaseJoining, ref: true, joined: "True Matched", ready: "False MemberNotReady",
		},
		{
			reason: "a member whose core Node is gone is only declared again",
			before: v1alpha1.NodeStatus{Phase: v1alpha1.PhaseReady, NodeRef: &v1alpha1.CoreNodeReference{Name: "alpha", UID: "uid-1"}},
			phase:  v1alpha1.PhaseDeclared, joined: "False NotJoined", ready: "False NotJoined",
		},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			declared := &v1alpha1.Node{
				ObjectMeta: metav1.ObjectMeta{Name: "alpha"},
				Spec:       v1alpha1.NodeSpec{Address: address},
				Status:     tc.before,
			}
			v := judge(&machine{node: declared, core: tc.named, others: tc.others})
			got := []string{
				string(v.phase),
				v.joined.Type, string(v.joined.Status) + " " + v.joined.Reason,
				v.ready.Type, string(v.ready.Status) + " " + v.ready.Reason,
			}
			want := []string{string(tc.phase), "Joined", tc.joined, "Ready", tc.ready}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("verdict (-want +got):\n%s", diff)
			}
			if !strings.Contains(v.ready.Message, tc.message) {
				t.Errorf("message %q lacks %q", v.ready.Message, tc.message)
			}
			var ref *v1alpha1.CoreNodeReference
			if tc.ref {
				ref = &v1alpha1.CoreNodeReference{Name: "alpha", UID: "uid-1"}
			}
			if diff := cmp.Diff(ref, v.nodeRef); diff != "" {
				t.Errorf("nodeRef (-want +got):\n%s", diff)
			}
		})
	}
}

func TestACoreNodeThatSaidNothingIsUnknown(t *testing.T) {
	m := memberOf(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "alpha"}, Status: corev1.NodeStatus{
		Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: "alpha"},
			{Type: corev1.NodeExternalIP, Address: "203.0.113.7"},
			{Type: corev1.NodeInternalIP, Address: "192.168.1.10"},
		},
	}})
	if m.ready != metav1.ConditionUnknown {
		t.Errorf("ready is %s, want Unknown", m.ready)
	}
	if diff := cmp.Diff([]string{"192.168.1.10"}, m.addresses); diff != "" {
		t.Errorf("only internal addresses count (-want +got):\n%s", diff)
	}
}
