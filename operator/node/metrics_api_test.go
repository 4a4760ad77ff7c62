package node_test

import (
	"fmt"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/provision"
)

// gathered are the samples of this controller's families: of a histogram its
// count.
func gathered(t *testing.T) map[string]float64 {
	t.Helper()
	families, err := ctrlmetrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := f.GetName()
			for _, l := range m.Label {
				name += fmt.Sprintf("{%s=%s}", l.GetName(), l.GetValue())
			}
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				all[name] = m.Counter.GetValue()
			case dto.MetricType_GAUGE:
				all[name] = m.Gauge.GetValue()
			case dto.MetricType_HISTOGRAM:
				all[name] = float64(m.Histogram.GetSampleCount())
			}
		}
	}
	return all
}

// TestEveryMetricMoves leads machines through what each family counts.
func TestEveryMetricMoves(t *testing.T) {
	w := newWorld(t)
	w.found()
	w.run()
	w.await("s1", v1alpha1.PhaseReady)
	before := gathered(t)
	moved := func(name string, by float64) {
		t.Helper()
		w.eventually(name, func() string {
			if got := gathered(t)[name] - before[name]; got < by {
				return fmt.Sprintf("moved by %v, want %v", got, by)
			}
			return ""
		})
	}
	is := func(name string, want float64) {
		t.Helper()
		w.eventually(name, func() string {
			if got, ok := gathered(t)[name]; !ok || got != want {
				return fmt.Sprintf("is %v (exposed: %v), want %v", got, ok, want)
			}
			return ""
		})
	}
	is("rhizome_node_phase{phase=Ready}", 1)
	w.declare(v1alpha1.Worker, "w1", "w2", "w3")
	is("rhizome_node_phase{phase=Waking}", 2)
	is("rhizome_holds{rule=ConcurrencyCap}", 1)
	moved("rhizome_claims_opened_total{purpose=Join}", 2)

	var one string
	for _, name := range []string{"w1", "w2"} {
		if _, ok := w.claim(name); ok {
			one = name
		}
	}
	for _, s := range steps[:3] {
		s.do(w, one)
	}
	w.transition(one, func(c *provision.Claim) error { return c.Fail(w.clock(), "", "no disk") })
	w.await(one, v1alpha1.PhaseDeclared)
	moved("rhizome_attempts_failed_total", 1)
	moved("rhizome_node_phase_duration_seconds{phase=Installing}", 1)
	w.pass(2 * time.Minute)
	// The others took its place: they are let go.
	for _, name := range []string{"w1", "w2", "w3"} {
		if name != one {
			w.remove(name)
			w.gone(name)
		}
	}
	moved("rhizome_removals_total{result=gone}", 1) // the one that only waited went without us
	w.grow(one)
	moved("rhizome_installations_total", 1)
	w.annotate(one, v1alpha1.AnnotationPaused, "look")
	w.remove(one)
	moved("rhizome_removals_total{result=held}", 1)
	w.annotate(one, v1alpha1.AnnotationPaused, "")
	w.settled()
	w.gone(one)
	moved("rhizome_removals_total{result=removed}", 1)
	w.remove("s1")
	w.annotate("s1", v1alpha1.AnnotationRemoval, v1alpha1.RemovalKeep)
	w.gone("s1")
	moved("rhizome_removals_total{result=kept}", 1)
}
