package node_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

func TestAWorkerLeaves(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.member(v1alpha1.Worker, "w1")
	w.password("w1")
	w.run()
	w.await("w1", v1alpha1.PhaseReady)
	w.pod("moves", "w1", nil)
	w.pod("done", "w1", func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} })
	w.pod("daemon", "w1", func(p *corev1.Pod) {
		yes := true
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "d", UID: "1", Controller: &yes}}
	})
	w.pod("guarded", "w1", nil)
	w.budget("guarded")
	w.remove("w1")
	w.await("w1", v1alpha1.PhaseReady, "Removal=False Settling")
	if w.core("w1").Spec.Unschedulable {
		t.Error("it is cordoned before the removal begins")
	}
	w.settled()
	w.await("w1", v1alpha1.PhaseRemoving, "Removal=True Draining")
	w.eventually("the pods that can move", func() string {
		if got := strings.Join(w.pods(), " "); got != "daemon done guarded" {
			return got
		}
		return ""
	})
	if !w.core("w1").Spec.Unschedulable {
		t.Error("it is not cordoned")
	}
	w.restart()
	n := w.await("w1", v1alpha1.PhaseRemoving, "Removal=True Draining")
	if c := meta.FindStatusCondition(n.Status.Conditions, "Removal"); !strings.Contains(c.Message, "default/guarded") {
		t.Errorf("the message names no pod: %s", c.Message)
	}
	w.pass(11 * time.Minute)
	w.gone("w1")
	if w.core("w1") != nil || w.hasPassword("w1") {
		t.Error("its core Node or its password is left")
	}
}

func TestAServerLeavesEtcdFirst(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.member(v1alpha1.ControlPlane, "s2", "s3")
	w.run()
	w.await("s3", v1alpha1.PhaseReady)
	w.remove("s3")
	w.await("s3", v1alpha1.PhaseReady, "Removal=False Settling")
	w.settled()
	w.await("s3", v1alpha1.PhaseRemoving, "Removal=True LeavingEtcd")
	w.restart()
	w.etcd("s3")
	w.eventually("the time of its leaving", func() string {
		if w.core("s3").Annotations[v1alpha1.AnnotationLeftEtcd] == "" {
			return "is not noted"
		}
		return ""
	})
	w.restart()
	w.await("s3", v1alpha1.PhaseRemoving, "Removal=True LeavingEtcd")
	if w.core("s3") == nil {
		t.Fatal("its core Node went before etcd settled")
	}
	// Nothing is installed meanwhile.
	w.declare(v1alpha1.Worker, "w1")
	w.await("w1", v1alpha1.PhaseDeclared, "Admitted=False RemovalRuns")
	w.pass(16 * time.Second)
	w.gone("s3")
	if w.core("s3") != nil {
		t.Error("its core Node is left")
	}
	w.await("w1", v1alpha1.PhaseWaking)
}

func TestGuardsOfAServersRemoval(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.run()
	w.await("s1", v1alpha1.PhaseReady)
	w.member(v1alpha1.ControlPlane, "s2", "s3")
	w.await("s3", v1alpha1.PhaseReady)
	// s3 dies.
	w.kubelet("s3", false, true)
	w.await("s3", v1alpha1.PhaseNotReady)
	w.remove("s2")
	w.await("s2", v1alpha1.PhaseReady, "Removal=False Settling")
	w.settled()
	w.await("s2", v1alpha1.PhaseReady, "Removal=False Quorum")
	// Nothing is known of its vote.
	w.changeCore("s3", func(n *corev1.Node) {
		n.Status.Conditions = slices.DeleteFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == "EtcdIsVoter" })
	})
	w.await("s2", v1alpha1.PhaseReady, "Removal=False VotersUnknown")
	w.refresh("s3")
	w.await("s2", v1alpha1.PhaseRemoving, "Removal=True LeavingEtcd")
}

func TestTheLastServerStays(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.run()
	w.await("s1", v1alpha1.PhaseReady)
	w.remove("s1")
	w.await("s1", v1alpha1.PhaseReady, "Removal=False Settling")
	w.settled()
	w.await("s1", v1alpha1.PhaseReady, "Removal=False LastControlPlane")
	w.annotate("s1", v1alpha1.AnnotationRemoval, v1alpha1.RemovalKeep)
	w.gone("s1")
	if n := w.core("s1"); n == nil || n.Spec.Unschedulable {
		t.Error("a member that was to stay did not, or is cordoned")
	}
}

func TestAMassDeletionIsHeldUntilEachIsConfirmed(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.member(v1alpha1.ControlPlane, "s2", "s3")
	w.member(v1alpha1.Worker, "w1", "w2")
	w.declare(v1alpha1.Worker, "w3")
	w.run()
	all := []string{"s1", "s2", "s3", "w1", "w2"}
	for _, name := range all {
		w.await(name, v1alpha1.PhaseReady)
	}
	w.remove(append(all, "w3")...)
	w.gone("w3") // it never was a member
	for _, name := range all {
		w.await(name, v1alpha1.PhaseReady, "Removal=False MassRemoval")
	}
	w.settled()
	w.refresh("s1", "s2", "s3")
	w.restart()
	w.nudge()
	w.annotate("w1", v1alpha1.AnnotationRemoval, v1alpha1.RemovalConfirm)
	w.gone("w1")
	w.annotate("s1", v1alpha1.AnnotationRemoval, v1alpha1.RemovalKeep)
	w.annotate("s2", v1alpha1.AnnotationRemoval, v1alpha1.RemovalKeep)
	w.annotate("s3", v1alpha1.AnnotationRemoval, v1alpha1.RemovalKeep)
	for _, name := range []string{"s1", "s2", "s3"} {
		w.gone(name)
	}
	// The one that is left is alone by now, and still was deleted with others.
	w.settled()
	w.await("w2", v1alpha1.PhaseReady, "Removal=False MassRemoval")
	for _, name := range []string{"s1", "s2", "s3", "w2"} {
		if w.core(name) == nil {
			t.Errorf("the core Node %s is gone", name)
		}
	}
}

func TestRemovalsAreOneAtATime(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.member(v1alpha1.Worker, "w1", "w2")
	w.run()
	w.await("w1", v1alpha1.PhaseReady)
	w.await("w2", v1alpha1.PhaseReady)
	w.pod("guarded", "w1", nil)
	w.budget("guarded")
	w.remove("w1")
	w.await("w1", v1alpha1.PhaseReady, "Removal=False Settling")
	w.settled()
	w.await("w1", v1alpha1.PhaseRemoving, "Removal=True Draining")
	w.remove("w2")
	w.annotate("w2", v1alpha1.AnnotationRemoval, v1alpha1.RemovalConfirm)
	w.await("w2", v1alpha1.PhaseReady, "Removal=False OneAtATime")
	w.pass(11 * time.Minute)
	w.gone("w1")
	w.gone("w2")
}

func TestAMachineUnderInstallationIsRemoved(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.declare(v1alpha1.Worker, "w1", "w2")
	w.run()
	w.await("w1", v1alpha1.PhaseWaking)
	for _, s := range steps[:3] {
		s.do(w, "w2")
	}
	w.credentials("w2")
	w.remove("w1", "w2")
	w.gone("w1")
	w.gone("w2")
	for _, name := range []string{"w1", "w2"} {
		if _, ok := w.claim(name); ok || len(w.tokens(name)) > 0 {
			t.Errorf("%s left a claim or a token", name)
		}
	}
}

func TestALeftOverTokenOfAKilledOperatorIsRemoved(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.make(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "bootstrap-token-abcdef", Labels: map[string]string{v1alpha1.LabelToken: "w7"}}})
	w.run()
	w.eventually("the token", func() string {
		if len(w.tokens("w7")) > 0 {
			return "is still there"
		}
		return ""
	})
}
