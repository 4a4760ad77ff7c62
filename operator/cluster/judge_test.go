package cluster

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func sound() facts {
	f := facts{
		clusters: []v1alpha1.Cluster{{
			ObjectMeta: metav1.ObjectMeta{Name: "home", CreationTimestamp: metav1.NewTime(noon)},
			Spec: v1alpha1.ClusterSpec{
				Network:         v1alpha1.NetworkSpec{CIDR: "192.168.1.0/24", Gateway: "192.168.1.1"},
				Kubernetes:      v1alpha1.KubernetesSpec{Version: "v1.33.5+k3s1", PodCIDR: "10.42.0.0/16", ServiceCIDR: "10.43.0.0/16"},
				OperatingSystem: "debian",
			},
		}},
		nodes: []v1alpha1.Node{node("alpha", v1alpha1.ControlPlane, "52:54:00:00:00:01", "192.168.1.10")},
		systems: []v1alpha1.OperatingSystem{{
			ObjectMeta: metav1.ObjectMeta{Name: "debian"},
			Spec: v1alpha1.OperatingSystemSpec{Format: v1alpha1.FormatImage, Media: []v1alpha1.Medium{{
				Architecture: v1alpha1.AMD64,
				File:         v1alpha1.File{URL: "https://example.org/debian.raw", SHA256: v1alpha1.SHA256(strings.Repeat("0", 64))},
			}}},
		}},
	}
	f.cluster, f.now = &f.clusters[0], noon
	joined(&f.nodes[0])
	return f
}

func node(name string, role v1alpha1.Role, mac v1alpha1.MAC, address v1alpha1.Address) v1alpha1.Node {
	return v1alpha1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.NodeSpec{Role: role, MAC: mac, Address: address, Architecture: v1alpha1.AMD64},
	}
}

func joined(n *v1alpha1.Node) {
	n.Status.Conditions = []metav1.Condition{
		{Type: v1alpha1.ConditionJoined, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonMatched, Message: "core Node"},
		{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonMemberReady},
	}
}

func TestJudge(t *testing.T) {
	virtual := v1alpha1.Address("192.168.1.5")
	tests := []struct {
		reason string
		change func(*facts)
		// want is the status and the reason of each condition.
		want    map[string]string
		message string // a part of Ready's
	}{
		{
			reason:  "a healthy API and a matched first node are a ready cluster",
			want:    map[string]string{"Ready": "True ClusterReady", "APIHealthy": "True APIReady", "FirstNodeJoined": "True NodeMatched", "Valid": "True NoRuleBroken"},
			message: "1 of 1 declared nodes are ready",
		},
		{
			reason:  "an API server that is not ready is named with what it says",
			change:  func(f *facts) { f.unhealthy = "etcd failed: reason withheld" },
			want:    map[string]string{"Ready": "False APINotReady", "APIHealthy": "False APINotReady", "FirstNodeJoined": "True NodeMatched", "Valid": "True NoRuleBroken"},
			message: "etcd failed",
		},
		{
			reason:  "nothing joined: the first node by name is waited for",
			change:  func(f *facts) { f.nodes[0].Status = v1alpha1.NodeStatus{} },
			want:    map[string]string{"Ready": "False NoNodeMatched", "APIHealthy": "True APIReady", "FirstNodeJoined": "False NoNodeMatched", "Valid": "True NoRuleBroken"},
			message: `waiting for Node "alpha" to join`,
		},
		{
			reason: "a mismatch is more than waiting, and is said",
			change: func(f *facts) {
				f.nodes[0].Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionJoined, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonAddressMismatch, Message: "another address"}}
			},
			want:    map[string]string{"Ready": "False NoNodeMatched", "APIHealthy": "True APIReady", "FirstNodeJoined": "False NoNodeMatched", "Valid": "True NoRuleBroken"},
			message: "another address",
		},
		{
			reason: "a worker that joined is not the first node",
			change: func(f *facts) {
				f.nodes[0].Status = v1alpha1.NodeStatus{}
				w := node("beta", v1alpha1.Worker, "52:54:00:00:00:02", "192.168.1.11")
				joined(&w)
				f.nodes = append(f.nodes, w)
			},
			want:    map[string]string{"Ready": "False NoNodeMatched", "APIHealthy": "True APIReady", "FirstNodeJoined": "False NoNodeMatched", "Valid": "True NoRuleBroken"},
			message: `waiting for Node "alpha" to join`,
		},
		{
			reason: "the cluster may have been founded on another than the first by name",
			change: func(f *facts) {
				f.nodes = append([]v1alpha1.Node{
					node("aaa", v1alpha1.ControlPlane, "52:54:00:00:00:03", "192.168.1.12"),
					node("bbb", v1alpha1.ControlPlane, "52:54:00:00:00:04", "192.168.1.13"),
				}, f.nodes...)
			},
			want:    map[string]string{"Ready": "True ClusterReady", "APIHealthy": "True APIReady", "FirstNodeJoined": "True NodeMatched", "Valid": "True NoRuleBroken"},
			message: "1 of 3 declared nodes are ready",
		},
		{
			reason: "a broken rule between objects is named, before any warning",
			change: func(f *facts) {
				f.nodes = append(f.nodes, node("beta", v1alpha1.ControlPlane, "52:54:00:00:00:02", "192.168.1.10"))
			},
			want:    map[string]string{"Ready": "False DuplicateAddress", "APIHealthy": "True APIReady", "FirstNodeJoined": "True NodeMatched", "Valid": "False DuplicateAddress"},
			message: "192.168.1.10",
		},
		{
			reason: "a warning stops nothing",
			change: func(f *facts) {
				f.nodes = append(f.nodes, node("beta", v1alpha1.ControlPlane, "52:54:00:00:00:02", "192.168.1.11"))
			},
			want:    map[string]string{"Ready": "True ClusterReady", "APIHealthy": "True APIReady", "FirstNodeJoined": "True NodeMatched", "Valid": "True Warnings"},
			message: "1 of 2 declared nodes are ready",
		},
		{
			reason: "no node at all",
			change: func(f *facts) { f.nodes = nil },
			want:   map[string]string{"Ready": "False NoNodeMatched", "APIHealthy": "True APIReady", "FirstNodeJoined": "False NoNodeMatched", "Valid": "False NoControlPlane"},
		},
		{
			reason: "the newer of two Clusters is ignored, and says so",
			change: func(f *facts) {
				older := *f.cluster.DeepCopy()
				older.Name, older.CreationTimestamp = "zzz", metav1.NewTime(noon.Add(-time.Second))
				f.clusters = append(f.clusters, older)
				f.cluster = &f.clusters[0]
			},
			want:    map[string]string{"Ready": "False SecondCluster", "APIHealthy": "Unknown SecondCluster", "FirstNodeJoined": "Unknown SecondCluster", "Valid": "False SecondCluster"},
			message: `the older Cluster "zzz" is in force`,
		},
		{
			reason: "the older of two Clusters goes on as if it were alone",
			change: func(f *facts) {
				newer := *f.cluster.DeepCopy()
				newer.Name, newer.CreationTimestamp = "aaa", metav1.NewTime(noon.Add(time.Second))
				f.clusters = append(f.clusters, newer)
				f.cluster = &f.clusters[0]
			},
			want: map[string]string{"Ready": "True ClusterReady", "APIHealthy": "True APIReady", "FirstNodeJoined": "True NodeMatched", "Valid": "True NoRuleBroken"},
		},
		{
			reason: "of two equally old Clusters the first by name is in force",
			change: func(f *facts) {
				twin := *f.cluster.DeepCopy()
				twin.Name = "aaa"
				f.clusters = append(f.clusters, twin)
				f.cluster = &f.clusters[0]
			},
			want: map[string]string{"Ready": "False SecondCluster", "APIHealthy": "Unknown SecondCluster", "FirstNodeJoined": "Unknown SecondCluster", "Valid": "False SecondCluster"},
		},
		{
			reason: "a core Node that nobody declared is named, and the cluster is ready all the same",
			change: func(f *facts) { f.cores = []corev1.Node{core("alpha", "192.168.1.10"), core("stray", "192.168.1.77")} },
			want: map[string]string{"Ready": "True ClusterReady", "APIHealthy": "True APIReady", "FirstNodeJoined": "True NodeMatched", "Valid": "True NoRuleBroken",
				"PXEReady": "True NotNeeded", "MembersDeclared": "False UndeclaredMembers"},
		},
		{
			reason: "without the cluster's tokens no machine can be added: it is said, and stops nothing while none waits",
			change: func(f *facts) { f.pxe.missing = "hand the Secret over" },
			want: map[string]string{"Ready": "True ClusterReady", "APIHealthy": "True APIReady", "FirstNodeJoined": "True NodeMatched", "Valid": "True NoRuleBroken",
				"PXEReady": "False NotConfigured", "MembersDeclared": "True AllDeclared"},
		},
		{
			reason: "without the cluster's tokens a machine that waits is the cluster's trouble",
			change: func(f *facts) {
				f.pxe.missing, f.pxe.plan.waiting = "hand the Secret over", []string{"beta"}
			},
			want: map[string]string{"Ready": "False NotConfigured", "APIHealthy": "True APIReady", "FirstNodeJoined": "True NodeMatched", "Valid": "True NoRuleBroken",
				"PXEReady": "False NotConfigured"},
			message: "hand the Secret over",
		},
		{
			reason: "a machine waits, and no PXE pod is ready yet",
			change: func(f *facts) {
				f.pxe.plan = pxePlan{replicas: 2, why: "for beta", waiting: []string{"beta"}}
				f.cluster.Status.PXE = []v1alpha1.PXEPod{{Node: "alpha", Pod: "pxe-1", Message: "fetching debian.raw.zst: 120 of 300 MiB"}}
				f.pods = []corev1.Pod{pxePodNamed("pxe-1")}
			},
			want: map[string]string{"Ready": "False PodsStarting", "APIHealthy": "True APIReady", "FirstNodeJoined": "True NodeMatched", "Valid": "True NoRuleBroken",
				"PXEReady": "False PodsStarting"},
			message: "0 of 2 PXE pods are ready (for beta); on alpha: fetching debian.raw.zst",
		},
		{
			reason: "one PXE pod of two is enough for the machine that waits",
			change: func(f *facts) {
				f.pxe.plan = pxePlan{replicas: 2, why: "for beta", waiting: []string{"beta"}}
				f.cluster.Status.PXE = []v1alpha1.PXEPod{{Node: "alpha", Pod: "pxe-1", Ready: true}}
				f.pods = []corev1.Pod{pxePodNamed("pxe-1")}
			},
			want: map[string]string{"Ready": "True ClusterReady", "APIHealthy": "True APIReady", "FirstNodeJoined": "True NodeMatched", "Valid": "True NoRuleBroken",
				"PXEReady": "False PodsStarting"},
		},
		{
			reason: "a PXE pod that calls itself ready, while its machine is dead, does not count",
			change: func(f *facts) {
				f.pxe.plan = pxePlan{replicas: 1, why: "for beta", waiting: []string{"beta"}}
				f.cluster.Status.PXE = []v1alpha1.PXEPod{{Node: "alpha", Pod: "pxe-1", Ready: true}}
				pod := pxePodNamed("pxe-1")
				pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse}}
				f.pods = []corev1.Pod{pod}
			},
			want: map[string]string{"Ready": "False PodsStarting", "APIHealthy": "True APIReady", "FirstNodeJoined": "True NodeMatched", "Valid": "True NoRuleBroken",
				"PXEReady": "False PodsStarting"},
		},
		{
			reason: "the virtual IP on a node is a broken rule",
			change: func(f *facts) {
				f.cluster.Spec.ControlPlane.VirtualIP = &virtual
				f.nodes[0].Spec.Address = virtual
			},
			want: map[string]string{"Ready": "False VirtualIPTaken", "APIHealthy": "True APIReady", "FirstNodeJoined": "True NodeMatched", "Valid": "False VirtualIPTaken"},
		},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			f := sound()
			if tc.change != nil {
				tc.change(&f)
			}
			v := judge(f)
			got := map[string]string{}
			for _, c := range v.conditions {
				_, asked := tc.want[c.Type]
				if asked || c.Type != v1alpha1.ConditionPXEReady && c.Type != v1alpha1.ConditionMembersDeclared && c.Type != v1alpha1.ConditionNetworkQuiet {
					got[c.Type] = string(c.Status) + " " + c.Reason
				}
				if c.Message == "" {
					t.Errorf("condition %s has no message", c.Type)
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
			if v.conditions[0].Type != v1alpha1.ConditionReady {
				t.Errorf("the first condition is %s, want Ready", v.conditions[0].Type)
			}
			if ready := meta.FindStatusCondition(v.conditions, v1alpha1.ConditionReady); !strings.Contains(ready.Message, tc.message) {
				t.Errorf("message %q lacks %q", ready.Message, tc.message)
			}
		})
	}
}

func TestALongListOfFindingsIsCutShort(t *testing.T) {
	f := sound()
	for range 20 {
		f.nodes = append(f.nodes, f.nodes[0])
	}
	c := valid(f)
	if lines := strings.Count(c.Message, "\n") + 1; lines != findingsShown+1 || !strings.Contains(c.Message, " more") {
		t.Errorf("the message has %d lines, want %d and how many more there are:\n%s", lines, findingsShown+1, c.Message)
	}
}

func TestEndpoint(t *testing.T) {
	virtual := v1alpha1.Address("192.168.1.5")
	tests := []struct {
		reason string
		change func(*facts)
		want   string
	}{
		{"the only control-plane node's address", nil, "https://192.168.1.10:6443"},
		{"the virtual IP goes before any node's", func(f *facts) { f.cluster.Spec.ControlPlane.VirtualIP = &virtual }, "https://192.168.1.5:6443"},
		{"a node that joined goes before one that did not", func(f *facts) {
			f.nodes = append([]v1alpha1.Node{node("aaa", v1alpha1.ControlPlane, "52:54:00:00:00:02", "192.168.1.9")}, f.nodes...)
		}, "https://192.168.1.10:6443"},
		{"where none joined, the first by name", func(f *facts) {
			f.nodes[0].Status = v1alpha1.NodeStatus{}
			f.nodes = append(f.nodes, node("aaa", v1alpha1.ControlPlane, "52:54:00:00:00:02", "192.168.1.9"))
		}, "https://192.168.1.9:6443"},
		{"workers are no endpoint", func(f *facts) { f.nodes[0].Spec.Role = v1alpha1.Worker }, ""},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			f := sound()
			if tc.change != nil {
				tc.change(&f)
			}
			if got := judge(f).endpoint; got != tc.want {
				t.Errorf("endpoint is %q, want %q", got, tc.want)
			}
		})
	}
}

func TestPoolAndCounts(t *testing.T) {
	f := sound()
	f.nodes = append(f.nodes, node("beta", v1alpha1.Worker, "52:54:00:00:00:02", "192.168.1.11"))
	v := judge(f)
	if v.pool != "192.168.1.224/27" || v.nodes != 2 || v.ready != 1 {
		t.Errorf("pool %q, %d nodes, %d ready; want 192.168.1.224/27, 2, 1", v.pool, v.nodes, v.ready)
	}
}

func TestFailedChecksAreReadFromWhatReadyzAnswers(t *testing.T) {
	body := "[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\n[-]poststarthook/rbac failed: not finished\nreadyz check failed\n"
	if diff := cmp.Diff("etcd failed: reason withheld; poststarthook/rbac failed: not finished", failedChecks(body)); diff != "" {
		t.Errorf("failed checks (-want +got):\n%s", diff)
	}
	if got := failedChecks("ok"); got != "" {
		t.Errorf("failed checks of ok: %q", got)
	}
}
