package power

import (
	"github.com/prometheus/client_golang/prometheus"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
)

// actions belong to the process, as the registry does.
var actions = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "rhizome_power_actions_total",
	Help: "Machines that were to be turned on by the operator, by means (redfish, webhook) and by what came of it, a reason of the condition Power.",
}, []string{"means", "reason"})

func init() { ctrlmetrics.Registry.MustRegister(actions) }
