package boot

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/rhizome-dev/rhizome/pxe"
)

// metrics are what a PXE pod counts. None of them names a machine.
type metrics struct {
	registry *prometheus.Registry

	packets      *prometheus.CounterVec // type, decision, answered
	tftp         *prometheus.CounterVec // result
	http         *prometheus.CounterVec // scheme, code
	sent         *prometheus.CounterVec // protocol
	boots        *prometheus.CounterVec // stage
	consumed     prometheus.Counter
	exchanged    prometheus.Counter
	refusals     *prometheus.CounterVec // rule
	mediaFetched *prometheus.CounterVec // source
	mediaMissing prometheus.Gauge
	mediaWanted  prometheus.Gauge
	magic        prometheus.Counter
	writes       *prometheus.CounterVec // object, result
	ready        prometheus.Gauge
}

var _ pxe.Meter = (*metrics)(nil)

func newMetrics() *metrics {
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rhizome_" + name, Help: help}, labels)
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "rhizome_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "rhizome_" + name, Help: help})
	}
	m := &metrics{
		registry:     prometheus.NewRegistry(),
		packets:      counters("dhcp_packets_total", "DHCP packets that came in, by message type, by what their sender may do, and by whether they were answered.", "type", "decision", "answered"),
		tftp:         counters("tftp_requests_total", "TFTP requests that have ended, by result.", "result"),
		http:         counters("http_requests_total", "HTTP requests of machines that have ended, by scheme and status code.", "scheme", "code"),
		sent:         counters("sent_bytes_total", "Bytes of files sent to machines, by protocol.", "protocol"),
		boots:        counters("boot_stages_total", "Stages of network boots that were entered, by stage; each once a boot.", "stage"),
		consumed:     counter("claims_consumed_total", "Claims consumed by the fetch of an init config."),
		exchanged:    counter("claims_exchanged_total", "Claims exchanged for credentials, repetitions within the grace included."),
		refusals:     counters("refusals_total", "Requests of machines that were refused, by rule.", "rule"),
		mediaFetched: counters("media_fetched_bytes_total", "Bytes of installer media fetched, by where they came from: host, peer or source.", "source"),
		mediaMissing: gauge("media_files_missing", "Files that a waiting machine needs and that are not here yet."),
		mediaWanted:  gauge("media_files_wanted", "Files that waiting machines need."),
		magic:        counter("magic_packet_rounds_total", "Rounds of magic packets sent to wake machines."),
		writes:       counters("status_writes_total", "Writes of what was seen to the API, by object (node, discovered, pod, reach) and result (written, failed).", "object", "result"),
		ready:        gauge("pxe_ready", "1 while this pod serves all that a declared machine may need, else 0."),
	}
	m.registry.MustRegister(m.packets, m.tftp, m.http, m.sent, m.boots, m.consumed, m.exchanged, m.refusals, m.mediaFetched,
		m.mediaMissing, m.mediaWanted, m.magic, m.writes, m.ready,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Packet implements pxe.Meter.
func (m *metrics) Packet(kind string, action pxe.Action, answered bool) {
	m.packets.WithLabelValues(kind, action.String(), strconv.FormatBool(answered)).Inc()
}

// Request implements pxe.Meter.
func (m *metrics) Request(protocol pxe.Protocol, result string) {
	switch protocol {
	case pxe.ProtocolTFTP:
		m.tftp.WithLabelValues(result).Inc()
	case pxe.ProtocolHTTPS:
		m.http.WithLabelValues("https", result).Inc()
	default:
		m.http.WithLabelValues("http", result).Inc()
	}
}

// Sent implements pxe.Meter.
func (m *metrics) Sent(protocol pxe.Protocol, bytes int64) {
	m.sent.WithLabelValues(string(protocol)).Add(float64(max(bytes, 0)))
}
