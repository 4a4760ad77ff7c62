package seed

import (
	"context"
	"errors"
	"time"
)

// final is an error that trying again will not mend.
type final struct{ error }

func (e final) Unwrap() error { return e.error }

// retry tries a few times, two seconds apart, and returns the last error.
func retry(ctx context.Context, times int, try func() error) error {
	for n := 1; ; n++ {
		err := try()
		var last final
		if errors.As(err, &last) {
			return last.error
		}
		if err == nil || n >= times {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(2 * time.Second):
		}
	}
}
