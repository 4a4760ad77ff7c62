package healing

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// counters are what this controller counts. They belong to the process, as the
// registry does.
type counters struct {
	begun, ended, refused, dry *prometheus.CounterVec
	took                       *prometheus.HistogramVec
	storms                     prometheus.Counter
}

var metrics = &counters{
	begun: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rhizome_repairs_begun_total", Help: "Steps of repairs that were begun, by action.",
	}, []string{"action"}),
	ended: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rhizome_repairs_total", Help: "Steps of repairs that are over, by action and result.",
	}, []string{"action", "result"}),
	refused: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rhizome_repair_refusals_total", Help: "Repairs that a rule refused, by the rule; counted each time that another rule speaks.",
	}, []string{"rule"}),
	dry: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "rhizome_repairs_dry_run_total", Help: "Steps of repairs that would have been begun if healing were enabled, by action.",
	}, []string{"action"}),
	took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "rhizome_repair_duration_seconds", Help: "How long steps of repairs took, by action.",
		// From ten seconds to eleven hours.
		Buckets: prometheus.ExponentialBuckets(10, 2, 13),
	}, []string{"action"}),
	storms: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "rhizome_healing_storms_total", Help: "How often too many members were sick at once.",
	}),
}

// census counts the members by what healing wrote of them.
var census = &collector{
	sick:        prometheus.NewDesc("rhizome_sick_members", "Members that are sick, by the reason.", []string{"reason"}, nil),
	quarantined: prometheus.NewDesc("rhizome_quarantined_members", "Members that were given up until a person clears them.", nil, nil),
	repairing:   prometheus.NewDesc("rhizome_repairing_members", "Members that a step of a repair was begun for.", nil, nil),
	storm:       prometheus.NewDesc("rhizome_healing_storm", "1 while too many members are sick at once, so that nothing is begun.", nil, nil),
}

func init() {
	ctrlmetrics.Registry.MustRegister(metrics.begun, metrics.ended, metrics.refused, metrics.dry, metrics.took, metrics.storms, census)
}

// collector reads the cache when it is asked.
type collector struct {
	sick, quarantined, repairing, storm *prometheus.Desc
	reader                              atomic.Pointer[client.Reader]
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.sick, c.quarantined, c.repairing, c.storm} {
		out <- d
	}
}

var sickReasons = []string{
	v1alpha1.ReasonSickNotReady, v1alpha1.ReasonSickSilent, v1alpha1.ReasonSickMissing, v1alpha1.ReasonSickVoteLost,
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
	var clusters v1alpha1.ClusterList
	for _, list := range []client.ObjectList{&nodes, &clusters} {
		err := (*reader).List(ctx, list, client.UnsafeDisableDeepCopy)
		if notStarted := new(cache.ErrCacheNotStarted); errors.As(err, &notStarted) {
			return // nothing is known yet
		}
		if err != nil {
			out <- prometheus.NewInvalidMetric(c.sick, err)
			return
		}
	}
	sick, quarantined, repairing, storm := map[string]int{}, 0, 0, 0
	for i := range nodes.Items {
		s := &nodes.Items[i].Status
		if h := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionHealthy); h != nil && h.Status == "False" {
			sick[h.Reason]++
		}
		if s.Repair != nil && s.Repair.Quarantined != nil {
			quarantined++
		}
		if s.Repair != nil && s.Repair.Action != "" {
			repairing++
		}
	}
	for i := range clusters.Items {
		if h := clusters.Items[i].Status.Healing; h != nil && h.Storm != nil {
			storm = 1
		}
	}
	put := func(d *prometheus.Desc, n int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	for _, reason := range sickReasons {
		put(c.sick, sick[reason], reason)
	}
	put(c.quarantined, quarantined)
	put(c.repairing, repairing)
	put(c.storm, storm)
}
