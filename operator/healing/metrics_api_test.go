package healing_test

import (
	"fmt"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// gathered are the samples of all families: of a histogram its count.
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

// TestEveryMetricMoves leads members through what each family counts.
func TestEveryMetricMoves(t *testing.T) {
	w := newWorld(t, v1alpha1.HealingEnabled)
	w.specify(`{"healing":{"power":{"tries":1},"reinstall":{"tries":0}}}`)
	before := gathered(t)
	moved := func(name string, by float64) {
		t.Helper()
		w.eventually(name, func() string {
			if got := gathered(t)[name] - before[name]; got != by {
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
	w.run()
	is("rhizome_sick_members{reason=Silent}", 0)
	w.die(10*time.Minute, "w1")
	is("rhizome_sick_members{reason=Silent}", 1)
	w.begun("w1", v1alpha1.RepairWake)
	w.acted("w1", v1alpha1.RepairWake, 1)
	is("rhizome_repairing_members", 1)
	moved("rhizome_repairs_begun_total{action=Wake}", 1)
	w.later(10*time.Minute, "w1")
	moved("rhizome_repairs_total{action=Wake}{result=TimedOut}", 1)
	moved("rhizome_repair_duration_seconds{action=Wake}", 1)
	moved("rhizome_repair_refusals_total{rule=BackOff}", 1)
	w.later(time.Minute, "w1")
	is("rhizome_quarantined_members", 1)
	for _, name := range []string{"w2", "w3"} {
		w.kubelet(name, corev1.ConditionUnknown)
	}
	is("rhizome_healing_storm", 1)
	moved("rhizome_healing_storms_total", 1)
}

// volume is one that lies on a machine's disk and nowhere else.
func volume(name, on string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeSpec{
		Capacity:               corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
		AccessModes:            []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/data"}},
		NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{on}}},
		}}}},
	}}
}
