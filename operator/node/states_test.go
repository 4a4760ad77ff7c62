package node

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

func (f *fleet) seen(name, stage string, ago time.Duration) {
	m := f.m(name)
	if m.node.Status.Boot == nil {
		m.node.Status.Boot = &v1alpha1.BootObservation{}
	}
	b := m.node.Status.Boot
	b.Stage, b.Message = stage, "says the pod"
	b.Stages = append(b.Stages, v1alpha1.BootStage{Stage: stage, At: metav1.NewTime(f.now.Add(-ago)), Message: "says the pod"})
}

// situationCase is what is so of a machine, and what is done about it.
type situationCase struct {
	reason  string
	machine string
	change  func(*fleet)

	situation situation
	phase     v1alpha1.Phase
	acts      string // before the status is saved; after a bar, then
	look      time.Duration
	message   string
}

func (c situationCase) run(t *testing.T) {
	t.Helper()
	f := home()
	if c.change != nil {
		c.change(f)
	}
	m := f.m(c.machine)
	if got := situationOf(m, f); got != c.situation {
		t.Errorf("%s: the situation is %s, want %s", c.reason, got, c.situation)
	}
	o := decide(m, f)
	if o.phase != c.phase {
		t.Errorf("%s: %s, want %s (%s)", c.reason, o.phase, c.phase, o.ready.Message)
	}
	if diff := cmp.Diff(c.acts, acts(o)); diff != "" {
		t.Errorf("%s: acts (-want +got):\n%s", c.reason, diff)
	}
	var look time.Duration
	if !o.look.IsZero() {
		look = o.look.Sub(f.now)
	}
	if look != c.look {
		t.Errorf("%s: looks again after %s, want %s", c.reason, look, c.look)
	}
	if !strings.Contains(o.ready.Message, c.message) {
		t.Errorf("%s: the message %q lacks %q", c.reason, o.ready.Message, c.message)
	}
	if o.ready.Type != v1alpha1.ConditionReady || o.joined.Type != v1alpha1.ConditionJoined || o.ready.Reason == "" || o.joined.Reason == "" {
		t.Errorf("%s: conditions %+v, %+v", c.reason, o.ready, o.joined)
	}
	if strings.Contains(acts(o), "Open") && m.isMember() && !m.core.drained() {
		t.Errorf("%s: a claim is opened for a member", c.reason)
	}
	if m.claim != nil && strings.Contains(o.ready.Message, m.claim.ID) {
		t.Errorf("%s: the claim's identifier is in the message", c.reason)
	}
}

// TestDecisions and TestDecisionsAboutLeaving are the whole state machine: what is
// so, and what is done, in every situation.
func TestDecisions(t *testing.T) {
	for _, c := range []situationCase{
		{"declared and free to go", "w1", nil, idle, v1alpha1.PhaseClaimed, "Hold Open", 0, "attempt 1 of 3"},
		{"held", "w1", func(f *fleet) { f.cluster.Status.PXE = nil }, idle, v1alpha1.PhaseDeclared, "", 0, "held by PXENotReady"},
		{"backing off", "w1", func(f *fleet) { f.failed("w1", 20*time.Second, 1) }, idle, v1alpha1.PhaseDeclared, "Revoke", 40 * time.Second, "two disks match"},
		{"the next attempt", "w1", func(f *fleet) { f.failed("w1", 2*time.Minute, 1) }, idle, v1alpha1.PhaseClaimed, "Revoke Hold Open", 0, "attempt 2 of 3"},
		{"failed for good", "w1", func(f *fleet) { f.failed("w1", time.Hour, 3) }, idle, v1alpha1.PhaseFailed, "Revoke", 0, v1alpha1.AnnotationRetry},
		{"a person clears that", "w1", func(f *fleet) {
			f.failed("w1", time.Second, 3)
			f.annotated("w1", v1alpha1.AnnotationRetry, "1")
		}, idle, v1alpha1.PhaseClaimed, "Revoke Close Hold Open", 0, "attempt 1 of 3"},
		{"a person clears that while it is paused", "w1", func(f *fleet) {
			f.failed("w1", time.Second, 3)
			f.annotated("w1", v1alpha1.AnnotationRetry, "1").node.Annotations[v1alpha1.AnnotationPaused] = ""
		}, idle, v1alpha1.PhaseDeclared, "Revoke Close", 0, "held by Paused"},

		{"called", "w1", func(f *fleet) { f.opened("w1", time.Minute) }, called, v1alpha1.PhaseWaking, "", 2 * time.Minute, "told to turn on"},
		{"called, and nothing is heard", "w1", func(f *fleet) { f.opened("w1", 3*time.Minute) }, called, v1alpha1.PhaseWaking, "", 27 * time.Minute, "see that it has power"},
		{"called, and refused", "w1", func(f *fleet) { f.opened("w1", time.Minute); f.seen("w1", "Refused", 30*time.Second) }, called, v1alpha1.PhaseWaking, "", 2 * time.Minute, "it was refused: says the pod"},
		{"called, and no PXE pod is ready any more", "w1", func(f *fleet) { f.opened("w1", time.Minute); f.cluster.Status.PXE = nil }, called, v1alpha1.PhaseClaimed, "", 29 * time.Minute, "waiting for a PXE pod"},
		{"called, with a boot of an earlier attempt", "w1", func(f *fleet) { f.opened("w1", time.Minute); f.seen("w1", "Kernel", time.Hour) }, called, v1alpha1.PhaseWaking, "", 2 * time.Minute, ""},
		{"booting", "w1", func(f *fleet) { f.opened("w1", time.Minute); f.seen("w1", "Kernel", 10*time.Second) }, called, v1alpha1.PhaseBooting, "", 170 * time.Second, "last seen: Kernel (says the pod)"},
		{"booting, and stuck", "w1", func(f *fleet) { f.opened("w1", 10*time.Minute); f.seen("w1", "Kernel", 4*time.Minute) }, called, v1alpha1.PhaseBooting, "", 20 * time.Minute, "look at its screen"},
		{"called, and paused", "w1", func(f *fleet) { f.opened("w1", time.Minute); f.annotated("w1", v1alpha1.AnnotationPaused, "") }, called, v1alpha1.PhaseDeclared, "Close", 0, "held by Paused"},
		{"called, and a stranger takes its name", "w1", func(f *fleet) { f.joined("w1", true).addresses[0] = "192.168.1.99"; f.opened("w1", time.Minute) }, stranger, v1alpha1.PhaseJoining, "Close", 0, "another machine has this name"},

		{"installing", "w1", func(f *fleet) { f.consumed("w1", time.Minute); f.seen("w1", "Installing", time.Second) }, installing, v1alpha1.PhaseInstalling, "Offer", 15*time.Minute - time.Second, "is being installed"},
		{"installing, and paused: it is finished", "w1", func(f *fleet) { f.consumed("w1", time.Minute); f.annotated("w1", v1alpha1.AnnotationPaused, "") }, installing, v1alpha1.PhaseInstalling, "Offer", 14 * time.Minute, ""},
		{"half written", "w1", func(f *fleet) {
			f.consumed("w1", time.Minute)
			f.seen("w1", "Installing", 0)
			f.m("w1").node.Status.Boot.Done, f.m("w1").node.Status.Boot.Total = 57, 100
		}, installing, v1alpha1.PhaseInstalling, "Offer", 15 * time.Minute, "about 50 % written"},
		{"back at its firmware", "w1", func(f *fleet) { f.consumed("w1", time.Minute); f.seen("w1", "Config", time.Second) }, installing, v1alpha1.PhaseInstalling, "Offer", 2 * time.Minute, "waiting whether it is installed"},
		{"back at its firmware, which asks on while the next attempt is due", "w1", func(f *fleet) {
			f.consumed("w1", 5*time.Minute).Attempt = 1
			f.seen("w1", "Config", time.Second)
		}, idle, v1alpha1.PhaseClaimed, "Revoke Hold Open", 0, "attempt 2 of 3"},
		{"installed, and on its way into its system", "w1", func(f *fleet) {
			f.consumed("w1", 2*time.Minute).InstalledAt = f.now.Add(-time.Minute)
			f.seen("w1", "Config", time.Second)
		}, installing, v1alpha1.PhaseInstalling, "Offer", 15*time.Minute - time.Second, "it is in its firmware or boot loader"},
		{"silent", "w1", func(f *fleet) { f.consumed("w1", 15*time.Minute) }, idle, v1alpha1.PhaseDeclared, "Revoke", time.Minute, "fell silent"},
		{"joining", "w1", func(f *fleet) { f.exchanged("w1", time.Minute) }, joining, v1alpha1.PhaseJoining, "", 4 * time.Minute, "k3s starts"},
		{"joining, and nothing comes", "w1", func(f *fleet) { f.exchanged("w1", 6*time.Minute) }, joining, v1alpha1.PhaseJoining, "", 24 * time.Minute, "journalctl"},
		{"never joined", "w1", func(f *fleet) { f.exchanged("w1", 30*time.Minute) }, idle, v1alpha1.PhaseDeclared, "Revoke", time.Minute, "did not join"},

		{"a member at rest", "w1", func(f *fleet) { f.joined("w1", true) }, present, v1alpha1.PhaseReady, "Hold", 0, "is ready"},
		{"a member that was just installed", "w1", func(f *fleet) {
			f.joined("w1", true)
			f.m("w1").node.Status = v1alpha1.NodeStatus{}
			f.exchanged("w1", time.Minute)
		}, present, v1alpha1.PhaseReady, "Hold | Revoke Tidy Close", 0, ""},
		{"a member that is not Ready yet", "w1", func(f *fleet) {
			f.joined("w1", false)
			f.m("w1").node.Status = v1alpha1.NodeStatus{}
			f.exchanged("w1", time.Minute)
		}, present, v1alpha1.PhaseJoining, "Hold", 29 * time.Minute, ""},
		{"a member that is never Ready", "w1", func(f *fleet) {
			f.joined("w1", false)
			f.m("w1").node.Status = v1alpha1.NodeStatus{}
			f.exchanged("w1", 31*time.Minute)
		}, present, v1alpha1.PhaseFailed, "Hold Revoke", 0, "was not Ready by 2026-03-01T11:59:00Z: the core Node is not ready"},
		{"a member that was Ready is not so after its installation was", "w1", func(f *fleet) {
			f.joined("w1", false)
			f.exchanged("w1", 31*time.Minute)
		}, present, v1alpha1.PhaseNotReady, "Hold Revoke", 0, ""},
		{"a member that was never Ready is mended", "w1", func(f *fleet) {
			f.joined("w1", true)
			f.m("w1").node.Status = v1alpha1.NodeStatus{Phase: v1alpha1.PhaseFailed}
			f.exchanged("w1", time.Hour)
		}, present, v1alpha1.PhaseReady, "Hold | Revoke Tidy Close", 0, ""},
		{"a member that was installed anew, and never Ready since: that was the request", "w1", func(f *fleet) {
			f.joined("w1", false)
			f.annotated("w1", v1alpha1.AnnotationReinstall, "1").node.Status.Phase = v1alpha1.PhaseJoining
			f.exchanged("w1", time.Hour)
		}, present, v1alpha1.PhaseFailed, "Hold Revoke", 0, "set the annotation"},
		{"a member that was never Ready is asked to be installed anew", "w1", func(f *fleet) {
			f.joined("w1", false)
			c := f.exchanged("w1", time.Hour)
			m := f.annotated("w1", v1alpha1.AnnotationReinstall, "2")
			m.node.Status = v1alpha1.NodeStatus{Phase: v1alpha1.PhaseFailed, Honoured: map[string]string{honouredReinstall: "1"},
				Claim: &v1alpha1.ClaimStatus{State: "Failed", Opened: metav1.NewTime(c.Opened)}}
		}, reinstalling, v1alpha1.PhaseRemoving, "Hold Begin", 0, ""},
		{"a member that was never Ready in as many attempts as may be", "w1", func(f *fleet) {
			f.joined("w1", false)
			c := f.exchanged("w1", time.Hour)
			c.Attempt = 3
			m := f.annotated("w1", v1alpha1.AnnotationReinstall, "2")
			m.node.Status = v1alpha1.NodeStatus{Phase: v1alpha1.PhaseFailed, Claim: &v1alpha1.ClaimStatus{State: "Failed", Opened: metav1.NewTime(c.Opened)}}
		}, reinstalling, v1alpha1.PhaseFailed, "Hold", 0, v1alpha1.AnnotationRetry},
		{"a member that came by itself", "w1", func(f *fleet) { f.joined("w1", true); f.opened("w1", time.Minute) }, present, v1alpha1.PhaseReady, "Hold Close", 0, ""},
		{"a member with other labels", "w1", func(f *fleet) {
			f.joined("w1", true)
			f.m("w1").node.Spec.Labels = map[string]v1alpha1.LabelValue{"a": "b"}
		}, present, v1alpha1.PhaseReady, "Hold Shape", 0, ""},
		{"a member with other labels, paused", "w1", func(f *fleet) {
			f.joined("w1", true)
			f.annotated("w1", v1alpha1.AnnotationPaused, "").node.Spec.Labels = map[string]v1alpha1.LabelValue{"a": "b"}
		}, present, v1alpha1.PhaseReady, "Hold", 0, ""},
		{"the first server", "s1", func(f *fleet) { f.m("s1").node.Status.Installed = nil }, present, v1alpha1.PhaseReady, "Hold Adopt", 0, ""},
		{"the first server without an image", "s1", func(f *fleet) { f.m("s1").node.Status.Installed, f.image = nil, "" }, present, v1alpha1.PhaseReady, "Hold", 0, ""},
	} {
		c.run(t)
	}
}

func acts(o outcome) string {
	var words []string
	for _, a := range o.acts {
		words = append(words, string(a))
	}
	if len(o.then) > 0 {
		words = append(words, "|")
	}
	for _, a := range o.then {
		words = append(words, string(a))
	}
	return strings.Join(words, " ")
}

// TestEveryActIsDone: an act without an effect, or a situation without a handler,
// would be a panic in the middle of a removal.
func TestEveryActIsDone(t *testing.T) {
	for a := range grave {
		if effects[a] == nil {
			t.Errorf("nothing does %s", a)
		}
	}
	for _, s := range []situation{leaving, reinstalling, stranger, present, called, installing, joining, idle} {
		if states[s] == nil {
			t.Errorf("nobody handles %s", s)
		}
	}
}

// A machine that finds nothing to boot asks for one thing after the other, every few
// seconds: what is written into its Node stays the same meanwhile.
func TestWhatAFirmwareAsksForLastIsNotWrittenDown(t *testing.T) {
	said := map[string]bool{}
	for _, stage := range []string{"DHCP", "Loader", "Config"} {
		f := home()
		f.consumed("w1", time.Minute)
		f.seen("w1", stage, time.Second)
		o := watchInstallation(f.m("w1"), f)
		said[o.ready.Message] = true
	}
	if len(said) != 1 {
		t.Errorf("want one message, got %v", said)
	}
}
