package progress

import "time"

// meter measures the rate of a transfer over the last seconds, so that a pause
// shows. The zero value has seen nothing.
type meter struct{ samples []sample }

type sample struct {
	at   time.Time
	done int64
}

const (
	meterWindow = 10 * time.Second
	meterStep   = 500 * time.Millisecond
)

// add takes what is done now. A count that goes back (a transfer that began
// again) starts the measure afresh.
func (m *meter) add(at time.Time, done int64) {
	n := len(m.samples)
	if n > 0 && done < m.samples[n-1].done {
		m.samples, n = nil, 0
	}
	if n > 1 && at.Sub(m.samples[n-2].at) < meterStep {
		m.samples[n-1] = sample{at, done}
	} else {
		m.samples = append(m.samples, sample{at, done})
	}
	for len(m.samples) > 2 && at.Sub(m.samples[1].at) >= meterWindow {
		m.samples = m.samples[1:]
	}
}

// rate is in bytes a second; zero while it is not known.
func (m *meter) rate() float64 {
	if len(m.samples) < 2 {
		return 0
	}
	first, last := m.samples[0], m.samples[len(m.samples)-1]
	seconds := last.at.Sub(first.at).Seconds()
	if seconds <= 0 {
		return 0
	}
	return float64(last.done-first.done) / seconds
}
