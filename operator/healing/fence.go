package healing

import (
	"fmt"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// fencing is what is to be done about the taint by which a member's pods may run
// elsewhere though its kubelet never said that they ended.
type fencing struct {
	// proof is one that is new, to be written down before anything rests on it; nil:
	// there is none.
	proof *v1alpha1.OffProof
	// taint and untaint the core Node.
	taint, untaint bool
}

// fence decides about the taint (rule 9): only with a proof that the machine was
// off after it fell silent. Pods that still run and are forced away would run
// twice. It goes when the member is Ready again.
// (https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/#non-graceful-node-shutdown)
func fence(m *member, f *facts) fencing {
	if m.ready {
		return fencing{untaint: m.fenced && m.paused == "" && f.paused == ""}
	}
	if m.sick != v1alpha1.ReasonSickSilent || !m.core || m.leaving || m.mode != v1alpha1.HealingEnabled || m.paused != "" || f.paused != "" {
		return fencing{}
	}
	if m.repair.Off != nil {
		return fencing{taint: !m.fenced}
	}
	switch {
	case m.poweredOff != "" && m.poweredOff != m.repair.Honoured[honouredPoweredOff]:
		return fencing{proof: &v1alpha1.OffProof{By: v1alpha1.OffByPerson}}
	case !m.installedAt.IsZero() && !m.since.IsZero() && m.installedAt.After(m.since):
		return fencing{proof: &v1alpha1.OffProof{By: v1alpha1.OffByInstaller}}
	}
	return fencing{}
}

// unfenced is why the pods of a silent member stay where they are, in words; empty:
// they are let go, or it is not silent. It is the refusal of rule 9, which stands beside
// those of the steps.
func unfenced(m *member, f *facts) string {
	switch next := fence(m, f); {
	case m.ready || m.sick != v1alpha1.ReasonSickSilent || !m.core || m.fenced || next.taint || next.proof != nil:
		return ""
	case m.leaving:
		return "" // its removal says what becomes of its pods
	case m.paused != "" || f.paused != "":
		return "rule 9: its pods stay where they are while it is paused"
	case m.mode != v1alpha1.HealingEnabled:
		return fmt.Sprintf("rule 9: its pods stay where they are, for healing is in the mode %s", m.mode)
	}
	return "rule 9: its pods stay where they are, for nothing proves that it is off: if you know that it is, set the annotation " +
		v1alpha1.AnnotationPoweredOff + " to a new value"
}
