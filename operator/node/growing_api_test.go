package node_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/internal/provision"
)

func TestAClusterGrowsInOrder(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.run()
	w.await("s1", v1alpha1.PhaseReady, "-Admitted")
	w.declare(v1alpha1.ControlPlane, "s3", "s2")
	w.declare(v1alpha1.Worker, "w1", "w2", "w3")

	// One server at a time, by name, and beside it two workers.
	w.await("s2", v1alpha1.PhaseWaking)
	w.await("s3", v1alpha1.PhaseDeclared, "Admitted=False ControlPlaneOrder")
	w.eventually("two workers under way", func() string {
		got := strings.Join(w.phases(), " ")
		if strings.Count(got, "w1=Waking")+strings.Count(got, "w2=Waking")+strings.Count(got, "w3=Waking") != 2 || strings.Count(got, "=Declared") != 2 {
			return got
		}
		return ""
	})

	w.grow("s2")
	w.grow("s3")
	var workers []string
	for _, p := range w.phases() {
		if name, ok := strings.CutSuffix(p, "=Waking"); ok {
			workers = append(workers, name)
		}
	}
	if len(workers) != 2 {
		t.Fatalf("workers under way: %v", workers)
	}
	first := workers[0]
	for _, s := range steps[1:3] {
		s.do(w, first)
	}
	files := w.credentials(first)
	config := contentOf(files, k3s.ConfigPath)
	if strings.Contains(config, "server:"+w.founded.ServerPassword) || strings.Contains(config, "::server:") {
		t.Error("a worker got the server token")
	}
	tokens := w.tokens(first)
	if len(tokens) != 1 || !strings.Contains(config, string(tokens[0].Data["token-secret"])) {
		t.Errorf("%d tokens, and the config is\n%s", len(tokens), config)
	}
	for _, s := range steps[3:] {
		s.do(w, first)
	}
	for _, name := range []string{"w1", "w2", "w3"} {
		if name != first {
			w.grow(name)
		}
	}
	want := []string{"s1=Ready", "s2=Ready", "s3=Ready", "w1=Ready", "w2=Ready", "w3=Ready"}
	if diff := cmp.Diff(want, w.phases()); diff != "" {
		t.Errorf("phases (-want +got):\n%s", diff)
	}
	for _, name := range []string{"s2", "w3"} {
		n := w.get(name)
		if !slices.Contains(n.Finalizers, v1alpha1.FinalizerMember) || n.Status.Claim == nil || n.Status.Claim.State != "Exchanged" {
			t.Errorf("%s: finalizers %v, claim %+v", name, n.Finalizers, n.Status.Claim)
		}
		if n.Status.NodeRef == nil || n.Status.NodeRef.UID != string(w.core(name).UID) {
			t.Errorf("%s is the core Node %+v", name, n.Status.NodeRef)
		}
	}
}

func TestAServerWaitsUntilTheOneBeforeVotes(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.kubelet("s1", true, false)
	w.declare(v1alpha1.ControlPlane, "s2")
	w.run()
	w.await("s2", v1alpha1.PhaseDeclared, "Admitted=False ControlPlaneOrder")
	w.kubelet("s1", true, true)
	w.await("s2", v1alpha1.PhaseWaking)
	files := func() []k3s.File {
		for _, s := range steps[1:3] {
			s.do(w, "s2")
		}
		return w.credentials("s2")
	}()
	config := contentOf(files, k3s.ConfigPath)
	for _, line := range []string{"server: https://192.168.1.11:6443\n", "::server:" + w.founded.ServerPassword + "\n"} {
		if !strings.Contains(config, line) {
			t.Errorf("the config of a server lacks %q", line)
		}
	}
	if strings.Contains(config, "cluster-init") {
		t.Error("a further server would found a cluster")
	}
}

// TestAnOperatorThatIsKilledAnywhereGoesOn kills the operator before each step of
// two machines' lives.
func TestAnOperatorThatIsKilledAnywhereGoesOn(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.declare(v1alpha1.ControlPlane, "s2")
	w.declare(v1alpha1.Worker, "w1")
	w.run()
	for _, s := range steps {
		s.do(w, "s2")
		w.restart()
		s.do(w, "w1")
		w.restart()
	}
	for _, name := range []string{"s2", "w1"} {
		if n := w.get(name); n.Status.Claim.Attempt != 1 {
			t.Errorf("%s took %d attempts", name, n.Status.Claim.Attempt)
		}
	}
}

// TestTheCapHoldsWhoeverOpenedTheClaims: an operator that starts finds claims of
// its predecessor before it has read a single status.
func TestTheCapHoldsWhoeverOpenedTheClaims(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.declare(v1alpha1.Worker, "w1", "w2", "w3", "w4")
	for _, name := range []string{"w3", "w4"} {
		n := w.get(name)
		c, err := provision.OpenClaim(homeCluster(), n, provision.Join, 1, "", w.clock)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.store.Open(t.Context(), n, c); err != nil {
			t.Fatal(err)
		}
	}
	w.run()
	w.await("w3", v1alpha1.PhaseWaking)
	w.await("w4", v1alpha1.PhaseWaking)
	for _, name := range []string{"w1", "w2"} {
		w.await(name, v1alpha1.PhaseDeclared, "Admitted=False ConcurrencyCap")
		if _, ok := w.claim(name); ok {
			t.Errorf("%s has a claim", name)
		}
	}
}

func TestFailedAttemptsAreCountedAndAPersonClearsThem(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.declare(v1alpha1.Worker, "w1")
	w.run()
	for attempt := 1; attempt <= 3; attempt++ {
		for _, s := range steps[:3] {
			s.do(w, "w1")
		}
		if c, _ := w.claim("w1"); c.Attempt != attempt {
			t.Fatalf("attempt %d, want %d", c.Attempt, attempt)
		}
		w.credentials("w1")
		w.transition("w1", func(c *provision.Claim) error { return c.Fail(w.clock(), "", "two disks match") })
		if attempt < 3 {
			n := w.await("w1", v1alpha1.PhaseDeclared, "Admitted=False BackOff")
			if n.Status.Claim.State != "Failed" || !strings.Contains(n.Status.Claim.Message, "two disks match") {
				t.Errorf("the claim is %+v", n.Status.Claim)
			}
			w.eventually("the tokens of a failed attempt", func() string {
				if len(w.tokens("w1")) > 0 {
					return "are still there"
				}
				return ""
			})
			w.pass(time.Minute << (attempt - 1))
		}
	}
	n := w.await("w1", v1alpha1.PhaseFailed, "Admitted=False AttemptsExhausted")
	if n.Status.Attempts != 3 {
		t.Errorf("attempts %d", n.Status.Attempts)
	}
	w.pass(24 * time.Hour)
	w.serve(true)
	w.kubelet("s1", true, true)
	w.await("w1", v1alpha1.PhaseFailed)
	w.annotate("w1", v1alpha1.AnnotationRetry, "disk replaced")
	w.await("w1", v1alpha1.PhaseWaking)
	if c, _ := w.claim("w1"); c.Attempt != 1 {
		t.Errorf("after the retry attempt %d", c.Attempt)
	}
	w.grow("w1")
	if got := w.get("w1").Status.Honoured["retry"]; got != "disk replaced" {
		t.Errorf("honoured %q", got)
	}
}

func TestAMachineThatFallsSilentIsTriedAgain(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.declare(v1alpha1.Worker, "w1")
	w.run()
	for _, s := range steps[:3] {
		s.do(w, "w1")
	}
	w.pass(15*time.Minute + 10*time.Second)
	w.await("w1", v1alpha1.PhaseDeclared, "Admitted=False BackOff")
	w.pass(time.Minute)
	w.kubelet("s1", true, true)
	w.grow("w1")
}

func TestAMachineThatNeverBootsLeavesItsPlace(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.declare(v1alpha1.Worker, "w1", "w2")
	w.run()
	w.await("w1", v1alpha1.PhaseWaking)
	w.await("w2", v1alpha1.PhaseWaking)
	w.declare(v1alpha1.Worker, "w3")
	w.await("w3", v1alpha1.PhaseDeclared, "Admitted=False ConcurrencyCap")
	w.pass(31 * time.Minute)
	w.kubelet("s1", true, true)
	w.await("w1", v1alpha1.PhaseDeclared, "Admitted=False BackOff")
	w.await("w3", v1alpha1.PhaseWaking)
	if n := w.get("w1"); n.Status.Claim.State != "Expired" {
		t.Errorf("the claim is %+v", n.Status.Claim)
	}
	w.annotate("w2", v1alpha1.AnnotationPaused, "w1 is to have the place")
	w.pass(6 * time.Minute)
	w.await("w1", v1alpha1.PhaseWaking)
	if c, _ := w.claim("w1"); c.Attempt != 1 {
		t.Errorf("a claim that nobody used counts: attempt %d", c.Attempt)
	}
}

func TestAPauseTakesAnOpenClaimBack(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.declare(v1alpha1.Worker, "w1")
	w.run()
	w.await("w1", v1alpha1.PhaseWaking)
	w.annotate("w1", v1alpha1.AnnotationPaused, "new cable")
	n := w.await("w1", v1alpha1.PhaseDeclared, "Admitted=False Paused")
	if _, ok := w.claim("w1"); ok {
		t.Error("the claim is still open")
	}
	if n.Status.Attempts != 0 {
		t.Errorf("attempts %d", n.Status.Attempts)
	}
	w.annotate("w1", v1alpha1.AnnotationPaused, "")
	w.grow("w1")
}

func TestATokenIsMadeAnewWhileTheMachineTakesItsTime(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.declare(v1alpha1.Worker, "w1")
	w.run()
	for _, s := range steps[:3] {
		s.do(w, "w1")
	}
	first := contentOf(w.credentials("w1"), k3s.ConfigPath)
	w.pass(5 * time.Minute)
	w.boot("w1", "Installing")
	w.pass(5 * time.Minute)
	w.boot("w1", "Installing")
	w.eventually("another token", func() string {
		tokens := w.tokens("w1")
		second := contentOf(w.credentials("w1"), k3s.ConfigPath)
		if len(tokens) != 1 || second == first || !strings.Contains(second, string(tokens[0].Data["token-secret"])) {
			return "not yet"
		}
		return ""
	})
}

func TestNothingIsInstalledWithoutAPXEPodOrCredentials(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.serve(false)
	w.declare(v1alpha1.Worker, "w1")
	w.run()
	w.await("w1", v1alpha1.PhaseDeclared, "Admitted=False PXENotReady")
	w.serve(true)
	w.await("w1", v1alpha1.PhaseWaking)
}

// TestAMemberIsNotInstalledUnderALeftOverClaim: a machine that comes up by itself
// while its claim is open.
func TestAMemberIsNotInstalledUnderALeftOverClaim(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.declare(v1alpha1.Worker, "w1")
	w.run()
	w.await("w1", v1alpha1.PhaseWaking)
	w.appear("w1", true)
	w.await("w1", v1alpha1.PhaseReady)
	w.eventually("the open claim of a member", func() string {
		if _, ok := w.claim("w1"); ok {
			return "is still there"
		}
		return ""
	})
}

func TestLabelsAndTaintsAreAppliedLive(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.run()
	w.await("s1", v1alpha1.PhaseReady)
	set := func(labels map[string]v1alpha1.LabelValue, taints []v1alpha1.Taint) {
		t.Helper()
		w.eventually("changing the Node", func() string {
			n := w.get("s1")
			n.Spec.Labels, n.Spec.Taints = labels, taints
			if err := w.Update(t.Context(), n); err != nil {
				return err.Error()
			}
			return ""
		})
	}
	looks := func(labels, taints string) {
		t.Helper()
		w.eventually("the core Node", func() string {
			var l, ts []string
			n := w.core("s1")
			for k, v := range n.Labels {
				if !strings.Contains(k, "kubernetes.io") {
					l = append(l, k+"="+v)
				}
			}
			for _, taint := range n.Spec.Taints {
				if !strings.Contains(taint.Key, "kubernetes.io") {
					ts = append(ts, taint.ToString())
				}
			}
			slices.Sort(l)
			slices.Sort(ts)
			if got, want := strings.Join(l, " ")+"; "+strings.Join(ts, " "), labels+"; "+taints; got != want {
				return got + ", want " + want
			}
			return ""
		})
	}
	set(map[string]v1alpha1.LabelValue{"rack": "1", "disk": "ssd"}, []v1alpha1.Taint{{Key: "a", Value: "x", Effect: "NoSchedule"}})
	looks("disk=ssd rack=1", "a=x:NoSchedule")
	w.changeCore("s1", func(n *coreNode) { n.Labels["foreign"] = "yes" })
	set(map[string]v1alpha1.LabelValue{"rack": "2"}, nil)
	looks("foreign=yes rack=2", "")
	set(nil, nil)
	looks("foreign=yes", "")
}

func TestADuplicateHoldsBothThatAreAtOdds(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.declare(v1alpha1.Worker, "w1")
	w.make(&v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: "w2"}, Spec: v1alpha1.NodeSpec{
		Role: v1alpha1.Worker, MAC: v1alpha1.MAC(macOf("w1")), Address: "192.168.1.112",
	}})
	w.run()
	w.await("w1", v1alpha1.PhaseDeclared, "Admitted=False Invalid")
	w.await("w2", v1alpha1.PhaseDeclared, "Admitted=False Invalid")
}
