package cluster

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/names"
)

// core is a Ready member.
func core(name, address string) corev1.Node {
	return corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelOSStable: "linux", corev1.LabelHostname: name}},
		Status: corev1.NodeStatus{
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}, {Type: corev1.NodeHostName, Address: name}},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		},
	}
}

func pxePodNamed(name string) corev1.Pod {
	return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// grown are the facts of a cluster of one member that nobody waits in.
func grown() pxeFacts {
	f := sound()
	return pxeFacts{cluster: f.cluster, nodes: f.nodes, cores: []corev1.Node{core("alpha", "192.168.1.10")}, now: noon}
}

func declareBeta(f *pxeFacts) {
	f.nodes = append(f.nodes, node("beta", v1alpha1.Worker, "52:54:00:00:00:02", "192.168.1.11"))
}

func TestPlan(t *testing.T) {
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	tests := []struct {
		reason string
		change func(*pxeFacts)
		want   pxePlan
	}{
		{"nobody waits and nothing runs: nothing is made", nil, pxePlan{leave: true}},
		{"a machine waits: one pod for each member, while there is one", declareBeta,
			pxePlan{replicas: 1, why: "for beta", waiting: []string{"beta"}}},
		{"with two members there are two, so that one may be killed", func(f *pxeFacts) {
			declareBeta(f)
			f.cores = append(f.cores, core("gamma", "192.168.1.12"))
		}, pxePlan{replicas: 2, why: "for beta", waiting: []string{"beta"}}},
		{"three members need no third", func(f *pxeFacts) {
			declareBeta(f)
			f.cores = append(f.cores, core("gamma", "192.168.1.12"), core("delta", "192.168.1.13"))
		}, pxePlan{replicas: 2, why: "for beta", waiting: []string{"beta"}}},
		{"a member that is not Ready runs none", func(f *pxeFacts) {
			declareBeta(f)
			sick := core("gamma", "192.168.1.12")
			sick.Status.Conditions[0].Status = corev1.ConditionUnknown
			f.cores = append(f.cores, sick)
		}, pxePlan{replicas: 1, why: "for beta", waiting: []string{"beta"}}},
		{"a taint that no PXE pod tolerates keeps it off", func(f *pxeFacts) {
			declareBeta(f)
			tainted := core("gamma", "192.168.1.12")
			tainted.Spec.Taints = []corev1.Taint{{Key: "dedicated", Value: "db", Effect: corev1.TaintEffectNoSchedule}}
			f.cores = append(f.cores, tainted)
		}, pxePlan{replicas: 1, why: "for beta", waiting: []string{"beta"}}},
		{"a control plane's taint does not, nor one that only prefers", func(f *pxeFacts) {
			declareBeta(f)
			tainted := core("gamma", "192.168.1.12")
			tainted.Spec.Taints = []corev1.Taint{{Key: "node-role.kubernetes.io/control-plane", Effect: corev1.TaintEffectNoSchedule},
				{Key: "dedicated", Effect: corev1.TaintEffectPreferNoSchedule}}
			f.cores = append(f.cores, tainted)
		}, pxePlan{replicas: 2, why: "for beta", waiting: []string{"beta"}}},
		{"a member that is cordoned runs none", func(f *pxeFacts) {
			declareBeta(f)
			cordoned := core("gamma", "192.168.1.12")
			cordoned.Spec.Unschedulable = true
			f.cores = append(f.cores, cordoned)
		}, pxePlan{replicas: 1, why: "for beta", waiting: []string{"beta"}}},
		{"a member on another network runs none: no machine would reach it", func(f *pxeFacts) {
			declareBeta(f)
			f.cores = append(f.cores, core("gamma", "10.9.9.9"))
		}, pxePlan{replicas: 1, why: "for beta", waiting: []string{"beta"}}},
		{"the node selector chooses the members", func(f *pxeFacts) {
			declareBeta(f)
			f.cluster.Spec.PXE.NodeSelector = map[string]string{"rack": "1"}
			chosen := core("gamma", "192.168.1.12")
			chosen.Labels["rack"] = "1"
			f.cores = append(f.cores, chosen)
		}, pxePlan{replicas: 1, why: "for beta", waiting: []string{"beta"}}},
		{"no member is fit: one pod is wanted all the same, and the cluster says why it does not run", func(f *pxeFacts) {
			declareBeta(f)
			f.cores[0].Status.Conditions[0].Status = corev1.ConditionFalse
		}, pxePlan{replicas: 1, why: "for beta", waiting: []string{"beta"}}},
		{"before the first node has joined nothing grows", func(f *pxeFacts) {
			declareBeta(f)
			f.nodes[0].Status = v1alpha1.NodeStatus{}
		}, pxePlan{leave: true}},
		{"a member that is not Ready may need healing", func(f *pxeFacts) {
			declareBeta(f)
			joined(&f.nodes[1])
			f.nodes[1].Status.Conditions[1].Status = metav1.ConditionFalse
		}, pxePlan{replicas: 1, why: "for beta", waiting: []string{"beta"}}},
		{"a member that healing gave up waits for a person", func(f *pxeFacts) {
			declareBeta(f)
			joined(&f.nodes[1])
			f.nodes[1].Status.Conditions[1].Status = metav1.ConditionFalse
			f.nodes[1].Status.Repair = &v1alpha1.RepairStatus{Quarantined: &metav1.Time{Time: noon}}
		}, pxePlan{leave: true}},
		{"until the person has looked", func(f *pxeFacts) {
			declareBeta(f)
			joined(&f.nodes[1])
			f.nodes[1].Status.Conditions[1].Status = metav1.ConditionFalse
			f.nodes[1].Status.Repair = &v1alpha1.RepairStatus{Quarantined: &metav1.Time{Time: noon}, Honoured: map[string]string{"retry": "monday"}}
			f.nodes[1].Annotations = map[string]string{v1alpha1.AnnotationRetry: "tuesday"}
		}, pxePlan{replicas: 1, why: "for beta", waiting: []string{"beta"}}},
		{"a machine whose installations failed waits for a person", func(f *pxeFacts) {
			declareBeta(f)
			f.nodes[1].Status.Phase = v1alpha1.PhaseFailed
		}, pxePlan{leave: true}},
		{"a person asks for another attempt", func(f *pxeFacts) {
			declareBeta(f)
			f.nodes[1].Status.Phase = v1alpha1.PhaseFailed
			f.nodes[1].Annotations = map[string]string{v1alpha1.AnnotationRetry: "today"}
		}, pxePlan{replicas: 1, why: "for beta", waiting: []string{"beta"}}},
		{"that attempt failed too", func(f *pxeFacts) {
			declareBeta(f)
			f.nodes[1].Status.Phase = v1alpha1.PhaseFailed
			f.nodes[1].Annotations = map[string]string{v1alpha1.AnnotationRetry: "today", v1alpha1.AnnotationReinstall: "yesterday"}
			f.nodes[1].Status.Honoured = map[string]string{"retry": "today"}
		}, pxePlan{leave: true}},
		{"a member that was never Ready is to be installed anew", func(f *pxeFacts) {
			declareBeta(f)
			f.nodes[1].Status.Phase = v1alpha1.PhaseFailed
			f.nodes[1].Status.NodeRef = &v1alpha1.CoreNodeReference{Name: "beta"}
			f.nodes[1].Annotations = map[string]string{v1alpha1.AnnotationReinstall: "today"}
		}, pxePlan{replicas: 1, why: "for beta", waiting: []string{"beta"}}},
		{"pods that ran for a machine that failed are kept a while, and end", func(f *pxeFacts) {
			declareBeta(f)
			f.nodes[1].Status.Phase = v1alpha1.PhaseFailed
			f.running, f.idleSince = ptr.To[int32](1), noon.Add(-keepAfterNeed)
		}, pxePlan{idleSince: noon.Add(-keepAfterNeed)}},
		{"a Node that is being deleted waits for nothing", func(f *pxeFacts) {
			declareBeta(f)
			f.nodes[1].DeletionTimestamp = &metav1.Time{Time: noon}
		}, pxePlan{leave: true}},
		{"a Ready member that is to be reinstalled will need one", func(f *pxeFacts) {
			f.nodes[0].Annotations = map[string]string{v1alpha1.AnnotationReinstall: "today"}
		}, pxePlan{replicas: 1, why: "for alpha", waiting: []string{"alpha"}}},
		{"a reinstallation that was done needs none", func(f *pxeFacts) {
			f.nodes[0].Annotations = map[string]string{v1alpha1.AnnotationReinstall: "today"}
			f.nodes[0].Status.Honoured = map[string]string{"reinstall": "today"}
		}, pxePlan{leave: true}},
		{"another operating system than was installed is a reinstallation", func(f *pxeFacts) {
			f.nodes[0].Status.Installed = &v1alpha1.InstallationRecord{OperatingSystem: "debian-11"}
		}, pxePlan{replicas: 1, why: "for alpha", waiting: []string{"alpha"}}},
		{"the same operating system is none", func(f *pxeFacts) {
			f.nodes[0].Status.Installed = &v1alpha1.InstallationRecord{OperatingSystem: "debian"}
		}, pxePlan{leave: true}},
		{"Always means always", func(f *pxeFacts) { f.cluster.Spec.PXE.Pods = v1alpha1.PXEAlways },
			pxePlan{replicas: 1, why: "spec.pxe.pods is Always"}},
		{"nobody waits any more: from now on the pods are idle, and stay for a while", func(f *pxeFacts) { f.running = ptr.To[int32](1) },
			pxePlan{replicas: 1, idleSince: noon, again: keepAfterNeed}},
		{"two pods stay two", func(f *pxeFacts) {
			f.running = ptr.To[int32](2)
			f.cores = append(f.cores, core("gamma", "192.168.1.12"))
		}, pxePlan{replicas: 2, idleSince: noon, again: keepAfterNeed}},
		{"a little before the end they still run", func(f *pxeFacts) {
			f.running, f.idleSince = ptr.To[int32](1), ago(keepAfterNeed-time.Second)
		}, pxePlan{replicas: 1, idleSince: ago(keepAfterNeed - time.Second), again: time.Second}},
		{"at the end they end", func(f *pxeFacts) { f.running, f.idleSince = ptr.To[int32](1), ago(keepAfterNeed) },
			pxePlan{replicas: 0, idleSince: ago(keepAfterNeed)}},
		{"and stay ended", func(f *pxeFacts) { f.running, f.idleSince = ptr.To[int32](0), ago(time.Hour) },
			pxePlan{replicas: 0, idleSince: ago(time.Hour)}},
		{"a machine that comes meanwhile makes them needed again", func(f *pxeFacts) {
			declareBeta(f)
			f.running, f.idleSince = ptr.To[int32](1), ago(time.Minute)
		}, pxePlan{replicas: 1, why: "for beta", waiting: []string{"beta"}}},
		{"a time that lies ahead, after a clock was set back, does not keep them for ever", func(f *pxeFacts) {
			f.running, f.idleSince = ptr.To[int32](1), noon.Add(time.Hour)
		}, pxePlan{replicas: 1, idleSince: noon, again: keepAfterNeed}},
		{"what is missing stops everything: nothing is started", func(f *pxeFacts) {
			declareBeta(f)
			f.missing = "the tokens"
		}, pxePlan{leave: true, why: "for beta", waiting: []string{"beta"}}},
		{"and nothing is ended", func(f *pxeFacts) {
			f.missing, f.running, f.idleSince = "the tokens", ptr.To[int32](1), ago(time.Hour)
		}, pxePlan{leave: true}},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			f := grown()
			if tc.change != nil {
				tc.change(&f)
			}
			if diff := cmp.Diff(tc.want, plan(f), cmp.AllowUnexported(pxePlan{})); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func TestServiceAddressesAreThoseOfAllMembersOnTheMachinesNetwork(t *testing.T) {
	f := grown()
	sick := core("gamma", "192.168.1.9")
	sick.Status.Conditions = nil
	two := core("delta", "10.0.0.1")
	two.Status.Addresses = append(two.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "192.168.1.13"},
		corev1.NodeAddress{Type: corev1.NodeExternalIP, Address: "192.168.1.99"}, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: "no address"})
	f.cores = append(f.cores, sick, two, core("twin", "192.168.1.10"))
	want := []netip.Addr{netip.MustParseAddr("192.168.1.9"), netip.MustParseAddr("192.168.1.10"), netip.MustParseAddr("192.168.1.13")}
	if got := serviceAddresses(f.cluster, f.cores); !slices.Equal(got, want) {
		t.Errorf("addresses are %v, want %v", got, want)
	}
}

func TestEntriesOfPodsThatAreGoneAreStale(t *testing.T) {
	pod := func(name string, change func(*corev1.Pod)) corev1.Pod {
		p := pxePodNamed(name)
		if change != nil {
			change(&p)
		}
		return p
	}
	tests := []struct {
		reason string
		pods   []corev1.Pod
		stale  bool
	}{
		{"its pod is there", []corev1.Pod{pod("pxe-1", nil)}, false},
		{"its pod is gone", nil, true},
		{"another pod runs in its place", []corev1.Pod{pod("pxe-2", nil)}, true},
		{"its pod ended", []corev1.Pod{pod("pxe-1", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed })}, true},
		{"its pod was told to end, and serves until then", []corev1.Pod{pod("pxe-1", func(p *corev1.Pod) {
			p.DeletionTimestamp = &metav1.Time{Time: noon.Add(time.Second)}
		})}, false},
		{"its pod should have ended, and nobody says that it did", []corev1.Pod{pod("pxe-1", func(p *corev1.Pod) {
			p.DeletionTimestamp = &metav1.Time{Time: noon}
		})}, true},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			got := stale([]v1alpha1.PXEPod{{Node: "alpha", Pod: "pxe-1"}}, tc.pods, noon)
			if want := []string{"alpha"}; tc.stale != slices.Equal(got, want) {
				t.Errorf("stale are %v", got)
			}
		})
	}
}

func TestTheConditionSaysWhyPodsDoNotRun(t *testing.T) {
	pod := pxePodNamed("pxe-1")
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/1 nodes are available"}}
	pulling := pxePodNamed("pxe-2")
	pulling.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "no such host"}}}}
	c := pxeReady(pxeState{plan: pxePlan{replicas: 2, why: "for beta"}}, 0, nil, []corev1.Pod{pod, pulling})
	for _, part := range []string{"pod pxe-1: Unschedulable: 0/1 nodes", "pod pxe-2: ImagePullBackOff: no such host"} {
		if !strings.Contains(c.Message, part) {
			t.Errorf("the message lacks %q: %s", part, c.Message)
		}
	}
}

func TestTheFoundingSecret(t *testing.T) {
	whole := map[string][]byte{names.KeyServerToken: {1}, names.KeyAgentToken: {1}, names.KeyNodeKey: {1}, names.KeyServerAuthority: {1}}
	if why := notConfigured("rhizome-system", &corev1.Secret{Data: whole}); why != "" {
		t.Errorf("a whole one: %s", why)
	}
	if why := notConfigured("rhizome-system", nil); !strings.Contains(why, "rhizome-system/rhizome-founding is not there") || !strings.Contains(why, "seed") {
		t.Errorf("none: %s", why)
	}
	delete(whole, names.KeyNodeKey)
	if why := notConfigured("rhizome-system", &corev1.Secret{Data: whole}); !strings.Contains(why, "has no node-key") {
		t.Errorf("one without a key: %s", why)
	}
}

// TestThePodAsksForNoMoreThanItNeeds holds the pod to the rights that are promised
// of it.
func TestThePodAsksForNoMoreThanItNeeds(t *testing.T) {
	f := grown()
	f.cluster.Spec.PXE.NodeSelector = map[string]string{"rack": "1"}
	d := deployment(f.cluster, Options{PXENamespace: "rhizome-pxe", PXEImage: "image:v1", Archives: []string{"a.tar:0123"}}, pxePlan{replicas: 2})
	spec := d.Spec.Template.Spec
	if !spec.HostNetwork || spec.HostPID || spec.HostIPC || spec.DNSPolicy != corev1.DNSClusterFirstWithHostNet || spec.ServiceAccountName != "rhizome-pxe" {
		t.Errorf("the pod is %+v", spec)
	}
	c := spec.Containers[0]
	want := &corev1.SecurityContext{
		AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true),
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_BIND_SERVICE", "NET_RAW"}},
	}
	if diff := cmp.Diff(want, c.SecurityContext); diff != "" || len(spec.Containers) != 1 {
		t.Errorf("security context (-want +got):\n%s", diff)
	}
	if spec.SecurityContext.SeccompProfile == nil || spec.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Error("the pod has no seccomp profile")
	}
	for _, probe := range []*corev1.Probe{c.LivenessProbe, c.ReadinessProbe} {
		if probe.HTTPGet.Host != "127.0.0.1" {
			t.Errorf("the probe asks %q: it is answered on the host's loopback only", probe.HTTPGet.Host)
		}
	}
	for _, m := range c.VolumeMounts {
		if m.MountPath == names.ImageDir && !m.ReadOnly {
			t.Error("the archives of images can be written")
		}
	}
	if diff := cmp.Diff(map[string]string{corev1.LabelOSStable: "linux", "rack": "1"}, spec.NodeSelector); diff != "" {
		t.Errorf("node selector (-want +got):\n%s", diff)
	}
	if anti := spec.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution; len(anti) != 1 || anti[0].TopologyKey != corev1.LabelHostname {
		t.Errorf("anti-affinity is %v", anti)
	}
	if r := d.Spec.Strategy.RollingUpdate; r.MaxSurge.IntValue() != 0 || r.MaxUnavailable.IntValue() != 1 {
		t.Errorf("a rollout surges by %v and lacks %v", r.MaxSurge, r.MaxUnavailable)
	}
	if !slices.Contains(c.Args, "--image-archive=a.tar:0123") || c.Image != "image:v1" {
		t.Errorf("the container is %s %v", c.Image, c.Args)
	}
}

func TestTheIdleTimeSurvivesOnTheDeployment(t *testing.T) {
	f := grown()
	d := deployment(f.cluster, Options{}, pxePlan{replicas: 1, idleSince: noon})
	if got := idleSince(d); !got.Equal(noon) {
		t.Errorf("it is %v, want %v", got, noon)
	}
	if d := deployment(f.cluster, Options{}, pxePlan{replicas: 1}); len(d.Annotations) != 0 {
		t.Errorf("a Deployment that is needed has %v", d.Annotations)
	}
	if got := idleSince(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{annotationIdleSince: "soon"}}}); !got.IsZero() {
		t.Errorf("what cannot be read is %v", got)
	}
}

func TestOnlyNewStrangersAreToldOf(t *testing.T) {
	f := sound()
	seen := func(ago time.Duration) metav1.Time { return metav1.NewTime(noon.Add(-ago)) }
	f.cluster.Status.Discovered = []v1alpha1.DiscoveredMachine{
		{MAC: "52:54:00:00:00:01", FirstSeen: seen(0)}, // alpha's, by now
		{MAC: "52:54:00:00:00:98", FirstSeen: seen(2 * time.Hour)},
		{MAC: "52:54:00:00:00:99", FirstSeen: seen(time.Minute), Firmware: "UEFI", Architecture: "amd64"},
	}
	got := news(f.cluster, f.nodes, noon)
	if len(got) != 1 || got[0].MAC != "52:54:00:00:00:99" {
		t.Fatalf("news are %v", got)
	}
	first, second := discoveredEvent(f.cluster, got[0], noon), discoveredEvent(f.cluster, got[0], noon.Add(time.Minute))
	if first.Name != second.Name || !strings.Contains(first.Message, "52:54:00:00:00:99 (UEFI, amd64)") {
		t.Errorf("events are %s %q and %s", first.Name, first.Message, second.Name)
	}
}
