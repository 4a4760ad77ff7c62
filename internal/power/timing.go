package power

import (
	"context"
	"time"
)

// Timing is the clock of drivers, and how long things may take. The zero value is
// for machines as they are.
type Timing struct {
	// Now is the clock; nil: the system's.
	Now func() time.Time
	// Sleep waits, or returns the context's error when that ends first; nil: by the
	// system's clock.
	Sleep func(ctx context.Context, d time.Duration) error
	// Poll is how often a state is looked at; zero: 3 seconds.
	Poll time.Duration
	// Within is how long a machine may take to turn on or off once it was told; zero:
	// 2 minutes. Controllers themselves take up to a minute.
	Within time.Duration
	// Request bounds one request, by the system's clock; zero: 30 seconds.
	Request time.Duration
}

func (t Timing) orDefaults() Timing {
	if t.Now == nil {
		t.Now = time.Now
	}
	if t.Sleep == nil {
		t.Sleep = sleep
	}
	if t.Poll <= 0 {
		t.Poll = 3 * time.Second
	}
	if t.Within <= 0 {
		t.Within = 2 * time.Minute
	}
	if t.Request <= 0 {
		t.Request = 30 * time.Second
	}
	return t
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
