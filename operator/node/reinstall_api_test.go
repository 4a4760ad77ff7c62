package node_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/provision"
)

func TestAServerIsInstalledAnew(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.change = withImage
	w.member(v1alpha1.ControlPlane, "s2", "s3")
	w.password("s3")
	w.run()
	w.await("s3", v1alpha1.PhaseReady)
	w.annotate("s3", v1alpha1.AnnotationReinstall, "2026-11-22")
	w.await("s3", v1alpha1.PhaseRemoving, "Removal=True Barring")
	w.kubeletSays(w.hostPod("s3", "bar-s3-"), corev1.PodSucceeded, "")
	// Once it has left etcd, no pod would start on it any more.
	restarts := w.hostPod("s3", "reboot-s3-")
	if got, want := strings.Join(restarts.Spec.Containers[0].Args, " "),
		"reboot --when=http://192.168.1.11:7480/boot/"+string(macOf("s3"))+"/ipxe --when=http://192.168.1.119:7480/boot/"+string(macOf("s3"))+"/ipxe --when=http://192.168.1.12:7480/boot/"+string(macOf("s3"))+"/ipxe"; got != want {
		t.Errorf("it runs %s, want %s", got, want)
	}
	if !restarts.Spec.HostPID || !restarts.Spec.HostNetwork {
		t.Errorf("it can neither ask nor restart: %+v", restarts.Spec)
	}
	w.kubeletSays(restarts, corev1.PodRunning, "")
	w.await("s3", v1alpha1.PhaseRemoving, "Removal=True LeavingEtcd")
	if _, ok := w.claim("s3"); ok {
		t.Error("a claim is open before the member left")
	}
	w.etcd("s3")
	w.eventually("the time of its leaving", func() string {
		if w.core("s3").Annotations[v1alpha1.AnnotationLeftEtcd] == "" {
			return "is not noted"
		}
		return ""
	})
	w.pass(16 * time.Second)
	w.etcdLists("s3", "s1", "s2")
	w.await("s3", v1alpha1.PhaseWaking, "Removal=True Rebooting", "Admitted=True Admitted")
	if got := len(w.hostPods("s3")); got != 3 {
		t.Errorf("%d pods were made, want those that keep k3s from starting, read etcd's members, and restart it", got)
	}
	w.restart()
	w.await("s3", v1alpha1.PhaseWaking)
	old := w.core("s3").UID
	for _, s := range steps[1:2] {
		s.do(w, "s3")
	}
	w.transition("s3", func(c *provision.Claim) error { return c.Consume(w.clock(), addressOf("s3")) })
	w.await("s3", v1alpha1.PhaseInstalling, "-Removal", "Joined=False NotJoined")
	if w.core("s3") != nil || w.hasPassword("s3") {
		t.Error("its former core Node or its password is left")
	}
	for _, s := range steps[3:] {
		s.do(w, "s3")
	}
	n := w.get("s3")
	if w.core("s3").UID == old || n.Status.Honoured["reinstall"] != "2026-11-22" || w.core("s3").Spec.Unschedulable {
		t.Errorf("it is not a new member: %+v", n.Status)
	}
	w.nudge()
	w.await("s3", v1alpha1.PhaseReady, "-Removal")
}

// A server whose core Node went by itself stays out until healing asks for it. Then
// etcd's own list must prove that its member is gone before a claim is open.
func TestAServerWhoseCoreNodeIsGoneIsInstalledAnew(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.change = withImage
	w.member(v1alpha1.ControlPlane, "s2", "s3")
	w.password("s3")
	w.run()
	w.await("s3", v1alpha1.PhaseReady)
	if err := w.Delete(t.Context(), w.core("s3")); err != nil {
		t.Fatal(err)
	}
	w.await("s3", v1alpha1.PhaseDeclared, "Admitted=False MemberRemains")
	if pods := w.hostPods("s3"); len(pods) != 0 {
		t.Errorf("the pod %s works on it, and nobody asked for it", pods[0].Name)
	}
	n := w.get("s3")
	at := metav1.NewTime(w.clock())
	n.Status.Repair = &v1alpha1.RepairStatus{Action: v1alpha1.RepairReinstall, Try: 1, Rule: v1alpha1.ReasonSickMissing, Reinstall: "1", Intended: &at, Acted: &at}
	if err := w.Status().Update(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	w.await("s3", v1alpha1.PhaseRemoving, "Removal=True LeavingEtcd", "Admitted=False MemberRemains")
	first := w.etcdLists("s3", "s1", "s2", "s3")
	w.eventually("another look at etcd's list", func() string {
		w.nudge()
		if p := w.workingPod("s3", "etcd-s3-"); p.UID == first.UID {
			return "is not taken, though the member is there"
		}
		return ""
	})
	if _, ok := w.claim("s3"); ok || w.get("s3").Status.NodeRef == nil {
		t.Error("it counts as gone while etcd lists it")
	}
	w.restart()
	p := w.etcdLists("s3", "s1", "s2")
	if got, want := strings.Join(p.Spec.Containers[0].Args[:3], " "), "etcd-members --remove=s3 --address="+addressOf("s3").String(); got != want {
		t.Errorf("the pod runs %s, want %s", got, want)
	}
	w.eventually("the claim", func() string {
		w.nudge()
		if _, ok := w.claim("s3"); !ok {
			return "is not open"
		}
		return ""
	})
	if w.hasPassword("s3") {
		t.Error("k3s knows its password still")
	}
	w.grow("s3")
	if n := w.get("s3"); n.Status.Honoured["repair"] != "1" {
		t.Errorf("the repair was not honoured: %+v", n.Status)
	}
}

func TestAnotherOperatingSystemInstallsAnewOneByOne(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.make(operatingSystem("fedora"))
	w.member(v1alpha1.Worker, "w1", "w2")
	w.run()
	w.await("w1", v1alpha1.PhaseReady)
	w.await("w2", v1alpha1.PhaseReady)
	for _, name := range []string{"w1", "w2"} {
		w.eventually("another operating system", func() string {
			n := w.get(name)
			n.Spec.OperatingSystem = "fedora"
			if err := w.Update(t.Context(), n); err != nil {
				return err.Error()
			}
			return ""
		})
	}
	w.await("w1", v1alpha1.PhaseWaking)
	if w.barring("w1") {
		t.Error("a worker's k3s is kept from starting, though it stays a member until the installer has it")
	}
	w.await("w2", v1alpha1.PhaseReady, "Removal=False OneAtATime")
	w.pass(time.Second)
	w.transition("w1", func(c *provision.Claim) error { return c.Consume(w.clock(), addressOf("w1")) })
	w.await("w1", v1alpha1.PhaseInstalling)
	w.await("w2", v1alpha1.PhaseReady, "Removal=False OneAtATime")
	for _, s := range steps[3:] {
		s.do(w, "w1")
	}
	if got := w.get("w1").Status.Installed.OperatingSystem; got != "fedora" {
		t.Errorf("it has %s", got)
	}
	w.await("w2", v1alpha1.PhaseWaking)
}

func TestAReinstallationThatIsTakenBackLeavesTheMember(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.member(v1alpha1.Worker, "w1")
	w.run()
	w.await("w1", v1alpha1.PhaseReady)
	w.pod("guarded", "w1", nil)
	w.budget("guarded")
	w.annotate("w1", v1alpha1.AnnotationReinstall, "now")
	w.await("w1", v1alpha1.PhaseRemoving, "Removal=True Draining")
	w.annotate("w1", v1alpha1.AnnotationReinstall, "")
	w.await("w1", v1alpha1.PhaseReady, "-Removal")
	w.eventually("the member", func() string {
		if w.core("w1").Spec.Unschedulable {
			return "is still cordoned"
		}
		return ""
	})
}
