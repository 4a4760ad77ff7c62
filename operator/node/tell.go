package node

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe"
)

// news is something that happened to a machine.
type news struct {
	kind, reason, message string
	count                 func(*counters)
}

// newsOf are what happened between two records of a machine.
func newsOf(before, after v1alpha1.NodeStatus, now time.Time) []news {
	var all []news
	tell := func(kind, reason string, count func(*counters), format string, args ...any) {
		all = append(all, news{kind, reason, clip(fmt.Sprintf(format, args...), 1000), count})
	}
	became := func(kind string, status metav1.ConditionStatus) (*metav1.Condition, bool) {
		old, c := meta.FindStatusCondition(before.Conditions, kind), meta.FindStatusCondition(after.Conditions, kind)
		return c, c != nil && c.Status == status && (old == nil || old.Status != status || status == metav1.ConditionFalse && old.Reason != c.Reason)
	}
	if _, ok := became(v1alpha1.ConditionJoined, metav1.ConditionTrue); ok && after.NodeRef != nil {
		tell(corev1.EventTypeNormal, "Joined", nil, "became the core Node %s", after.NodeRef.Name)
	}
	was, is := before.Claim, after.Claim
	fresh := is != nil && (was == nil || !was.Opened.Equal(&is.Opened))
	if fresh {
		tell(corev1.EventTypeNormal, "ClaimOpened", func(c *counters) { c.opened.WithLabelValues(string(provision.Join)).Inc() },
			"may be installed until %s (attempt %d)", clock(is.Expires.Time), is.Attempt)
	}
	if is != nil && is.State == string(provision.StateFailed) && (fresh || was.State != is.State) {
		tell(corev1.EventTypeWarning, "AttemptFailed", func(c *counters) { c.failed.Inc() }, "attempt %d: %s", is.Attempt, is.Message)
	}
	if is != nil && is.State == string(provision.StateExpired) && (fresh || was.State != is.State) {
		tell(corev1.EventTypeWarning, "ClaimEnded", nil, "attempt %d: %s", is.Attempt, or(is.Message, "the claim expired"))
	}
	if i := after.Installed; i != nil && (before.Installed == nil || !before.Installed.At.Equal(&i.At)) {
		tell(corev1.EventTypeNormal, "Installed", func(c *counters) { c.installed.Inc() }, "is a Ready member with %s, %s after its claim was opened",
			i.OperatingSystem, time.Duration(i.Seconds)*time.Second)
	}
	if after.Phase == v1alpha1.PhaseFailed && before.Phase != after.Phase {
		tell(corev1.EventTypeWarning, "Failed", nil, "%s", messageOf(after, v1alpha1.ConditionReady))
	}
	if c, ok := became(v1alpha1.ConditionRemoval, metav1.ConditionTrue); ok {
		tell(corev1.EventTypeNormal, "RemovalBegan", nil, "%s", c.Message)
	}
	if c, ok := became(v1alpha1.ConditionRemoval, metav1.ConditionFalse); ok {
		tell(corev1.EventTypeWarning, "RemovalHeld", func(k *counters) { k.removals.WithLabelValues(resultHeld).Inc() }, "%s: %s", c.Reason, c.Message)
	}
	if c, ok := became(v1alpha1.ConditionAdopted, metav1.ConditionTrue); ok {
		tell(corev1.EventTypeNormal, "Adopted", nil, "%s", c.Message)
	}
	if c, ok := became(v1alpha1.ConditionAdopted, metav1.ConditionFalse); ok && c.Reason == v1alpha1.ReasonAdoptionFailed {
		tell(corev1.EventTypeWarning, "AdoptionFailed", nil, "%s", c.Message)
	}
	if before.Phase != "" && before.Phase != after.Phase && before.PhaseSince != nil {
		took := now.Sub(before.PhaseSince.Time).Seconds()
		phase := string(before.Phase)
		all = append(all, news{count: func(c *counters) { c.phases.WithLabelValues(phase).Observe(max(took, 0)) }})
	}
	return all
}

func messageOf(s v1alpha1.NodeStatus, kind string) string {
	if c := meta.FindStatusCondition(s.Conditions, kind); c != nil {
		return c.Message
	}
	return ""
}

// tell passes news on, once the record that they come from is saved.
func (r *reconciler) tell(n *v1alpha1.Node, all []news) {
	for _, one := range all {
		if one.count != nil {
			one.count(metrics)
		}
		if one.reason != "" {
			r.events.Event(n, one.kind, one.reason, one.message)
		}
	}
}

// refusalsAgain is how long ago a refusal may be that an operator tells of when it
// starts: rather twice than never.
const refusalsAgain = 10 * time.Minute

// refusedSince is what was last refused to the machine, or to somebody in its name,
// after a time; nil: nothing was.
func refusedSince(n *v1alpha1.Node, at time.Time) *v1alpha1.BootStage {
	if n.Status.Boot == nil {
		return nil
	}
	for i := range n.Status.Boot.Stages {
		if s := &n.Status.Boot.Stages[i]; s.Stage == string(pxe.StageRefused) && s.At.After(at) {
			return s
		}
	}
	return nil
}

// tellRefusal tells of a refusal that the PXE pods wrote down, once. They make no
// events: whoever takes one over is to have no right that it can do without.
func (r *reconciler) tellRefusal(n *v1alpha1.Node) {
	told, ok := r.refusals[n.Name]
	if !ok {
		told = r.began.Add(-refusalsAgain)
	}
	if s := refusedSince(n, told); s != nil {
		r.refusals[n.Name] = s.At.Time
		r.tell(n, []news{{kind: corev1.EventTypeWarning, reason: "Refused", message: clip(or(s.Message, "a request was refused"), 1000)}})
	}
}

// warn tells what only the doing knows, once it is noted on the core Node.
func (d *deed) warn(reason, message string) {
	d.tell(d.m.node, []news{{kind: corev1.EventTypeWarning, reason: reason, message: clip(message, 1000)}})
}
