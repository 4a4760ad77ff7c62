package progress

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// clock is a time that only the test moves.
type clock struct{ at time.Time }

func (c *clock) now() time.Time       { return c.at }
func (c *clock) pass(d time.Duration) { c.at = c.at.Add(d) }
func newClock() *clock                { return &clock{time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }
func lines(b *bytes.Buffer) []string {
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}
func tell(d *Display, c *clock) (p *Phase) {
	p = d.Phase("media")
	c.pass(300 * time.Millisecond)
	p.Note("three files")
	p.Transfer("disk.img", 1<<20, 4<<20)
	c.pass(time.Second)
	p.Transfer("disk.img", 2<<20, 4<<20)
	c.pass(10 * time.Second)
	p.Transfer("disk.img", 3<<20, 4<<20)
	p.Stalled("nothing since 10s")
	p.Transfer("disk.img", 4<<20, 4<<20)
	p.Transfer("disk.img", 4<<20, 4<<20)
	p.Done("4.0 MiB")
	p.Done("again")
	return p
}

func TestPlainLinesAreOneAnEventAndTransfersAreRare(t *testing.T) {
	var out bytes.Buffer
	c := newClock()
	d := New(&out, Plain, c.now)
	tell(d, c)
	p := d.Phase("install")
	c.pass(3*time.Minute + 2*time.Second)
	p.Fail("disk: two match", "set spec.disk")
	d.Phase("wake").Skip("it runs")
	d.Summary("kubeconfig: /k")
	want := []string{
		"media: begin",
		"media: three files",
		"media: disk.img: 1.0 MiB of 4.0 MiB (25%)",
		"media: disk.img: 3.0 MiB of 4.0 MiB (75%), 102.4 KiB/s",
		"media: stalled: nothing since 10s",
		"media: disk.img: 4.0 MiB of 4.0 MiB (100%), 204.8 KiB/s",
		"media: done (11.3s) 4.0 MiB",
		"install: begin",
		"install: failed (3m2s) disk: two match",
		"  what to do: set spec.disk",
		"wake: begin",
		"wake: skipped (0.0s) it runs",
		"kubeconfig: /k",
	}
	if diff := cmp.Diff(want, lines(&out)); diff != "" {
		t.Errorf("plain output (-want +got):\n%s", diff)
	}
}

func TestJSONLinesHoldTheSameEvents(t *testing.T) {
	var out bytes.Buffer
	c := newClock()
	tell(New(&out, JSON, c.now), c)
	var kinds []Kind
	for _, line := range lines(&out) {
		var e Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		if e.Phase != "media" || e.Time.IsZero() {
			t.Errorf("event without phase or time: %s", line)
		}
		kinds = append(kinds, e.Kind)
	}
	want := []Kind{Begin, Note, Transfer, Transfer, Stalled, Transfer, Done}
	if diff := cmp.Diff(want, kinds); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestWhatMachinesSayCannotMoveTheCursorNorForgeALine(t *testing.T) {
	for _, format := range []Format{Plain, JSON, Terminal} {
		var out bytes.Buffer
		d := New(&out, format, newClock().now)
		p := d.Phase("install")
		p.Note("bad \x1b[2J\x9b1m disk\ninstall: done (1.0s)")
		p.Done("")
		d.Close()
		if s := out.String(); strings.Contains(s, "\x1b[2J") || strings.Contains(s, "\u009b") || strings.Contains(s, "\ninstall: done (1.0s)") {
			t.Errorf("%s: control characters came through: %q", format, s)
		}
	}
}

func TestTerminalKeepsTheLinesOfWhatIsDone(t *testing.T) {
	var out bytes.Buffer
	c := newClock()
	d := New(&out, Terminal, c.now)
	tell(d, c)
	d.Summary("kubeconfig: /k")
	d.Close()
	for _, want := range []string{"three files", "nothing since 10s", "✔", "kubeconfig: /k"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("terminal output lacks %q:\n%q", want, out.String())
		}
	}
}

func TestSizesReadNaturally(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 5 << 30: "5.0 GiB", 3 << 50: "3072.0 TiB"} {
		if got := Size(n); got != want {
			t.Errorf("Size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestRateForgetsThePastAndStartsAfreshWhenATransferDoes(t *testing.T) {
	c, m := newClock(), meter{}
	m.add(c.at, 0)
	if got := m.rate(); got != 0 {
		t.Errorf("rate of one sample = %v, want 0", got)
	}
	for range 60 {
		c.pass(time.Second)
		m.add(c.at, int64(c.at.Second())) // rises and falls back at the minute
	}
	c.pass(time.Second)
	m.add(c.at, 1<<30)
	fast := m.rate()
	for range 30 {
		c.pass(time.Second)
		m.add(c.at, 1<<30)
	}
	if got := m.rate(); got != 0 || fast == 0 {
		t.Errorf("rate after a pause = %v (before %v), want 0", got, fast)
	}
	if len(m.samples) > 30 {
		t.Errorf("the meter keeps %d samples", len(m.samples))
	}
}
