package seed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/rhizome-dev/rhizome/bootstrapper/install"
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

// patiently tries until it works or fails for good: the API server of a small machine
// that starts its pods is late now and then, and away for a moment. said is told why it
// is tried again, when that changes. The end of ctx is an error that holds the last one.
func patiently(ctx context.Context, said func(string), try func() error) error {
	var last error
	err := wait.PollUntilContextCancel(ctx, 2*time.Second, true, func(context.Context) (bool, error) {
		before := last
		last = try()
		if !install.Passing(last) {
			return true, last
		}
		if before == nil || before.Error() != last.Error() {
			said(last.Error())
		}
		return false, nil
	})
	if wait.Interrupted(err) && install.Passing(last) {
		return fmt.Errorf("%w: %w", err, last)
	}
	return err
}
