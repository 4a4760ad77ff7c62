package node_test

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// eventually asks again and again until check has nothing to say, for a time that
// only a fault exceeds.
func (w *world) eventually(what string, check func() string) {
	w.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		why := check()
		if why == "" {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%s: %s", what, why)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// await waits until a Node has the phase, and the conditions that are named, such
// as "Admitted=False Paused"; with a dash, such as "-Removal", until there is none.
func (w *world) await(name string, phase v1alpha1.Phase, conditions ...string) *v1alpha1.Node {
	w.t.Helper()
	var n *v1alpha1.Node
	w.eventually("Node "+name, func() string {
		if n = w.get(name); n == nil {
			return "it is gone"
		}
		got := string(n.Status.Phase)
		for _, c := range n.Status.Conditions {
			got += fmt.Sprintf(", %s=%s %s (%s)", c.Type, c.Status, c.Reason, c.Message)
		}
		if n.Status.Phase != phase {
			return got + ", want " + string(phase)
		}
		for _, want := range conditions {
			if kind, no := strings.CutPrefix(want, "-"); no {
				if meta.FindStatusCondition(n.Status.Conditions, kind) != nil {
					return got + ", want no " + kind
				}
				continue
			}
			kind, value, _ := strings.Cut(want, "=")
			c := meta.FindStatusCondition(n.Status.Conditions, kind)
			if c == nil || string(c.Status)+" "+c.Reason != value {
				return got + ", want " + want
			}
		}
		if n.Status.ObservedGeneration != n.Generation || n.Status.PhaseSince == nil {
			return "the status does not speak of this generation"
		}
		return ""
	})
	return n
}

func (w *world) gone(name string) {
	w.t.Helper()
	w.eventually("Node "+name, func() string {
		if n := w.get(name); n != nil {
			return fmt.Sprintf("it is still there: %s %+v", n.Status.Phase, n.Status.Conditions)
		}
		return ""
	})
}

// phases are the phases of all Nodes, as name=phase.
func (w *world) phases() []string {
	w.t.Helper()
	var nodes v1alpha1.NodeList
	if err := w.List(w.t.Context(), &nodes); err != nil {
		w.t.Fatal(err)
	}
	var all []string
	for _, n := range nodes.Items {
		all = append(all, n.Name+"="+string(n.Status.Phase))
	}
	slices.Sort(all)
	return all
}
