package node

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/provision"
)

// counters are what this controller counts. They belong to the process, as the
// registry does.
type counters struct {
	phases            *prometheus.HistogramVec
	opened, removals  *prometheus.CounterVec
	failed, installed prometheus.Counter
}

// The results of rhizome_removals_total.
const (
	resultRemoved = "removed" // taken out of the cluster
	resultKept    = "kept"    // the resource went, the machine stays a member
	resultGone    = "gone"    // it was no member
	resultHeld    = "held"    // a rule held it
)

var metrics = &counters{
	phases: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "rhizome_node_phase_duration_seconds",
		Help: "How long machines were in a phase of their life before they left it.",
		// From a second to nine hours.
		Buckets: prometheus.ExponentialBuckets(1, 2, 16),
	}, []string{"phase"}),
	opened: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rhizome_claims_opened_total", Help: "Permissions to install a machine that were opened, by purpose.",
	}, []string{"purpose"}),
	failed: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "rhizome_attempts_failed_total", Help: "Installations that did not end in a member.",
	}),
	installed: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "rhizome_installations_total", Help: "Installations that ended in a Ready member.",
	}),
	removals: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rhizome_removals_total", Help: "Removals of machines, by result; a held one is counted each time that another rule holds it.",
	}, []string{"result"}),
}

// census counts the machines of the running controller.
var census = &collector{
	phase: prometheus.NewDesc("rhizome_node_phase", "Declared machines by the phase of their life.", []string{"phase"}, nil),
	holds: prometheus.NewDesc("rhizome_holds", "Declared machines that a rule holds, by the rule.", []string{"rule"}, nil),
}

func init() {
	ctrlmetrics.Registry.MustRegister(metrics.phases, metrics.opened, metrics.failed, metrics.installed, metrics.removals, census)
	// So that a rate is known from the first one on.
	metrics.opened.WithLabelValues(string(provision.Join))
	for _, result := range []string{resultRemoved, resultKept, resultGone, resultHeld} {
		metrics.removals.WithLabelValues(result)
	}
}

// collector reads the cache when it is asked.
type collector struct {
	phase, holds *prometheus.Desc
	reader       atomic.Pointer[client.Reader]
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) { out <- c.phase; out <- c.holds }

var phases = []v1alpha1.Phase{
	v1alpha1.PhaseDeclared, v1alpha1.PhaseClaimed, v1alpha1.PhaseWaking, v1alpha1.PhaseBooting, v1alpha1.PhaseInstalling,
	v1alpha1.PhaseJoining, v1alpha1.PhaseReady, v1alpha1.PhaseNotReady, v1alpha1.PhaseRemoving, v1alpha1.PhaseFailed,
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	reader := c.reader.Load()
	if reader == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var nodes v1alpha1.NodeList
	if err := (*reader).List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
		out <- prometheus.NewInvalidMetric(c.phase, err)
		return
	}
	count, held := map[v1alpha1.Phase]int{}, map[string]int{}
	for i := range nodes.Items {
		s := &nodes.Items[i].Status
		count[s.Phase]++
		for _, kind := range []string{v1alpha1.ConditionAdmitted, v1alpha1.ConditionRemoval} {
			if rule := meta.FindStatusCondition(s.Conditions, kind); rule != nil && rule.Status == metav1.ConditionFalse {
				held[rule.Reason]++
			}
		}
	}
	for _, p := range phases {
		out <- prometheus.MustNewConstMetric(c.phase, prometheus.GaugeValue, float64(count[p]), string(p))
	}
	for rule, n := range held {
		out <- prometheus.MustNewConstMetric(c.holds, prometheus.GaugeValue, float64(n), rule)
	}
}
