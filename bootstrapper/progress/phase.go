package progress

import (
	"fmt"
	"sync"
	"time"
)

// Phase is one phase of a seed, from its begin to its end.
type Phase struct {
	display *Display
	name    string
	began   time.Time

	mu    sync.Mutex
	items map[string]*item
	ended bool
}

// item is what is known of one transfer.
type item struct {
	meter meter
	shown time.Time
	full  bool
}

// Elapsed is the time since the phase began.
func (p *Phase) Elapsed() time.Duration { return p.display.now().Sub(p.began) }

// Note tells something that happened.
func (p *Phase) Note(format string, args ...any) {
	p.emit(Event{Kind: Note, Message: fmt.Sprintf(format, args...)})
}

// Warn tells something that may be wrong.
func (p *Phase) Warn(format string, args ...any) {
	p.emit(Event{Kind: Warning, Message: fmt.Sprintf(format, args...)})
}

// Stalled says that nothing happened for a while.
func (p *Phase) Stalled(format string, args ...any) {
	p.emit(Event{Kind: Stalled, Message: fmt.Sprintf(format, args...)})
}

// Transfer says how many bytes of a named thing were moved; a total of zero is
// not known. It may be called for every buffer: it is shown now and then, at the
// first call, and once when all is there.
func (p *Phase) Transfer(name string, done, total int64) {
	now := p.display.now()
	p.mu.Lock()
	it := p.items[name]
	if it == nil {
		it = &item{}
		p.items[name] = it
	}
	it.meter.add(now, done)
	full := total > 0 && done >= total
	due := it.shown.IsZero() || now.Sub(it.shown) >= p.display.every
	show := !p.ended && (full && !it.full || !full && due)
	if show {
		it.shown, it.full = now, full
	}
	rate := it.meter.rate()
	p.mu.Unlock()
	if show {
		p.emit(Event{Kind: Transfer, Item: name, Done: done, Total: total, Rate: rate})
	}
}

// Done ends the phase well. What was achieved follows the time.
func (p *Phase) Done(format string, args ...any) {
	p.end(Event{Kind: Done, Message: fmt.Sprintf(format, args...)})
}

// Skip ends the phase as one that had nothing to do, and says why.
func (p *Phase) Skip(format string, args ...any) {
	p.end(Event{Kind: Skipped, Message: fmt.Sprintf(format, args...)})
}

// Fail ends the phase with its cause and what to do about it.
func (p *Phase) Fail(cause, fix string) {
	p.end(Event{Kind: Failed, Message: cause, Fix: fix})
}

func (p *Phase) end(e Event) {
	p.mu.Lock()
	ended := p.ended
	p.ended = true
	p.mu.Unlock()
	if !ended {
		p.emit(e)
	}
}

func (p *Phase) emit(e Event) {
	e.Time, e.Phase = p.display.now(), p.name
	e.Elapsed = e.Time.Sub(p.began).Seconds()
	p.display.emit(e)
}
