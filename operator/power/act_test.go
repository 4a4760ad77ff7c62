package power

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/power"
)

// script is a driver that says what it is told to, and notes what it was asked.
type script struct {
	state            power.State
	stateErr, onErr  error
	offErr, cycleErr error
	asked            []string
}

func (*script) Means() power.Means { return power.MeansWebhook }

func (s *script) State(context.Context) (power.State, error) { return s.state, s.stateErr }

func (s *script) TurnOn(context.Context) error { s.asked = append(s.asked, "on"); return s.onErr }

func (s *script) TurnOff(_ context.Context, grace time.Duration) error {
	s.asked = append(s.asked, "off "+grace.String())
	return s.offErr
}

func (s *script) Cycle(context.Context, time.Duration) error {
	s.asked = append(s.asked, "cycle")
	return s.cycleErr
}

// board is one that can tell the machine to boot from the network, too.
type board struct {
	script
	bootErr error
}

func (*board) Means() power.Means { return power.MeansRedfish }

func (b *board) BootFromNetwork(context.Context) error {
	b.asked = append(b.asked, "network")
	return b.bootErr
}

func TestInWhichOrderAMachineIsTurnedOn(t *testing.T) {
	fault := func(reason string, err error) error { return &power.Fault{Reason: reason, Node: "alpha", Err: err} }
	unproven := fault(v1alpha1.ReasonPowerUnproven, power.ErrUnproven)
	broken := fault(v1alpha1.ReasonPowerUnreachable, errors.New("broken"))
	for _, c := range []struct {
		reason string
		driver power.Driver
		again  bool
		asked  []string
		says   string
		fails  bool
	}{
		{"it is off", &board{script: script{state: power.Off}}, false, []string{"permit", "network", "permit", "on"}, v1alpha1.ReasonTurnedOn, false},
		{"it is on", &board{script: script{state: power.On}}, false, []string{"permit", "off 1m0s", "resume", "network", "resume", "on"}, v1alpha1.ReasonTurnedOn, false},
		{"it cannot be told to boot from the network", &board{script: script{state: power.Off}, bootErr: fault(v1alpha1.ReasonPowerUnsupported, errors.New("no Pxe"))}, false,
			[]string{"permit", "network", "permit", "on"}, v1alpha1.ReasonTurnedOn, false},
		{"it is not known whether it boots from the network", &board{script: script{state: power.Off}, bootErr: broken}, false, []string{"permit", "network"}, "", true},
		{"it does not turn off", &board{script: script{state: power.On, offErr: unproven}}, false, []string{"permit", "off 1m0s"}, "", true},
		{"it does not turn on", &board{script: script{state: power.Off, onErr: unproven}}, false, []string{"permit", "network", "permit", "on"}, "", true},
		{"nothing is known of it", &board{script: script{stateErr: broken}}, false, nil, "", true},
		{"a plug that knows", &script{state: power.On}, false, []string{"permit", "off 1m0s", "resume", "on"}, v1alpha1.ReasonTurnedOn, false},
		{"a plug that does not know", &script{state: power.Unknown, onErr: unproven}, false, []string{"permit", "on"}, v1alpha1.ReasonToldOnly, false},
		{"a plug that does not know, and nothing came of it", &script{state: power.Unknown, cycleErr: unproven}, true, []string{"permit", "cycle"}, v1alpha1.ReasonToldOnly, false},
		{"a plug that is broken", &script{state: power.Unknown, onErr: broken}, false, []string{"permit", "on"}, "", true},
	} {
		t.Run(c.reason, func(t *testing.T) {
			asked := func() *[]string {
				if b, ok := c.driver.(*board); ok {
					return &b.asked
				}
				return &c.driver.(*script).asked
			}()
			noting := func(what string) func(context.Context) error {
				return func(context.Context) error { *asked = append(*asked, what); return nil }
			}
			got, err := turnOn(t.Context(), c.driver, c.again, noting("permit"), noting("resume"))
			if (err != nil) != c.fails || err == nil && got.Reason != c.says {
				t.Errorf("%v, %v, want %s", got, err, c.says)
			}
			if diff := cmp.Diff(c.asked, *asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}

func TestARuleThatForbidsInTheMiddleStopsBeforeTheNextStep(t *testing.T) {
	for stop, want := range [][]string{nil, {"off 1m0s"}, {"off 1m0s", "network"}, {"off 1m0s", "network", "on"}} {
		b := &board{script: script{state: power.On}}
		steps := 0
		permit := func(context.Context) error {
			if steps++; steps > stop {
				return fmt.Errorf("%w by Paused", errHeld)
			}
			return nil
		}
		_, err := turnOn(t.Context(), b, false, permit, permit)
		if errors.Is(err, errHeld) != (stop < 3) {
			t.Errorf("%d: %v", stop, err)
		}
		if diff := cmp.Diff(want, b.asked); diff != "" {
			t.Errorf("%d (-want +got):\n%s", stop, diff)
		}
	}
}

func TestADriverThatCannotTurnOffIsNoneOfOurs(t *testing.T) {
	d, err := power.For(&v1alpha1.Node{}, power.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := turnOn(t.Context(), d, false, nil, nil); err == nil || !strings.Contains(err.Error(), "cannot turn machines on and off") {
		t.Error(err)
	}
}

func TestWhatBeganToBootIsTurnedOnAgainAndNeverOff(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		reason string
		script script
		held   bool
		asked  []string
		fails  bool
	}{
		{"it is on", script{state: power.On}, false, nil, false},
		{"it is off", script{state: power.Off}, false, []string{"on"}, false},
		{"it is off, and paused", script{state: power.Off}, true, nil, true},
		{"it does not turn on", script{state: power.Off, onErr: broken}, false, []string{"on"}, true},
		{"nobody knows", script{state: power.Unknown}, false, nil, false},
		{"its controller does not say", script{stateErr: broken}, false, nil, true},
	} {
		t.Run(c.reason, func(t *testing.T) {
			got, err := turnBackOn(t.Context(), &c.script, func(context.Context) error {
				if c.held {
					return errHeld
				}
				return nil
			})
			if (err != nil) != c.fails || err == nil && got.Reason != v1alpha1.ReasonTurnedOn {
				t.Errorf("%v, %v", got, err)
			}
			if diff := cmp.Diff(c.asked, c.script.asked); diff != "" {
				t.Errorf("asked (-want +got):\n%s", diff)
			}
		})
	}
}
