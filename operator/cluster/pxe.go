package cluster

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/names"
)

// maxReplicas of the PXE pods: a second one goes on where the first is killed;
// more would only fetch the same media again.
const maxReplicas = 2

// keepAfterNeed is how long PXE pods stay when no machine waits any more: the next
// one is often declared within minutes, and a reader of logs wants to see them.
const keepAfterNeed = 10 * time.Minute

// pxeFacts is everything that the decision about PXE pods rests on.
type pxeFacts struct {
	cluster *v1alpha1.Cluster
	nodes   []v1alpha1.Node
	cores   []corev1.Node
	// missing says what the operator lacks to run PXE pods, and what to do; empty:
	// nothing.
	missing string
	// running is how many replicas the Deployment asks for; nil: there is none.
	running *int32
	// idleSince is from when on no machine waited, as it was written down; zero: some
	// did, or nothing was written.
	idleSince time.Time
	now       time.Time
}

// pxePlan is what is to be so of the PXE pods.
type pxePlan struct {
	// leave: the Deployment is left as it is, if there is one.
	leave    bool
	replicas int32
	// idleSince is to be written down; zero: not at all.
	idleSince time.Time
	// again is when the decision may be another without any event; zero: never.
	again time.Duration
	// why is what the pods are wanted for; empty: for nothing.
	why string
	// waiting are the names of the Nodes whose machines may need a PXE pod.
	waiting []string
}

// plan decides how many PXE pods run. Without what they need, nothing is started
// and nothing is stopped.
func plan(f pxeFacts) pxePlan {
	p := pxePlan{waiting: waiting(f.cluster, f.nodes)}
	switch {
	case f.cluster.Spec.PXE.Pods == v1alpha1.PXEAlways:
		p.why = "spec.pxe.pods is Always"
	case len(p.waiting) > 0:
		p.why = "for " + few(p.waiting)
	}
	if f.missing != "" {
		p.leave = true
		return p
	}
	if p.why != "" {
		p.replicas = replicas(f.cluster, f.cores)
		return p
	}
	if f.running == nil || *f.running == 0 {
		p.leave = f.running == nil
		p.idleSince = f.idleSince
		return p
	}
	p.idleSince = f.idleSince
	if p.idleSince.IsZero() || p.idleSince.After(f.now) {
		p.idleSince = f.now.Truncate(time.Second)
	}
	if left := p.idleSince.Add(keepAfterNeed).Sub(f.now); left > 0 {
		p.replicas, p.again = min(*f.running, replicas(f.cluster, f.cores)), left
	}
	return p
}

// waiting are the Nodes that a PXE pod may have something to do for: those that
// are no Ready member, whatever the cause, and members that are to be installed
// anew. A Node that is being deleted needs none, nor one that waits for a person:
// whatever the person does makes it wait for something else. Before the first node
// has joined, which the seed installed, nothing grows.
func waiting(c *v1alpha1.Cluster, nodes []v1alpha1.Node) []string {
	if firstNodeJoined(nodes).Status != metav1.ConditionTrue {
		return nil
	}
	var all []string
	for i := range nodes {
		n := &nodes[i]
		if n.DeletionTimestamp != nil {
			continue
		}
		ready := meta.IsStatusConditionTrue(n.Status.Conditions, v1alpha1.ConditionReady)
		if !awaitsPerson(c, n) && (!ready || toReinstall(c, n)) {
			all = append(all, n.Name)
		}
	}
	slices.Sort(all)
	return all
}

// awaitsPerson says whether nothing is done about a machine until a person has
// looked: healing gave it up, or its installations failed, and nothing further was
// asked for yet. Only a member can be asked to be installed anew.
func awaitsPerson(c *v1alpha1.Cluster, n *v1alpha1.Node) bool {
	if r := n.Status.Repair; r != nil && r.Quarantined != nil {
		asked := n.Annotations[v1alpha1.AnnotationRetry]
		return asked == "" || asked == r.Honoured["retry"]
	}
	if n.Status.Phase != v1alpha1.PhaseFailed || n.Status.NodeRef != nil && toReinstall(c, n) {
		return false
	}
	retry := n.Annotations[v1alpha1.AnnotationRetry]
	return retry == "" || retry == n.Status.Honoured["retry"]
}

// toReinstall says whether a member is to be installed anew: by the annotation, or
// because another operating system is declared than it was installed with.
func toReinstall(c *v1alpha1.Cluster, n *v1alpha1.Node) bool {
	if asked := n.Annotations[v1alpha1.AnnotationReinstall]; asked != "" && asked != n.Status.Honoured["reinstall"] {
		return true
	}
	system := n.Spec.OperatingSystem
	if system == "" {
		system = c.Spec.OperatingSystem
	}
	return n.Status.Installed != nil && n.Status.Installed.OperatingSystem != system
}

// replicas is one pod for each member that it may run on, two at most. There is
// always one: that no member is fit may pass sooner than the pod is given up.
func replicas(c *v1alpha1.Cluster, cores []corev1.Node) int32 {
	fit := int32(0)
	for i := range cores {
		if mayRunPXE(c, &cores[i]) {
			fit++
		}
	}
	return min(max(fit, 1), maxReplicas)
}

// mayRunPXE says whether a PXE pod may be scheduled to a member: it is Ready and
// chosen, has an address that the machines reach, and no taint keeps the pod off.
func mayRunPXE(c *v1alpha1.Cluster, n *corev1.Node) bool {
	if n.DeletionTimestamp != nil || n.Spec.Unschedulable || !coreReady(n) ||
		!labels.SelectorFromSet(nodeSelector(c)).Matches(labels.Set(n.Labels)) {
		return false
	}
	for i := range n.Spec.Taints {
		taint := &n.Spec.Taints[i]
		if taint.Effect == corev1.TaintEffectPreferNoSchedule {
			continue
		}
		if !slices.ContainsFunc(tolerations, func(t corev1.Toleration) bool { return t.ToleratesTaint(taint) }) {
			return false
		}
	}
	cidr, err := netip.ParsePrefix(string(c.Spec.Network.CIDR))
	return err == nil && len(addressesOf(n, cidr)) > 0
}

func coreReady(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}

// serviceAddresses are those that the PXE service's certificate covers: the
// internal addresses of all members on the machines' network, sorted. Those of
// members that no pod runs on are among them, so that a pod that moves finds the
// certificate ready.
func serviceAddresses(c *v1alpha1.Cluster, cores []corev1.Node) []netip.Addr {
	cidr, err := netip.ParsePrefix(string(c.Spec.Network.CIDR))
	if err != nil {
		return nil
	}
	var all []netip.Addr
	for i := range cores {
		all = append(all, addressesOf(&cores[i], cidr)...)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all)
}

func addressesOf(n *corev1.Node, cidr netip.Prefix) []netip.Addr {
	var all []netip.Addr
	for _, a := range n.Status.Addresses {
		if a.Type != corev1.NodeInternalIP {
			continue
		}
		if ip, err := netip.ParseAddr(a.Address); err == nil && cidr.Contains(ip.Unmap()) {
			all = append(all, ip.Unmap())
		}
	}
	return all
}

// stale are the names of the members whose entry in status.pxe is of a pod that is
// gone: deleted, ended, or told to end longer ago than it was given. The kubelet of
// a dead machine never says that its pods ended.
func stale(entries []v1alpha1.PXEPod, pods []corev1.Pod, now time.Time) []string {
	var gone []string
	for _, e := range entries {
		if !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return p.Name == e.Pod && lives(&p, now) }) {
			gone = append(gone, e.Node)
		}
	}
	return gone
}

func lives(p *corev1.Pod, now time.Time) bool {
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return false
	}
	// The deletion's time has the grace period in it.
	return p.DeletionTimestamp == nil || now.Before(p.DeletionTimestamp.Time)
}

// readyPods counts the PXE pods that say of themselves that they are ready, and of
// which the cluster does not say otherwise.
func readyPods(entries []v1alpha1.PXEPod, pods []corev1.Pod, now time.Time) int32 {
	n := int32(0)
	for _, e := range entries {
		if e.Ready && slices.ContainsFunc(pods, func(p corev1.Pod) bool {
			return p.Name == e.Pod && p.DeletionTimestamp == nil && lives(&p, now) && !saidNotReady(&p)
		}) {
			n++
		}
	}
	return n
}

func saidNotReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status != corev1.ConditionTrue
	})
}

// pxeReady is the condition PXEReady.
func pxeReady(s pxeState, ready int32, entries []v1alpha1.PXEPod, pods []corev1.Pod) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionPXEReady, Status: metav1.ConditionFalse}
	p := s.plan
	switch {
	case s.missing != "":
		c.Reason, c.Message = v1alpha1.ReasonPXENotConfigured, s.missing
	case s.failure != "":
		c.Reason, c.Message = v1alpha1.ReasonPXEPodsStarting, s.failure
	case p.why == "":
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonPXENotNeeded
		c.Message = "no machine waits"
		if p.replicas > 0 {
			c.Message += fmt.Sprintf("; the PXE pods end at %s", p.idleSince.Add(keepAfterNeed).UTC().Format(time.RFC3339))
		}
	case ready >= p.replicas:
		c.Status, c.Reason = metav1.ConditionTrue, v1alpha1.ReasonPXEPodsReady
		c.Message = fmt.Sprintf("%d of %d PXE pods are ready (%s)", ready, p.replicas, p.why)
	default:
		c.Reason = v1alpha1.ReasonPXEPodsStarting
		c.Message = fmt.Sprintf("%d of %d PXE pods are ready (%s)", ready, p.replicas, p.why)
		for _, e := range entries {
			if !e.Ready && e.Message != "" {
				c.Message += fmt.Sprintf("; on %s: %s", e.Node, e.Message)
			}
		}
		if trouble := podTrouble(pods); trouble != "" {
			c.Message += "; " + trouble
		}
	}
	return c
}

// podTrouble says why pods do not run, as far as the cluster says so.
func podTrouble(pods []corev1.Pod) string {
	var out []string
	for i := range pods {
		p := &pods[i]
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
				out = append(out, fmt.Sprintf("pod %s: %s", p.Name, strings.TrimRight(c.Reason+": "+c.Message, ": ")))
			}
		}
		for _, s := range p.Status.ContainerStatuses {
			switch {
			case s.State.Waiting != nil && s.State.Waiting.Reason != "" && s.State.Waiting.Reason != "ContainerCreating":
				out = append(out, fmt.Sprintf("pod %s: %s", p.Name, strings.TrimRight(s.State.Waiting.Reason+": "+s.State.Waiting.Message, ": ")))
			case s.State.Terminated != nil && s.State.Terminated.ExitCode != 0:
				out = append(out, fmt.Sprintf("pod %s ended with exit code %d", p.Name, s.State.Terminated.ExitCode))
			}
		}
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

// notConfigured says what the founding Secret lacks, and what to do; empty:
// nothing. secret is nil when there is none.
func notConfigured(namespace string, secret *corev1.Secret) string {
	const fix = "run the bootstrapper's seed again with the cluster's state directory: it hands the Secret over; until then no machine can be added"
	if secret == nil {
		return fmt.Sprintf("the Secret %s/%s is not there, which holds the cluster's tokens: %s", namespace, names.FoundingSecret, fix)
	}
	for _, key := range []string{names.KeyServerToken, names.KeyAgentToken, names.KeyNodeKey, names.KeyServerAuthority} {
		if len(secret.Data[key]) == 0 {
			return fmt.Sprintf("the Secret %s/%s has no %s: delete it, then %s", namespace, names.FoundingSecret, key, fix)
		}
	}
	return ""
}

// few are the first of some names, and how many more there are.
func few(all []string) string {
	const shown = 5
	if len(all) <= shown {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:shown], ", "), len(all)-shown)
}
