package power

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// journey is how a machine is brought to a state.
type journey struct {
	to State
	// within is how long it may take; zero: for ever, until the context ends.
	within time.Duration
	// look says what is so, tell says what is to be.
	look func(context.Context) (State, error)
	tell func(context.Context) error
	// once: tell is not called again when it was accepted.
	once bool
	// blind: whoever answers Unknown will never know better.
	blind bool
}

// reach looks, tells if it has to, and looks until the machine is there. It tells
// again when nothing follows for a while: controllers accept what they then do not
// do. An order whose answer got lost is followed by a look, never by another order
// alone. The error is ErrUnproven when an order was accepted, and lasts if no look
// or order can ever succeed.
func (t Timing) reach(ctx context.Context, j journey) error {
	var (
		began = t.Now()
		last  error
		told  bool
		at    time.Time
	)
	for {
		state, err := j.look(ctx)
		switch {
		case final(err):
			return err
		case err != nil:
			last = err
		case state == j.to:
			return nil
		case state == Unknown && j.blind && told:
			return ErrUnproven
		case told && (j.once || t.Now().Sub(at) < t.Within/4):
			last = fmt.Errorf("it says that the machine's power is %s", state)
		case state == Unknown && !j.blind:
			// On its way, perhaps here.
			last = errors.New("it does not say whether the machine is on")
		default:
			if err := j.tell(ctx); err != nil {
				if final(err) {
					return err
				}
				last = err
				break
			}
			told, at = true, t.Now()
			last = fmt.Errorf("it says that the machine's power is %s", state)
		}
		if err := ctx.Err(); err != nil {
			return late(told, err, last)
		}
		if passed := t.Now().Sub(began); j.within > 0 && passed >= j.within {
			return late(told, fmt.Errorf("the machine's power is not %s after %s", j.to, passed.Round(time.Second)), last)
		}
		if err := t.Sleep(ctx, t.Poll); err != nil {
			return late(told, err, last)
		}
	}
}

// late is the error of a journey that did not end, with what was seen last.
func late(told bool, why, last error) error {
	if last != nil {
		why = fmt.Errorf("%w; last: %w", why, last)
	}
	if told {
		return fmt.Errorf("%w: %w", ErrUnproven, why)
	}
	return why
}
