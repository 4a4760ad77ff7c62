package node_test

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/operator/node"
)

func TestTheFirstServerIsAdopted(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.change = func(o *node.Options) { o.Image = image }
	w.run()
	w.await("s1", v1alpha1.PhaseReady, "Adopted=False Adopting")
	var p corev1.Pod
	w.eventually("the pod that adopts it", func() string {
		pods := w.hostPods("s1")
		if len(pods) != 1 {
			return "is not there"
		}
		p = pods[0]
		return ""
	})
	c := p.Spec.Containers[0]
	if want := "adopt --dir=/etc/rancher/k3s --server=https://192.168.1.11:6443"; strings.Join(c.Args, " ") != want || c.Image != image || p.Spec.NodeName != "s1" {
		t.Errorf("it runs %s %v on %s", c.Image, c.Args, p.Spec.NodeName)
	}
	if len(c.SecurityContext.Capabilities.Add) > 0 || !*c.SecurityContext.ReadOnlyRootFilesystem || *p.Spec.AutomountServiceAccountToken || len(p.Spec.Volumes) != 1 || p.Spec.HostPID {
		t.Errorf("it may do more than it must: %+v", c.SecurityContext)
	}
	end := func(phase corev1.PodPhase, message string, code int32) {
		p.Status.Phase = phase
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: c.Name, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: code, Message: message, FinishedAt: metav1.NewTime(w.clock())}}}}
		if err := w.Status().Update(t.Context(), &p); err != nil {
			t.Fatal(err)
		}
	}
	end(corev1.PodFailed, "it holds more than one document", 1)
	n := w.await("s1", v1alpha1.PhaseReady, "Adopted=False AdoptionFailed")
	if got := meta.FindStatusCondition(n.Status.Conditions, "Adopted").Message; got != "it holds more than one document" {
		t.Errorf("the message is %q", got)
	}
	w.pass(11 * time.Minute)
	w.eventually("another try", func() string {
		pods := w.hostPods("s1")
		if len(pods) != 1 || pods[0].UID == p.UID {
			w.nudge()
			return "is not made"
		}
		p = pods[0]
		return ""
	})
	end(corev1.PodSucceeded, "", 0)
	w.await("s1", v1alpha1.PhaseReady, "Adopted=True ConfigRewritten")
	w.eventually("the pod", func() string {
		if len(w.hostPods("s1")) > 0 {
			return "is still there"
		}
		return ""
	})
	w.restart()
	w.kubelet("s1", false, true)
	w.await("s1", v1alpha1.PhaseNotReady, "Adopted=True ConfigRewritten")
	if len(w.hostPods("s1")) > 0 {
		t.Error("it is adopted twice")
	}
}
