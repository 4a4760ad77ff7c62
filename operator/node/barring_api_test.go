package node_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/operator/node"
)

// hostPod waits for a pod of the operator's on a machine.
func (w *world) hostPod(on, prefix string) *corev1.Pod {
	w.t.Helper()
	found := w.workingPod(on, prefix)
	if found.Spec.NodeName != on || found.Spec.Containers[0].Image != image || *found.Spec.AutomountServiceAccountToken {
		w.t.Errorf("the pod %s is not as it must be: %+v", found.Name, found.Spec)
	}
	return found
}

// workingPod waits for a pod of the operator's that is about a machine.
func (w *world) workingPod(about, prefix string) *corev1.Pod {
	w.t.Helper()
	var found *corev1.Pod
	w.eventually("a pod "+prefix+" about "+about, func() string {
		for _, p := range w.hostPods(about) {
			if strings.HasPrefix(p.Name, prefix) && p.DeletionTimestamp.IsZero() {
				found = &p
				return ""
			}
		}
		return "is not there"
	})
	return found
}

// etcdLists is what the pod that lists etcd's members finds.
func (w *world) etcdLists(about string, members ...string) *corev1.Pod {
	w.t.Helper()
	p := w.workingPod(about, "etcd-"+about+"-")
	if p.Spec.NodeName == about || !p.Spec.HostNetwork || p.Spec.HostPID || len(p.Spec.Volumes) != 1 || !p.Spec.Containers[0].VolumeMounts[0].ReadOnly {
		w.t.Errorf("it is not as it must be: %+v", p.Spec)
	}
	list := []string{}
	for _, m := range members {
		list = append(list, `{"name":"`+m+`-0123abcd"}`)
	}
	w.kubeletSays(p, corev1.PodSucceeded, "["+strings.Join(list, ",")+"]")
	return p
}

// kubeletSays is what a kubelet says of such a pod.
func (w *world) kubeletSays(p *corev1.Pod, phase corev1.PodPhase, message string) {
	w.t.Helper()
	p.Status.Phase = phase
	state := corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(w.clock())}}
	if phase != corev1.PodRunning {
		ended := &corev1.ContainerStateTerminated{Message: message, FinishedAt: metav1.NewTime(w.clock())}
		if phase == corev1.PodFailed {
			ended.ExitCode = 1
		}
		state = corev1.ContainerState{Terminated: ended}
	}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: p.Spec.Containers[0].Name, State: state}}
	if err := w.Status().Update(w.t.Context(), p); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) leave(name string) {
	w.t.Helper()
	w.await(name, v1alpha1.PhaseReady)
	w.remove(name)
	w.await(name, v1alpha1.PhaseReady, "Removal=False Settling")
	w.settled()
}

func (w *world) barring(name string) bool {
	n := w.core(name)
	return n != nil && n.Annotations[v1alpha1.AnnotationBarring]+n.Annotations[v1alpha1.AnnotationBarred] != ""
}

func withImage(o *node.Options) { o.Image = image }

// Before etcd is asked to remove a server, its k3s is kept from starting again.
func TestAServerIsKeptFromStartingBeforeItLeavesEtcd(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.change = withImage
	w.member(v1alpha1.ControlPlane, "s2", "s3")
	w.run()
	w.leave("s3")
	w.await("s3", v1alpha1.PhaseRemoving, "Removal=True Barring")
	p := w.hostPod("s3", "bar-s3-")
	c := p.Spec.Containers[0]
	if got := strings.Join(c.Args, " "); got != "bar --dir=/etc/rancher/k3s" {
		t.Errorf("it runs %s", got)
	}
	if len(c.SecurityContext.Capabilities.Add) > 0 || !*c.SecurityContext.ReadOnlyRootFilesystem || len(p.Spec.Volumes) != 1 || p.Spec.HostPID || p.Spec.HostNetwork {
		t.Errorf("it may do more than it must: %+v", p.Spec)
	}
	w.restart()
	w.kubeletSays(p, corev1.PodFailed, "the disk is read-only")
	w.eventually("why it waits", func() string {
		n := w.await("s3", v1alpha1.PhaseRemoving, "Removal=True Barring")
		if message := meta.FindStatusCondition(n.Status.Conditions, "Removal").Message; !strings.Contains(message, "the disk is read-only") {
			return message
		}
		return ""
	})
	w.pass(31 * time.Second)
	w.eventually("another try", func() string {
		if again := w.hostPod("s3", "bar-s3-"); again.UID != p.UID {
			p = again
			return ""
		}
		w.nudge()
		return "is not made"
	})
	if w.core("s3").Annotations["etcd.k3s.cattle.io/remove"] != "" {
		t.Fatal("etcd was asked to remove a server that would join again")
	}
	w.kubeletSays(p, corev1.PodSucceeded, "")
	w.await("s3", v1alpha1.PhaseRemoving, "Removal=True LeavingEtcd")
	w.etcd("s3")
	w.eventually("the time of its leaving", func() string {
		if w.core("s3").Annotations[v1alpha1.AnnotationLeftEtcd] == "" {
			return "is not noted"
		}
		return ""
	})
	w.pass(16 * time.Second)
	// etcd's own list is the proof, and nothing less.
	first := w.etcdLists("s3", "s1", "s2", "s3")
	if got, want := strings.Join(first.Spec.Containers[0].Args, " "),
		"etcd-members --remove=s3 --address=192.168.1.13 --tls=/var/lib/rancher/k3s/server/tls/etcd --out=/dev/termination-log"; got != want {
		t.Errorf("it runs %s, want %s", got, want)
	}
	w.eventually("another look", func() string {
		if w.workingPod("s3", "etcd-s3-").UID == first.UID {
			w.pass(6 * time.Second)
			return "is not taken"
		}
		return ""
	})
	w.restart()
	if w.core("s3") == nil {
		t.Fatal("its core Node went while etcd listed it")
	}
	w.kubeletSays(w.workingPod("s3", "etcd-s3-"), corev1.PodFailed, "cannot list the members of etcd")
	w.eventually("why it waits", func() string {
		n := w.await("s3", v1alpha1.PhaseRemoving, "Removal=True LeavingEtcd")
		if message := meta.FindStatusCondition(n.Status.Conditions, "Removal").Message; !strings.Contains(message, "cannot list") {
			return message
		}
		return ""
	})
	w.pass(31 * time.Second)
	w.eventually("etcd's list without it", func() string {
		if p := w.workingPod("s3", "etcd-s3-"); p.Status.Phase == corev1.PodFailed {
			w.nudge()
			return "is not asked for"
		}
		return ""
	})
	w.etcdLists("s3", "s1", "s2")
	w.gone("s3")
	w.eventually("what worked on it", func() string {
		if len(w.hostPods("s3")) > 0 {
			return "is left"
		}
		return ""
	})
}

// A server that k3s does not take out of etcd is taken out by etcd's own means.
func TestAServerThatK3sDoesNotRemoveLeavesEtcd(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.change = withImage
	w.member(v1alpha1.ControlPlane, "s2", "s3")
	w.run()
	w.leave("s3")
	w.await("s3", v1alpha1.PhaseRemoving, "Removal=True Barring")
	w.kubeletSays(w.hostPod("s3", "bar-s3-"), corev1.PodSucceeded, "")
	w.await("s3", v1alpha1.PhaseRemoving, "Removal=True LeavingEtcd")
	w.eventually("k3s is asked", func() string {
		if w.core("s3").Annotations["etcd.k3s.cattle.io/remove"] != "true" {
			return "not yet"
		}
		return ""
	})
	w.pass(time.Minute)
	if got := len(w.hostPods("s3")); got != 1 {
		t.Errorf("%d pods work on it while k3s has its time", got)
	}
	w.pass(61 * time.Second)
	w.etcdLists("s3", "s1", "s2")
	w.eventually("the proof", func() string {
		if w.core("s3").Annotations[v1alpha1.AnnotationEtcdProof] == "" {
			return "is not noted"
		}
		return ""
	})
	w.pass(16 * time.Second)
	w.gone("s3")
}

// A member that stays after all may start k3s again, and not before it is certain
// that nothing puts its config aside any more.
func TestAServerThatStaysMayStartAgain(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.change = withImage
	w.member(v1alpha1.ControlPlane, "s2", "s3")
	w.run()
	w.leave("s3")
	w.await("s3", v1alpha1.PhaseRemoving, "Removal=True Barring")
	bar := w.hostPod("s3", "bar-s3-")
	w.kubeletSays(bar, corev1.PodRunning, "")
	w.annotate("s3", v1alpha1.AnnotationRemoval, v1alpha1.RemovalKeep)
	w.eventually("the end of the pod", func() string {
		if pods := w.hostPods("s3"); len(pods) != 1 || pods[0].DeletionTimestamp.IsZero() {
			return "is not asked for"
		}
		return ""
	})
	w.restart()
	w.pass(6 * time.Second)
	if got := w.hostPods("s3"); len(got) != 1 {
		t.Fatalf("%d pods work on it at once", len(got))
	}
	if err := w.Delete(t.Context(), bar, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	lift := w.hostPod("s3", "lift-s3-")
	if got := strings.Join(lift.Spec.Containers[0].Args, " "); got != "bar --dir=/etc/rancher/k3s --lift" {
		t.Errorf("it runs %s", got)
	}
	if w.get("s3") == nil {
		t.Fatal("the Node went before its machine was mended")
	}
	w.kubeletSays(lift, corev1.PodSucceeded, "")
	w.gone("s3")
	if n := w.core("s3"); n == nil || n.Spec.Unschedulable || w.barring("s3") || n.Annotations["etcd.k3s.cattle.io/remove"] != "" {
		t.Errorf("it is not the member that it was: %+v", n)
	}
}

// A machine that does not answer leaves all the same, and that is said.
func TestAMachineThatDoesNotAnswerLeaves(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.change = withImage
	w.member(v1alpha1.Worker, "w1")
	w.run()
	w.await("w1", v1alpha1.PhaseReady)
	w.kubelet("w1", false, false)
	w.await("w1", v1alpha1.PhaseNotReady)
	w.remove("w1")
	w.await("w1", v1alpha1.PhaseNotReady, "Removal=False Settling")
	w.settled()
	w.await("w1", v1alpha1.PhaseRemoving, "Removal=True Barring")
	w.hostPod("w1", "bar-w1-")
	w.pass(61 * time.Second)
	w.gone("w1")
	if w.core("w1") != nil {
		t.Error("its core Node is left")
	}
	w.eventually("the warning", func() string {
		var events corev1.EventList
		if err := w.List(t.Context(), &events, client.InNamespace("default")); err != nil {
			return err.Error()
		}
		for _, e := range events.Items {
			if e.Reason == "NotBarred" && strings.Contains(e.Message, "turn the machine off") {
				return ""
			}
		}
		return "was not given"
	})
}
