package boot

import (
	"cmp"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/pxe"
)

// sighting is what this pod saw of one machine. The zero value is nothing.
type sighting struct {
	firmware, arch, uuid string
	lastSeen             time.Time
	stages               map[pxe.Stage]stageSeen
	done, total          int64 // bytes of the disk image
	imaged               time.Time
}

// stageSeen is when a stage was last seen, and what was said.
type stageSeen struct {
	at      time.Time
	message string
}

// The bounds of the API's fields, in characters.
const (
	maxWord    = 64
	maxUUID    = 36
	maxMessage = 1024
)

// with is the sighting with an observation added. s may be changed.
func (s sighting) with(o pxe.Observation) sighting {
	if s.stages == nil {
		s.stages = map[pxe.Stage]stageSeen{}
	}
	if old := s.stages[o.Stage]; !o.Time.Before(old.at) {
		s.stages[o.Stage] = stageSeen{o.Time, clip(o.Message, maxMessage)}
	}
	if o.Time.After(s.lastSeen) {
		s.lastSeen = o.Time
	}
	if o.Stage == pxe.StageDHCP {
		// Only a packet of the firmware tells what it is.
		if o.Machine.Firmware != pxe.FirmwareUnknown {
			s.firmware = clip(string(o.Machine.Firmware), maxWord)
		}
		if o.Machine.Arch != "" {
			s.arch = clip(string(o.Machine.Arch), maxWord)
		}
	}
	if u := o.Machine.UUID; u != "" && len(u) <= maxUUID {
		s.uuid = u
	}
	if o.Stage == pxe.StageInstalling && o.Total > 0 && !o.Time.Before(s.imaged) {
		s.done, s.total, s.imaged = o.Done, o.Total, o.Time
	}
	return s
}

// merge is the status of a machine's network boot with a sighting added: what
// another pod wrote stays where it is newer. It says whether that changes anything.
// current is not changed.
func merge(current *v1alpha1.BootObservation, s sighting) (*v1alpha1.BootObservation, bool) {
	next := &v1alpha1.BootObservation{}
	if current != nil {
		next = current.DeepCopy()
	}
	changed := false
	set := func(field *string, value string) {
		if value != "" && *field != value {
			*field, changed = value, true
		}
	}
	for stage, seen := range s.stages {
		at := metav1.NewTime(seen.at).Rfc3339Copy()
		i := slices.IndexFunc(next.Stages, func(b v1alpha1.BootStage) bool { return b.Stage == string(stage) })
		switch {
		case i < 0 && len(next.Stages) < 16:
			next.Stages, changed = append(next.Stages, v1alpha1.BootStage{Stage: string(stage), At: at, Message: seen.message}), true
		case i >= 0 && next.Stages[i].At.Before(&at):
			next.Stages[i].At, next.Stages[i].Message, changed = at, seen.message, true
		}
	}
	slices.SortStableFunc(next.Stages, func(a, b v1alpha1.BootStage) int {
		return cmp.Or(a.At.Compare(b.At.Time), cmp.Compare(order(a.Stage), order(b.Stage)))
	})
	if n := len(next.Stages); n > 0 {
		last := next.Stages[n-1]
		set(&next.Stage, last.Stage)
		if next.Message != last.Message {
			next.Message, changed = last.Message, true
		}
	}
	set(&next.Firmware, s.firmware)
	set(&next.Architecture, s.arch)
	set(&next.UUID, s.uuid)
	if seen := metav1.NewTime(s.lastSeen).Rfc3339Copy(); !s.lastSeen.IsZero() && (next.LastSeen == nil || next.LastSeen.Before(&seen)) {
		next.LastSeen, changed = &seen, true
	}
	if s.total > 0 && (next.Done != s.done || next.Total != s.total) && !imagedLater(current, s.imaged) {
		next.Done, next.Total, changed = s.done, s.total, true
	}
	return next, changed
}

// imagedLater says whether another pod heard of the image after at.
func imagedLater(current *v1alpha1.BootObservation, at time.Time) bool {
	if current == nil {
		return false
	}
	for _, stage := range current.Stages {
		if stage.Stage == string(pxe.StageInstalling) {
			return stage.At.After(at)
		}
	}
	return false
}

// stagesInOrder is how a boot goes.
var stagesInOrder = []pxe.Stage{
	pxe.StageDHCP, pxe.StageLoader, pxe.StageConfig, pxe.StageKernel, pxe.StageInitrd, pxe.StageInitConfig,
	pxe.StageMedia, pxe.StageInstalling, pxe.StageInstalled, pxe.StageFailed, pxe.StageCredentials, pxe.StageRefused,
}

func order(stage string) int { return slices.Index(stagesInOrder, pxe.Stage(stage)) }

// clip shortens a text to so many characters.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	if r := []rune(s); len(r) > limit {
		return string(r[:limit-1]) + "…"
	}
	return s
}
