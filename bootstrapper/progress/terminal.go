package progress

import (
	"fmt"
	"io"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// terminalSink keeps the lines of what happened above one live line for the
// phase that runs and a bar for each of its transfers.
type terminalSink struct {
	progress *mpb.Progress
	now      func() time.Time
	live     *mpb.Bar
	bars     map[string]*bar
}

// bar is a transfer on the screen.
type bar struct {
	*mpb.Bar
	text chan string // the latest amount, at most one
}

const (
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	red    = "\x1b[31m"
	grey   = "\x1b[90m"
	reset  = "\x1b[0m"
)

func newTerminalSink(out io.Writer, now func() time.Time) *terminalSink {
	// mpb takes a terminal's width from out when out is a file, and does not
	// redraw when it is none; WithAutoRefresh makes it draw for any writer, for
	// the one who chose this format knows.
	return &terminalSink{
		progress: mpb.New(mpb.WithOutput(out), mpb.WithWidth(32), mpb.WithAutoRefresh()),
		now:      now,
		bars:     map[string]*bar{},
	}
}

func (s *terminalSink) event(e Event) {
	switch e.Kind {
	case Begin:
		s.begin(e)
	case Transfer:
		s.transfer(e)
	case Done, Skipped, Failed:
		s.clear()
		s.line(terminalLine(e))
	default:
		s.line(terminalLine(e))
	}
}

func (s *terminalSink) close() {
	s.clear()
	s.progress.Shutdown()
}

// terminalLine is an event that stays on the screen.
func terminalLine(e Event) string {
	switch e.Kind {
	case Done:
		return fmt.Sprintf("%s✔%s %-10s %s %s(%s)%s", green, reset, e.Phase, e.Message, grey, seconds(e.Elapsed), reset)
	case Skipped:
		return fmt.Sprintf("%s–%s %-10s %s%s%s", grey, reset, e.Phase, grey, e.Message, reset)
	case Failed:
		text := fmt.Sprintf("%s✘%s %-10s %s %s(%s)%s", red, reset, e.Phase, e.Message, grey, seconds(e.Elapsed), reset)
		if e.Fix != "" {
			text += "\n  what to do: " + e.Fix
		}
		return text
	case Warning, Stalled:
		return fmt.Sprintf("%s!%s %-10s %s", yellow, reset, e.Phase, e.Message)
	case Summary:
		return e.Message
	default:
		return fmt.Sprintf("  %-10s %s", e.Phase, e.Message)
	}
}

func (s *terminalSink) begin(e Event) {
	s.clear()
	began := e.Time
	s.live = s.progress.New(0, mpb.SpinnerStyle().PositionLeft(),
		mpb.BarWidth(1), mpb.BarPriority(-1),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
			return fmt.Sprintf(" %-10s %s", e.Phase, seconds(s.now().Sub(began).Seconds()))
		})))
}

func (s *terminalSink) transfer(e Event) {
	b := s.bars[e.Item]
	if b == nil {
		text, last := make(chan string, 1), ""
		b = &bar{text: text}
		b.Bar = s.progress.New(0, mpb.BarStyle().Lbound(" ").Filler("━").Tip("━").Padding(" ").Rbound(" "),
			mpb.PrependDecorators(decor.Name(fmt.Sprintf("  %-24s", e.Item))),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string {
				select {
				case last = <-text:
				default:
				}
				return last
			})))
		s.bars[e.Item] = b
	}
	select {
	case <-b.text:
	default:
	}
	b.text <- amount(e.Done, e.Total, e.Rate)
	// The total stands one above what is done: a bar that mpb holds complete
	// takes no more updates, and a transfer may begin again.
	b.SetTotal(max(e.Total, e.Done)+1, false)
	b.SetCurrent(e.Done)
}

// clear takes the live line and the bars off the screen.
func (s *terminalSink) clear() {
	var gone []*mpb.Bar
	for _, b := range s.bars {
		gone = append(gone, b.Bar)
	}
	if s.live != nil {
		gone = append(gone, s.live)
	}
	s.bars, s.live = map[string]*bar{}, nil
	for _, b := range gone {
		b.Abort(true)
	}
	// A bar leaves the screen at a redraw; a line before that would stand above it.
	for _, b := range gone {
		b.Wait()
	}
}

func (s *terminalSink) line(text string) {
	_, _ = s.progress.Write([]byte(text + "\n"))
}
