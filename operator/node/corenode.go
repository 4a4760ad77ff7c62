package node

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// +kubebuilder:rbac:groups="",resources=nodes,verbs=patch;delete

// patchCore changes the core Node as it was decided about: if it has changed
// since, the error is a conflict.
func (d *deed) patchCore(ctx context.Context, change func(*corev1.Node)) error {
	if d.m.core == nil {
		return nil
	}
	before := d.m.core.object
	after := before.DeepCopy()
	if after.Annotations == nil {
		after.Annotations = map[string]string{}
	}
	change(after)
	if err := d.Live.Patch(ctx, after, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("cannot change the core Node %s: %w", before.Name, err)
	}
	m := memberOf(after)
	d.m.core = &m
	return nil
}

func (d *deed) cordon(ctx context.Context) error {
	return d.patchCore(ctx, func(n *corev1.Node) {
		n.Spec.Unschedulable = true
		n.Annotations[v1alpha1.AnnotationCordoned] = clock(d.f.now)
	})
}

// uncordon takes back what was done to a member that stays.
func (d *deed) uncordon(ctx context.Context) error {
	return d.patchCore(ctx, func(n *corev1.Node) {
		if n.Annotations[v1alpha1.AnnotationCordoned] != "" {
			n.Spec.Unschedulable = false
		}
		for _, a := range []string{
			v1alpha1.AnnotationCordoned, v1alpha1.AnnotationDrained, v1alpha1.AnnotationLeftEtcd, annotationRemove, annotationRemoved,
			v1alpha1.AnnotationAskedEtcd, v1alpha1.AnnotationEtcdProof,
		} {
			delete(n.Annotations, a)
		}
	})
}

// leaveEtcd asks k3s to remove the member from etcd. It answers with another
// annotation. (k3s, pkg/etcd/member_controller.go)
func (d *deed) leaveEtcd(ctx context.Context) error {
	return d.patchCore(ctx, func(n *corev1.Node) {
		n.Annotations[annotationRemove] = "true"
		n.Annotations[v1alpha1.AnnotationAskedEtcd] = clock(d.f.now)
	})
}

func (d *deed) markLeft(ctx context.Context) error {
	d.look(d.EtcdSettle)
	return d.patchCore(ctx, func(n *corev1.Node) { n.Annotations[v1alpha1.AnnotationLeftEtcd] = clock(d.f.now) })
}

func (d *deed) shape(ctx context.Context) error {
	shape, changed := shapeOf(d.m)
	if !changed {
		return nil
	}
	return d.patchCore(ctx, func(n *corev1.Node) {
		n.Labels, n.Spec.Taints = shape.labels, shape.taints
		n.Annotations[v1alpha1.AnnotationApplied] = shape.applied
	})
}

// applied is what of a core Node came from its declaration.
type applied struct {
	Labels map[string]string `json:"labels,omitempty"`
	Taints []string          `json:"taints,omitempty"` // key:effect
}

// shaped is how a core Node is to look.
type shaped struct {
	labels  map[string]string
	taints  []corev1.Taint
	applied string
}

// shapeOf is how the machine's core Node is to look, and whether it does not.
// What is declared is there; what was declared and is no more goes; the rest is
// not ours and stays.
func shapeOf(m *machine) (shaped, bool) {
	n := m.core.object
	var before applied
	if text := n.Annotations[v1alpha1.AnnotationApplied]; text != "" {
		// Whatever cannot be read is not ours to take away.
		_ = json.Unmarshal([]byte(text), &before)
	}
	var now applied
	s := shaped{labels: maps.Clone(n.Labels)}
	if s.labels == nil {
		s.labels = map[string]string{}
	}
	for key := range before.Labels {
		delete(s.labels, key)
	}
	for key, value := range m.node.Spec.Labels {
		if now.Labels == nil {
			now.Labels = map[string]string{}
		}
		s.labels[key], now.Labels[key] = string(value), string(value)
	}

	wanted := map[string]v1alpha1.Taint{}
	for _, t := range m.node.Spec.Taints {
		id := t.Key + ":" + t.Effect
		wanted[id] = t
		now.Taints = append(now.Taints, id)
	}
	slices.Sort(now.Taints)
	for _, t := range n.Spec.Taints {
		id := t.Key + ":" + string(t.Effect)
		if want, ok := wanted[id]; ok {
			t.Value = want.Value
			delete(wanted, id)
		} else if slices.Contains(before.Taints, id) {
			continue
		}
		s.taints = append(s.taints, t)
	}
	for _, t := range m.node.Spec.Taints {
		if _, missing := wanted[t.Key+":"+t.Effect]; missing {
			s.taints = append(s.taints, corev1.Taint{Key: t.Key, Value: t.Value, Effect: corev1.TaintEffect(t.Effect)})
		}
	}
	text, err := json.Marshal(now)
	if err != nil {
		return shaped{}, false // strings always encode
	}
	s.applied = string(text)
	nothing := s.applied == "{}" && n.Annotations[v1alpha1.AnnotationApplied] == ""
	same := maps.Equal(s.labels, n.Labels) && slices.EqualFunc(s.taints, n.Spec.Taints, func(a, b corev1.Taint) bool {
		return a.Key == b.Key && a.Value == b.Value && a.Effect == b.Effect
	})
	return s, !same || s.applied != n.Annotations[v1alpha1.AnnotationApplied] && !nothing
}
