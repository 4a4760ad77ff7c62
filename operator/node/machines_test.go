package node_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe"
)

func homeCluster() *v1alpha1.Cluster {
	return &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "home"}, Spec: v1alpha1.ClusterSpec{
		Network:         v1alpha1.NetworkSpec{CIDR: "192.168.1.0/24", Gateway: "192.168.1.1"},
		Kubernetes:      v1alpha1.KubernetesSpec{Version: "v1.33.5+k3s1"},
		OperatingSystem: "debian",
		Growth:          v1alpha1.GrowthSpec{MaxConcurrent: 2},
	}}
}

func operatingSystem(name string) *v1alpha1.OperatingSystem {
	return &v1alpha1.OperatingSystem{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.OperatingSystemSpec{
		Format: v1alpha1.FormatImage,
		Media: []v1alpha1.Medium{{Architecture: v1alpha1.AMD64, File: v1alpha1.File{
			URL: "https://example.org/" + v1alpha1.URL(name) + ".raw", SHA256: v1alpha1.SHA256(strings.Repeat("0", 64)),
		}}},
	}}
}

// declare makes Nodes; the number of one is in its MAC and address.
func (w *world) declare(role v1alpha1.Role, all ...string) {
	w.t.Helper()
	for _, name := range all {
		i := number(name)
		w.make(&v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.NodeSpec{
			Role: role, MAC: v1alpha1.MAC(macOf(name)), Address: v1alpha1.Address(fmt.Sprintf("192.168.1.%d", 10+i)),
		}})
	}
}

// number of a machine: s1 is 1, w1 is 101.
func number(name string) int {
	var i int
	if _, err := fmt.Sscanf(name[1:], "%d", &i); err != nil {
		panic(name)
	}
	if name[0] == 'w' {
		i += 100
	}
	return i
}

func macOf(name string) pxe.MAC { return pxe.MAC(fmt.Sprintf("52:54:00:00:00:%02x", number(name))) }

func addressOf(name string) netip.Addr {
	return netip.AddrFrom4([4]byte{192, 168, 1, byte(10 + number(name))})
}

// found makes the cluster as the seed leaves it: with s1 as its only member, and a
// PXE pod.
func (w *world) found() {
	w.t.Helper()
	w.make(operatingSystem("debian"), homeCluster())
	w.declare(v1alpha1.ControlPlane, "s1")
	w.appear("s1", true)
	w.serve(true)
}

// serve says whether the PXE pods are ready.
func (w *world) serve(ready bool) {
	w.t.Helper()
	var c v1alpha1.Cluster
	if err := w.Get(w.t.Context(), client.ObjectKey{Name: "home"}, &c); err != nil {
		w.t.Fatal(err)
	}
	before := c.DeepCopy()
	c.Status.PXE = []v1alpha1.PXEPod{
		{Node: "s1", Pod: "pxe-1", Address: "192.168.1.11", Ready: ready, Message: "fetching debian.raw"},
		{Node: "w9", Pod: "pxe-2", Address: "192.168.1.119", Ready: ready},
	}
	if err := w.Status().Patch(w.t.Context(), &c, client.MergeFrom(before)); err != nil {
		w.t.Fatal(err)
	}
}

// appear is a kubelet that registers its node, or comes back.
func (w *world) appear(name string, ready bool) {
	w.t.Helper()
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubernetes.io/hostname": name}}}
	if name[0] == 's' {
		n.Labels["node-role.kubernetes.io/control-plane"] = "true"
	}
	if err := client.IgnoreAlreadyExists(w.Create(w.t.Context(), n)); err != nil {
		w.t.Fatal(err)
	}
	w.kubelet(name, ready, true)
}

// kubelet says what the node's kubelet says, and k3s of its vote.
func (w *world) kubelet(name string, ready, votes bool) {
	w.t.Helper()
	w.changeCore(name, func(n *corev1.Node) {
		status := func(b bool) corev1.ConditionStatus {
			if b {
				return corev1.ConditionTrue
			}
			return corev1.ConditionFalse
		}
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: addressOf(name).String()}}
		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status(ready), Reason: "Test", Message: "says the test"}}
		if name[0] == 's' {
			n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{
				Type: "EtcdIsVoter", Status: status(votes), LastHeartbeatTime: metav1.NewTime(w.clock())})
		}
	})
}

// changeCore changes a core Node and its status.
func (w *world) changeCore(name string, change func(*corev1.Node)) {
	w.t.Helper()
	w.eventually("changing the core Node "+name, func() string {
		var n corev1.Node
		if err := w.Get(w.t.Context(), client.ObjectKey{Name: name}, &n); err != nil {
			return err.Error()
		}
		change(&n)
		status := n.Status
		if err := w.Update(w.t.Context(), &n); err != nil {
			return err.Error()
		}
		n.Status = status
		if err := w.Status().Update(w.t.Context(), &n); err != nil {
			return err.Error()
		}
		return ""
	})
}

func (w *world) core(name string) *corev1.Node {
	w.t.Helper()
	var n corev1.Node
	if err := w.Get(w.t.Context(), client.ObjectKey{Name: name}, &n); err != nil {
		if client.IgnoreNotFound(err) == nil {
			return nil
		}
		w.t.Fatal(err)
	}
	return &n
}

func (w *world) get(name string) *v1alpha1.Node {
	w.t.Helper()
	var n v1alpha1.Node
	if err := w.Get(w.t.Context(), client.ObjectKey{Name: name}, &n); err != nil {
		if client.IgnoreNotFound(err) == nil {
			return nil
		}
		w.t.Fatal(err)
	}
	return &n
}

// claim is the machine's claim, as a PXE pod reads it.
func (w *world) claim(name string) (provision.Claim, bool) {
	w.t.Helper()
	c, ok, err := w.store.OfNode(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	return c, ok
}

// transition changes the claim as a PXE pod does.
func (w *world) transition(name string, change func(*provision.Claim) error) {
	w.t.Helper()
	if _, ok := w.claim(name); !ok {
		w.t.Fatalf("%s has no claim", name)
	}
	if err := w.store.Update(w.t.Context(), macOf(name), change); err != nil {
		w.t.Fatal(err)
	}
}

// boot is what a PXE pod writes down of a stage of the boot.
func (w *world) boot(name, stage string) {
	w.t.Helper()
	w.eventually("observing "+name, func() string {
		n := w.get(name)
		before := n.DeepCopy()
		if n.Status.Boot == nil {
			n.Status.Boot = &v1alpha1.BootObservation{}
		}
		b := n.Status.Boot
		b.Stage = stage
		b.Stages = slices.DeleteFunc(b.Stages, func(s v1alpha1.BootStage) bool { return s.Stage == stage })
		b.Stages = append(b.Stages, v1alpha1.BootStage{Stage: stage, At: metav1.NewTime(w.clock())})
		if err := w.Status().Patch(w.t.Context(), n, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
			return err.Error()
		}
		return ""
	})
}

// machine is one that the test plays, step by step.
var steps = []struct {
	name string
	do   func(w *world, name string)
}{
	{"is called", func(w *world, name string) { w.await(name, v1alpha1.PhaseWaking, "Admitted=True Admitted") }},
	{"asks for an address", func(w *world, name string) {
		w.pass(time.Second)
		w.boot(name, "DHCP")
		w.await(name, v1alpha1.PhaseBooting)
	}},
	{"fetches its init config", func(w *world, name string) {
		w.transition(name, func(c *provision.Claim) error { return c.Consume(w.clock(), netip.MustParseAddr("192.168.1.200")) })
		w.boot(name, "InitConfig")
		w.await(name, v1alpha1.PhaseInstalling)
	}},
	{"is installed", func(w *world, name string) {
		w.transition(name, func(c *provision.Claim) error { return c.Install(w.clock(), "") })
		w.await(name, v1alpha1.PhaseInstalling)
	}},
	{"asks for its credentials", func(w *world, name string) {
		w.credentials(name)
		w.transition(name, func(c *provision.Claim) error { return c.Exchange(w.clock(), addressOf(name)) })
		w.await(name, v1alpha1.PhaseJoining)
	}},
	{"registers", func(w *world, name string) {
		w.appear(name, false)
		w.await(name, v1alpha1.PhaseJoining, "Joined=True Matched")
	}},
	{"is ready", func(w *world, name string) { w.kubelet(name, true, true) }},
	{"is a member", func(w *world, name string) {
		n := w.await(name, v1alpha1.PhaseReady, "Joined=True Matched", "Ready=True MemberReady", "-Admitted")
		if n.Status.Installed == nil || n.Status.Attempts != 0 {
			w.t.Errorf("%s: installed %v, attempts %d", name, n.Status.Installed, n.Status.Attempts)
		}
		w.eventually("the end of "+name+"'s claim", func() string {
			if _, ok := w.claim(name); ok {
				return "it is still there"
			}
			if tokens := w.tokens(name); len(tokens) > 0 {
				return fmt.Sprintf("there are still %d tokens", len(tokens))
			}
			return ""
		})
	}},
}

// grow plays a machine from its call to its membership.
func (w *world) grow(name string) {
	w.t.Helper()
	for _, s := range steps {
		s.do(w, name)
	}
}

// credentials are what the machine gets; it asks until they are there.
func (w *world) credentials(name string) []k3s.File {
	w.t.Helper()
	var files []k3s.File
	w.eventually("the credentials of "+name, func() string {
		c, _ := w.claim(name)
		var err error
		if files, err = w.store.Credentials(w.t.Context(), w.get(name), c); err != nil {
			return err.Error()
		}
		return ""
	})
	return files
}

func (w *world) tokens(name string) []corev1.Secret {
	w.t.Helper()
	var list corev1.SecretList
	if err := w.List(w.t.Context(), &list, client.InNamespace("kube-system"), client.MatchingLabels{v1alpha1.LabelToken: name}); err != nil {
		w.t.Fatal(err)
	}
	return list.Items
}
