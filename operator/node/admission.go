package node

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/provision"
)

// policy is one rule that may hold a machine. A violated one says by which
// reason, and in words what would lift it. Policies are pure.
type policy func(*machine, *fleet) (reason, message string, violated bool)

// chain asks policies in their order: the first that is violated holds.
type chain []policy

func (c chain) evaluate(m *machine, f *fleet) (reason, message string, violated bool) {
	for _, p := range c {
		if reason, message, violated = p(m, f); violated {
			return reason, message, true
		}
	}
	return "", "", false
}

// own are the rules that concern the machine alone. One that they hold does not
// make others wait.
var own = chain{invalid, pausedPolicy, memberExists, memberRemains, quarantined, attemptsExhausted, backOff}

// shared are the rules between machines.
var shared = chain{removalRuns, repairRuns, controlPlaneOrder, concurrencyCap, pxeNotReady, noCredentials}

// admission is all that must hold before a claim is opened. Each rule denies when
// what it needs to know is missing.
var admission = slices.Concat(own, shared)

// invalid: the Node breaks no rule between the declared objects, nor do the
// Cluster and the OperatingSystem that it is installed by.
func invalid(m *machine, f *fleet) (string, string, bool) {
	if m.unreadable != "" {
		return v1alpha1.ReasonInvalid, m.unreadable, true
	}
	if f.cluster == nil {
		return v1alpha1.ReasonInvalid, "no Cluster is declared: declare one", true
	}
	for _, finding := range f.findings {
		if finding.Severity == inventory.Error && touches(finding, m, f) {
			return v1alpha1.ReasonInvalid, finding.Rule + ": " + finding.Text(), true
		}
	}
	return "", "", false
}

// touches says whether a finding is about the machine, or about what it is
// installed by. Of two that are at odds the finding names one and mentions the
// other: both are held.
func touches(finding inventory.Finding, m *machine, f *fleet) bool {
	switch finding.Object {
	case "", "Cluster/" + f.cluster.Name, "OperatingSystem/" + f.operatingSystem(m), "Node/" + m.node.Name:
		return true
	}
	mention := regexp.MustCompile(`\bNode/` + regexp.QuoteMeta(m.node.Name) + `($|[^-.a-z0-9])`)
	return mention.MatchString(finding.Message)
}

func pausedPolicy(m *machine, f *fleet) (string, string, bool) {
	why := f.paused(m)
	return v1alpha1.ReasonPaused, why, why != ""
}

// memberExists: whoever is a member is not installed.
func memberExists(m *machine, _ *fleet) (string, string, bool) {
	switch {
	case m.isMember():
		return v1alpha1.ReasonMemberExists, fmt.Sprintf("the core Node %q is this machine: it is a member already", m.core.name), true
	case m.core != nil:
		return v1alpha1.ReasonMemberExists, fmt.Sprintf("there is a core Node %q already that is not this machine: delete it if it is gone for good, or declare the machine by another name", m.core.name), true
	case len(m.others) > 0:
		return v1alpha1.ReasonMemberExists, fmt.Sprintf("the address %s is that of the core Node %q: delete it if it is gone for good, or correct spec.address", m.node.Spec.Address, m.others[0].name), true
	}
	return "", "", false
}

// memberRemains: a machine whose core Node went without the operator taking it out of
// the cluster may run on, with all that it holds, and deleting a core Node says nothing
// of its disk. A server may still be counted by etcd besides, and an orphan of the same
// name blocks the rejoin.
func memberRemains(m *machine, _ *fleet) (string, string, bool) {
	if !remains(m) {
		return "", "", false
	}
	message := "its core Node went without its being taken out of the cluster: healing sees to that where its rules permit (the condition Repair says more); by hand, "
	if m.isControlPlane() {
		message = "the machine was a server of the cluster and " + message + fmt.Sprintf("see on another server with 'etcdctl member list' that no member %s-... is left, then", m.node.Name)
	} else {
		message = "the machine was a member and " + message + "restart k3s on it ('systemctl restart k3s-agent'), which registers it again; or, to have its disk written anew,"
	}
	return v1alpha1.ReasonMemberRemains, fmt.Sprintf("%s set the annotation %s to a new value", message, v1alpha1.AnnotationRetry), true
}

// remains says whether the machine was a member and may run on, though its core Node is
// gone, and neither a person nor healing said that it is to be installed anew. Of a
// server healing alone does not suffice: etcd has to be rid of it first.
func remains(m *machine) bool {
	return m.core == nil && m.node.Status.NodeRef != nil && !wantsRetry(m.node) && (m.isControlPlane() || !repairUnheard(m) || m.node.Status.Repair.Quarantined != nil)
}

// remainsInEtcd says whether etcd may still count the machine, though its core Node is
// gone.
func remainsInEtcd(m *machine) bool { return m.isControlPlane() && remains(m) }

// attemptsExhausted: after so many failed installations a person looks.
func attemptsExhausted(m *machine, f *fleet) (string, string, bool) {
	next := nextAttempt(m, f)
	if next.Verdict != provision.GiveUp {
		return "", "", false
	}
	return v1alpha1.ReasonAttemptsExhausted, fmt.Sprintf("%s: find out why, then set the annotation %s to a new value", next.Reason, v1alpha1.AnnotationRetry), true
}

// backOff: between attempts there is a pause that doubles each time.
func backOff(m *machine, f *fleet) (string, string, bool) {
	next := nextAttempt(m, f)
	due := backOffUntil(m, next)
	if !f.now.Before(due) {
		return "", "", false
	}
	return v1alpha1.ReasonBackOff, fmt.Sprintf("%s; the next attempt is at %s", next.Reason, clock(due)), true
}

// The pauses between attempts: a minute after the first failure, twice as long
// after each further one, a quarter of an hour at most. A machine that never
// booted lets others have its place for a while.
const (
	firstBackOff  = time.Minute
	mostBackOff   = 15 * time.Minute
	unusedBackOff = 5 * time.Minute
)

// backOffUntil is when the next attempt is due; zero: at once.
func backOffUntil(m *machine, next provision.Next) time.Time {
	if m.claim == nil || next.Ended.IsZero() || wantsRetry(m.node) {
		return time.Time{}
	}
	if m.claim.ConsumedAt.IsZero() {
		return next.Ended.Add(unusedBackOff)
	}
	pause := mostBackOff
	if n := m.claim.Attempt; n < 5 { // 1, 2, 4, 8, 15 minutes
		pause = firstBackOff << max(n-1, 0)
	}
	return next.Ended.Add(pause)
}

// nextAttempt is what is to be done about the claim of a machine that is not a
// member. A person's retry makes the count begin anew, and a record of a claim
// that was lost does not.
func nextAttempt(m *machine, f *fleet) provision.Next {
	p := f.policy()
	if m.claim != nil {
		seen := m.sightings()
		seen.Joined = false
		next := provision.NextClaim(p, m.claim, seen, f.now)
		if next.Verdict != provision.Wait && wantsRetry(m.node) {
			return provision.Next{Verdict: provision.Open, Attempt: 1, Ended: next.Ended, Reason: "a person asked for another attempt"}
		}
		return next
	}
	used := int(m.node.Status.Attempts)
	switch {
	case used == 0 || wantsRetry(m.node):
		return provision.Next{Verdict: provision.Open, Attempt: 1, Reason: "the machine was never installed"}
	case used >= p.MaxAttempts:
		return provision.Next{Verdict: provision.GiveUp, Attempt: used, Reason: fmt.Sprintf("%d of %d attempts were made", used, p.MaxAttempts)}
	}
	return provision.Next{Verdict: provision.Open, Attempt: used + 1, Reason: "the last attempt left no record"}
}

// wantsRetry says whether a person asked to begin anew and was not heard yet.
func wantsRetry(n *v1alpha1.Node) bool {
	value := n.Annotations[v1alpha1.AnnotationRetry]
	return value != "" && value != n.Status.Honoured[honouredRetry]
}

// The keys of status.honoured.
const (
	honouredRetry     = "retry"
	honouredReinstall = "reinstall"
)

// removalRuns: nothing new is installed while a machine is taken out.
func removalRuns(m *machine, f *fleet) (string, string, bool) {
	if busy := f.others(m, func(o *machine) bool { return o.removalRuns() && !o.standsStill() }); len(busy) > 0 {
		return v1alpha1.ReasonRemovalRuns, fmt.Sprintf("%s is being taken out of the cluster: nothing is installed until that is over", nameList(busy)), true
	}
	return "", "", false
}

func repairRuns(m *machine, f *fleet) (string, string, bool) {
	if f.repairing != "" && f.repairing != m.node.Name {
		return v1alpha1.ReasonRepairRuns, fmt.Sprintf("%s is being repaired: nothing is installed until that is over", f.repairing), true
	}
	return "", "", false
}

// controlPlaneOrder: servers are installed strictly one after another, in the
// order of their names, each once all servers that there are vote in etcd: etcd
// takes one learner at a time, and with a sick member a further one weakens the
// quorum. A worker may be installed beside, but only with a Ready server to join
// by.
func controlPlaneOrder(m *machine, f *fleet) (string, string, bool) {
	held := func(format string, args ...any) (string, string, bool) {
		return v1alpha1.ReasonControlPlaneOrder, fmt.Sprintf(format, args...), true
	}
	if _, ok := f.serverFor(m); !ok {
		return held("no server is Ready that the machine could join by: a control-plane node comes first")
	}
	if !m.isControlPlane() {
		return "", "", false
	}
	if busy := f.others(m, func(o *machine) bool { return o.isControlPlane() && f.underway(o) }); len(busy) > 0 {
		return held("%s is being installed, and control-plane nodes are installed one after another", nameList(busy))
	}
	for _, s := range f.otherServers(m) {
		switch s.vote(f.now) {
		case silent:
			return held("the server %s votes in etcd and does not answer: bring it back, or remove it, before another one joins", s.name)
		case learns:
			return held("the server %s does not vote in etcd yet", s.name)
		case unknown:
			return held("it is not known whether the server %s votes in etcd: its core Node has no fresh condition EtcdIsVoter", s.name)
		}
	}
	for _, o := range f.machines {
		if o.node.Name >= m.node.Name {
			break
		}
		if !o.isControlPlane() || o.isMember() || o.isLeaving() {
			continue
		}
		if _, _, violated := own.evaluate(o, f); !violated {
			return held("%s comes first: control-plane nodes are installed in the order of their names", o.node.Name)
		}
	}
	return "", "", false
}

// concurrencyCap: so many workers at once, counted by the claims and members that
// there are, so that it holds whoever opened them.
func concurrencyCap(m *machine, f *fleet) (string, string, bool) {
	if m.isControlPlane() {
		return "", "", false
	}
	most := f.maxConcurrent()
	busy := f.others(m, func(o *machine) bool { return !o.isControlPlane() && f.underway(o) })
	if len(busy) < most {
		return "", "", false
	}
	// Without a count or names, which change more often than the verdict.
	return v1alpha1.ReasonConcurrencyCap, fmt.Sprintf("as many workers are being installed as spec.growth.maxConcurrent of the Cluster permits (%d)", most), true
}

// pxeNotReady: a claim is for a machine that can be served. A pod on the machine
// itself does not count: it goes down with it.
func pxeNotReady(m *machine, f *fleet) (string, string, bool) {
	if f.cluster == nil {
		return v1alpha1.ReasonPXENotReady, "no Cluster is declared", true
	}
	what := "no PXE pod runs yet"
	for _, p := range f.cluster.Status.PXE {
		if p.Node == m.node.Name {
			continue
		}
		if p.Ready {
			return "", "", false
		}
		what = fmt.Sprintf("the PXE pod on %s is not ready", p.Node)
		if p.Message != "" {
			what += ": " + clip(p.Message, 300)
		}
	}
	return v1alpha1.ReasonPXENotReady, what, true
}

// noCredentials: a machine is not installed that could not join.
func noCredentials(_ *machine, f *fleet) (string, string, bool) {
	return v1alpha1.ReasonNoCredentials, f.noCredentials, f.noCredentials != ""
}
