package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// +kubebuilder:rbac:groups="",resources=pods,verbs=list
// +kubebuilder:rbac:groups="",resources=pods/eviction,verbs=create

// drainAgain is how often the pods that are left are looked at.
const drainAgain = 5 * time.Second

// drain evicts what runs on the member, by the API that respects disruption
// budgets. When nothing is left, or the time is up, that is noted on the core Node.
func (d *deed) drain(ctx context.Context) error {
	var pods corev1.PodList
	if err := d.Live.List(ctx, &pods, client.MatchingFields{"spec.nodeName": d.m.core.name}); err != nil {
		return fmt.Errorf("cannot list the pods on %s: %w", d.m.core.name, err)
	}
	var left []string
	for i := range pods.Items {
		p := &pods.Items[i]
		if !leavesWithNode(p) {
			continue
		}
		left = append(left, p.Namespace+"/"+p.Name)
		if !p.DeletionTimestamp.IsZero() {
			continue
		}
		eviction := &policyv1.Eviction{
			ObjectMeta:    metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name},
			DeleteOptions: &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: ptrTo(p.UID)}},
		}
		err := d.Live.SubResource("eviction").Create(ctx, p, eviction)
		switch {
		case err == nil, apierrors.IsNotFound(err), apierrors.IsConflict(err):
		case apierrors.IsTooManyRequests(err): // a disruption budget says no
		default:
			// One that can never be evicted must not keep the others.
			left[len(left)-1] += " (" + clip(err.Error(), 200) + ")"
		}
	}
	due := drainBy(d.m, d.f)
	if repairAsks(d.m) {
		due = d.f.now // nobody is there who could end them
	}
	switch {
	case len(left) == 0:
		d.o.remove(metav1.ConditionTrue, v1alpha1.ReasonDraining, "no pod is left that could move")
	case !d.f.now.Before(due):
		d.o.remove(metav1.ConditionTrue, v1alpha1.ReasonDraining, fmt.Sprintf("the time to drain is up; these pods go with the member: %s", few(left)))
	default:
		d.o.remove(metav1.ConditionTrue, v1alpha1.ReasonDraining, fmt.Sprintf("waiting until %s for %s", clock(due), few(left)))
		d.o.doing(string(v1alpha1.PhaseRemoving), d.o.removal.Message)
		d.look(drainAgain)
		d.o.lookAt(due)
		return nil
	}
	if err := d.patchCore(ctx, func(n *corev1.Node) { n.Annotations[v1alpha1.AnnotationDrained] = clock(d.f.now) }); err != nil {
		return err
	}
	if len(left) > 0 {
		d.warn("DrainTimedOut", "these pods go with the member: "+few(left))
	}
	return nil
}

// leavesWithNode says whether a pod has to move before its node goes: not what
// ended, nor what belongs to the node, by a DaemonSet or as a static pod.
func leavesWithNode(p *corev1.Pod) bool {
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return false
	}
	if _, mirror := p.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return false
	}
	owner := metav1.GetControllerOf(p)
	return owner == nil || owner.Kind != "DaemonSet"
}

func few(all []string) string {
	if len(all) > 5 {
		return strings.Join(all[:5], ", ") + fmt.Sprintf(" and %d more", len(all)-5)
	}
	return strings.Join(all, ", ")
}

func ptrTo(uid types.UID) *types.UID { return &uid }
