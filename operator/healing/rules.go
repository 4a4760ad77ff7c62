package healing

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// rule is one of the rules of healing, which docs/concepts/healing.md numbers. It
// has nothing to say about an action, or says in words why it refuses it and what
// would lift it. Rules are pure, and deny when what they need to know is missing.
type rule struct {
	number int
	// name is the reason of the condition Repair.
	name  string
	check func(*member, *facts, v1alpha1.RepairAction) string
}

// refusal is a rule that refuses.
type refusal struct {
	rule
	message string
}

// String is the message of the condition: it begins with the rule's number.
func (r *refusal) String() string { return fmt.Sprintf("rule %d: %s", r.number, r.message) }

// rules is a chain: the first that refuses speaks.
type rules []rule

func (all rules) ask(m *member, f *facts, a v1alpha1.RepairAction) *refusal {
	for _, r := range all {
		if message := r.check(m, f, a); message != "" {
			return &refusal{r, message}
		}
	}
	return nil
}

// law is all that must hold before an action is begun, and again before it is
// done. The order is that in which a person would want to know: what somebody
// decided, what is known of the member, what is known of all, what it would cost.
var law = rules{
	{13, "OptedOut", optedOut},
	{11, "Paused", paused},
	{10, "Leaving", leaving},
	{8, "Quarantined", quarantined},
	{1, "NotAMember", notAMember},
	{3, "Observing", observing},
	{4, "Storm", stormStop},
	{4, "CoolDown", coolDown},
	{5, "OwnNode", ownNode},
	{5, "APINotReady", apiNotReady},
	{5, "GatewayUnreachable", gatewayUnreachable},
	{5, "Minority", minority},
	{5, "NoPeer", noPeer},
	{5, "PeerReaches", peerReaches},
	{2, "OneAtATime", oneAtATime},
	{2, "RemovalRuns", removalRuns},
	{2, "InstallationRuns", installationRuns},
	{2, "Cordoned", cordoned},
	{6, "TooFewVoters", tooFewVoters},
	{6, "VotersUnknown", votersUnknown},
	{6, "Quorum", quorum},
	{7, "LastControlPlane", lastControlPlane},
	{7, "OperatorsNode", operatorsNode},
	{7, "StorageKept", storageIsKept},
	{7, "LocalVolume", localVolume},
	{7, "StorageUnknown", storageNotKnown},
	{1, "PXENotReady", pxeNotReady},
	{14, "ReinstallBudget", reinstallBudget},
	{8, "BackOff", backOff},
	{11, "OutsideWindow", outsideWindow},
	{13, "DryRun", dryRun},
}

func optedOut(m *member, _ *facts, _ v1alpha1.RepairAction) string {
	if m.mode == v1alpha1.HealingDisabled {
		return "healing is Disabled for this Node: change its spec.healing.mode, or repair the machine by hand"
	}
	return ""
}

func paused(m *member, f *facts, _ v1alpha1.RepairAction) string {
	if m.paused != "" {
		return m.paused
	}
	return f.paused
}

func leaving(m *member, _ *facts, _ v1alpha1.RepairAction) string {
	if m.leaving {
		return "the Node is being deleted: its machine is taken out of the cluster, and not repaired"
	}
	return ""
}

func quarantined(m *member, _ *facts, _ v1alpha1.RepairAction) string {
	if q := m.repair.Quarantined; q != nil {
		return fmt.Sprintf("given up at %s after all steps were tried: find out what is wrong with the machine, then set the annotation %s to a new value",
			clock(q.Time), v1alpha1.AnnotationRetry)
	}
	return ""
}

// notAMember: a machine that is no member, and is to be none as it stands, is no patient:
// it is installed as any declared machine.
func notAMember(m *member, _ *facts, _ v1alpha1.RepairAction) string {
	if m.core || m.remains {
		return ""
	}
	return "it is no member: it is installed like a new one; the condition Admitted says how far that is"
}

func observing(m *member, f *facts, _ v1alpha1.RepairAction) string {
	due := m.since.Add(f.settings.unhealthyAfter)
	if m.since.IsZero() {
		due = f.now.Add(f.settings.unhealthyAfter)
	}
	if !f.now.Before(due) {
		return ""
	}
	return fmt.Sprintf("it must be sick until %s without interruption before anything is done", clock(due))
}

func stormStop(_ *member, f *facts, _ v1alpha1.RepairAction) string {
	if !f.storms() {
		return ""
	}
	sick := f.sickMembers()
	return fmt.Sprintf("%d of %d members are sick at once (%s) and %d may be: the cause is likely none of them; look at the network, the power and the API server, or repair some by hand",
		len(sick), len(f.members), few(sick), f.tolerated())
}

func coolDown(_ *member, f *facts, _ v1alpha1.RepairAction) string {
	due := f.stormEnded.Add(f.settings.coolDown)
	if f.stormEnded.IsZero() || !f.now.Before(due) {
		return ""
	}
	return fmt.Sprintf("too many members were sick at once until %s: it is waited until %s whether that comes back", clock(f.stormEnded), clock(due))
}

func ownNode(_ *member, f *facts, _ v1alpha1.RepairAction) string {
	switch {
	case f.self.node == "":
		return "the operator does not know which member it runs on: set --node-name, or the environment variable NODE_NAME"
	case !f.self.ready:
		return fmt.Sprintf("the operator's own member %s is not Ready: what it sees of others proves nothing", f.self.node)
	}
	return ""
}

func apiNotReady(_ *member, f *facts, _ v1alpha1.RepairAction) string {
	if f.self.api == "" {
		return ""
	}
	return "the API server is not ready, so that what it says of members may be old: " + f.self.api
}

func gatewayUnreachable(_ *member, f *facts, _ v1alpha1.RepairAction) string {
	if f.self.gateway == "" {
		return ""
	}
	return fmt.Sprintf("the gateway is not reached from %s, which may itself be what is cut off: %s", f.self.node, f.self.gateway)
}

func minority(_ *member, f *facts, _ v1alpha1.RepairAction) string {
	ready := 0
	for _, s := range f.servers {
		if s.ready {
			ready++
		}
	}
	if ready*2 > len(f.servers) {
		return ""
	}
	return fmt.Sprintf("%d of %d servers are Ready, which is no majority", ready, len(f.servers))
}

// noPeer: silence alone does not tell a dead member from one that is cut off from
// the API server. A member that says itself that it is not Ready needs no witness.
func noPeer(m *member, f *facts, _ v1alpha1.RepairAction) string {
	if m.speaks || len(f.fresh(m)) > 0 {
		return ""
	}
	return "no PXE pod on another member has tried to reach it lately: is one running there (kubectl describe clusters.rhizome.dev)?"
}

// peerReaches: whoever answers a peer may be at work, and the operator blind. But that a
// core Node is gone is no matter of sight: a kubelet that runs without one does no work of
// the cluster's, and registers again when its machine is turned off and on. To wake a
// machine that runs changes nothing, and to install one anew destroys what it has.
func peerReaches(m *member, f *facts, a v1alpha1.RepairAction) string {
	gone := m.sick == v1alpha1.ReasonSickMissing
	if m.speaks || gone && a == v1alpha1.RepairPowerCycle {
		return ""
	}
	for _, r := range f.fresh(m) {
		if r.Answer != v1alpha1.AnswerKubelet {
			continue
		}
		if gone {
			return fmt.Sprintf("its kubelet answers the PXE pod on %s, though its core Node is gone: restart k3s on it ('systemctl restart k3s' or 'k3s-agent'), which registers it again", r.From)
		}
		return fmt.Sprintf("its kubelet answers the PXE pod on %s, and not the API server: it may be at work; look at the network between them, at its clock, and at 'journalctl -u k3s -u k3s-agent' on it", r.From)
	}
	return ""
}

// fresh are the reports of peers on a member that count: made while it is sick, and
// not too long ago. One that was left of an earlier failure says nothing of this one.
func (f *facts) fresh(m *member) []v1alpha1.Reach {
	var all []v1alpha1.Reach
	for _, r := range m.reach {
		age := f.now.Sub(r.At.Time)
		if r.From != m.name && r.Answer != "" && age <= f.settings.reachLife && age >= -clockTolerance &&
			!r.At.Time.Before(m.since.Truncate(time.Second)) {
			all = append(all, r)
		}
	}
	return all
}

func oneAtATime(m *member, f *facts, _ v1alpha1.RepairAction) string {
	if busy := f.others(m, (*member).busy); len(busy) > 0 {
		return fmt.Sprintf("%s is being repaired: one member at a time", few(busy))
	}
	return ""
}

// removalRuns: a member's own removal does not keep it from being given up, which is
// what ends one that has come to a standstill.
func removalRuns(m *member, f *facts, a v1alpha1.RepairAction) string {
	if m.removing && a != v1alpha1.RepairQuarantine {
		return "it is being taken out of the cluster or installed anew: the condition Removal says how far that is"
	}
	if busy := f.others(m, func(o *member) bool { return o.removing }); len(busy) > 0 {
		return fmt.Sprintf("%s is being taken out of the cluster: nothing is repaired until that is over", few(busy))
	}
	return ""
}

func installationRuns(m *member, f *facts, _ v1alpha1.RepairAction) string {
	if m.installing {
		return "it is being installed: the condition Ready says how far that is"
	}
	if busy := f.others(m, func(o *member) bool { return o.installing }); len(busy) > 0 {
		return fmt.Sprintf("%s is being installed: nothing is repaired until that is over", few(busy))
	}
	return ""
}

// cordoned: whoever cordons a member works on it: a person, or what upgrades it.
func cordoned(m *member, f *facts, _ v1alpha1.RepairAction) string {
	if m.cordoned {
		return "somebody else cordoned it, and may be at work on it: 'kubectl uncordon' it when that is over"
	}
	if busy := f.others(m, func(o *member) bool { return o.cordoned && o.controlPlane }); m.controlPlane && len(busy) > 0 {
		return fmt.Sprintf("the server %s is cordoned, and may be being upgraded: 'kubectl uncordon' it when that is over", few(busy))
	}
	return ""
}

// tooFewVoters: of two servers none can be spared, and a lone one cannot heal
// itself.
func tooFewVoters(m *member, f *facts, _ v1alpha1.RepairAction) string {
	if !m.controlPlane || len(f.servers) > 2 {
		return ""
	}
	return fmt.Sprintf("it is one of %d servers, and at two or fewer nothing is done to one without a person: repair it by hand, and declare three", len(f.servers))
}

func votersUnknown(m *member, f *facts, _ v1alpha1.RepairAction) string {
	if !m.controlPlane {
		return ""
	}
	for _, s := range f.otherServers(m) {
		switch s.vote {
		case unknown:
			return fmt.Sprintf("it is not known whether the server %s votes in etcd: its core Node has no fresh condition EtcdIsVoter", s.name)
		case learns:
			return fmt.Sprintf("the server %s does not vote in etcd yet: wait until it does", s.name)
		}
	}
	return ""
}

// quorum: let n be all voters, the sick one among them, and h the others that
// answer. The sick one counts as lost, whatever it still does, and so does every server
// whose core Node is gone, though etcd may count it no more: that makes n too large at
// worst. etcd goes on, and
// may change its members, with n/2+1; and h >= n/2+1 leaves more than the quorum of
// the n-1 that stay.
func quorum(m *member, f *facts, _ v1alpha1.RepairAction) string {
	if !m.controlPlane {
		return ""
	}
	healthy := 0
	for _, s := range f.otherServers(m) {
		if s.vote == votes {
			healthy++
		}
	}
	if need := len(f.servers)/2 + 1; healthy < need {
		return fmt.Sprintf("without it %d voters of etcd answer, and %d of %d are needed: bring another one back first", healthy, need, len(f.servers))
	}
	return ""
}

// lastControlPlane counts those that are declared: an undeclared server is nobody's
// promise.
func lastControlPlane(m *member, f *facts, _ v1alpha1.RepairAction) string {
	if !m.controlPlane || slices.ContainsFunc(f.otherServers(m), func(s server) bool { return s.ready && s.declared }) {
		return ""
	}
	return "it is the last declared control-plane member: declare the others, or let another one join first"
}

func operatorsNode(m *member, f *facts, _ v1alpha1.RepairAction) string {
	if f.self.node != m.name {
		return ""
	}
	return "the operator runs on it, and does nothing to the member under its own feet: delete the operator's pod, so that it starts elsewhere"
}

func storageIsKept(m *member, _ *facts, a v1alpha1.RepairAction) string {
	if a != v1alpha1.RepairReinstall || m.storage.verdict != storageKept {
		return ""
	}
	return "spec.healing.storage of the Node is Keep: repair the machine by hand, or reinstall it with the annotation " + v1alpha1.AnnotationReinstall
}

func localVolume(m *member, _ *facts, a v1alpha1.RepairAction) string {
	if a != v1alpha1.RepairReinstall || m.storage.verdict != storageHolds {
		return ""
	}
	return fmt.Sprintf("its disk has the only copy of %s: save that and delete the volumes, or set spec.healing.storage of the Node to Disposable", m.storage.what)
}

func storageNotKnown(m *member, _ *facts, a v1alpha1.RepairAction) string {
	if a != v1alpha1.RepairReinstall || m.storage.verdict != storageUnknown {
		return ""
	}
	return fmt.Sprintf("it is not known whether its disk has the only copy of something (%s): set spec.healing.storage of the Node to Disposable if it has not", m.storage.what)
}

// pxeNotReady: a machine is installed under a claim, and claims are served by PXE
// pods, as are magic packets; not by one on the machine itself.
func pxeNotReady(m *member, f *facts, a v1alpha1.RepairAction) string {
	if a != v1alpha1.RepairReinstall && a != v1alpha1.RepairWake || slices.ContainsFunc(f.pxe, func(on string) bool { return on != m.name }) {
		return ""
	}
	return "no PXE pod on another member is ready to serve it: the condition PXEReady of the Cluster says why"
}

func reinstallBudget(m *member, f *facts, a v1alpha1.RepairAction) string {
	if a != v1alpha1.RepairReinstall || f.reinstalls(m) < f.settings.reinstallsPerDay {
		return ""
	}
	return fmt.Sprintf("%d members were reinstalled within 24 hours, and spec.healing.maxReinstallsPerDay of the Cluster permits %d", f.reinstalls(m), f.settings.reinstallsPerDay)
}

// backOff: between two actions there is a pause that doubles with each of a day: a
// minute after the first, half an hour at most.
func backOff(m *member, f *facts, _ v1alpha1.RepairAction) string {
	due := f.restsUntil(m)
	if !f.now.Before(due) {
		return ""
	}
	return fmt.Sprintf("the last step ended at %s, and the next one waits until %s", clock(m.repairs[len(m.repairs)-1].Ended.Time), clock(due))
}

const mostBackOff = 30 * time.Minute

// restsUntil is when the next action is due; zero: at once.
func (f *facts) restsUntil(m *member) time.Time {
	all := m.counted(f.now)
	if len(all) == 0 {
		return time.Time{}
	}
	return all[len(all)-1].Ended.Add(min(f.settings.backOff<<min(len(all)-1, 10), mostBackOff))
}

func outsideWindow(_ *member, f *facts, _ v1alpha1.RepairAction) string {
	open, err := within(f.settings.windows, f.now)
	switch {
	case err != nil:
		return "it cannot be told when repairs are permitted: " + err.Error()
	case !open:
		return "it is outside of the Cluster's spec.healing.maintenanceWindows"
	}
	return ""
}

// dryRun is the last: what all other rules permit is what would be done.
func dryRun(m *member, f *facts, a v1alpha1.RepairAction) string {
	if m.mode == v1alpha1.HealingEnabled || m.mode == v1alpha1.HealingDisabled {
		return ""
	}
	return fmt.Sprintf("healing only says what it would do: %s; set spec.healing.mode of the Cluster to Enabled to have it done", words(a, m, f))
}

// words say what an action is.
func words(a v1alpha1.RepairAction, m *member, f *facts) string {
	switch a {
	case v1alpha1.RepairReboot:
		return "restart the machine through its kubelet"
	case v1alpha1.RepairPowerCycle:
		return "turn the machine off and on"
	case v1alpha1.RepairWake:
		return "send magic packets, which wake a machine that is off and do nothing to one that hangs"
	case v1alpha1.RepairReinstall:
		return "take the member out of the cluster and install its machine anew, which wipes " + diskOf(m)
	}
	return "give up until a person looks"
}

func diskOf(m *member) string {
	if m.disk == "" {
		return "its only disk"
	}
	return "the disk " + m.disk
}

func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// few are the first of some names, and how many more there are.
func few(all []string) string {
	if len(all) > 5 {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:5], ", "), len(all)-5)
	}
	return strings.Join(all, ", ")
}

// clip bounds what others wrote.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
