//go:build linux

package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

func TestALayerIsReadyOnlyAtTheCommit(t *testing.T) {
	const old, head = "1111111111111111", "2222222222222222"
	tests := map[string]struct {
		layer v1alpha1.LayerStatus
		line  string
		ready bool
	}{
		"not started":         {v1alpha1.LayerStatus{Message: "waits for bootstrap"}, "not started: waits for bootstrap", false},
		"an older commit":     {v1alpha1.LayerStatus{Started: true, Ready: 1, Total: 1, Revision: old}, "1 of 1 ready at commit 111111111111, not yet at 222222222222", false},
		"the commit":          {v1alpha1.LayerStatus{Started: true, Ready: 1, Total: 1, Revision: head}, "1 of 1 ready at commit 222222222222", true},
		"an unknown commit":   {v1alpha1.LayerStatus{Started: true, Ready: 1, Total: 1}, "1 of 1 ready at commit ", false},
		"no Application":      {v1alpha1.LayerStatus{Started: true, Revision: head}, "0 of 0 ready at commit 222222222222", false},
		"one is not ready":    {v1alpha1.LayerStatus{Started: true, Total: 1, Reason: "ApplicationsNotReady", NotReady: []v1alpha1.ApplicationNotReady{{Name: "cluster", Reason: "OutOfSync", Message: "Node x"}}}, "0 of 1 ready: ApplicationsNotReady; cluster: OutOfSync Node x", false},
		"another reason only": {v1alpha1.LayerStatus{Started: true, Ready: 1, Total: 1, Revision: head, Reason: "GeneratorFailed"}, "1 of 1 ready: GeneratorFailed", false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			test.layer.Name = "bootstrap"
			g := &v1alpha1.GitOps{
				Spec:   v1alpha1.GitOpsSpec{Layers: []v1alpha1.Layer{{Name: "bootstrap"}}},
				Status: v1alpha1.GitOpsStatus{Layers: []v1alpha1.LayerStatus{test.layer}},
			}
			facts := describeGitOps(g, head)
			got := facts[len(facts)-1]
			if got.name != "layer bootstrap" || got.line != test.line || got.ready != test.ready {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestWhatTheOperatorHasNotSaidIsWaitedFor(t *testing.T) {
	g := &v1alpha1.GitOps{Spec: v1alpha1.GitOpsSpec{Layers: []v1alpha1.Layer{{Name: "bootstrap"}}}}
	for _, f := range describeGitOps(g, "") {
		if f.ready || f.line == "" || f.check == "" {
			t.Errorf("%+v", f)
		}
	}
	g.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionArgoCDReady, Status: metav1.ConditionTrue, Reason: "Running", Message: "it runs"}}
	if f := describeGitOps(g, "")[0]; !f.ready || f.line != "Running: it runs" {
		t.Errorf("%+v", f)
	}
}

func TestANodeCountsOnlyWhenArgoCDAppliedIt(t *testing.T) {
	node := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{
		"phase": "Ready", "conditions": []any{map[string]any{"type": "Ready", "status": "True", "message": "it is a member"}},
	}}}
	if line, ready := describeNode(node); ready || !strings.Contains(line, "not applied it") {
		t.Errorf("%q, %v", line, ready)
	}
	node.SetAnnotations(map[string]string{trackedBy: "cluster:rhizome.dev/Node:cluster/node2"})
	if line, ready := describeNode(node); !ready || line != "Ready      it is a member" {
		t.Errorf("%q, %v", line, ready)
	}
}

func TestWhatChangesIsSaidOnceAndAStallIsExplained(t *testing.T) {
	now, looks := time.Unix(0, 0), 0
	var out bytes.Buffer
	w := wait{out: &out, lab: "dist/lab", now: func() time.Time { return now }, look: func(context.Context) []fact {
		looks++
		now = now.Add(quiet)
		return []fact{
			{name: "node2", line: "Installing", check: "kubectl describe rnode node2", ready: looks > 2},
			{name: "Argo CD", line: "Running", ready: true},
		}
	}}
	if err := w.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for want, times := range map[string]int{"node2            Installing": 1, "Argo CD          Running": 1, "nothing new for 5m0s": 1, "look at: dist/lab kubectl describe rnode node2": 1} {
		if got := strings.Count(out.String(), want); got != times {
			t.Errorf("%q is said %d times, want %d, in\n%s", want, got, times, out.String())
		}
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	w.look = func(context.Context) []fact { return []fact{{name: "node2", line: "Installing", check: "status"}} }
	if err := w.run(ctx); err == nil || !strings.Contains(err.Error(), "node2: Installing") || !strings.Contains(err.Error(), "dist/lab status") {
		t.Errorf("the end of the patience: %v", err)
	}
}
