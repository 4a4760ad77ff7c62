package node

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// home is a fleet in which nothing holds the worker w1 nor the server s3: s1 and
// s2 are Ready and vote, and a PXE pod is ready.
func home() *fleet {
	f := &fleet{now: t0, settle: 30 * time.Second, etcdSettle: DefaultEtcdSettle, image: "image", cluster: &v1alpha1.Cluster{
		ObjectMeta: metav1.ObjectMeta{Name: "home"},
		Spec:       v1alpha1.ClusterSpec{OperatingSystem: "debian", Growth: v1alpha1.GrowthSpec{MaxConcurrent: 2}},
		Status:     v1alpha1.ClusterStatus{PXE: []v1alpha1.PXEPod{{Node: "s1", Ready: true}}},
	}}
	for i, name := range []string{"s1", "s2", "s3", "s4", "w1", "w2", "w3"} {
		role := v1alpha1.Worker
		if name[0] == 's' {
			role = v1alpha1.ControlPlane
		}
		f.machines = append(f.machines, &machine{node: &v1alpha1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(t0.Add(-time.Hour))},
			Spec: v1alpha1.NodeSpec{Role: role, MAC: v1alpha1.MAC(fmt.Sprintf("52:54:00:00:00:0%d", i)),
				Address: v1alpha1.Address(fmt.Sprintf("192.168.1.1%d", i))},
		}})
	}
	f.joined("s1", true)
	f.joined("s2", true)
	return f
}

func (f *fleet) m(name string) *machine {
	for _, m := range f.machines {
		if m.node.Name == name {
			return m
		}
	}
	panic(name)
}

// joined makes a machine a member that was Ready for long.
func (f *fleet) joined(name string, ready bool) *member {
	m := f.m(name)
	status := corev1.ConditionFalse
	if ready {
		status = corev1.ConditionTrue
	}
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: "uid-1", CreationTimestamp: metav1.NewTime(t0.Add(-time.Hour)), Annotations: map[string]string{}},
		Status: corev1.NodeStatus{
			Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: string(m.node.Spec.Address)}},
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status}},
		},
	}
	if name[0] == 's' {
		n.Labels = map[string]string{labelControlPlane: "true"}
	}
	core := memberOf(n)
	m.core = &core
	m.node.Status.Phase = v1alpha1.PhaseReady
	m.node.Status.NodeRef = &v1alpha1.CoreNodeReference{Name: name, UID: "uid-1"}
	m.node.Status.Installed = &v1alpha1.InstallationRecord{OperatingSystem: "debian"}
	f.servers = nil
	for _, m := range f.machines {
		if m.core != nil && isServer(m.core.object) {
			f.servers = append(f.servers, *m.core)
		}
	}
	if name[0] == 's' {
		f.vote(name, corev1.ConditionTrue, time.Minute)
	}
	return m.core
}

// vote is what k3s said of a server's vote, and how long ago. Empty: nothing.
func (f *fleet) vote(name string, status corev1.ConditionStatus, ago time.Duration) {
	n := f.m(name).core.object
	n.Status.Conditions = n.Status.Conditions[:1]
	if status != "" {
		n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{
			Type: conditionVoter, Status: status, LastHeartbeatTime: metav1.NewTime(f.now.Add(-ago))})
	}
}

// opened gives a machine a claim that was opened so long ago.
func (f *fleet) opened(name string, ago time.Duration) *provision.Claim {
	m := f.m(name)
	at := f.now.Add(-ago)
	m.claim = &provision.Claim{ID: "secret", Node: name, MAC: pxe.MAC(m.node.Spec.MAC), Purpose: provision.Join, Attempt: 1, Opened: at, Expires: at.Add(30 * time.Minute)}
	return m.claim
}

func (f *fleet) consumed(name string, ago time.Duration) *provision.Claim {
	c := f.opened(name, ago+time.Minute)
	c.ConsumedAt = f.now.Add(-ago)
	return c
}

func (f *fleet) exchanged(name string, ago time.Duration) *provision.Claim {
	c := f.consumed(name, ago+time.Minute)
	c.ExchangedAt = f.now.Add(-ago)
	return c
}

func (f *fleet) failed(name string, ago time.Duration, attempt int) *provision.Claim {
	c := f.consumed(name, ago+time.Minute)
	c.FailedAt, c.Failure, c.Attempt = f.now.Add(-ago), "two disks match", attempt
	return c
}

func (f *fleet) annotated(name, key, value string) *machine {
	m := f.m(name)
	if m.node.Annotations == nil {
		m.node.Annotations = map[string]string{}
	}
	m.node.Annotations[key] = value
	return m
}

func (f *fleet) removing(name string, reason string, status metav1.ConditionStatus, ago time.Duration) {
	m := f.m(name)
	m.node.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionRemoval, Status: status, Reason: reason, LastTransitionTime: metav1.NewTime(f.now.Add(-ago))}}
}

func (f *fleet) deleted(name string, ago time.Duration) {
	at := metav1.NewTime(f.now.Add(-ago))
	f.m(name).node.DeletionTimestamp = &at
}

// held names the rules of a chain that hold a machine, each asked by itself.
func held(c chain, m *machine, f *fleet) (rules []string, message string) {
	for _, p := range c {
		if reason, text, violated := p(m, f); violated {
			rules = append(rules, reason)
			message += text
		}
	}
	return rules, message
}

type policyCase struct {
	reason  string
	machine string
	change  func(*fleet)
	// want are the rules that refuse: in most cases one that does alone.
	want    string
	message string
}

func (tc policyCase) run(t *testing.T, c chain) {
	t.Helper()
	f := home()
	if tc.change != nil {
		tc.change(f)
	}
	got, message := held(c, f.m(tc.machine), f)
	if strings.Join(got, " ") != tc.want {
		t.Errorf("%s: held by %v (%s), want %q", tc.reason, got, message, tc.want)
	}
	if !strings.Contains(message, tc.message) {
		t.Errorf("%s: the message %q lacks %q", tc.reason, message, tc.message)
	}
	reason, text, violated := c.evaluate(f.m(tc.machine), f)
	if violated != (len(got) > 0) || violated && (reason != got[0] || text == "") {
		t.Errorf("%s: the chain says %v %s: %s", tc.reason, violated, reason, text)
	}
}

func TestAdmission(t *testing.T) {
	finding := func(object, message string, severity inventory.Severity) func(*fleet) {
		return func(f *fleet) {
			f.findings = []inventory.Finding{{Rule: "DuplicateMAC", Severity: severity, Object: object, Message: message}}
		}
	}
	for _, tc := range []policyCase{
		{"a worker that nothing holds", "w1", nil, "", ""},
		{"a server that nothing holds", "s3", nil, "", ""},

		{"a finding about it", "w1", finding("Node/w1", "is taken", inventory.Error), "Invalid", "DuplicateMAC"},
		{"a finding that mentions it", "w1", finding("Node/x", "is that of Node/w1", inventory.Error), "Invalid", ""},
		{"a finding that mentions a longer name", "w1", finding("Node/x", "is that of Node/w1-b", inventory.Error), "", ""},
		{"a finding about the Cluster", "w1", finding("Cluster/home", "", inventory.Error), "Invalid", ""},
		{"a finding about its operating system", "w1", finding("OperatingSystem/debian", "", inventory.Error), "Invalid", ""},
		{"a finding about another operating system", "w1", finding("OperatingSystem/other", "", inventory.Error), "", ""},
		{"a finding about no object", "w1", finding("", "no control plane", inventory.Error), "Invalid", ""},
		{"a warning", "w1", finding("Node/w1", "", inventory.Warning), "", ""},
		{"a claim that cannot be read", "w1", func(f *fleet) { f.m("w1").unreadable = "delete the Secret" }, "Invalid", "delete the Secret"},

		{"it is paused", "w1", func(f *fleet) { f.annotated("w1", v1alpha1.AnnotationPaused, "new disk") }, "Paused", "new disk"},
		{"all are paused, without a reason", "w1", func(f *fleet) { f.cluster.Annotations = map[string]string{v1alpha1.AnnotationPaused: ""} }, "Paused", "the Cluster"},
		{"another one is paused", "w1", func(f *fleet) { f.annotated("w2", v1alpha1.AnnotationPaused, "x") }, "", ""},

		{"it is a member", "w1", func(f *fleet) { f.joined("w1", true) }, "MemberExists", "member already"},
		{"another machine has its name", "w1", func(f *fleet) { f.joined("w1", true).addresses[0] = "192.168.1.99" }, "MemberExists", "not this machine"},
		{"another machine has its address", "w1", func(f *fleet) { f.m("w1").others = []member{{name: "localhost"}} }, "MemberExists", "localhost"},

		{"a server whose core Node went by itself", "s3", func(f *fleet) { f.m("s3").node.Status.NodeRef = &v1alpha1.CoreNodeReference{} }, "MemberRemains", "etcdctl member list"},
		{"and a person says that etcd forgot it", "s3", func(f *fleet) {
			f.annotated("s3", v1alpha1.AnnotationRetry, "1").node.Status.NodeRef = &v1alpha1.CoreNodeReference{}
		}, "", ""},
		{"a worker whose core Node went by itself", "w1", func(f *fleet) { f.m("w1").node.Status.NodeRef = &v1alpha1.CoreNodeReference{} }, "MemberRemains", "systemctl restart k3s-agent"},
		{"and a person says that it is to be installed anew", "w1", func(f *fleet) {
			f.annotated("w1", v1alpha1.AnnotationRetry, "1").node.Status.NodeRef = &v1alpha1.CoreNodeReference{}
		}, "", ""},
		{"and healing asks for it", "w1", func(f *fleet) {
			f.m("w1").node.Status.NodeRef = &v1alpha1.CoreNodeReference{}
			f.m("w1").node.Status.Repair = &v1alpha1.RepairStatus{Action: v1alpha1.RepairReinstall, Reinstall: "1"}
		}, "", ""},

		{"healing gave it up, and its claim expired unused", "w1", func(f *fleet) {
			f.opened("w1", 35*time.Minute)
			f.givenUp("w1")
		}, "Quarantined", "rhizome.dev/retry"},
		{"healing gave another one up", "w1", func(f *fleet) { f.givenUp("w2") }, "", ""},
		{"healing gave a server up that would be next", "s4", func(f *fleet) { f.givenUp("s3") }, "", ""},

		{"three attempts failed", "w1", func(f *fleet) { f.failed("w1", time.Hour, 3) }, "AttemptsExhausted", "two disks match"},
		{"three attempts failed, and their record is lost", "w1", func(f *fleet) { f.m("w1").node.Status.Attempts = 3 }, "AttemptsExhausted", ""},
		{"three attempts failed, and a person clears them", "w1", func(f *fleet) {
			f.failed("w1", time.Hour, 3)
			f.annotated("w1", v1alpha1.AnnotationRetry, "1")
		}, "", ""},
		{"three attempts failed, and a person cleared earlier ones", "w1", func(f *fleet) {
			f.failed("w1", time.Hour, 3)
			f.annotated("w1", v1alpha1.AnnotationRetry, "1").node.Status.Honoured = map[string]string{honouredRetry: "1"}
		}, "AttemptsExhausted", ""},

		{"the first attempt failed just now", "w1", func(f *fleet) { f.failed("w1", 59*time.Second, 1) }, "BackOff", "12:00:01"},
		{"the first attempt failed a minute ago", "w1", func(f *fleet) { f.failed("w1", time.Minute, 1) }, "", ""},
		{"the second failed a minute ago", "w1", func(f *fleet) { f.failed("w1", time.Minute, 2) }, "BackOff", ""},
		{"a claim expired unused", "w1", func(f *fleet) { f.opened("w1", 34*time.Minute) }, "BackOff", ""},
		{"a claim expired unused a while ago", "w1", func(f *fleet) { f.opened("w1", 35*time.Minute) }, "", ""},

		{"a removal runs", "w1", func(f *fleet) {
			f.joined("w2", true)
			f.removing("w2", v1alpha1.ReasonDraining, metav1.ConditionTrue, 0)
		}, "RemovalRuns", "w2"},
		{"a reinstallation that was given up stands still", "w1", func(f *fleet) {
			f.joined("w2", true)
			f.removing("w2", v1alpha1.ReasonRebooting, metav1.ConditionTrue, 0)
			f.givenUp("w2")
		}, "", ""},
		{"a member that was given up is deleted", "w1", func(f *fleet) {
			f.joined("w2", true)
			f.removing("w2", v1alpha1.ReasonDraining, metav1.ConditionTrue, 0)
			f.givenUp("w2")
			f.deleted("w2", time.Hour)
		}, "RemovalRuns", "w2"},
		{"a removal is held", "w1", func(f *fleet) {
			f.joined("w2", true)
			f.removing("w2", v1alpha1.ReasonQuorum, metav1.ConditionFalse, 0)
		}, "", ""},
		{"a repair runs", "w1", func(f *fleet) { f.repairing = "w2" }, "RepairRuns", "w2"},

		{"another server is being installed", "s4", func(f *fleet) { f.consumed("s3", time.Minute) }, "ControlPlaneOrder", "s3 is being installed"},
		{"another server has a claim that cannot be read", "s3", func(f *fleet) { f.m("s4").unreadable = "x" }, "ControlPlaneOrder", "s4"},
		{"another server joins", "s4", func(f *fleet) { f.exchanged("s3", time.Minute) }, "ControlPlaneOrder", "s3"},
		{"a server learns", "s3", func(f *fleet) { f.vote("s2", corev1.ConditionFalse, time.Minute) }, "ControlPlaneOrder", "does not vote"},
		{"a server fell silent", "s3", func(f *fleet) { f.vote("s2", corev1.ConditionTrue, 7*time.Minute) }, "ControlPlaneOrder", "does not answer"},
		{"nothing is known of a server", "s3", func(f *fleet) { f.vote("s2", "", 0) }, "ControlPlaneOrder", "not known"},
		{"a server of an earlier name comes first", "s4", nil, "ControlPlaneOrder", "s3 comes first"},
		{"a server of an earlier name that is paused does not", "s4", func(f *fleet) { f.annotated("s3", v1alpha1.AnnotationPaused, "") }, "", ""},
		{"a server of an earlier name that failed does not", "s4", func(f *fleet) { f.failed("s3", time.Hour, 3) }, "", ""},
		{"a server of an earlier name that backs off does not", "s4", func(f *fleet) { f.failed("s3", time.Second, 1) }, "", ""},
		{"a server of an earlier name that is deleted does not", "s4", func(f *fleet) { f.deleted("s3", 0) }, "", ""},
		{"a worker beside a server", "w1", func(f *fleet) { f.consumed("s3", time.Minute) }, "", ""},
		{"a worker without any Ready server", "w1", func(f *fleet) { f.joined("s1", false); f.joined("s2", false) }, "ControlPlaneOrder", "no server is Ready"},
		{"a worker with one server of two", "w1", func(f *fleet) { f.joined("s1", false) }, "", ""},

		{"as many workers as may", "w1", func(f *fleet) { f.opened("w2", time.Minute); f.exchanged("w3", time.Minute) }, "ConcurrencyCap", "(2)"},
		{"one of them is a member and not Ready yet", "w1", func(f *fleet) {
			f.opened("w2", time.Minute)
			f.joined("w3", false)
			f.m("w3").node.Status = v1alpha1.NodeStatus{Phase: v1alpha1.PhaseJoining}
			f.exchanged("w3", time.Minute)
		}, "ConcurrencyCap", ""},
		{"one of them is Ready", "w1", func(f *fleet) { f.opened("w2", time.Minute); f.joined("w3", true); f.exchanged("w3", time.Minute) }, "", ""},
		{"one of them failed", "w1", func(f *fleet) { f.opened("w2", time.Minute); f.failed("w3", time.Minute, 1) }, "", ""},
		{"one of them was never Ready in time", "w1", func(f *fleet) {
			f.opened("w2", time.Minute)
			f.joined("w3", false)
			f.m("w3").node.Status = v1alpha1.NodeStatus{Phase: v1alpha1.PhaseJoining}
			f.exchanged("w3", 31*time.Minute)
		}, "", ""},
		{"one of them is a server", "w1", func(f *fleet) { f.opened("w2", time.Minute); f.opened("s3", time.Minute) }, "", ""},

		{"no PXE pod", "w1", func(f *fleet) { f.cluster.Status.PXE = nil }, "PXENotReady", "no PXE pod runs"},
		{"a PXE pod that fetches", "w1", func(f *fleet) {
			f.cluster.Status.PXE = []v1alpha1.PXEPod{{Node: "s1", Message: "fetching debian.raw"}}
		}, "PXENotReady", "fetching debian.raw"},
		{"a PXE pod on the machine itself", "w1", func(f *fleet) { f.cluster.Status.PXE[0].Node = "w1" }, "PXENotReady", ""},

		{"no credentials can be made", "w1", func(f *fleet) { f.noCredentials = "there is no Secret" }, "NoCredentials", "there is no Secret"},
	} {
		tc.run(t, admission)
	}
	f := home()
	f.cluster = nil
	if reason, _, violated := admission.evaluate(f.m("w1"), f); !violated || reason != v1alpha1.ReasonInvalid {
		t.Errorf("without a Cluster: %v %s", violated, reason)
	}
}

func TestRemovalRules(t *testing.T) {
	for _, tc := range []policyCase{
		{"a worker that nothing holds", "w1", nil, "", ""},
		{"a server of three that nothing holds", "s3", nil, "", ""},
		{"there is no Cluster", "w1", func(f *fleet) { f.cluster = nil }, "NoCluster", ""},
		{"it is paused", "w1", func(f *fleet) { f.annotated("w1", v1alpha1.AnnotationPaused, "x") }, "Paused", ""},

		{"it was deleted just now", "w1", func(f *fleet) { f.deleted("w1", 29*time.Second) }, "Settling", ""},
		{"it was deleted just now, and a person is sure", "w1", func(f *fleet) {
			f.deleted("w1", 0)
			f.annotated("w1", v1alpha1.AnnotationRemoval, v1alpha1.RemovalConfirm)
		}, "", ""},
		{"it is to be installed anew", "w1", func(f *fleet) { f.m("w1").node.DeletionTimestamp = nil }, "", ""},

		{"another member was deleted with it", "w1", func(f *fleet) { f.deleted("w2", time.Hour) }, "MassRemoval", v1alpha1.AnnotationRemoval},
		{"it was deleted with others that are gone", "w1", func(f *fleet) { f.removing("w1", v1alpha1.ReasonMassRemoval, metav1.ConditionFalse, 0) }, "MassRemoval", ""},
		{"and a person is sure", "w1", func(f *fleet) {
			f.deleted("w2", time.Hour)
			f.annotated("w1", v1alpha1.AnnotationRemoval, v1alpha1.RemovalConfirm)
		}, "", ""},
		{"another one is deleted that stays", "w1", func(f *fleet) {
			f.deleted("w2", time.Hour)
			f.annotated("w2", v1alpha1.AnnotationRemoval, v1alpha1.RemovalKeep)
		}, "", ""},
		{"another one is deleted that never was a member", "w1", func(f *fleet) { f.deleted("w3", time.Hour); f.m("w3").core = nil }, "", ""},

		{"another removal runs", "w1", func(f *fleet) { f.removing("w2", v1alpha1.ReasonDraining, metav1.ConditionTrue, 0) }, "OneAtATime", "w2"},
		{"another reinstallation was given up", "w1", func(f *fleet) {
			f.removing("w2", v1alpha1.ReasonRebooting, metav1.ConditionTrue, 0)
			f.givenUp("w2")
		}, "", ""},
		{"another one is being installed anew", "w1", func(f *fleet) { f.m("w2").core = nil; f.consumed("w2", time.Minute) }, "OneAtATime", "w2"},
		{"a repair runs", "w1", func(f *fleet) { f.repairing = "w2" }, "OneAtATime", "w2"},
		{"a worker is being installed for the first time", "w1", func(f *fleet) {
			f.m("w2").core, f.m("w2").node.Status = nil, v1alpha1.NodeStatus{}
			f.consumed("w2", time.Minute)
		}, "", ""},

		{"a server is being installed", "w1", func(f *fleet) { f.consumed("s4", time.Minute) }, "InstallationRuns", "s4"},

		{"it is the last server", "s3", func(f *fleet) {
			f.m("s1").core, f.m("s2").core = nil, nil
			f.m("s1").node.Status.NodeRef, f.m("s2").node.Status.NodeRef = nil, nil
			f.joined("s3", true)
		}, "LastControlPlane", ""},
		{"it is the last server that is Ready", "s3", func(f *fleet) { f.joined("s1", false); f.joined("s2", false) }, "LastControlPlane Quorum", ""},
		{"of the other servers none is Ready, though both vote", "s3", func(f *fleet) {
			for i := range f.servers {
				f.servers[i].ready = metav1.ConditionFalse
			}
		}, "LastControlPlane Quorum", ""},
		{"a worker without any other Ready server", "w1", func(f *fleet) { f.joined("s1", false); f.joined("s2", false); f.joined("s3", false) }, "", ""},
		{"nothing is known of a server", "s3", func(f *fleet) { f.vote("s2", "", 0) }, "VotersUnknown", "s2"},
		{"a server learns", "s3", func(f *fleet) { f.vote("s2", corev1.ConditionFalse, time.Minute) }, "VotersUnknown", "s2"},
		{"the core Node of one of two that stay is gone, and its member of etcd may be there", "s3", func(f *fleet) {
			f.m("s4").node.Status.NodeRef = &v1alpha1.CoreNodeReference{}
			f.vote("s2", corev1.ConditionTrue, 7*time.Minute)
		}, "Quorum", "3 voters of etcd stay, and 1"},
		{"two stay that answer, and the core Node of a third is gone", "s3", func(f *fleet) { f.m("s4").node.Status.NodeRef = &v1alpha1.CoreNodeReference{} }, "", ""},
		{"one of two that stay is silent", "s3", func(f *fleet) { f.vote("s2", corev1.ConditionTrue, 7*time.Minute) }, "Quorum", "2 voters of etcd stay, and 1"},
		{"one of three that stay is silent", "s3", func(f *fleet) { f.joined("s4", true); f.vote("s2", corev1.ConditionTrue, time.Hour) }, "", ""},
		{"the dead one of three", "s3", func(f *fleet) { f.joined("s3", false) }, "", ""},
		{"a worker while a server is silent", "w1", func(f *fleet) { f.vote("s2", corev1.ConditionTrue, time.Hour) }, "", ""},
	} {
		change := tc.change
		tc.change = func(f *fleet) {
			for _, name := range []string{"s3", "w1", "w2", "w3"} {
				f.joined(name, true)
			}
			f.deleted(tc.machine, time.Hour)
			if change != nil {
				change(f)
			}
		}
		tc.run(t, append(append(chain{}, beforehand...), quorate...))
	}
}

// givenUp is healing's last word on a machine.
func (f *fleet) givenUp(name string) {
	f.m(name).node.Status.Repair = &v1alpha1.RepairStatus{Quarantined: &metav1.Time{Time: t0}}
}

func TestAVoteIsWhatWasSaidLately(t *testing.T) {
	for _, c := range []struct {
		said  corev1.ConditionStatus
		ago   time.Duration
		ready bool
		want  vote
	}{
		{corev1.ConditionTrue, 6 * time.Minute, true, votes},
		{corev1.ConditionTrue, 6*time.Minute + time.Second, true, silent},
		{corev1.ConditionTrue, -2 * time.Minute, true, silent},
		{corev1.ConditionTrue, time.Minute, false, silent},
		{corev1.ConditionFalse, time.Minute, true, learns},
		{corev1.ConditionFalse, 7 * time.Minute, true, unknown},
		{corev1.ConditionUnknown, time.Minute, true, unknown},
		{"", 0, true, unknown},
	} {
		f := home()
		f.joined("s2", c.ready)
		f.vote("s2", c.said, c.ago)
		if got := f.m("s2").core.vote(t0); got != c.want {
			t.Errorf("%q %s ago, ready %v: %s, want %s", c.said, c.ago, c.ready, got, c.want)
		}
	}
}
