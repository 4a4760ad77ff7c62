package node

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// beforehand are the rules that must hold before a member begins to leave, and
// quorate those that must hold until its leaving etcd has been asked for: from
// then on to stop in the middle is the greater harm.
var (
	beforehand = chain{noCluster, pausedPolicy, massRemoval, settling, oneAtATime, installationRuns}
	quorate    = chain{lastControlPlane, votersUnknown, quorum}
)

func noCluster(_ *machine, f *fleet) (string, string, bool) {
	return v1alpha1.ReasonNoCluster, "no Cluster is declared to say what may be done: declare it again", f.cluster == nil
}

// settling: deleting a directory of a git repository deletes its Nodes one after
// the other. A deletion is acted on when it has been clear for a while that it is
// the only one.
func settling(m *machine, f *fleet) (string, string, bool) {
	if !m.isLeaving() || confirmed(m) || isHeldBy(m, v1alpha1.ReasonMassRemoval) {
		return "", "", false
	}
	due := settledAt(m, f)
	if !f.now.Before(due) {
		return "", "", false
	}
	return v1alpha1.ReasonSettling, fmt.Sprintf("until %s it is seen whether other Nodes are deleted with this one", clock(due)), true
}

// massRemoval: of several members that are deleted together none goes by itself.
// Each that was held by this rule stays held when the others are gone.
func massRemoval(m *machine, f *fleet) (string, string, bool) {
	if !m.isLeaving() || confirmed(m) {
		return "", "", false
	}
	together := f.others(m, func(o *machine) bool {
		return o.isLeaving() && o.isMember() && !o.isKept() && !o.removalRuns()
	})
	if len(together) == 0 && !isHeldBy(m, v1alpha1.ReasonMassRemoval) {
		return "", "", false
	}
	return v1alpha1.ReasonMassRemoval, fmt.Sprintf(
		"several members were deleted together: to remove this one set its annotation %s to %s, to let the resource go and the machine stay set it to %s",
		v1alpha1.AnnotationRemoval, v1alpha1.RemovalConfirm, v1alpha1.RemovalKeep), true
}

func confirmed(m *machine) bool {
	return m.node.Annotations[v1alpha1.AnnotationRemoval] == v1alpha1.RemovalConfirm
}

func isHeldBy(m *machine, reason string) bool {
	c := meta.FindStatusCondition(m.node.Status.Conditions, v1alpha1.ConditionRemoval)
	return c != nil && c.Status == metav1.ConditionFalse && c.Reason == reason
}

// oneAtATime: one member at most is being taken out, installed anew or repaired.
func oneAtATime(m *machine, f *fleet) (string, string, bool) {
	busy := f.others(m, func(o *machine) bool {
		return o.removalRuns() && !o.standsStill() || o.node.Status.Installed != nil && f.underway(o)
	})
	switch {
	case len(busy) > 0:
		return v1alpha1.ReasonOneAtATime, fmt.Sprintf("%s is being taken out of the cluster or installed anew: wait until that is over", nameList(busy)), true
	case f.repairing != "" && f.repairing != m.node.Name:
		return v1alpha1.ReasonOneAtATime, fmt.Sprintf("%s is being repaired: wait until that is over", f.repairing), true
	}
	return "", "", false
}

func installationRuns(m *machine, f *fleet) (string, string, bool) {
	if busy := f.others(m, func(o *machine) bool { return o.isControlPlane() && f.underway(o) }); len(busy) > 0 {
		return v1alpha1.ReasonInstallationRuns, fmt.Sprintf("the control-plane node %s is being installed: wait until that is over", nameList(busy)), true
	}
	return "", "", false
}

// serves says whether the machine is a server, by its role or by what it became.
func serves(m *machine) bool {
	return m.isControlPlane() || m.core != nil && isServer(m.core.object)
}

func lastControlPlane(m *machine, f *fleet) (string, string, bool) {
	if !serves(m) || slices.ContainsFunc(f.otherServers(m), func(s member) bool { return s.isReady() && !s.toldToLeave() }) {
		return "", "", false
	}
	return v1alpha1.ReasonLastControlPlane, "it is the last control-plane member that is Ready: let another one join first", true
}

// votersUnknown: quorum is not computed over servers of which nothing is known.
func votersUnknown(m *machine, f *fleet) (string, string, bool) {
	if !serves(m) {
		return "", "", false
	}
	for _, s := range f.otherServers(m) {
		switch s.vote(f.now) {
		case unknown:
			return v1alpha1.ReasonVotersUnknown, fmt.Sprintf("it is not known whether the server %s votes in etcd: its core Node has no fresh condition EtcdIsVoter", s.name), true
		case learns:
			return v1alpha1.ReasonVotersUnknown, fmt.Sprintf("the server %s is joining etcd and does not vote yet: wait until it does", s.name), true
		}
	}
	return "", "", false
}

// quorum: of the voters that stay, those that answer must be a majority. Let n be
// the voters that stay and h those of them that answer; etcd then needs n/2+1, and
// h > n/2 is the same. A voter that is silent counts in n and not in h, so that a
// dead one is never counted on; so does one whose core Node is gone, and which etcd may
// count still.
func quorum(m *machine, f *fleet) (string, string, bool) {
	if !serves(m) {
		return "", "", false
	}
	stay, healthy := len(f.others(m, remainsInEtcd)), 0
	for _, s := range f.otherServers(m) {
		switch s.vote(f.now) {
		case votes:
			stay, healthy = stay+1, healthy+1
		case silent:
			stay++
		}
	}
	if healthy*2 > stay || stay == 0 { // of none that stay the other rules speak
		return "", "", false
	}
	return v1alpha1.ReasonQuorum, fmt.Sprintf(
		"without it %d voters of etcd stay, and %d of them answer: too few for a quorum (%d); bring the others back first", stay, healthy, stay/2+1), true
}
