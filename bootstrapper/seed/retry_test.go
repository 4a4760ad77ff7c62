package seed

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

func TestWhatPassesIsWaitedForAndNothingElse(t *testing.T) {
	late, busy, wrong := apierrors.NewTimeoutError("late", 0), apierrors.NewServiceUnavailable("busy"), errors.New("wrong")
	for name, tc := range map[string]struct {
		answers []error // the last one stays
		want    error
		tries   int
		said    []string
	}{
		"at once":              {[]error{nil}, nil, 1, nil},
		"wrong":                {[]error{wrong}, wrong, 1, nil},
		"late, then well":      {[]error{late, late, busy, nil}, nil, 4, []string{late.Error(), busy.Error()}},
		"late, then wrong":     {[]error{late, wrong}, wrong, 2, []string{late.Error()}},
		"late until the limit": {[]error{late}, context.DeadlineExceeded, 5, []string{late.Error()}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 9*time.Second)
				defer cancel()
				tries := 0
				var said []string
				err := patiently(ctx, func(why string) { said = append(said, why) }, func() error {
					tries++
					return tc.answers[min(tries, len(tc.answers))-1]
				})
				if !errors.Is(err, tc.want) || tries != tc.tries || !slices.Equal(said, tc.said) {
					t.Errorf("after %d tries and %q: %v; want %d tries, %q and %v", tries, said, err, tc.tries, tc.said, tc.want)
				}
				if errors.Is(tc.want, context.DeadlineExceeded) && !errors.Is(err, late) {
					t.Errorf("%v does not say what was last seen", err)
				}
			})
		})
	}
}
