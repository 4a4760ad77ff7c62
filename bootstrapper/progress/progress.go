// Package progress shows a person, or a program, how far a seed has come: one
// phase after the other, each with its time and what it is doing.
package progress

import (
	"io"
	"strings"
	"sync"
	"time"

	"github.com/rhizome-dev/rhizome/internal/plaintext"
)

// Format says how progress is written.
type Format string

// The formats.
const (
	// Plain is one line a happening, for logs, pipes and scripts.
	Plain Format = "plain"
	// Terminal redraws bars below the lines of what is done.
	Terminal Format = "terminal"
	// JSON is one JSON object a line, see Event.
	JSON Format = "json"
)

// Kind is what an Event tells.
type Kind string

// The kinds of events. The names are stable.
const (
	Begin    Kind = "begin"    // a phase begins
	Note     Kind = "note"     // something happened that a person wants to know
	Warning  Kind = "warning"  // something that may be wrong
	Transfer Kind = "progress" // bytes moved: Item, Done, Total, Rate
	Stalled  Kind = "stalled"  // nothing happened for a while; what was last seen and what to check
	Done     Kind = "done"     // a phase ended well
	Skipped  Kind = "skipped"  // a phase had nothing to do
	Failed   Kind = "failed"   // a phase failed, and with it the seed
	Summary  Kind = "summary"  // said at the end
)

// Event is one thing that happened: what the format JSON writes, a line each.
type Event struct {
	Time    time.Time `json:"time"`
	Phase   string    `json:"phase,omitempty"`
	Kind    Kind      `json:"event"`
	Message string    `json:"message,omitempty"`
	// Elapsed is the time since the phase began, in seconds.
	Elapsed float64 `json:"elapsed"`
	// Item names what is transferred, Done and Total are its bytes (a Total of
	// zero is not known) and Rate its bytes a second.
	Item  string  `json:"item,omitempty"`
	Done  int64   `json:"done,omitempty"`
	Total int64   `json:"total,omitempty"`
	Rate  float64 `json:"rate,omitempty"`
	// Fix says what to do about a failure.
	Fix string `json:"fix,omitempty"`
}

// sink writes events in one format. Its methods are called one at a time.
type sink interface {
	event(Event)
	close()
}

// Display shows phases. Its methods, and those of its phases, may be called from
// many goroutines at once.
type Display struct {
	mu   sync.Mutex
	sink sink
	now  func() time.Time
	// every is how far apart two lines about one transfer are.
	every time.Duration
}

// transferEvery keeps logs short: a transfer of an hour is 360 lines.
const transferEvery = 10 * time.Second

// redrawEvery is as often as a person can read a bar.
const redrawEvery = 100 * time.Millisecond

// New makes a display that writes to out. now is the clock.
func New(out io.Writer, format Format, now func() time.Time) *Display {
	d := &Display{now: now, every: transferEvery}
	switch format {
	case JSON:
		d.sink = newJSONSink(out)
	case Terminal:
		d.sink, d.every = newTerminalSink(out, now), redrawEvery
	default:
		d.sink = &plainSink{out: out}
	}
	return d
}

// Phase begins a phase.
func (d *Display) Phase(name string) *Phase {
	p := &Phase{display: d, name: name, began: d.now(), items: map[string]*item{}}
	p.emit(Event{Kind: Begin})
	return p
}

// Summary says something at the end, a line each.
func (d *Display) Summary(lines ...string) {
	for _, line := range lines {
		d.emit(Event{Time: d.now(), Kind: Summary, Message: line})
	}
}

// Close ends the display: what is on the terminal stays.
func (d *Display) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sink.close()
}

func (d *Display) emit(e Event) {
	e.Message, e.Item, e.Fix = clean(e.Message), clean(e.Item), clean(e.Fix)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sink.event(e)
}

// clean keeps a message on one line and control characters off the terminal.
func clean(s string) string { return plaintext.Line(strings.TrimSpace(s)) }
