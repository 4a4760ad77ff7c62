package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/hostpod"
	"github.com/rhizome-dev/rhizome/internal/names"
)

// A machine that has left the cluster still holds what it joined with: a server
// the server token, a worker its kubelet's certificate. When k3s starts there
// again, as it does by itself when etcd removes its member, it joins again. So
// before a member leaves, its k3s config is put aside, without which the unit does
// not start k3s (internal/k3s/unit.go), and put back if the member stays after
// all. Both are done by pods on the machine, as long as its kubelet lives.
//
// A server that is to be installed anew runs no kubelet once it has left etcd: the
// pod that restarts it is started before, and waits until the machine may be
// installed. Containers outlive k3s.

// BarCommand is the command of the cluster's binary that they run.
const BarCommand = "bar"

// barPatience is how long a Ready member's kubelet may take to put the config
// aside, and DefaultSilentPatience how long that of one which is not Ready: then the
// removal goes on without, and says so. barRetry is how long a pod that failed is
// left to be read.
const (
	DefaultSilentPatience = time.Minute
	barPatience           = 5 * time.Minute
	barRetry              = 30 * time.Second
)

// podGrace is that of the pods that put the config aside: with none at all the API
// server would forget a pod of which a container may still run.
const podGrace = int64(1)

// barringSince is when it was begun to keep k3s on the machine from starting.
func (m member) barringSince() (time.Time, bool) {
	text := m.object.Annotations[v1alpha1.AnnotationBarring]
	t, err := time.Parse(time.RFC3339, text)
	return t, text != "" && err == nil
}

// barring says whether it was begun, by anything that is written there.
func (m member) barring() bool { return m.object.Annotations[v1alpha1.AnnotationBarring] != "" }

// barred says whether that is over, and in words what could not be done.
func (m member) barred() (lack string, over bool) {
	text := m.object.Annotations[v1alpha1.AnnotationBarred]
	if _, err := time.Parse(time.RFC3339, text); err == nil {
		return "", true
	}
	return text, text != ""
}

// restartsItself says whether a pod on the machine restarts it once it may be
// installed.
func (m member) restartsItself() bool {
	lack, over := m.barred()
	return over && lack == ""
}

// toBeBarred says whether k3s on the machine must not start again: for good, or
// because a server that etcd removed joins again at once. A worker that is to be
// installed anew stays a member until the installer has it.
func toBeBarred(m *machine) bool {
	return (m.isLeaving() || serves(m)) && !m.core.toldToLeave()
}

// bar decides the step in which k3s is kept from starting again; false: it is
// over.
func (o *outcome) bar(m *machine) bool {
	if _, over := m.core.barred(); over || !toBeBarred(m) {
		return false
	}
	message := "k3s on the machine is kept from starting again"
	if !m.isLeaving() {
		message += ", and the pod that restarts it is started"
	}
	o.remove(metav1.ConditionTrue, v1alpha1.ReasonBarring, message)
	o.doing(string(v1alpha1.PhaseRemoving), message)
	o.do(actBar)
	return true
}

// mayLiftBar says whether what keeps k3s from starting is to be taken back: from
// etcd's being asked on it is too late.
func mayLiftBar(m *machine) bool { return m.isMember() && m.core.barring() && !m.core.toldToLeave() }

// barPod puts the k3s config of one machine aside, or back.
func barPod(m *machine, f *fleet, namespace string, began time.Time, lift bool) *corev1.Pod {
	name, args := "bar-", []string{BarCommand, "--dir=" + hostConfig}
	if lift {
		name, args = "lift-", append(args, "--lift")
	}
	p := hostpod.New(namespace, name+m.node.Name+"-"+stamp(began), m.node.Name, f.image, labelHost, m.node.Name)
	onHostConfig(p)
	p.Spec.Containers[0].Args = args
	*p.Spec.TerminationGracePeriodSeconds = podGrace
	return p
}

// waitingRebootPod restarts one machine once a PXE pod would install it.
func waitingRebootPod(m *machine, f *fleet, namespace string, began time.Time) *corev1.Pod {
	p := rebootPod(m, f, namespace, began)
	// The pod network is k3s' and may go with it.
	p.Spec.HostNetwork = true
	*p.Spec.TerminationGracePeriodSeconds = podGrace
	c := &p.Spec.Containers[0]
	for _, address := range f.bootServers(m) {
		c.Args = append(c.Args, fmt.Sprintf("--when=http://%s:%d/boot/%s/ipxe", address, names.HTTPPort, m.node.Spec.MAC))
	}
	return p
}

// bootServers are the addresses at which a PXE pod answers now, and those of other
// servers, where one may run later. The virtual IP is none of them: it may go down with
// the machine, and come back on another one.
func (f *fleet) bootServers(m *machine) []string {
	var out []string
	add := func(address string) {
		for _, have := range out {
			if have == address {
				return
			}
		}
		if address != "" && address != string(m.node.Spec.Address) && !f.isVirtual(address) && len(out) < 8 {
			out = append(out, address)
		}
	}
	if f.cluster != nil {
		for _, p := range f.cluster.Status.PXE {
			if p.Node != m.node.Name {
				add(string(p.Address))
			}
		}
	}
	for _, s := range f.otherServers(m) {
		for _, a := range s.addresses {
			add(a)
		}
	}
	return out
}

func stamp(t time.Time) string { return strings.ToLower(t.UTC().Format("20060102t150405")) }

// bar keeps k3s on the machine from starting again. That it was begun is written
// down first: whoever takes it back must know.
func (d *deed) bar(ctx context.Context) error {
	began, known := d.m.core.barringSince()
	if !known {
		began = d.f.now.UTC().Truncate(time.Second)
		if err := d.patchCore(ctx, func(n *corev1.Node) { n.Annotations[v1alpha1.AnnotationBarring] = clock(began) }); err != nil {
			return err
		}
	}
	if d.f.image == "" {
		return d.markBarred(ctx, "k3s on it is not kept from starting again, since the operator does not know its own image: turn the machine off once it has left")
	}
	due := began.Add(barPatience)
	if !d.m.core.isReady() {
		due = began.Add(d.SilentPatience)
	}
	done, why, err := d.hostPodDone(ctx, barPod(d.m, d.f, d.PXENamespace, began, false))
	if err != nil {
		return err
	}
	lack := "k3s on it could not be kept from starting again (" + why + "): turn the machine off once it has left"
	if done && !d.m.isLeaving() {
		if done, why, err = d.hostPodRuns(ctx, waitingRebootPod(d.m, d.f, d.PXENamespace, began)); err != nil {
			return err
		}
		lack = "the machine cannot restart by itself (" + why + "): restart it by hand once its claim is open"
	}
	switch {
	case done:
		return d.markBarred(ctx, clock(d.f.now))
	case !d.f.now.Before(due):
		return d.markBarred(ctx, lack)
	}
	message := fmt.Sprintf("%s; it is tried until %s (%s)", d.o.removal.Message, clock(due), why)
	d.o.remove(metav1.ConditionTrue, v1alpha1.ReasonBarring, message)
	d.o.doing(string(v1alpha1.PhaseRemoving), message)
	d.look(podAgain)
	d.o.lookAt(due)
	return nil
}

// markBarred notes when that was done, or why not.
func (d *deed) markBarred(ctx context.Context, text string) error {
	if err := d.patchCore(ctx, func(n *corev1.Node) { n.Annotations[v1alpha1.AnnotationBarred] = clip(text, 1000) }); err != nil || d.m.core == nil {
		return err
	}
	if lack, _ := d.m.core.barred(); lack != "" {
		d.warn("NotBarred", lack)
	}
	return nil
}

// lift lets k3s on the machine start again: the member stays. A pod that might
// still put the config aside must be certain to be over before.
func (d *deed) lift(ctx context.Context) error {
	began, known := d.m.core.barringSince()
	if !known || d.f.image == "" {
		// Nothing was done.
		return d.patchCore(ctx, unbar)
	}
	for _, p := range []*corev1.Pod{
		barPod(d.m, d.f, d.PXENamespace, began, false), rebootPod(d.m, d.f, d.PXENamespace, began),
	} {
		over, err := d.hostPodOver(ctx, p.Name)
		if err != nil {
			return err
		}
		if !over {
			d.heldByBar("the pod " + p.Name + " has not ended yet")
			return nil
		}
	}
	done, why, err := d.hostPodDone(ctx, barPod(d.m, d.f, d.PXENamespace, began, true))
	if err != nil {
		return err
	}
	if !done {
		d.heldByBar(why)
		return nil
	}
	if err := d.patchCore(ctx, unbar); err != nil {
		return err
	}
	return d.tidy(ctx)
}

func unbar(n *corev1.Node) {
	delete(n.Annotations, v1alpha1.AnnotationBarring)
	delete(n.Annotations, v1alpha1.AnnotationBarred)
}

func (d *deed) heldByBar(why string) {
	d.look(podAgain)
	d.o.ready.Message += fmt.Sprintf("; its k3s config is not put back yet (%s); by hand: move %s/config.yaml.barred to config.yaml there, start k3s, and take the annotation %s off the core Node",
		why, hostConfig, v1alpha1.AnnotationBarring)
}

// hostPodDone makes a pod and says whether it has done its work, or why not yet. A
// pod that failed is made anew after a while.
func (d *deed) hostPodDone(ctx context.Context, want *corev1.Pod) (done bool, why string, err error) {
	p, err := d.podMade(ctx, want)
	if err != nil {
		return false, "", err
	}
	switch said, ended := lastWords(p); p.Status.Phase {
	case corev1.PodSucceeded:
		return true, "", nil
	case corev1.PodFailed:
		if due := ended.Add(barRetry); d.f.now.Before(due) {
			d.o.lookAt(due)
		} else if err := d.deletePod(ctx, p.Name, p.UID); err != nil {
			return false, "", err
		}
		return false, or(said, "the pod "+p.Name+" failed"), nil
	}
	return false, "the machine's kubelet has not run the pod " + p.Name + " yet", nil
}

// hostPodRuns makes a pod and says whether its container runs.
func (d *deed) hostPodRuns(ctx context.Context, want *corev1.Pod) (runs bool, why string, err error) {
	p, err := d.podMade(ctx, want)
	if err != nil {
		return false, "", err
	}
	for _, c := range p.Status.ContainerStatuses {
		if c.State.Running != nil {
			return true, "", nil
		}
	}
	return d.hostPodDone(ctx, want)
}

// hostPodOver ends a pod and says whether it is certain that nothing of it runs:
// its kubelet said so, or there is none of this name.
func (d *deed) hostPodOver(ctx context.Context, name string) (bool, error) {
	var p corev1.Pod
	if err := d.Live.Get(ctx, client.ObjectKey{Namespace: d.PXENamespace, Name: name}, &p); err != nil {
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return false, fmt.Errorf("cannot read the pod %s: %w", name, err)
	}
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return true, nil
	}
	if !p.DeletionTimestamp.IsZero() {
		return false, nil
	}
	if err := d.Live.Delete(ctx, &p, client.Preconditions{UID: &p.UID}); client.IgnoreNotFound(err) != nil {
		return false, fmt.Errorf("cannot delete the pod %s: %w", name, err)
	}
	return false, nil
}
