package healing

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/power"
)

// act does what was written down. What could not be done is said, and tried again
// at the next look, until the action's time is up.
func (r *reconciler) act(ctx context.Context, c *patient, v verdict) (verdict, error) {
	delete(r.intents, c.m.name)
	do := map[v1alpha1.RepairAction]func(context.Context, *patient) (string, bool, error){
		v1alpha1.RepairReboot:     r.reboot,
		v1alpha1.RepairPowerCycle: r.cycle,
		v1alpha1.RepairWake:       wake,
		v1alpha1.RepairReinstall:  r.reinstall,
	}[v.action]
	if do == nil {
		return v, fmt.Errorf("Node/%s: status.repair.action is %q, which cannot be done", c.m.name, v.action)
	}
	message, done, err := do(ctx, c)
	if err != nil {
		message = fmt.Sprintf("%v; it is tried again", err)
	}
	v.message = message
	if done {
		at := metav1.NewTime(r.Now()).Rfc3339Copy()
		c.m.repair.Acted = &at
	} else {
		v.move = wait
	}
	return v, nil
}

// reboot runs the pod that restarts the machine. The member is awaited from when
// the pod was made: what it says goes with the machine.
func (r *reconciler) reboot(ctx context.Context, c *patient) (string, bool, error) {
	if r.Image == "" {
		return "", false, errors.New("the operator does not know its own image, by which it would restart the machine: set --pxe-image")
	}
	p, err := r.podMade(ctx, rebootPod(r.PXENamespace, r.Image, c.m.name, c.m.repair.Intended.Time))
	if err != nil {
		return "", false, err
	}
	if p.Status.Phase == corev1.PodFailed {
		return fmt.Sprintf("the pod that was to restart the machine failed (%s): it is awaited all the same", lastWords(p)), true, nil
	}
	return "its kubelet was told to run a pod that restarts the machine", true, nil
}

// board can turn a machine off, which is proven, and on.
type board interface {
	power.TurnerOff
	power.TurnerOn
}

// powerPatience bounds one order to a board, its proof included.
const powerPatience = 150 * time.Second

// cycle turns the machine off, and at the next look on: in between the proof is
// written down, and the member tainted.
func (r *reconciler) cycle(ctx context.Context, c *patient) (string, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, powerPatience)
	defer cancel()
	if r.Driver == nil {
		return "", false, errors.New("the operator has no way to the power of machines")
	}
	driver, err := r.Driver(c.n)
	if err != nil {
		return "", false, err
	}
	b, ok := driver.(board)
	if !ok {
		return "", false, fmt.Errorf("the machine cannot be turned off by %s", driver.Means())
	}
	if c.m.repair.Off == nil {
		switch err := b.TurnOff(ctx, 0); {
		case err == nil:
			at := metav1.NewTime(r.Now()).Rfc3339Copy()
			c.m.repair.Off = &v1alpha1.OffProof{By: v1alpha1.OffByBoard, At: at}
			return "the machine was turned off, and is seen to be off", false, nil
		case !errors.Is(err, power.ErrUnproven):
			return "", false, err
		}
	}
	if err := b.TurnOn(ctx); err != nil {
		return "", false, err
	}
	if c.m.repair.Off == nil {
		return "the machine was told to turn off and on; nothing proves that it was off", true, nil
	}
	return "the machine was turned off, was seen to be off, and was turned on", true, nil
}

// wake only says so: the PXE pods, which stand in the machine's network, send the
// packets as long as it is said.
func wake(context.Context, *patient) (string, bool, error) {
	return "PXE pods send magic packets; nothing proves that the machine was off, or hears them", true, nil
}

// reinstall asks the node controller for it, of a server after etcd was saved.
func (r *reconciler) reinstall(ctx context.Context, c *patient) (string, bool, error) {
	if c.m.controlPlane && c.m.repair.Snapshot == "" {
		message, err := r.snapshot(ctx, c)
		return message, false, err
	}
	c.m.repair.Reinstall = strconv.FormatInt(c.m.repair.Intended.Unix(), 10)
	return "the member is to leave the cluster, and its machine to be installed anew under a claim", true, nil
}

// snapshot saves etcd on a server that is well. The proof is the pod's: it read the
// file back and compared its digest.
func (r *reconciler) snapshot(ctx context.Context, c *patient) (string, error) {
	if r.Image == "" {
		return "", errors.New("the operator does not know its own image, by which it would save etcd: set --pxe-image")
	}
	on := ""
	for _, s := range c.w.otherServers(c.m) {
		if s.vote == votes {
			on = s.name
			break
		}
	}
	if on == "" {
		return "", errors.New("there is no server that votes, on which etcd could be saved")
	}
	p, err := r.podMade(ctx, snapshotPod(r.PXENamespace, r.Image, on, c.m.name, c.m.repair.Intended.Time))
	if err != nil {
		return "", err
	}
	switch p.Status.Phase {
	case corev1.PodSucceeded:
		c.m.repair.Snapshot = clip(fmt.Sprintf("on %s: %s", p.Spec.NodeName, lastWords(p)), maxWords)
		return "etcd was saved " + c.m.repair.Snapshot, nil
	case corev1.PodFailed:
		if err := r.tidy(ctx, c.m.name); err != nil {
			return "", err
		}
		return "", fmt.Errorf("etcd could not be saved on %s: %s", p.Spec.NodeName, lastWords(p))
	}
	return fmt.Sprintf("etcd is saved on %s first", p.Spec.NodeName), nil
}

// outOfService is the taint that has Kubernetes take a member's pods and volumes
// away without its kubelet.
var outOfService = corev1.Taint{Key: corev1.TaintNodeOutOfService, Value: "nodeshutdown", Effect: corev1.TaintEffectNoExecute}

// fenceIt taints the core Node, or takes that back. A proof is written down before
// anything rests on it.
func (r *reconciler) fenceIt(ctx context.Context, c *patient) error {
	f := fence(c.m, c.w.facts)
	if f.proof != nil {
		proof := *f.proof
		proof.At = metav1.NewTime(r.Now()).Rfc3339Copy()
		c.m.repair.Off = &proof
		if proof.By == v1alpha1.OffByPerson {
			c.m.repair.Honoured = honoured(c.m.repair.Honoured, honouredPoweredOff, c.m.poweredOff)
		}
		return nil
	}
	if !f.taint && !f.untaint || c.core() == nil {
		return nil
	}
	before := c.core()
	after := before.DeepCopy()
	var left []corev1.Taint
	for _, t := range after.Spec.Taints {
		if t.Key != outOfService.Key || t.Effect != outOfService.Effect {
			left = append(left, t)
		}
	}
	after.Spec.Taints = left
	delete(after.Annotations, v1alpha1.AnnotationFenced)
	event, message := "Unfenced", "it is Ready again: its taint is taken away"
	if f.taint {
		off := c.m.repair.Off
		event, message = "Fenced", fmt.Sprintf("it is tainted out of service, so that its pods and volumes go elsewhere: %s proved at %s that it was off", off.By, clock(off.At.Time))
		after.Spec.Taints = append(after.Spec.Taints, outOfService)
		if after.Annotations == nil {
			after.Annotations = map[string]string{}
		}
		after.Annotations[v1alpha1.AnnotationFenced] = fmt.Sprintf("%s: %s", clock(r.Now()), off.By)
	}
	if err := r.Live.Patch(ctx, after, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("cannot change the taints of the core Node %s: %w", before.Name, err)
	}
	c.m.fenced = f.taint
	r.events.Event(c.n, corev1.EventTypeNormal, event, message)
	return nil
}
