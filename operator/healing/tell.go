package healing

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/status"
)

// write saves what this controller has to say of a member, if it is news, and then
// tells it in events and counts it.
func (r *reconciler) write(ctx context.Context, c *patient, v verdict, repair v1alpha1.RepairStatus, repairs []v1alpha1.RepairRecord) error {
	before := c.n.Status
	next := v1alpha1.NodeStatus{
		Repairs:    repairs,
		Conditions: status.Conditions(before.Conditions, conditionsOf(c, v, repair), c.n.Generation, c.w.now),
	}
	if !equality.Semantic.DeepEqual(repair, v1alpha1.RepairStatus{}) {
		next.Repair = &repair
	}
	if !holds(before, next) {
		if err := status.Apply(ctx, r.Live, c.n, &next, Manager); err != nil {
			return err
		}
	}
	c.m.repair, c.m.repairs = repair, repairs
	r.tell(c, v, before)
	return nil
}

// holds says whether the status says already what there is to say.
func holds(current, next v1alpha1.NodeStatus) bool {
	for _, kind := range []string{v1alpha1.ConditionHealthy, v1alpha1.ConditionRepair} {
		if meta.FindStatusCondition(current.Conditions, kind) != nil && meta.FindStatusCondition(next.Conditions, kind) == nil {
			return false
		}
	}
	return equality.Semantic.DeepEqual(current.Repair, next.Repair) && equality.Semantic.DeepEqual(current.Repairs, next.Repairs) &&
		status.Same(current.Conditions, next.Conditions)
}

// conditionsOf are the conditions of a member after a verdict, without their times.
func conditionsOf(c *patient, v verdict, repair v1alpha1.RepairStatus) []metav1.Condition {
	var all []metav1.Condition
	say := func(kind string, status metav1.ConditionStatus, reason, format string, args ...any) {
		all = append(all, metav1.Condition{Type: kind, Status: status, Reason: reason, Message: clip(fmt.Sprintf(format, args...), 4096)})
	}
	m := c.m
	if c.w.settings.mode == v1alpha1.HealingDisabled && repair.Action == "" && repair.Quarantined == nil {
		return nil
	}
	old := meta.FindStatusCondition(c.n.Status.Conditions, v1alpha1.ConditionHealthy)
	switch {
	case m.sick != "":
		more := ""
		if !m.since.IsZero() {
			more = "; seen so since " + clock(m.since)
		}
		if held := unfenced(m, c.w.facts); held != "" {
			more += "; " + held
		}
		say(v1alpha1.ConditionHealthy, metav1.ConditionFalse, m.sick, "%s%s", m.why, more)
	case !m.ready && repair.Action != "":
		say(v1alpha1.ConditionHealthy, metav1.ConditionFalse, repair.Rule, "%s; it is being repaired", repair.Reason)
	case old != nil && m.ready:
		say(v1alpha1.ConditionHealthy, metav1.ConditionTrue, v1alpha1.ReasonWell, "it is a Ready member; status.repairs says what was done about it")
	case old != nil:
		all = append(all, *old)
	}
	switch {
	case repair.Action != "":
		say(v1alpha1.ConditionRepair, metav1.ConditionTrue, string(repair.Action), "try %d of the day, since %s: %s; called for by %s: %s",
			repair.Try, clock(repair.Intended.Time), repair.Message, repair.Rule, repair.Reason)
	case repair.Quarantined != nil:
		r := law.named("Quarantined")
		say(v1alpha1.ConditionRepair, metav1.ConditionFalse, r.name, "rule %d: %s%s", r.number,
			quarantined(&member{repair: repair}, nil, ""), lastOf(c.m.repairs))
	case v.refusal != nil:
		say(v1alpha1.ConditionRepair, metav1.ConditionFalse, v.refusal.name, "%s; the next step would be %s%s", v.refusal, v.action, lastOf(c.m.repairs))
	case v.move == finish && v.result != v1alpha1.ResultHealed:
		say(v1alpha1.ConditionRepair, metav1.ConditionFalse, string(v.result), "%s (try %d): %s", v.action, v.try, v.message)
	}
	return all
}

// named is the rule of a name.
func (all rules) named(name string) rule {
	for _, r := range all {
		if r.name == name {
			return r
		}
	}
	return rule{name: name}
}

// lastOf is the end of a sentence about what was tried last.
func lastOf(all []v1alpha1.RepairRecord) string {
	if len(all) == 0 {
		return ""
	}
	last := all[len(all)-1]
	return fmt.Sprintf("; tried last: %s at %s, %s (%s)", last.Action, clock(last.At.Time), last.Result, clip(last.Message, 300))
}

// tell passes on what happened, once its record is saved.
func (r *reconciler) tell(c *patient, v verdict, before v1alpha1.NodeStatus) {
	event := func(kind, reason, format string, args ...any) {
		r.events.Event(c.n, kind, reason, clip(fmt.Sprintf(format, args...), 1000))
	}
	m := c.m
	if old := meta.FindStatusCondition(before.Conditions, v1alpha1.ConditionHealthy); m.sick != "" && (old == nil || old.Reason != m.sick) {
		event(corev1.EventTypeWarning, "Sick", "%s: %s", m.sick, m.why)
	}
	action := string(v.action)
	switch v.move {
	case begin:
		metrics.begun.WithLabelValues(action).Inc()
		event(corev1.EventTypeNormal, "RepairBegan", "%s (try %d): %s", action, v.try, v.message)
	case act:
		event(corev1.EventTypeNormal, "RepairDone", "%s (try %d): %s", action, v.try, v.message)
	case withdraw:
		metrics.ended.WithLabelValues(action, "Withdrawn").Inc()
		event(corev1.EventTypeNormal, "RepairWithdrawn", "%s (try %d): %s", action, v.try, v.message)
	case finish:
		metrics.ended.WithLabelValues(action, string(v.result)).Inc()
		if old := before.Repair; old != nil && old.Intended != nil {
			metrics.took.WithLabelValues(action).Observe(max(c.w.now.Sub(old.Intended.Time), 0).Seconds())
		}
		kind := corev1.EventTypeWarning
		if v.result == v1alpha1.ResultHealed {
			kind = corev1.EventTypeNormal
		}
		event(kind, "Repair"+string(v.result), "%s (try %d): %s", action, v.try, v.message)
	case giveUp:
		metrics.ended.WithLabelValues(action, string(v.result)).Inc()
		event(corev1.EventTypeWarning, "Quarantined", "%s: set the annotation %s to a new value when its cause is found", v.message, v1alpha1.AnnotationRetry)
	case clear:
		event(corev1.EventTypeNormal, "QuarantineCleared", "%s", v.message)
	}
	r.refused(c, v, event)
}

// refused tells of a refusal once, until another rule speaks or none does.
func (r *reconciler) refused(c *patient, v verdict, event func(kind, reason, format string, args ...any)) {
	now := ""
	if v.refusal != nil {
		now = v.refusal.name + " " + string(v.action)
	}
	if now == r.told[c.m.name] {
		return
	}
	r.told[c.m.name] = now
	switch {
	case now == "":
		delete(r.told, c.m.name)
	case v.refusal.name == "DryRun":
		metrics.refused.WithLabelValues(v.refusal.name).Inc()
		metrics.dry.WithLabelValues(string(v.action)).Inc()
		event(corev1.EventTypeNormal, "WouldRepair", "%s", v.refusal)
	default:
		metrics.refused.WithLabelValues(v.refusal.name).Inc()
		event(corev1.EventTypeWarning, "RepairRefused", "%s: %s", v.refusal.name, v.refusal)
	}
}

// report writes what is so of the healing of all members.
func (r *reconciler) report(ctx context.Context, w *world) error {
	before := w.cluster.Status
	h := healingOf(w, before.Healing)
	c := healingCondition(w, h)
	next := v1alpha1.ClusterStatus{Conditions: status.Conditions(before.Conditions, []metav1.Condition{c}, w.cluster.Generation, w.now)}
	if !equality.Semantic.DeepEqual(h, v1alpha1.HealingStatus{}) {
		next.Healing = &h
	}
	if equality.Semantic.DeepEqual(before.Healing, next.Healing) && status.Same(before.Conditions, next.Conditions) {
		return nil
	}
	if err := status.Apply(ctx, r.Live, w.cluster, &next, Manager); err != nil {
		return err
	}
	was := before.Healing
	switch {
	case h.Storm != nil && (was == nil || was.Storm == nil):
		metrics.storms.Inc()
		r.events.Event(w.cluster, corev1.EventTypeWarning, "Storm", c.Message)
	case h.Storm == nil && was != nil && was.Storm != nil:
		r.events.Event(w.cluster, corev1.EventTypeNormal, "StormOver", c.Message)
	}
	return nil
}

// healingOf is what is remembered of all members: above all when storms were.
func healingOf(w *world, old *v1alpha1.HealingStatus) v1alpha1.HealingStatus {
	h := v1alpha1.HealingStatus{}
	if old != nil {
		h.Storm, h.StormEnded = old.Storm, old.StormEnded
	}
	at := metav1.NewTime(w.now).Rfc3339Copy()
	switch storms := w.settings.mode != v1alpha1.HealingDisabled && w.storms(); {
	case storms && h.Storm == nil:
		h.Storm = &at
	case !storms && h.Storm != nil:
		h.Storm, h.StormEnded = nil, &at
	}
	if w.settings.mode != v1alpha1.HealingDisabled {
		h.Sick = int32(len(w.sickMembers()))
	}
	for _, m := range w.members {
		if m.busy() {
			h.Repairing = m.name
		}
	}
	return h
}

// healingCondition is the condition Healing of the Cluster, without its time.
func healingCondition(w *world, h v1alpha1.HealingStatus) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionHealing, Status: metav1.ConditionFalse}
	cooled := time.Time{}
	if h.StormEnded != nil {
		cooled = h.StormEnded.Add(w.settings.coolDown)
	}
	switch {
	case w.settings.mode == v1alpha1.HealingDisabled:
		c.Reason, c.Message = v1alpha1.ReasonHealingDisabled, "spec.healing.mode is Disabled: nothing is looked at"
	case w.paused != "":
		c.Reason, c.Message = v1alpha1.ReasonPaused, w.paused
	case h.Storm != nil:
		c.Reason, c.Message = v1alpha1.ReasonStorm, (&refusal{law.named("Storm"), stormStop(nil, w.facts, "")}).String()
	case w.now.Before(cooled):
		c.Reason, c.Message = v1alpha1.ReasonCoolDown, fmt.Sprintf("rule 4: too many members were sick at once until %s: nothing is begun until %s", clock(h.StormEnded.Time), clock(cooled))
	case h.Repairing != "":
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, v1alpha1.ReasonRepairing, fmt.Sprintf("%s is being repaired: the condition Repair of its Node says how", h.Repairing)
	case w.settings.mode == v1alpha1.HealingDryRun:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, v1alpha1.ReasonHealingDryRun, "it is only said what would be done: set spec.healing.mode to Enabled to have it done"
	default:
		c.Status, c.Reason, c.Message = metav1.ConditionTrue, v1alpha1.ReasonWatching, "repairs are made where they are needed and permitted"
	}
	if h.Sick > 0 && h.Storm == nil {
		c.Message += fmt.Sprintf("; sick: %s", few(w.sickMembers()))
	}
	return c
}
