package cluster

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
)

// apiPort is where k3s serves the Kubernetes API.
const apiPort = 6443

// facts is everything that the verdict on a Cluster rests on.
type facts struct {
	cluster  *v1alpha1.Cluster
	clusters []v1alpha1.Cluster // all of them
	nodes    []v1alpha1.Node
	systems  []v1alpha1.OperatingSystem
	cores    []corev1.Node
	pods     []corev1.Pod // PXE pods
	pxe      pxeState
	now      time.Time
	// unhealthy is what the API server says against its readiness; empty: nothing.
	unhealthy string
}

// verdict is what is so of a Cluster.
type verdict struct {
	endpoint     string
	pool         string
	nodes, ready int32
	// conditions lack what the clock and the generation add. Ready is the first.
	conditions []metav1.Condition
}

func judge(f facts) verdict {
	if older := inForce(f.clusters); older != nil && older.Name != f.cluster.Name {
		return ignored(older.Name)
	}
	conditions := []metav1.Condition{apiHealthy(f.unhealthy), firstNodeJoined(f.nodes), valid(f)}
	pods := readyPods(f.cluster.Status.PXE, f.pods, f.now)
	pxe := pxeReady(f.pxe, pods, f.cluster.Status.PXE, f.pods)
	decisive := conditions
	if len(f.pxe.plan.waiting) > 0 && pods == 0 {
		// A machine waits, and nothing boots it. Without one it is no matter.
		decisive = append(slices.Clone(conditions), pxe)
	}
	v := verdict{
		endpoint: endpoint(f.cluster, f.nodes),
		nodes:    int32(len(f.nodes)),
	}
	if pool := inventory.Pool(*f.cluster); pool.IsValid() {
		v.pool = pool.String()
	}
	for i := range f.nodes {
		if meta.IsStatusConditionTrue(f.nodes[i].Status.Conditions, v1alpha1.ConditionReady) {
			v.ready++
		}
	}
	v.conditions = append([]metav1.Condition{ready(decisive, v)}, conditions...)
	v.conditions = append(v.conditions, pxe, membersDeclared(f.nodes, f.cores), networkQuiet(f.cluster))
	return v
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

// ignored is the verdict on a Cluster that is not the oldest.
func ignored(older string) verdict {
	message := fmt.Sprintf("this Cluster is ignored: the older Cluster %q is in force; delete one of the two", older)
	var v verdict
	for _, c := range []struct {
		condition string
		status    metav1.ConditionStatus
	}{
		{v1alpha1.ConditionReady, metav1.ConditionFalse},
		{v1alpha1.ConditionAPIHealthy, metav1.ConditionUnknown},
		{v1alpha1.ConditionFirstNodeJoined, metav1.ConditionUnknown},
		{v1alpha1.ConditionValid, metav1.ConditionFalse},
		{v1alpha1.ConditionPXEReady, metav1.ConditionUnknown},
		{v1alpha1.ConditionMembersDeclared, metav1.ConditionUnknown},
		{v1alpha1.ConditionNetworkQuiet, metav1.ConditionUnknown},
	} {
		v.conditions = append(v.conditions, metav1.Condition{
			Type: c.condition, Status: c.status, Reason: v1alpha1.ReasonSecondCluster, Message: message,
		})
	}
	return v
}

func apiHealthy(unhealthy string) metav1.Condition {
	if unhealthy != "" {
		return metav1.Condition{
			Type: v1alpha1.ConditionAPIHealthy, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonAPINotReady,
			Message: "the API server is not ready: " + unhealthy,
		}
	}
	return metav1.Condition{
		Type: v1alpha1.ConditionAPIHealthy, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAPIReady,
		Message: "the API server is ready",
	}
}

// firstNodeJoined: whichever control-plane node the cluster was founded on, it is
// the first to be matched.
func firstNodeJoined(nodes []v1alpha1.Node) metav1.Condition {
	var waiting []string
	for _, n := range controlPlane(nodes) {
		joined := meta.FindStatusCondition(n.Status.Conditions, v1alpha1.ConditionJoined)
		if joined != nil && joined.Status == metav1.ConditionTrue {
			return metav1.Condition{
				Type: v1alpha1.ConditionFirstNodeJoined, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonNodeMatched,
				Message: fmt.Sprintf("Node %q joined: %s", n.Name, joined.Message),
			}
		}
		if joined != nil && joined.Reason != v1alpha1.ReasonNotJoined {
			// It says more than that nothing happened yet.
			waiting = append([]string{joined.Message}, waiting...)
			continue
		}
		waiting = append(waiting, fmt.Sprintf("waiting for Node %q to join", n.Name))
	}
	message := "no control-plane Node is declared: declare the one that the cluster was founded on"
	if len(waiting) > 0 {
		message = waiting[0]
	}
	return metav1.Condition{
		Type: v1alpha1.ConditionFirstNodeJoined, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonNoNodeMatched,
		Message: message,
	}
}

// controlPlane are the declared control-plane nodes, by name.
func controlPlane(nodes []v1alpha1.Node) []*v1alpha1.Node {
	var all []*v1alpha1.Node
	for i := range nodes {
		if nodes[i].Spec.Role == v1alpha1.ControlPlane {
			all = append(all, &nodes[i])
		}
	}
	slices.SortFunc(all, func(a, b *v1alpha1.Node) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// findingsShown bounds the message of the condition Valid: the first ones are
// enough to begin with, and `bootstrapper check` shows all.
const findingsShown = 8

func valid(f facts) metav1.Condition {
	findings := inventory.Check(inventory.Inventory{
		Clusters: []v1alpha1.Cluster{*f.cluster}, Nodes: f.nodes, OperatingSystems: f.systems,
	})
	c := metav1.Condition{
		Type: v1alpha1.ConditionValid, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonNoRuleBroken,
		Message: "no rule between the declared objects is broken",
	}
	if len(findings) == 0 {
		return c
	}
	c.Reason = v1alpha1.ReasonWarnings
	// Errors first: they are what has to be lifted.
	slices.SortStableFunc(findings, func(a, b inventory.Finding) int {
		return strings.Compare(string(a.Severity), string(b.Severity)) // Error before Warning
	})
	if findings[0].Severity == inventory.Error {
		c.Status, c.Reason = metav1.ConditionFalse, findings[0].Rule
	}
	var lines []string
	for i, finding := range findings {
		if i == findingsShown {
			lines = append(lines, fmt.Sprintf("and %d more", len(findings)-i))
			break
		}
		lines = append(lines, finding.String())
	}
	c.Message = strings.Join(lines, "\n")
	return c
}

// endpoint is the URL of the API server as machines reach it: at the virtual IP,
// or at the first control-plane node that joined, or that is declared.
func endpoint(c *v1alpha1.Cluster, nodes []v1alpha1.Node) string {
	address := ""
	for _, n := range controlPlane(nodes) {
		if address == "" {
			address = string(n.Spec.Address)
		}
		if meta.IsStatusConditionTrue(n.Status.Conditions, v1alpha1.ConditionJoined) {
			address = string(n.Spec.Address)
			break
		}
	}
	if ip := c.Spec.ControlPlane.VirtualIP; ip != nil {
		address = string(*ip)
	}
	if address == "" {
		return ""
	}
	return fmt.Sprintf("https://%s:%d", address, apiPort)
}

// ready sums up: the first of the conditions that is not True says why not.
func ready(conditions []metav1.Condition, v verdict) metav1.Condition {
	for _, c := range conditions {
		if c.Status != metav1.ConditionTrue {
			return metav1.Condition{
				Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: c.Reason, Message: c.Message,
			}
		}
	}
	return metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonClusterReady,
		Message: fmt.Sprintf("%d of %d declared nodes are ready", v.ready, v.nodes),
	}
}
