package healing

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC) // a Wednesday

func ago(d time.Duration) metav1.Time { return metav1.NewTime(noon.Add(-d)) }

func ptr[T any](v T) *T { return &v }

// sickWorker are the facts of a cluster of ten in which the worker w1 has been
// silent for an hour, and nothing forbids to repair it.
func sickWorker() (*member, *facts) {
	f := &facts{
		now: noon,
		settings: settings{
			mode: v1alpha1.HealingEnabled, unhealthyAfter: 10 * time.Minute, maxPercent: 30, coolDown: 30 * time.Minute,
			reboot: step{1, 10 * time.Minute}, power: step{2, 10 * time.Minute}, reinstall: step{1, time.Hour},
			reinstallsPerDay: 3, settle: 10 * time.Second, backOff: time.Minute, reachLife: 3 * time.Minute,
		},
		self: self{node: "s1", ready: true},
		pxe:  []string{"s1", "w2"},
	}
	for _, name := range []string{"s1", "s2", "s3"} {
		f.servers = append(f.servers, server{name: name, ready: true, declared: true, vote: votes})
		f.members = append(f.members, wellMember(name, true))
	}
	for i := range 7 {
		f.members = append(f.members, wellMember(fmt.Sprintf("w%d", i+1), false))
	}
	m := f.members[3]
	fallSilent(m)
	return m, f
}

func wellMember(name string, controlPlane bool) *member {
	return &member{name: name, controlPlane: controlPlane, ready: true, core: true, speaks: true, mode: v1alpha1.HealingEnabled, storage: storage{verdict: storageClear}}
}

// fallSilent has a member's kubelet say nothing, as a peer confirms.
func fallSilent(m *member) {
	m.sick, m.why, m.ready, m.speaks = v1alpha1.ReasonSickSilent, "its kubelet says nothing", false, false
	m.since = noon.Add(-time.Hour)
	m.reach = []v1alpha1.Reach{{From: "w2", At: ago(time.Minute), Answer: v1alpha1.AnswerNothing}}
}

// sickServer is sickWorker with the server s3 in its place.
func sickServer() (*member, *facts) {
	w, f := sickWorker()
	*w = *wellMember(w.name, false)
	m := f.members[2]
	fallSilent(m)
	f.servers[2].ready, f.servers[2].vote = false, silent
	return m, f
}

// tried adds actions that ended long ago, or at a time.
func tried(m *member, ended time.Duration, actions ...v1alpha1.RepairAction) {
	for _, a := range actions {
		m.repairs = append(m.repairs, v1alpha1.RepairRecord{At: ago(ended + 10*time.Minute), Ended: ago(ended), Action: a, Rule: m.sick, Result: v1alpha1.ResultTimedOut})
	}
}

// toReinstall leaves reinstallation as the next step.
func toReinstall(m *member) {
	tried(m, 2*time.Hour, v1alpha1.RepairWake, v1alpha1.RepairWake)
}

// last is the last member, which is not the sick one.
func last(f *facts) *member { return f.members[len(f.members)-1] }

func peers(m *member, change func(*v1alpha1.Reach)) {
	for i := range m.reach {
		change(&m.reach[i])
	}
}

func each(f *facts, change func(*server)) {
	for i := range f.servers {
		change(&f.servers[i])
	}
}

// refusals has a case for every rule in which it alone refuses.
var refusals = []struct {
	rule   string
	reason string
	server bool
	change func(*member, *facts)
}{
	{"OptedOut", "the Node opted out", false, func(m *member, _ *facts) { m.mode = v1alpha1.HealingDisabled }},
	{"Paused", "the Node is paused", false, func(m *member, _ *facts) { m.paused = "paused by me" }},
	{"Paused", "the Cluster is paused", false, func(_ *member, f *facts) { f.paused = "paused by me" }},
	{"Leaving", "the Node is being deleted", false, func(m *member, _ *facts) { m.leaving = true }},
	{"Quarantined", "it was given up", false, func(m *member, _ *facts) { m.repair.Quarantined = ptr(ago(time.Hour)) }},
	{"NotAMember", "its core Node is gone", false, func(m *member, _ *facts) { m.core, m.sick = false, v1alpha1.ReasonSickMissing }},
	{"NotAMember", "the core Node of a server is gone, and it is proven that etcd lacks it", true, func(m *member, _ *facts) { m.core, m.sick = false, v1alpha1.ReasonSickMissing }},
	{"Observing", "it was seen sick for less than ten minutes", false, func(m *member, _ *facts) { m.since = noon.Add(-10*time.Minute + time.Second) }},
	{"Observing", "it was not seen sick by this operator", false, func(m *member, _ *facts) { m.since = time.Time{} }},
	{"Storm", "four of ten are sick", false, func(_ *member, f *facts) {
		for _, o := range f.members[max(len(f.members)-3, 0):] {
			fallSilent(o)
		}
	}},
	{"Storm", "two of three are sick", false, func(m *member, f *facts) {
		f.members = []*member{f.members[0], m, last(f)}
		fallSilent(last(f))
	}},
	{"CoolDown", "a storm is over since half an hour, but for a second", false, func(_ *member, f *facts) { f.stormEnded = noon.Add(-30*time.Minute + time.Second) }},
	{"OwnNode", "the operator's member is not Ready", false, func(_ *member, f *facts) { f.self.ready = false }},
	{"OwnNode", "the operator's member is not known", false, func(_ *member, f *facts) { f.self.node = "" }},
	{"APINotReady", "the API server says so", false, func(_ *member, f *facts) { f.self.api = "etcd failed" }},
	{"GatewayUnreachable", "the gateway does not answer", false, func(_ *member, f *facts) { f.self.gateway = "timeout" }},
	{"Minority", "one server of three is Ready", false, func(_ *member, f *facts) { each(f, func(s *server) { s.ready = s.name == "s1" }) }},
	{"Minority", "no server is known", false, func(_ *member, f *facts) { f.servers = nil }},
	{"NoPeer", "no peer has tried", false, func(m *member, _ *facts) { m.reach = nil }},
	{"NoPeer", "a peer has tried long ago", false, func(m *member, f *facts) {
		f.settings.reachLife = 3 * time.Minute
		peers(m, func(r *v1alpha1.Reach) { r.At = ago(3*time.Minute + time.Second) })
	}},
	{"NoPeer", "a peer has tried before it fell silent, at an earlier failure", false, func(m *member, f *facts) {
		f.settings.reachLife, m.since = 11*time.Minute, noon.Add(-10*time.Minute)
		peers(m, func(r *v1alpha1.Reach) { r.At = ago(10*time.Minute + time.Second) })
	}},
	{"NoPeer", "a peer whose clock is ahead has tried", false, func(m *member, _ *facts) { peers(m, func(r *v1alpha1.Reach) { r.At = ago(-2 * time.Minute) }) }},
	{"NoPeer", "only the machine itself has tried", false, func(m *member, _ *facts) { peers(m, func(r *v1alpha1.Reach) { r.From = m.name }) }},
	{"PeerReaches", "its kubelet answers a peer", false, func(m *member, _ *facts) { peers(m, func(r *v1alpha1.Reach) { r.Answer = v1alpha1.AnswerKubelet }) }},
	{"PeerReaches", "its kubelet answers one of two peers", false, func(m *member, _ *facts) {
		m.reach = append(m.reach, v1alpha1.Reach{From: "s1", At: ago(time.Second), Answer: v1alpha1.AnswerKubelet})
	}},
	{"OneAtATime", "another is being repaired", false, func(_ *member, f *facts) { last(f).repair.Action = v1alpha1.RepairReboot }},
	{"RemovalRuns", "another is taken out", false, func(_ *member, f *facts) { last(f).removing = true }},
	{"RemovalRuns", "it is taken out itself", false, func(m *member, _ *facts) { m.removing = true }},
	{"InstallationRuns", "another is installed", false, func(_ *member, f *facts) { last(f).installing = true }},
	{"InstallationRuns", "it is installed itself", false, func(m *member, _ *facts) { m.installing = true }},
	{"Cordoned", "somebody cordoned it", false, func(m *member, _ *facts) { m.cordoned = true }},
	{"Cordoned", "another server is being upgraded", true, func(_ *member, f *facts) { f.members[0].cordoned = true }},
	{"TooFewVoters", "it is one of two servers", true, func(_ *member, f *facts) {
		f.servers = []server{{name: "s1", ready: true, declared: true, vote: votes}, {name: "s2", ready: true, declared: true, vote: votes}}
	}},
	{"VotersUnknown", "nothing says whether another server votes", true, func(_ *member, f *facts) {
		f.servers = append(f.servers, server{name: "s4", ready: true, declared: true, vote: votes}, server{name: "s5", ready: true, declared: true, vote: unknown})
	}},
	{"VotersUnknown", "another server does not vote yet", true, func(_ *member, f *facts) {
		f.servers = append(f.servers, server{name: "s4", ready: true, declared: true, vote: votes}, server{name: "s5", ready: true, declared: true, vote: learns})
	}},
	{"Quorum", "another server's vote is silent", true, func(_ *member, f *facts) { each(f, func(s *server) { s.vote = silent }) }},
	{"LastControlPlane", "no other server is declared", true, func(_ *member, f *facts) { each(f, func(s *server) { s.declared = false }) }},
	{"OperatorsNode", "the operator runs on it", false, func(m *member, f *facts) { f.self.node = m.name }},
	{"StorageKept", "a person said that its disk is to be kept", false, func(m *member, _ *facts) { toReinstall(m); m.storage.verdict = storageKept }},
	{"LocalVolume", "it has the only copy of a volume", false, func(m *member, _ *facts) { toReinstall(m); m.storage.verdict = storageHolds }},
	{"StorageUnknown", "it is not known what is on its disk", false, func(m *member, _ *facts) { toReinstall(m); m.storage.verdict = storageUnknown }},
	{"PXENotReady", "no PXE pod is ready to wake it", false, func(_ *member, f *facts) { f.pxe = nil }},
	{"PXENotReady", "the only PXE pod runs on it", false, func(m *member, f *facts) { toReinstall(m); f.pxe = []string{m.name} }},
	{"ReinstallBudget", "three were reinstalled today", false, func(m *member, f *facts) {
		toReinstall(m)
		for _, o := range f.members[max(len(f.members)-3, 0):] {
			tried(o, 5*time.Hour, v1alpha1.RepairReinstall)
		}
	}},
	{"ReinstallBudget", "no reinstallation is permitted", false, func(m *member, f *facts) { toReinstall(m); f.settings.reinstallsPerDay = 0 }},
	{"BackOff", "a step ended within the last minute", false, func(m *member, _ *facts) { tried(m, time.Minute-time.Second, v1alpha1.RepairWake) }},
	{"OutsideWindow", "it is noon, and the window is at night", false, func(_ *member, f *facts) {
		f.settings.windows = []v1alpha1.MaintenanceWindow{{From: "22:00", To: "05:00"}}
	}},
	{"OutsideWindow", "the time zone is not known", false, func(_ *member, f *facts) {
		f.settings.windows = []v1alpha1.MaintenanceWindow{{TimeZone: "Europe/Atlantis"}}
	}},
	{"DryRun", "the Node is in a dry run", false, func(m *member, _ *facts) { m.mode = v1alpha1.HealingDryRun }},
	{"DryRun", "no mode was read", false, func(m *member, _ *facts) { m.mode = "" }},
}

func TestEveryRuleAloneRefuses(t *testing.T) {
	covered := map[string]bool{}
	for _, tc := range refusals {
		covered[tc.rule] = true
		t.Run(tc.rule+": "+tc.reason, func(t *testing.T) {
			m, f := sickWorker()
			if tc.server {
				m, f = sickServer()
			}
			if v := decide(m, f); v.move != begin {
				t.Fatalf("without it: %s %s, want that the repair begins", v.move, v.message)
			}
			tc.change(m, f)
			v := decide(m, f)
			if v.move != refuse || v.refusal.name != tc.rule {
				t.Fatalf("verdict %s: %s, want a refusal by %s", v.move, v.message, tc.rule)
			}
			if want := fmt.Sprintf("rule %d: ", v.refusal.number); !strings.HasPrefix(v.message, want) {
				t.Errorf("message %q does not begin with the rule's number", v.message)
			}
			// Alone: without this rule all others permit.
			without := slices.DeleteFunc(slices.Clone(law), func(r rule) bool { return r.name == tc.rule })
			if r := without.ask(m, f, v.action); r != nil {
				t.Errorf("%s refuses too: %s", r.name, r)
			}
			// Written down already, it is not done either.
			m.repair.Action, m.repair.Try, m.repair.Intended, m.untouched = v.action, 1, ptr(ago(time.Minute)), true
			if v := decide(m, f); v.move != withdraw {
				t.Errorf("an intent is followed by %s: %s, want that it is withdrawn", v.move, v.message)
			}
		})
	}
	for _, r := range law {
		if !covered[r.name] {
			t.Errorf("no case has the rule %s refuse alone", r.name)
		}
	}
}

// kubeletRuns has its peers say that its kubelet answers.
func kubeletRuns(m *member) { peers(m, func(r *v1alpha1.Reach) { r.Answer = v1alpha1.AnswerKubelet }) }

// A worker whose core Node is gone is a patient, too: nobody said that it is to go.
func TestAWorkerWithoutACoreNode(t *testing.T) {
	tests := []struct {
		reason string
		change func(*member)
		want   string // an action, or the rule that refuses
	}{
		{"it may be only off", func(*member) {}, "Wake"},
		{"its kubelet runs", kubeletRuns, "PeerReaches"},
		{"its kubelet runs, and it has a board", func(m *member) { kubeletRuns(m); m.board = true }, "PowerCycle"},
		{"that did not help", func(m *member) { m.board = true; toReinstall(m) }, "Reinstall"},
		{"that did not help, and its kubelet runs", func(m *member) { kubeletRuns(m); m.board = true; toReinstall(m) }, "PeerReaches"},
		{"that did not help, and nothing says what is on its disk", func(m *member) { toReinstall(m); m.storage.verdict = storageUnknown }, "StorageUnknown"},
		{"a person, or the operator, took it out", func(m *member) { m.remains = false }, "NotAMember"},
	}
	for _, tc := range tests {
		m, f := sickWorker()
		m.core, m.remains, m.sick = false, true, v1alpha1.ReasonSickMissing
		tc.change(m)
		v := decide(m, f)
		got := string(v.action)
		if v.move == refuse {
			got = v.refusal.name
		}
		if got != tc.want {
			t.Errorf("%s: %s (%s), want %s", tc.reason, got, v.message, tc.want)
		}
	}
}

// A server whose core Node is gone counts as a voter that is lost, and is repaired by
// the rules of any other server.
func TestAServerWhoseCoreNodeIsGoneIsRepaired(t *testing.T) {
	tests := []struct {
		reason string
		change func(*member, *facts)
		want   string // an action, or the rule that refuses
	}{
		{"it may be only off", nil, "Wake"},
		{"it has a board", func(m *member, _ *facts) { m.board = true }, "PowerCycle"},
		{"that did not help", func(m *member, _ *facts) { toReinstall(m) }, "Reinstall"},
		{"that did not help, and nothing says what is on its disk", func(m *member, _ *facts) { toReinstall(m); m.storage.verdict = storageUnknown }, "StorageUnknown"},
		{"a second one's is gone, too", func(_ *member, f *facts) {
			o := f.members[1]
			o.ready, o.core, o.remains, o.sick = false, false, true, v1alpha1.ReasonSickMissing
			f.servers[1] = server{name: o.name, declared: true, vote: silent}
		}, "Minority"},
		{"of five a second one's is gone, too, and a third is silent", func(_ *member, f *facts) {
			f.servers = append(f.servers, server{name: "s4", declared: true, vote: silent}, server{name: "s5", ready: true, declared: true, vote: silent})
		}, "Quorum"},
		{"it was one of two", func(_ *member, f *facts) { f.servers = f.servers[1:] }, "Minority"},
		{"it was one of two, and stands there again", func(_ *member, f *facts) { f.servers = f.servers[1:]; f.servers[1].ready = true }, "TooFewVoters"},
		{"nobody looked whether its machine is there", func(m *member, _ *facts) { m.reach = nil }, "NoPeer"},
		{"its kubelet runs", func(m *member, _ *facts) { kubeletRuns(m) }, "PeerReaches"},
		{"its kubelet runs, and it has a board", func(m *member, _ *facts) { kubeletRuns(m); m.board = true }, "PowerCycle"},
		{"its kubelet runs although it was restarted", func(m *member, _ *facts) { kubeletRuns(m); m.board = true; toReinstall(m) }, "PeerReaches"},
	}
	for _, tc := range tests {
		m, f := sickServer()
		m.core, m.remains, m.sick = false, true, v1alpha1.ReasonSickMissing
		if tc.change != nil {
			tc.change(m, f)
		}
		v := decide(m, f)
		got := string(v.action)
		if v.move == refuse {
			got = v.refusal.name
		} else if v.move != begin {
			got = string(v.move)
		}
		if got != tc.want {
			t.Errorf("%s: %s (%s), want %s", tc.reason, got, v.message, tc.want)
		}
	}
}

func TestACoolDownBeginsWithTheLookThatSeesTheStormOver(t *testing.T) {
	earlier := ago(time.Hour)
	tests := []struct {
		reason string
		said   *v1alpha1.HealingStatus
		storms bool
		want   time.Time
	}{
		{"there was none", nil, false, time.Time{}},
		{"one begins", &v1alpha1.HealingStatus{}, true, time.Time{}},
		{"one goes on", &v1alpha1.HealingStatus{Storm: &earlier}, true, time.Time{}},
		{"one goes on, after another one", &v1alpha1.HealingStatus{Storm: &earlier, StormEnded: &earlier}, true, earlier.Time},
		{"one is over just now", &v1alpha1.HealingStatus{Storm: &earlier}, false, noon},
		{"one is over since long", &v1alpha1.HealingStatus{StormEnded: &earlier}, false, earlier.Time},
	}
	for _, tc := range tests {
		if got := stormEnd(tc.said, tc.storms, noon); !got.Equal(tc.want) {
			t.Errorf("%s: its end is %s, want %s", tc.reason, got, tc.want)
		}
	}
}

// TestNothingIsDoneAgainstARule combines the cases: whatever else is so, an action
// is begun, or done, only when no rule refuses it.
func TestNothingIsDoneAgainstARule(t *testing.T) {
	for i, a := range refusals {
		for j, b := range refusals {
			if a.server != b.server {
				continue
			}
			m, f := sickWorker()
			if a.server {
				m, f = sickServer()
			}
			a.change(m, f)
			b.change(m, f)
			if v := decide(m, f); v.move != refuse && v.move != clear {
				t.Errorf("%d and %d (%s; %s): %s %s", i, j, a.reason, b.reason, v.move, v.action)
			}
		}
	}
}
