//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The components of our own pods, by their label.
const (
	labelComponent    = "app.kubernetes.io/component"
	componentOperator = "operator"
	componentPXE      = "pxe"
)

// ownPods are the pods of the operator and of PXE.
type ownPods []corev1.Pod

// ours lists them.
func (h *healing) ours(ctx context.Context) (ownPods, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var list corev1.PodList
	if err := h.api.List(ctx, &list, client.MatchingLabels{"app.kubernetes.io/name": "rhizome"}); err != nil {
		return nil, fmt.Errorf("cannot list our pods: %w", err)
	}
	return list.Items, nil
}

// on are the Ready pods of a component on a machine, by their names.
func (all ownPods) on(component, machine string) []string {
	var names []string
	for i := range all {
		if p := &all[i]; p.Labels[labelComponent] == component && p.Spec.NodeName == machine && p.DeletionTimestamp == nil && isPodReady(p) {
			names = append(names, p.Name)
		}
	}
	return names
}

// misplaced are the pods of a component that run on another machine, if none is Ready
// on this one.
func (all ownPods) misplaced(component, machine string) []*corev1.Pod {
	if len(all.on(component, machine)) > 0 {
		return nil
	}
	var pods []*corev1.Pod
	for i := range all {
		if p := &all[i]; p.Labels[labelComponent] == component && p.Spec.NodeName != "" && p.Spec.NodeName != machine && p.DeletionTimestamp == nil {
			pods = append(pods, p)
		}
	}
	return pods
}

func isPodReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// crowd brings the operator and a PXE pod onto a machine, so that all goes with it:
// the other machines are cordoned for a while, and pods that run there are deleted.
func (h *healing) crowd(ctx context.Context, machine string) (err error) {
	pods, err := h.ours(ctx)
	if err != nil {
		return err
	}
	if len(pods.on(componentOperator, machine)) > 0 && len(pods.on(componentPXE, machine)) > 0 {
		return nil
	}
	fmt.Printf("\nBringing the operator and a PXE pod onto %s\n", machine)
	for _, m := range h.state.Machines {
		if m.Name == machine {
			continue
		}
		// Whatever happens, nobody stays cordoned.
		defer func() { err = errors.Join(err, h.cordon(context.WithoutCancel(ctx), m.Name, false)) }()
		if err := h.cordon(ctx, m.Name, true); err != nil {
			return err
		}
	}
	return h.await(ctx, func(ctx context.Context) []fact {
		pods, err := h.ours(ctx)
		if err != nil {
			return []fact{{name: machine, line: "the API server does not answer", check: "status"}}
		}
		var facts []fact
		for _, component := range []string{componentOperator, componentPXE} {
			f := fact{name: component, line: "not on " + machine + " yet", check: "kubectl get pods -A -o wide"}
			if on := pods.on(component, machine); len(on) > 0 {
				f.line, f.ready = fmt.Sprintf("%s is on %s", on[0], machine), true
			}
			for _, p := range pods.misplaced(component, machine) {
				if err := h.api.Delete(ctx, p, client.Preconditions{UID: &p.UID}); client.IgnoreNotFound(err) != nil {
					f.line = err.Error()
				}
			}
			facts = append(facts, f)
		}
		return facts
	})
}

// cordon keeps new pods off a machine, or no more.
func (h *healing) cordon(ctx context.Context, machine string, off bool) error {
	patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"unschedulable":%t}}`, off))
	var err error
	for range 5 {
		core := &corev1.Node{}
		core.Name = machine
		trying, cancel := context.WithTimeout(ctx, answerWithin)
		err = h.api.Patch(trying, core, patch)
		cancel()
		if err == nil || ctx.Err() != nil {
			break
		}
		time.Sleep(time.Second)
	}
	if err != nil {
		return fmt.Errorf("cannot cordon %s (%t): %w", machine, off, err)
	}
	return nil
}
