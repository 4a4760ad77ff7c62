package healing

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// recorded is the record of a member's repair after a verdict. It is the only
// place in which that changes; what the doing of an action adds comes with it.
// Nothing that it is given is changed.
func recorded(m *member, v verdict, now time.Time) (v1alpha1.RepairStatus, []v1alpha1.RepairRecord) {
	r, repairs := *m.repair.DeepCopy(), m.repairs
	at := metav1.NewTime(now).Rfc3339Copy()
	switch v.move {
	case begin:
		since, off := metav1.NewTime(m.since).Rfc3339Copy(), r.Off
		if v.action == v1alpha1.RepairPowerCycle {
			off = nil // what was so before this one proves nothing of it
		}
		r = v1alpha1.RepairStatus{
			Action: v.action, Try: int32(v.try), Rule: m.sick, Reason: clip(m.why, maxWords), SickSince: &since, Intended: &at,
			Message: clip(v.message, maxWords), Cleared: r.Cleared, Honoured: r.Honoured, Off: off,
		}
	case withdraw:
		r = v1alpha1.RepairStatus{Message: clip(v.message, maxWords), Cleared: r.Cleared, Honoured: r.Honoured, Off: r.Off}
	case wait, act:
		r.Message = clip(v.message, maxWords)
	case finish:
		repairs = remembered(repairs, over(m, v, at))
		r = v1alpha1.RepairStatus{
			Message: clip(v.message, maxWords), Cleared: r.Cleared, Honoured: r.Honoured, Off: r.Off, SickSince: r.SickSince,
		}
	case giveUp:
		repairs = remembered(repairs, over(m, v, at))
		r.Quarantined, r.Message = &at, clip(v.message, maxWords)
		r.Honoured = honoured(r.Honoured, honouredRetry, m.retry)
	case clear:
		r.Quarantined, r.Cleared, r.Message = nil, &at, clip(v.message, maxWords)
		r.Honoured = honoured(r.Honoured, honouredRetry, m.retry)
	}
	if m.ready {
		// Neither proof nor statement outlives the failure that it was about.
		r.Off = nil
		if m.poweredOff != "" {
			r.Honoured = honoured(r.Honoured, honouredPoweredOff, m.poweredOff)
		}
	}
	return r, repairs
}

// over is the record of the member's action, as it ends.
func over(m *member, v verdict, at metav1.Time) v1alpha1.RepairRecord {
	one := v1alpha1.RepairRecord{At: at, Ended: at, Action: v.action, Rule: m.repair.Rule, Result: v.result, Message: clip(v.message, maxWords)}
	if m.repair.Intended != nil {
		one.At = *m.repair.Intended
	}
	if one.Rule == "" {
		one.Rule = m.sick
	}
	if v.action == v1alpha1.RepairReinstall {
		one.Disk = diskOf(m)
	}
	if m.repair.Snapshot != "" {
		one.Message = clip(one.Message+"; before it: "+m.repair.Snapshot, maxWords)
	}
	return one
}

// remembered is the history with one more action; the oldest goes when it is full.
func remembered(all []v1alpha1.RepairRecord, one v1alpha1.RepairRecord) []v1alpha1.RepairRecord {
	next := append(append([]v1alpha1.RepairRecord{}, all...), one)
	return next[max(len(next)-v1alpha1.MaxRepairs, 0):]
}

func honoured(before map[string]string, key, value string) map[string]string {
	next := map[string]string{}
	for k, v := range before {
		next[k] = v
	}
	if value != "" {
		next[key] = value
	}
	return next
}

// maxWords bounds a message in a record.
const maxWords = 1000
