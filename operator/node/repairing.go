package node

import (
	"fmt"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// honouredRepair is the key of status.honoured for the reinstallations that healing
// asked for.
const honouredRepair = "repair"

// repairAsks says whether healing asks to install a sick member anew, and was not
// heard yet. One that has recovered is left alone, unless it went so far that it
// must be finished.
func repairAsks(m *machine) bool {
	return repairUnheard(m) && m.core != nil && !m.core.isReady()
}

// repairUnheard says whether a reinstallation that healing asks for was not done yet.
func repairUnheard(m *machine) bool {
	r := m.node.Status.Repair
	return r != nil && r.Reinstall != "" && r.Reinstall != m.node.Status.Honoured[honouredRepair]
}

// repairAsksToExpel says whether healing asks to install a server anew whose core Node
// is gone, and whose member of etcd may be there.
func repairAsksToExpel(m *machine) bool {
	return repairUnheard(m) && remainsInEtcd(m)
}

// honourRepair remembers that a reinstallation that healing asked for is done.
func (o *outcome) honourRepair(m *machine) {
	if r := m.node.Status.Repair; r != nil && r.Reinstall != "" {
		o.honoured[honouredRepair] = r.Reinstall
	}
}

// quarantined: a machine that healing gave up is not called again and again.
func quarantined(m *machine, _ *fleet) (string, string, bool) {
	r := m.node.Status.Repair
	if r == nil || r.Quarantined == nil {
		return "", "", false
	}
	return v1alpha1.ReasonQuarantined, fmt.Sprintf("healing gave the machine up at %s: find out what is wrong with it, then set the annotation %s to a new value",
		clock(r.Quarantined.Time), v1alpha1.AnnotationRetry), true
}
