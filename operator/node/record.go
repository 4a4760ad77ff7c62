package node

import (
	"fmt"
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/internal/status"
)

// recordOf is what this controller writes of a machine: its own fields and
// conditions. It is the only place in which they are computed.
func recordOf(d *deed) v1alpha1.NodeStatus {
	n, o := d.m.node, d.o
	now := d.f.now
	since := n.Status.PhaseSince
	if n.Status.Phase != o.phase || since == nil {
		t := metav1.NewTime(now).Rfc3339Copy()
		since = &t
	}
	wanted := []metav1.Condition{o.joined, o.ready}
	for _, c := range []*metav1.Condition{o.admitted, o.removal, o.adopted} {
		if c != nil {
			wanted = append(wanted, *c)
		}
	}
	next := v1alpha1.NodeStatus{
		ObservedGeneration: n.Generation,
		Phase:              o.phase,
		PhaseSince:         since,
		NodeRef:            o.nodeRef,
		Attempts:           o.attempts,
		Installed:          o.installed,
		Claim:              claimStatus(d),
		Conditions:         status.Conditions(n.Status.Conditions, wanted, n.Generation, now),
	}
	if len(o.honoured) > 0 {
		next.Honoured = o.honoured
	}
	return next
}

// claimStatus is what a person may know of the current or last claim.
func claimStatus(d *deed) *v1alpha1.ClaimStatus {
	c := d.m.claim
	if d.opened != nil {
		c = d.opened
	}
	if c == nil {
		last := d.m.node.Status.Claim
		if last == nil || ended(last.State) {
			return last
		}
		// It went without an end: somebody closed it.
		last = last.DeepCopy()
		last.State, last.Message = string(provision.StateExpired), "the claim was closed"
		return last
	}
	s := &v1alpha1.ClaimStatus{
		Attempt: int32(c.Attempt), State: string(c.State(d.f.now)),
		Opened: metav1.NewTime(c.Opened).Rfc3339Copy(), Expires: metav1.NewTime(c.Expires).Rfc3339Copy(),
	}
	if d.opened != nil {
		return s
	}
	if d.o.over != "" {
		s.Message = clip(d.o.over, 1000)
		if !ended(s.State) || !c.ExchangedAt.IsZero() {
			s.State = string(provision.StateFailed)
		}
	}
	if d.closed && s.State == string(provision.StateOpen) {
		s.State, s.Message = string(provision.StateExpired), "the claim was closed"
	}
	return s
}

// ended says whether a claim of this state leads to nothing any more.
func ended(state string) bool {
	switch provision.State(state) {
	case provision.StateExchanged, provision.StateExpired, provision.StateFailed:
		return true
	}
	return false
}

// holds says whether the status says already what this controller has to say.
func holds(current, next v1alpha1.NodeStatus) bool {
	for _, kind := range []string{v1alpha1.ConditionAdmitted, v1alpha1.ConditionRemoval, v1alpha1.ConditionAdopted} {
		if meta.FindStatusCondition(current.Conditions, kind) != nil && meta.FindStatusCondition(next.Conditions, kind) == nil {
			return false
		}
	}
	return current.ObservedGeneration == next.ObservedGeneration &&
		current.Phase == next.Phase &&
		current.PhaseSince.Equal(next.PhaseSince) &&
		current.Attempts == next.Attempts &&
		maps.Equal(current.Honoured, next.Honoured) &&
		equality.Semantic.DeepEqual(current.NodeRef, next.NodeRef) &&
		equality.Semantic.DeepEqual(current.Claim, next.Claim) &&
		equality.Semantic.DeepEqual(current.Installed, next.Installed) &&
		status.Same(current.Conditions, next.Conditions)
}

// troubled is the record when an act could not be done: what was so before, with
// the trouble in words.
func troubled(d *deed, trouble error) v1alpha1.NodeStatus {
	s := d.m.node.Status.DeepCopy()
	v := judge(d.m)
	ready := v.ready
	if s.Phase == "" {
		s.Phase = v.phase
	}
	if s.PhaseSince == nil {
		t := metav1.NewTime(d.f.now).Rfc3339Copy()
		s.PhaseSince = &t
	}
	ready.Message = clip(fmt.Sprintf("%s; it is tried again", trouble), 2000)
	wanted := []metav1.Condition{v.joined, ready}
	for _, kind := range []string{v1alpha1.ConditionAdmitted, v1alpha1.ConditionRemoval, v1alpha1.ConditionAdopted} {
		if c := meta.FindStatusCondition(s.Conditions, kind); c != nil {
			wanted = append(wanted, *c)
		}
	}
	s.Conditions = status.Conditions(s.Conditions, wanted, d.m.node.Generation, d.f.now)
	s.ObservedGeneration = d.m.node.Generation
	s.Boot, s.Reach, s.Repair, s.Repairs = nil, nil, nil, nil // these are others'
	return *s
}

// again is how long to wait until a time; at least a moment, so that a clock that
// lags behind makes no busy loop.
func again(now, due time.Time) time.Duration {
	if due.IsZero() {
		return 0
	}
	return max(due.Sub(now), 100*time.Millisecond)
}
