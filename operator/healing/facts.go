package healing

import (
	"time"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// facts are everything that decisions rest on, as plain values. They are read
// only.
type facts struct {
	now      time.Time
	settings settings
	// members are the declared machines that are or were members, by name.
	members []*member
	// servers are the members of the control plane, declared or not, by name.
	servers []server
	self    self
	// paused says who holds all machines; empty: nobody.
	paused string
	// stormEnded is when the last storm was over; zero: there was none.
	stormEnded time.Time
	// pxe are the members that a ready PXE pod runs on.
	pxe []string
}

// settings are the Cluster's, with the defaults filled in.
type settings struct {
	mode              v1alpha1.HealingMode
	unhealthyAfter    time.Duration
	maxPercent        int
	coolDown          time.Duration
	reboot            step
	power             step
	reinstall         step
	reinstallsPerDay  int
	windows           []v1alpha1.MaintenanceWindow
	settle, reachLife time.Duration
	backOff           time.Duration // after the first step of a day
}

// step bounds one step of the escalation: how often within a day, and how long a
// member may take to be well after it.
type step struct {
	tries   int
	timeout time.Duration
}

// self is what the operator knows of itself.
type self struct {
	// node is the member that it runs on; empty: it is not known.
	node string
	// ready: that member is Ready.
	ready bool
	// api and gateway say what is wrong with the API server, and why the gateway is
	// not reached; empty: nothing is.
	api, gateway string
}

// server is a member of the control plane, also one that remains in etcd without a
// core Node.
type server struct {
	name            string
	ready, declared bool
	vote            vote
}

// vote is what is known of a server's vote in etcd.
type vote string

// The votes.
const (
	votes   vote = "Votes"   // it said so lately, and its kubelet is ready
	silent  vote = "Silent"  // it votes as far as anybody knows, and cannot be counted on
	learns  vote = "Learns"  // it said lately that it does not vote
	unknown vote = "Unknown" // nothing says whether it does
)

// member is one declared machine that is or was a member.
type member struct {
	name         string
	controlPlane bool
	// sick is the reason of the condition Healthy for which it is sick, and why says
	// so in words; empty: it is well, or it is being installed.
	sick, why string
	// since is from when on it was seen sick without interruption; zero: it is not.
	since time.Time
	// ready: it is a Ready member.
	ready bool
	// core: its core Node is there.
	core bool
	// remains: its core Node went without its being taken out of the cluster. Its
	// machine may run on, and of a server the member of etcd may be there still.
	remains bool
	// speaks: its kubelet talks to the API server.
	speaks bool
	// leaving: its Node is being deleted. removing and installing: it is taken out of
	// the cluster, or installed. began says that the installer has its machine, and
	// failed that all its installations failed.
	leaving, removing, installing, began, failed bool
	// installedAt is when the installer took its machine; zero: it did not.
	installedAt time.Time
	// cordoned by somebody who is not the operator.
	cordoned bool
	// paused says who holds the machine; empty: nobody.
	paused string
	// mode is the lesser of the Cluster's and its own.
	mode v1alpha1.HealingMode
	// board: its power can be turned off, with proof. Otherwise it can be woken.
	board bool
	// disk is what a reinstallation writes on, as the Node declares it; empty: the only
	// one that there is.
	disk    string
	storage storage
	reach   []v1alpha1.Reach
	repair  v1alpha1.RepairStatus
	repairs []v1alpha1.RepairRecord
	// retry and poweredOff are the values of a person's annotations; empty: none.
	retry, poweredOff string
	// untouched: this very operator wrote the intent down, and did nothing yet.
	untouched bool
	// fenced: the operator tainted it out of service.
	fenced bool
}

// storage is what a reinstallation would destroy.
type storage struct {
	verdict storageVerdict
	// what says more: the volumes, or why it is not known.
	what string
}

// storageVerdict says whether anything would be lost.
type storageVerdict string

// The verdicts. The zero value is that nothing is known.
const (
	storageUnknown storageVerdict = ""
	storageClear   storageVerdict = "Clear" // nothing that is not elsewhere too
	storageHolds   storageVerdict = "Holds" // the only copy of something
	storageKept    storageVerdict = "Kept"  // a person said that it is to be kept
)

// day is the time within which tries are counted.
const day = 24 * time.Hour

// used counts how often an action was taken within a day, since a person last
// cleared the member.
func (m *member) used(now time.Time, actions ...v1alpha1.RepairAction) int {
	n := 0
	for _, r := range m.counted(now) {
		for _, a := range actions {
			if r.Action == a {
				n++
			}
		}
	}
	return n
}

// counted are the actions of the last day that still count.
func (m *member) counted(now time.Time) []v1alpha1.RepairRecord {
	var all []v1alpha1.RepairRecord
	for _, r := range m.repairs {
		if now.Sub(r.At.Time) < day && (m.repair.Cleared == nil || r.At.After(m.repair.Cleared.Time)) {
			all = append(all, r)
		}
	}
	return all
}

// busy says whether an action was begun for the member and is not over.
func (m *member) busy() bool { return m.repair.Action != "" }

// unwell says whether the member counts as sick for the storm: while it is
// repaired it does until it is Ready.
func (m *member) unwell() bool { return m.sick != "" || m.busy() && !m.ready }

// sickMembers are the names of those that are unwell.
func (f *facts) sickMembers() []string {
	var all []string
	for _, m := range f.members {
		if m.unwell() {
			all = append(all, m.name)
		}
	}
	return all
}

// tolerated is how many members may be sick at once before it is a storm: one, or
// the share of the declared members, whichever is more.
func (f *facts) tolerated() int { return max(1, len(f.members)*f.settings.maxPercent/100) }

// storms says whether too many members are sick at once.
func (f *facts) storms() bool { return len(f.sickMembers()) > f.tolerated() }

// stormEnd is when the last storm was over; zero: there was none. One that was
// written down and is no more is over now: its cool-down begins before anything else
// is decided.
func stormEnd(h *v1alpha1.HealingStatus, storms bool, now time.Time) time.Time {
	switch {
	case h == nil:
		return time.Time{}
	case h.Storm != nil && !storms:
		return now
	case h.StormEnded != nil:
		return h.StormEnded.Time
	}
	return time.Time{}
}

// others are the members that are not this one and of which which says so.
func (f *facts) others(m *member, which func(*member) bool) []string {
	var all []string
	for _, o := range f.members {
		if o.name != m.name && which(o) {
			all = append(all, o.name)
		}
	}
	return all
}

// otherServers are the servers that are not this member.
func (f *facts) otherServers(m *member) []server {
	var all []server
	for _, s := range f.servers {
		if s.name != m.name {
			all = append(all, s)
		}
	}
	return all
}

// reinstalls counts the reinstallations of all members within a day, with those
// that were begun for other members than this one.
func (f *facts) reinstalls(except *member) int {
	n := 0
	for _, m := range f.members {
		if m.repair.Action == v1alpha1.RepairReinstall && m.name != except.name {
			n++
		}
		for _, r := range m.repairs {
			if r.Action == v1alpha1.RepairReinstall && f.now.Sub(r.At.Time) < day {
				n++
			}
		}
	}
	return n
}
