package node

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// What k3s says of a server on its core Node.
// (https://docs.k3s.io/cli/etcd-snapshot, k3s pkg/etcd)
const (
	labelControlPlane  = "node-role.kubernetes.io/control-plane"
	conditionVoter     = corev1.NodeConditionType("EtcdIsVoter")
	annotationRemove   = "etcd.k3s.cattle.io/remove"
	annotationRemoved  = "etcd.k3s.cattle.io/removed-node-name"
	voterHeartbeatLife = 6 * time.Minute // it is refreshed every 5
	clockTolerance     = time.Minute     // what is dated later is of a clock that is wrong
)

// vote is what is known of a server's vote in etcd.
type vote string

const (
	// votes: k3s said so lately.
	votes vote = "Votes"
	// silent: it votes as far as anybody knows, and has not said so lately, or its
	// kubelet is not ready: a voter that counts and that cannot be counted on.
	silent vote = "Silent"
	// learns: k3s said lately that it does not vote yet.
	learns vote = "Learns"
	// unknown: nothing says whether it votes.
	unknown vote = "Unknown"
)

// member is what is seen of a core Node. It is read only: object may be the
// cache's own.
type member struct {
	name, uid string
	created   time.Time
	addresses []string // InternalIP
	ready     metav1.ConditionStatus
	message   string // of its Ready condition
	object    *corev1.Node
}

func memberOf(n *corev1.Node) member {
	m := member{
		name: n.Name, uid: string(n.UID), created: n.CreationTimestamp.Time, addresses: internalIPs(n),
		ready: metav1.ConditionUnknown, message: "the kubelet has said nothing yet", object: n,
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			m.ready, m.message = metav1.ConditionStatus(c.Status), c.Message
		}
	}
	return m
}

func internalIPs(n *corev1.Node) []string {
	var ips []string
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			ips = append(ips, a.Address)
		}
	}
	return ips
}

func isServer(n *corev1.Node) bool {
	_, ok := n.Labels[labelControlPlane]
	return ok
}

func (m member) isReady() bool { return m.ready == metav1.ConditionTrue }

// vote is what is known of the server's vote at a time.
func (m member) vote(now time.Time) vote {
	for _, c := range m.object.Status.Conditions {
		if c.Type != conditionVoter {
			continue
		}
		age := now.Sub(c.LastHeartbeatTime.Time)
		fresh := age <= voterHeartbeatLife && age >= -clockTolerance
		switch {
		case c.Status == corev1.ConditionTrue && fresh && m.isReady():
			return votes
		case c.Status == corev1.ConditionTrue:
			return silent
		case c.Status == corev1.ConditionFalse && fresh:
			return learns
		}
		return unknown
	}
	return unknown
}

// The steps of a member's leaving that its core Node remembers.

func (m member) cordoned() bool      { return m.object.Spec.Unschedulable }
func (m member) cordonedByUs() bool  { return m.object.Annotations[v1alpha1.AnnotationCordoned] != "" }
func (m member) drained() bool       { return m.object.Annotations[v1alpha1.AnnotationDrained] != "" }
func (m member) toldToLeave() bool   { return m.object.Annotations[annotationRemove] == "true" }
func (m member) removedByEtcd() bool { return m.object.Annotations[annotationRemoved] != "" }
func (m member) leftAt() (time.Time, bool) {
	t, err := time.Parse(time.RFC3339, m.object.Annotations[v1alpha1.AnnotationLeftEtcd])
	return t, err == nil
}
