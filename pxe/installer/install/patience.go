package install

import (
	"time"

	"github.com/rhizome-dev/rhizome/pxe/installer/stream"
)

// Patience has the time-outs of an installation. A zero field means the value in
// its comment.
type Patience struct {
	// Plan: how long a server that cannot be reached is asked for the plan: 10 min.
	Plan time.Duration
	// Refusals: how often a refused plan is asked for: 5.
	Refusals int
	// Refused: the pause after a refusal: 10 s.
	Refused time.Duration
	// Settle: how long the set of disks must not change: 3 s.
	Settle time.Duration
	// Disk: how long a missing disk is waited for: 60 s.
	Disk time.Duration
	// Gate: how long the first report is tried: 5 min.
	Gate time.Duration
	// Image: of the download.
	Image stream.Patience
	// Progress: between two reports: 2 s.
	Progress time.Duration
	// Line: between two lines about progress on the console: 5 s.
	Line time.Duration
	// Lost: a progress report without an answer is given up: 10 s.
	Lost time.Duration
	// Installed: how long the last report is tried: 30 min.
	Installed time.Duration
	// Failed: how long the report of a failure is tried: 2 min.
	Failed time.Duration
}

func (p Patience) withDefaults() Patience {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&p.Plan, 10*time.Minute)
	set(&p.Refused, 10*time.Second)
	set(&p.Settle, 3*time.Second)
	set(&p.Disk, time.Minute)
	set(&p.Gate, 5*time.Minute)
	set(&p.Progress, 2*time.Second)
	set(&p.Line, 5*time.Second)
	set(&p.Lost, 10*time.Second)
	set(&p.Installed, 30*time.Minute)
	set(&p.Failed, 2*time.Minute)
	if p.Refusals == 0 {
		p.Refusals = 5
	}
	return p
}
