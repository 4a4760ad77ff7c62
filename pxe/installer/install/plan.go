package install

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
	"github.com/rhizome-dev/rhizome/pxe/installer/report"
)

// maxSkew is how wrong the clock may be before it is set: certificates have
// minutes, not seconds.
const maxSkew = time.Minute

// fetchPlan asks for the init config. A server that cannot be reached is asked
// again for long, a refusal only a few times: what lifts it is a person.
func (i *installation) fetchPlan(ctx context.Context, url string) (plan.Plan, error) {
	i.say("asking for the init config: %s", url)
	client := &http.Client{Timeout: 30 * time.Second}
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 500*time.Millisecond, 10*time.Second
	refusals, since := 0, i.Now()
	for {
		p, err := i.askForPlan(ctx, client, url)
		var refusal *pxe.Refusal
		var unusable *unusablePlan
		pause := b.NextBackOff()
		switch {
		case err == nil:
			return p, nil
		case errors.As(err, &unusable):
			return plan.Plan{}, err
		case errors.As(err, &refusal):
			refusals++
			i.say("the server refuses to install this machine, no disk is touched.")
			i.say("  rule:   %s", refusal.Rule)
			i.say("  reason: %s", refusal.Message)
			if refusals >= i.Patience.Refusals {
				return plan.Plan{}, fmt.Errorf("the server refused %d times: %w", refusals, refusal)
			}
			pause = i.Patience.Refused
		case i.Now().Sub(since) >= i.Patience.Plan:
			return plan.Plan{}, fmt.Errorf("no init config within %s: %w", i.Patience.Plan, err)
		}
		i.say("no init config yet (%v): asking again in %s", err, pause.Round(100*time.Millisecond))
		if err := sleep(ctx, pause); err != nil {
			return plan.Plan{}, err
		}
	}
}

// unusablePlan is an answer that will not become better.
type unusablePlan struct{ error }

func (u *unusablePlan) Unwrap() error { return u.error }

func (i *installation) askForPlan(ctx context.Context, client *http.Client, url string) (plan.Plan, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return plan.Plan{}, &unusablePlan{fmt.Errorf("the kernel command line's rhizome.init: %w", err)}
	}
	resp, err := client.Do(req)
	if err != nil {
		return plan.Plan{}, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, plan.MaxBytes+1))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return plan.Plan{}, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusForbidden:
		return plan.Plan{}, report.ParseRefusal(body)
	case http.StatusNotFound:
		return plan.Plan{}, &pxe.Refusal{Rule: "NotFound", Message: "the server does not know this machine: declare a Node with its MAC address"}
	default:
		return plan.Plan{}, fmt.Errorf("the server answered %s", resp.Status)
	}
	i.setClock(resp.Header.Get("Date"))
	p, err := plan.Decode(body)
	if err != nil {
		return plan.Plan{}, &unusablePlan{err}
	}
	if i.Keep != nil {
		if err := i.Keep(body); err != nil {
			i.say("cannot keep the plan, a crash would not be reported: %v", err)
		}
	}
	return p, nil
}

// setClock takes the server's time if this machine's is far off, as after years
// in a drawer: certificates would not be valid yet.
func (i *installation) setClock(date string) {
	t, err := http.ParseTime(date)
	if err != nil {
		return
	}
	skew := t.Sub(i.Now())
	if skew.Abs() <= maxSkew {
		return
	}
	i.say("the clock is off by %s: setting it to the server's %s", skew.Round(time.Second), t.UTC().Format(time.RFC3339))
	if err := i.SetClock(t); err != nil {
		i.say("%v", err)
	}
}
