package node

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/provision"
)

// machine is a declared Node with everything that the world says of it.
type machine struct {
	node *v1alpha1.Node
	// core is the core Node of its name, nil if there is none; others are those of
	// other names that have its address.
	core   *member
	others []member
	// claim is its current or last one, nil if there is none.
	claim *provision.Claim
	// unreadable says that its claim cannot be read; empty: it can.
	unreadable string
}

// isMember says whether the core Node of its name is this machine: a name alone
// is only what a machine says of itself.
func (m *machine) isMember() bool {
	return m.core != nil && slices.Contains(m.core.addresses, string(m.node.Spec.Address))
}

func (m *machine) isControlPlane() bool { return m.node.Spec.Role == v1alpha1.ControlPlane }

func (m *machine) isLeaving() bool { return !m.node.DeletionTimestamp.IsZero() }

// isKept says that the resource is to go and the machine to stay.
func (m *machine) isKept() bool {
	return m.node.Annotations[v1alpha1.AnnotationRemoval] == v1alpha1.RemovalKeep
}

// removalRuns says whether the machine is being taken out of the cluster, by what
// was written down before anything was done.
func (m *machine) removalRuns() bool {
	return m.core != nil && meta.IsStatusConditionTrue(m.node.Status.Conditions, v1alpha1.ConditionRemoval)
}

// standsStill says whether the machine's removal waits for a person: healing gave it
// up in the midst of its reinstallation. Others need not wait for that.
func (m *machine) standsStill() bool {
	r := m.node.Status.Repair
	return r != nil && r.Quarantined != nil && !m.isLeaving()
}

// wasReady says whether this very core Node was Ready before: one that was
// deleted and came back joins anew.
func (m *machine) wasReady() bool {
	s := m.node.Status
	return m.core != nil && s.NodeRef != nil && s.NodeRef.UID == m.core.uid &&
		(s.Phase == v1alpha1.PhaseReady || s.Phase == v1alpha1.PhaseNotReady)
}

// sightings are when the machine was last seen, by what the PXE pods wrote down.
func (m *machine) sightings() provision.Sightings {
	s := provision.Sightings{Joined: m.isMember()}
	if m.node.Status.Boot == nil {
		return s
	}
	for _, stage := range m.node.Status.Boot.Stages {
		switch at := stage.At.Time; stage.Stage {
		case "DHCP", "Loader", "Config", "Kernel", "Initrd":
			if at.After(s.Firmware) {
				s.Firmware = at
			}
		case "InitConfig", "Installing", "Installed", "Failed", "Media", "Credentials":
			if at.After(s.Activity) {
				s.Activity = at
			}
		}
	}
	return s
}

// fleet is what the rules between machines look at. It is read only.
type fleet struct {
	now time.Time
	// cluster is the one in force, nil if none is declared.
	cluster *v1alpha1.Cluster
	// machines are all declared ones, by name.
	machines []*machine
	// servers are the core Nodes of the control plane, declared or not, by name.
	servers []member
	systems []v1alpha1.OperatingSystem
	// findings are what breaks a rule between the declared objects.
	findings []inventory.Finding
	// repairing names the member that is being repaired; empty: none.
	repairing string
	// noCredentials says why none could be made; empty: they can.
	noCredentials string
	// image is that of the operator, for the pods that work on a machine. Empty: it is
	// not known.
	image string
	// settle is how long a deletion is held to see whether others come with it.
	settle time.Duration
	// etcdSettle is how long a core Node stays after its member has left etcd.
	etcdSettle time.Duration
}

// policy is how patient the operator is with a machine.
func (f *fleet) policy() provision.Policy {
	p := provision.Policy{MaxAttempts: 3, Join: defaultJoinTimeout}
	if f.cluster == nil {
		return p
	}
	if n := f.cluster.Spec.PXE.MaxAttempts; n > 0 {
		p.MaxAttempts = int(n)
	}
	if d := f.cluster.Spec.Growth.JoinTimeout; d != nil && d.Duration > 0 {
		p.Join = d.Duration
	}
	return p
}

// The schema's defaults, for a Cluster that was made before the fields existed.
const (
	defaultJoinTimeout   = 30 * time.Minute
	defaultDrainTimeout  = 10 * time.Minute
	defaultMaxConcurrent = 5
)

func (f *fleet) drainTimeout() time.Duration {
	if f.cluster != nil && f.cluster.Spec.Growth.DrainTimeout != nil {
		return f.cluster.Spec.Growth.DrainTimeout.Duration
	}
	return defaultDrainTimeout
}

func (f *fleet) maxConcurrent() int {
	if f.cluster != nil && f.cluster.Spec.Growth.MaxConcurrent > 0 {
		return int(f.cluster.Spec.Growth.MaxConcurrent)
	}
	return defaultMaxConcurrent
}

// inventory is what is declared, with the one Cluster that is in force.
func (f *fleet) inventory() inventory.Inventory {
	inv := inventory.Inventory{OperatingSystems: f.systems}
	if f.cluster != nil {
		inv.Clusters = []v1alpha1.Cluster{*f.cluster}
	}
	for _, m := range f.machines {
		inv.Nodes = append(inv.Nodes, *m.node)
	}
	return inv
}

// underway says whether a machine is being installed: its claim may still lead to
// a member, or did to one that was not Ready yet. In doubt it is.
func (f *fleet) underway(m *machine) bool {
	switch {
	case m.unreadable != "":
		return true
	case m.isMember() && !m.removalRuns():
		if m.core.isReady() || m.wasReady() {
			return false
		}
		began := m.core.created
		if m.claim != nil && m.claim.ExchangedAt.After(began) {
			began = m.claim.ExchangedAt
		}
		return f.now.Before(began.Add(f.policy().Join))
	case m.claim == nil:
		return false
	}
	seen := m.sightings()
	seen.Joined = false
	return provision.NextClaim(f.policy(), m.claim, seen, f.now).Verdict == provision.Wait
}

// others are the machines that are not this one.
func (f *fleet) others(m *machine, which func(*machine) bool) []*machine {
	var out []*machine
	for _, o := range f.machines {
		if o.node.Name != m.node.Name && which(o) {
			out = append(out, o)
		}
	}
	return out
}

// otherServers are the servers that stay when the machine goes.
func (f *fleet) otherServers(m *machine) []member {
	return slices.DeleteFunc(slices.Clone(f.servers), func(s member) bool { return s.name == m.node.Name })
}

// serverFor is the address of a server by which a machine may join: a Ready one,
// if possible one that votes, never the machine's own, nor the virtual IP, which may be
// on the machine itself.
func (f *fleet) serverFor(m *machine) (netip.Addr, bool) {
	var found netip.Addr
	for _, s := range f.otherServers(m) {
		if !s.isReady() || s.toldToLeave() || s.vote(f.now) == learns {
			continue
		}
		for _, a := range s.addresses {
			ip, err := netip.ParseAddr(a)
			if err != nil || !ip.Is4() || a == string(m.node.Spec.Address) || f.isVirtual(a) {
				continue
			}
			if s.vote(f.now) == votes {
				return ip, true
			}
			if !found.IsValid() {
				found = ip
			}
		}
	}
	return found, found.IsValid()
}

func (f *fleet) isVirtual(address string) bool {
	return f.cluster != nil && f.cluster.Spec.ControlPlane.VirtualIP != nil && string(*f.cluster.Spec.ControlPlane.VirtualIP) == address
}

// paused says who holds the machine, and with what reason; empty: nobody.
func (f *fleet) paused(m *machine) string {
	if why, ok := m.node.Annotations[v1alpha1.AnnotationPaused]; ok {
		return pausedBy("this Node", why)
	}
	if f.cluster != nil {
		if why, ok := f.cluster.Annotations[v1alpha1.AnnotationPaused]; ok {
			return pausedBy("the Cluster", why)
		}
	}
	return ""
}

func pausedBy(what, why string) string {
	text := "the annotation " + v1alpha1.AnnotationPaused + " is on " + what
	if why != "" {
		text += " (" + clip(why, 200) + ")"
	}
	return text + ": remove it to go on"
}

// operatingSystem is the name of the one that the machine is to have.
func (f *fleet) operatingSystem(m *machine) string {
	if m.node.Spec.OperatingSystem != "" {
		return m.node.Spec.OperatingSystem
	}
	if f.cluster != nil {
		return f.cluster.Spec.OperatingSystem
	}
	return ""
}

// inForce is the Cluster that acts: the oldest, and of equally old ones the first
// by name, so that a second one changes nothing by being declared.
func inForce(clusters []v1alpha1.Cluster) *v1alpha1.Cluster {
	var oldest *v1alpha1.Cluster
	for i := range clusters {
		c := &clusters[i]
		if oldest == nil || c.CreationTimestamp.Before(&oldest.CreationTimestamp) ||
			(c.CreationTimestamp.Equal(&oldest.CreationTimestamp) && c.Name < oldest.Name) {
			oldest = c
		}
	}
	return oldest
}

func nameList(machines []*machine) string {
	var out []string
	for _, m := range machines {
		out = append(out, m.node.Name)
	}
	slices.Sort(out)
	if len(out) > 5 {
		out = append(out[:5], "...")
	}
	return strings.Join(out, ", ")
}

// clip bounds what others wrote.
func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

func condition(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: clip(message, 4096)}
}

func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }
