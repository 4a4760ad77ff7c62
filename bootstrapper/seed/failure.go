package seed

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Failure is why a seed ended before its end.
type Failure struct {
	// Phase in which it ended.
	Phase string
	// Cause says what happened, and Fix what a person can do.
	Cause error
	Fix   string
	// Interrupted: a person or the system asked for the end.
	Interrupted bool
}

// Error implements error.
func (f *Failure) Error() string { return f.Phase + ": " + f.Cause.Error() }

// Unwrap gives the cause.
func (f *Failure) Unwrap() error { return f.Cause }

// fixable is an error that knows what to do about it.
type fixable struct {
	error
	fix string
}

func (e fixable) Unwrap() error { return e.error }

// withFix adds what to do to an error.
func withFix(err error, format string, args ...any) error {
	return fixable{err, fmt.Sprintf(format, args...)}
}

// goOn is true of every step: whatever is killed, the next start goes on.
const goOn = "run the same command again: it goes on where this one stopped"

// failureOf says how a phase failed: by an interruption, by its time limit, or by
// an error of its own.
func failureOf(ctx context.Context, phase string, limit time.Duration, err error) *Failure {
	f := &Failure{Phase: phase, Cause: err, Fix: "mend what it says, then " + goOn}
	switch {
	case ctx.Err() != nil:
		f.Interrupted, f.Cause, f.Fix = true, errors.New("interrupted"), goOn
	case errors.Is(err, context.DeadlineExceeded):
		f.Cause = fmt.Errorf("not done within %s%s", limit, beside(err, context.DeadlineExceeded))
		f.Fix = fmt.Sprintf("see what was last said, then %s; --timeout %s=%s gives it more time", goOn, phase, 2*limit)
	}
	var fix fixable
	if !f.Interrupted && errors.As(err, &fix) {
		f.Fix = fix.fix
	}
	return f
}

// beside is what an error says beside one that it wraps, which people need not
// read.
func beside(err, wrapped error) string {
	text := strings.ReplaceAll(err.Error(), wrapped.Error(), "")
	if text = strings.Trim(strings.ReplaceAll(text, ": : ", ": "), ": "); text == "" {
		return ""
	}
	return ": " + text
}
