package power

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/power"
)

// grace is how long the operating system of a machine that is on has to shut down
// before its power is cut. What it holds is to be overwritten; a hypervisor or a
// disk array behind it may still be glad of it.
const grace = time.Minute

// machine is the power of a machine as it is used here.
type machine interface {
	power.TurnerOn
	power.TurnerOff
	power.Cycler
	power.Prover
}

// errHeld: a rule forbade to go on in the middle of it.
var errHeld = errors.New("held")

// look is the machine of a driver, and whether it is on.
func look(ctx context.Context, d power.Driver) (machine, power.State, error) {
	m, ok := d.(machine)
	if !ok {
		return nil, "", fmt.Errorf("the driver %T cannot turn machines on and off", d)
	}
	state, err := m.State(ctx)
	return m, state, err
}

// turnOn has the machine start, from the network if its controller can tell it so,
// and says what is proven of it. Before each step it asks permit, which says errHeld
// when a rule forbids it by now; once it has turned the machine off it asks resume in
// the place of it: what is off by our hand is not left so.
func turnOn(ctx context.Context, d power.Driver, again bool, permit, resume func(context.Context) error) (*metav1.Condition, error) {
	m, state, err := look(ctx, d)
	if err != nil {
		return nil, err
	}
	if state == power.On {
		if err := permit(ctx); err != nil {
			return nil, err
		}
		if err := m.TurnOff(ctx, grace); err != nil {
			return nil, err
		}
		permit = resume
	}
	how := "; its firmware is to boot from the network by its own order"
	if b, ok := d.(power.NetworkBooter); ok {
		if err := permit(ctx); err != nil {
			return nil, err
		}
		switch err := b.BootFromNetwork(ctx); {
		case err == nil:
			how = ", and is to boot from the network this once"
		case power.ReasonOf(err) != v1alpha1.ReasonPowerUnsupported:
			return nil, err
		default:
			how += ": " + err.Error()
		}
	}
	if err := permit(ctx); err != nil {
		return nil, err
	}
	if state == power.Unknown && again {
		// It was told to turn on before, and did not boot: it may have been on.
		err = m.Cycle(ctx, 0)
	} else {
		err = m.TurnOn(ctx)
	}
	switch {
	case err == nil:
		return condition(metav1.ConditionTrue, v1alpha1.ReasonTurnedOn, fmt.Sprintf("turned on by %s, seen to be on%s", d.Means(), how)), nil
	case state == power.Unknown && errors.Is(err, power.ErrUnproven):
		return condition(metav1.ConditionUnknown, v1alpha1.ReasonToldOnly, fmt.Sprintf("told to turn on by %s, which does not know whether it is%s", d.Means(), how)), nil
	}
	return nil, err
}

// turnBackOn turns on a machine that is off although it began to boot, and never turns
// one off.
func turnBackOn(ctx context.Context, d power.Driver, permit func(context.Context) error) (*metav1.Condition, error) {
	m, state, err := look(ctx, d)
	if err != nil {
		return nil, err
	}
	if state != power.Off {
		return condition(metav1.ConditionTrue, v1alpha1.ReasonTurnedOn, "it was seen to boot from the network"), nil
	}
	if err := permit(ctx); err != nil {
		return nil, err
	}
	if err := m.TurnOn(ctx); err != nil {
		return nil, err
	}
	return condition(metav1.ConditionTrue, v1alpha1.ReasonTurnedOn, fmt.Sprintf("turned on again by %s, seen to be on: it was off though it had begun to boot", d.Means())), nil
}
