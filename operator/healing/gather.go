package healing

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/power"
)

// What may be on a disk is looked up before a machine is installed anew.
//
// +kubebuilder:rbac:groups="",resources=persistentvolumes,verbs=list
// +kubebuilder:rbac:groups=storage.k8s.io,resources=csinodes,verbs=get
// +kubebuilder:rbac:groups="",resources=pods,verbs=list

// What k3s says of a server on its core Node, and how long that is fresh: it is
// refreshed every 5 minutes. (k3s, pkg/etcd)
const (
	labelControlPlane = "node-role.kubernetes.io/control-plane"
	conditionVoter    = corev1.NodeConditionType("EtcdIsVoter")
	voterLife         = 6 * time.Minute
)

// clockTolerance is how far the clocks of members may be apart. What is dated later
// was written by a clock that is wrong: it would count for as long as that is ahead.
const clockTolerance = time.Minute

// world is what was gathered: the facts, and the objects that they are about.
type world struct {
	*facts
	cluster *v1alpha1.Cluster // nil: none is declared
	nodes   map[string]*v1alpha1.Node
	cores   map[string]*corev1.Node
	all     []corev1.Node
}

// gather reads everything from one place: the cache, or the API server itself.
func (r *reconciler) gather(ctx context.Context, from client.Reader) (*world, error) {
	var clusters v1alpha1.ClusterList
	var nodes v1alpha1.NodeList
	var cores corev1.NodeList
	for _, list := range []client.ObjectList{&clusters, &nodes, &cores} {
		if err := from.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("cannot list %T: %w", list, err)
		}
	}
	w := &world{
		facts:   &facts{now: r.Now()},
		cluster: inForce(clusters.Items),
		nodes:   map[string]*v1alpha1.Node{}, cores: map[string]*corev1.Node{}, all: cores.Items,
	}
	for i := range cores.Items {
		w.cores[cores.Items[i].Name] = &cores.Items[i]
	}
	w.settings = r.settingsOf(w.cluster)
	if w.cluster == nil {
		return w, nil
	}
	w.paused = pausedBy("the Cluster", w.cluster.Annotations)
	for _, p := range w.cluster.Status.PXE {
		if p.Ready {
			w.pxe = append(w.pxe, p.Node)
		}
	}
	declared := map[string]bool{}
	for i := range nodes.Items {
		n := &nodes.Items[i]
		declared[n.Name] = n.Spec.Role == v1alpha1.ControlPlane
		if s := n.Status; s.NodeRef == nil && s.Installed == nil && (s.Repair == nil || s.Repair.Action == "") {
			continue // it never was a member
		}
		w.nodes[n.Name] = n
		w.members = append(w.members, r.memberOf(n, w.cores[n.Name], w))
	}
	slices.SortFunc(w.members, func(a, b *member) int { return cmp.Compare(a.name, b.name) })
	for _, core := range w.cores {
		if _, marked := core.Labels[labelControlPlane]; marked || declared[core.Name] {
			w.servers = append(w.servers, server{name: core.Name, ready: isReady(core), declared: declared[core.Name], vote: voteOf(core, w.now)})
		}
	}
	for _, m := range w.members {
		if m.remains && m.controlPlane {
			// Whether etcd counts it still is not known: then it is a voter that is lost.
			w.servers = append(w.servers, server{name: m.name, declared: true, vote: silent})
		}
	}
	slices.SortFunc(w.servers, func(a, b server) int { return strings.Compare(a.name, b.name) })
	w.stormEnded = stormEnd(w.cluster.Status.Healing, w.storms(), w.now)
	w.self = r.self(w)
	return w, nil
}

// settingsOf are the Cluster's; what it does not say has the schema's default.
func (r *reconciler) settingsOf(c *v1alpha1.Cluster) settings {
	h := v1alpha1.HealingSpec{Mode: v1alpha1.HealingDisabled}
	if c != nil {
		h = c.Spec.Healing
	}
	lasting := func(d *metav1.Duration, otherwise time.Duration) time.Duration {
		if d != nil && d.Duration > 0 {
			return d.Duration
		}
		return otherwise
	}
	times := func(n *int32, otherwise int) int {
		if n != nil {
			return int(*n)
		}
		return otherwise
	}
	stepOf := func(s v1alpha1.HealingStep, tries int, timeout time.Duration) step {
		return step{times(s.Tries, tries), lasting(s.Timeout, timeout)}
	}
	s := settings{
		mode: h.Mode, unhealthyAfter: lasting(h.UnhealthyAfter, 10*time.Minute), coolDown: lasting(h.CoolDown, 30*time.Minute),
		maxPercent: int(h.MaxUnhealthyPercent), windows: h.MaintenanceWindows, reinstallsPerDay: times(h.MaxReinstallsPerDay, 3),
		reboot: stepOf(h.Reboot, 1, 10*time.Minute), power: stepOf(h.Power, 2, 10*time.Minute), reinstall: stepOf(h.Reinstall, 1, time.Hour),
		settle: r.Settle, backOff: r.BackOff, reachLife: r.ReachLife,
	}
	if s.mode == "" {
		s.mode = v1alpha1.HealingDryRun
	}
	if s.maxPercent <= 0 {
		s.maxPercent = 30
	}
	return s
}

// modeOf is the lesser of the Cluster's mode and the Node's.
func modeOf(cluster v1alpha1.HealingMode, n *v1alpha1.Node) v1alpha1.HealingMode {
	own := cluster
	if h := n.Spec.Healing; h != nil && h.Mode != "" {
		own = h.Mode
	}
	for _, least := range []v1alpha1.HealingMode{v1alpha1.HealingDisabled, v1alpha1.HealingDryRun} {
		if cluster == least || own == least {
			return least
		}
	}
	return own
}

// memberOf is what is known of one declared machine.
func (r *reconciler) memberOf(n *v1alpha1.Node, core *corev1.Node, w *world) *member {
	s := n.Status
	m := &member{
		name: n.Name, controlPlane: n.Spec.Role == v1alpha1.ControlPlane, core: core != nil,
		leaving: !n.DeletionTimestamp.IsZero(),
		paused:  pausedBy("this Node", n.Annotations),
		mode:    modeOf(w.settings.mode, n),
		board:   power.MeansOf(n) != power.MeansWakeOnLAN,
		disk:    diskHint(n.Spec.Disk),
		storage: storage{what: "it was not looked up yet"},
		reach:   s.Reach, repairs: s.Repairs,
		retry: n.Annotations[v1alpha1.AnnotationRetry], poweredOff: n.Annotations[v1alpha1.AnnotationPoweredOff],
	}
	if s.Repair != nil {
		m.repair = *s.Repair
		m.untouched = r.untouched(n.Name, m.repair.Intended)
	}
	// One that was given up in the midst of it stands still until a person has looked.
	m.removing = core != nil && meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionRemoval) && (m.repair.Quarantined == nil || m.leaving)
	m.installing = installs(&s)
	m.failed = s.Phase == v1alpha1.PhaseFailed
	if acted := m.repair.Acted; acted != nil {
		fresh := s.Claim != nil && !s.Claim.Opened.Add(time.Second).Before(acted.Time)
		// One whose core Node was gone before is installed once its claim is consumed.
		m.began = core == nil && m.repair.Rule != v1alpha1.ReasonSickMissing || fresh && s.Claim.State != "Open" && s.Claim.State != "Expired"
	}
	m.installedAt = installerSeen(&s)
	m.remains = core == nil && s.NodeRef != nil
	if core != nil {
		m.cordoned = core.Spec.Unschedulable && core.Annotations[v1alpha1.AnnotationCordoned] == ""
		m.fenced = core.Annotations[v1alpha1.AnnotationFenced] != ""
	}
	if isStranger(n, core) {
		return m // somebody else has its name: the condition Joined says so
	}
	m.ready = isReady(core)
	m.sick, m.why, m.speaks = sickness(m, core)
	return m
}

// sickness is for which reason a member is sick, in words too, and whether its
// kubelet speaks to the API server. While it is being installed it is not.
func sickness(m *member, core *corev1.Node) (reason, why string, speaks bool) {
	if core == nil {
		reinstalled := m.repair.Action == v1alpha1.RepairReinstall && m.repair.Acted != nil
		if m.installing || m.failed || reinstalled {
			return "", "", false
		}
		return v1alpha1.ReasonSickMissing, "its core Node is gone", false
	}
	ready := conditionOf(core, corev1.NodeReady)
	switch {
	case m.installing && !m.busy():
		return "", "", ready.Status != corev1.ConditionUnknown
	case ready.Status == corev1.ConditionFalse:
		return v1alpha1.ReasonSickNotReady, "its kubelet says: " + clip(ready.Message, 500), true
	case ready.Status != corev1.ConditionTrue:
		return v1alpha1.ReasonSickSilent, "its kubelet says nothing", false
	}
	if v := conditionOf(core, conditionVoter); v.Status == corev1.ConditionFalse {
		return v1alpha1.ReasonSickVoteLost, "it does not vote in etcd: " + clip(v.Message, 500), true
	}
	return "", "", true
}

// installs says whether a machine is being installed: under a claim that may still
// lead to a member, or that just did.
func installs(s *v1alpha1.NodeStatus) bool {
	if s.Claim == nil {
		return false
	}
	switch s.Claim.State {
	case "Open", "Consumed", "Installed":
		return true
	case "Exchanged":
		return s.Phase == v1alpha1.PhaseJoining
	}
	return false
}

// installerSeen is when our installer took the machine under the claim that is
// under way; zero: it has not.
func installerSeen(s *v1alpha1.NodeStatus) time.Time {
	if s.Boot == nil || s.Claim == nil || s.Claim.State != "Consumed" && s.Claim.State != "Installed" {
		return time.Time{}
	}
	for _, stage := range s.Boot.Stages {
		if stage.Stage == "InitConfig" && !stage.At.Time.Before(s.Claim.Opened.Time) {
			return stage.At.Time
		}
	}
	return time.Time{}
}

// isStranger says whether the core Node of a machine's name is not that machine.
func isStranger(n *v1alpha1.Node, core *corev1.Node) bool {
	return core != nil && !slices.ContainsFunc(core.Status.Addresses, func(a corev1.NodeAddress) bool {
		return a.Type == corev1.NodeInternalIP && a.Address == string(n.Spec.Address)
	})
}

func conditionOf(n *corev1.Node, kind corev1.NodeConditionType) corev1.NodeCondition {
	for _, c := range n.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.NodeCondition{Status: corev1.ConditionUnknown}
}

func isReady(n *corev1.Node) bool {
	return n != nil && conditionOf(n, corev1.NodeReady).Status == corev1.ConditionTrue
}

// voteOf is what is known of a server's vote.
func voteOf(n *corev1.Node, now time.Time) vote {
	c := conditionOf(n, conditionVoter)
	age := now.Sub(c.LastHeartbeatTime.Time)
	fresh := age <= voterLife && age >= -clockTolerance
	switch {
	case c.Status == corev1.ConditionTrue && fresh && isReady(n):
		return votes
	case c.Status == corev1.ConditionTrue:
		return silent
	case c.Status == corev1.ConditionFalse && fresh:
		return learns
	}
	return unknown
}

// self is what the operator knows of itself, but for the gateway.
func (r *reconciler) self(w *world) self {
	s := self{node: r.Node, ready: isReady(w.cores[r.Node])}
	c := meta.FindStatusCondition(w.cluster.Status.Conditions, v1alpha1.ConditionAPIHealthy)
	switch {
	case c == nil:
		s.api = "the Cluster has no condition APIHealthy yet"
	case c.Status != metav1.ConditionTrue:
		s.api = clip(c.Message, 300)
	}
	return s
}

// gateway asks whether the router answers; empty: it does.
func (r *reconciler) gateway(ctx context.Context, c *v1alpha1.Cluster) string {
	address, err := netip.ParseAddr(string(c.Spec.Network.Gateway))
	if err == nil {
		err = r.Gateway(ctx, address)
	}
	if err != nil {
		return clip(err.Error(), 500)
	}
	return ""
}

// storage looks up what is on a member's disk.
func (r *reconciler) storage(ctx context.Context, n *v1alpha1.Node, w *world) storage {
	policy := v1alpha1.StorageAuto
	if h := n.Spec.Healing; h != nil && h.Storage != "" {
		policy = h.Storage
	}
	s := stored{nodes: w.all}
	if policy != v1alpha1.StorageAuto {
		return storageOf(policy, n.Name, s)
	}
	var volumes corev1.PersistentVolumeList
	var pods corev1.PodList
	var driver storagev1.CSINode
	if err := r.Live.List(ctx, &volumes); err != nil {
		s.missing = "cannot list volumes: " + clip(err.Error(), 300)
	}
	if err := r.Live.List(ctx, &pods, client.MatchingFields{"spec.nodeName": n.Name}); err != nil {
		s.missing = "cannot list its pods: " + clip(err.Error(), 300)
	}
	switch err := r.Live.Get(ctx, client.ObjectKey{Name: n.Name}, &driver); {
	case err == nil:
		s.driver = &driver
	case !apierrors.IsNotFound(err):
		s.missing = "cannot read its storage drivers: " + clip(err.Error(), 300)
	}
	s.volumes, s.pods = volumes.Items, pods.Items
	return storageOf(policy, n.Name, s)
}

// diskHint is how a Node says which disk is installed on.
func diskHint(d *v1alpha1.DiskHint) string {
	if d == nil {
		return ""
	}
	var all []string
	for _, hint := range []struct{ what, is string }{{"", d.Path}, {"serial ", d.Serial}, {"WWN ", d.WWN}} {
		if hint.is != "" {
			all = append(all, hint.what+hint.is)
		}
	}
	if d.MinSize != nil {
		all = append(all, "at least "+d.MinSize.String())
	}
	if d.MaxSize != nil {
		all = append(all, "at most "+d.MaxSize.String())
	}
	return clip(strings.Join(all, ", "), 400)
}

func pausedBy(what string, annotations map[string]string) string {
	why, ok := annotations[v1alpha1.AnnotationPaused]
	if !ok {
		return ""
	}
	text := "the annotation " + v1alpha1.AnnotationPaused + " is on " + what
	if why != "" {
		text += " (" + clip(why, 200) + ")"
	}
	return text + ": remove it to go on"
}

// inForce is the Cluster that acts: the oldest, and of equally old ones the first
// by name.
func inForce(all []v1alpha1.Cluster) *v1alpha1.Cluster {
	if len(all) == 0 {
		return nil
	}
	c := slices.MinFunc(all, func(a, b v1alpha1.Cluster) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	return &c
}
