package progress

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// plainSink writes one line an event, at once, each beginning with its phase.
type plainSink struct{ out io.Writer }

func (s *plainSink) event(e Event) {
	// There is nobody to tell that nobody can be told.
	_, _ = io.WriteString(s.out, plainLine(e)+"\n")
}

func (s *plainSink) close() {}

// plainLine is an event on one line. Scripts may rely on the beginnings
// "PHASE: begin", "PHASE: done (", "PHASE: skipped (" and "PHASE: failed (".
func plainLine(e Event) string {
	switch e.Kind {
	case Begin:
		return e.Phase + ": begin"
	case Transfer:
		return e.Phase + ": " + e.Item + ": " + amount(e.Done, e.Total, e.Rate)
	case Stalled, Warning:
		return fmt.Sprintf("%s: %s: %s", e.Phase, e.Kind, e.Message)
	case Done, Skipped, Failed:
		line := fmt.Sprintf("%s: %s (%s)", e.Phase, e.Kind, seconds(e.Elapsed))
		if e.Message != "" {
			line += " " + e.Message
		}
		if e.Fix != "" {
			line += "\n  what to do: " + e.Fix
		}
		return line
	case Summary:
		return e.Message
	default:
		return e.Phase + ": " + e.Message
	}
}

// jsonSink writes one JSON object an event.
type jsonSink struct{ encoder *json.Encoder }

func newJSONSink(out io.Writer) *jsonSink {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	return &jsonSink{encoder}
}

func (s *jsonSink) event(e Event) { _ = s.encoder.Encode(e) }
func (s *jsonSink) close()        {}

// amount says how much of something is there: "12.0 MiB of 48.0 MiB (25%), 8.1 MiB/s".
func amount(done, total int64, rate float64) string {
	text := Size(done)
	if total > 0 {
		text = fmt.Sprintf("%s of %s (%d%%)", Size(done), Size(total), percent(done, total))
	}
	if rate >= 1 {
		text += ", " + Size(int64(rate)) + "/s"
	}
	return text
}

// percent rounds down, so that 100% is only said when all is there.
func percent(done, total int64) int64 {
	return min(int64(float64(done)/float64(total)*100), 100)
}

// Size is a number of bytes for people, in binary units.
func Size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	value, unit := float64(n), 0
	for value >= 1024 && unit < len(units)-1 {
		value /= 1024
		unit++
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", value, units[unit])
}

// seconds is a duration for people: 0.3s, 12.3s, 3m2s, 1h2m3s.
func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}
