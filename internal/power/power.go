// Package power turns machines on and off, and says what proves that they are.
//
// What a way to a machine's power can do is said by the interfaces that its driver
// implements: a magic packet can only turn on, and proves nothing; a board
// management controller says what is so.
package power

import (
	"context"
	"fmt"
	"time"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// State of a machine's power.
type State string

// The states. Unknown is also what a machine is in between On and Off.
const (
	On      State = "On"
	Off     State = "Off"
	Unknown State = "Unknown"
)

// Means is a way to a machine's power: the name of its field in spec.power.
type Means string

// The means.
const (
	MeansWakeOnLAN Means = "wakeOnLAN"
	MeansRedfish   Means = "redfish"
	MeansWebhook   Means = "webhook"
)

// MeansOf is the way to a Node's power: Wake-on-LAN if nothing is said.
func MeansOf(node *v1alpha1.Node) Means {
	switch p := node.Spec.Power; {
	case p != nil && p.Redfish != nil:
		return MeansRedfish
	case p != nil && p.Webhook != nil:
		return MeansWebhook
	}
	return MeansWakeOnLAN
}

// Driver is the way to one machine's power. Ask by a type assertion what it can do:
//
//	Wake-on-LAN  TurnerOn, if there is a Waker
//	Redfish      TurnerOn, TurnerOff, Cycler, Prover, NetworkBooter
//	webhook      TurnerOn, TurnerOff, Cycler, Prover
//
// The methods may be called by several goroutines, and end when their context does.
// The errors of Redfish and webhooks are *Fault, and hold no secret.
type Driver interface {
	Means() Means
}

// TurnerOn turns the machine on. A driver that is a Prover returns nil only once
// the machine is seen to be on; of others nil says that it was told.
type TurnerOn interface {
	TurnOn(ctx context.Context) error
}

// TurnerOff turns the machine off and returns nil only once it is seen to be off:
// only then may anybody rely on it. For the time of grace the operating system may
// shut down by itself; zero: power is cut at once. An error that is ErrUnproven says
// that the machine was told, and nothing more.
type TurnerOff interface {
	TurnOff(ctx context.Context, grace time.Duration) error
}

// Cycler turns the machine off and on again, as TurnerOff and TurnerOn do.
type Cycler interface {
	Cycle(ctx context.Context, grace time.Duration) error
}

// Prover says what is so. Unknown with a nil error: the controller cannot say at
// the moment, or ever.
type Prover interface {
	State(ctx context.Context) (State, error)
}

// NetworkBooter has the machine boot from the network the next time that it
// starts, and only then.
type NetworkBooter interface {
	BootFromNetwork(ctx context.Context) error
}

// Secrets reads a Secret of the operator's namespace. What does not exist is an
// error.
type Secrets func(ctx context.Context, name string) (map[string][]byte, error)

// Options are what drivers need of their surroundings.
type Options struct {
	// Secrets reads credentials. Nil: none can be read.
	Secrets Secrets
	// Waker sends magic packets; nil where there is no network to send them on: the
	// driver for Wake-on-LAN can do nothing then.
	Waker *Waker
	// Timing is the clock, and how long things may take.
	Timing Timing
}

// For is the driver of a Node's power. It reaches nothing yet.
func For(node *v1alpha1.Node, o Options) (Driver, error) {
	switch MeansOf(node) {
	case MeansRedfish:
		return newRedfish(node, o), nil
	case MeansWebhook:
		return newWebhook(node, o), nil
	}
	if o.Waker == nil {
		return elsewhere{}, nil
	}
	target, err := Target(node)
	if err != nil {
		return nil, err
	}
	return &wakeOnLAN{target: target, waker: *o.Waker, timing: o.Timing.orDefaults()}, nil
}

// elsewhere stands for a machine that only those can wake who stand on its network.
type elsewhere struct{}

func (elsewhere) Means() Means { return MeansWakeOnLAN }

// target is whom and what a fault is about.
type target struct {
	node, field, url string
}

func (t target) fault(reason, doing, fix string, err error) *Fault {
	return &Fault{Reason: reason, Node: t.node, Field: t.field, URL: t.url, Doing: doing, Fix: fix, Err: err}
}

// readSecret reads the credentials of a machine's controller. Each of keys must be
// there.
func (t target) readSecret(ctx context.Context, read Secrets, name string, keys ...string) (map[string][]byte, error) {
	const doing = "cannot read its credentials"
	if read == nil {
		return nil, t.fault(v1alpha1.ReasonPowerUnsupported, doing, "turn the machine on yourself", fmt.Errorf("Secrets cannot be read from here"))
	}
	data, err := read(ctx, name)
	if err != nil {
		return nil, t.fault(v1alpha1.ReasonPowerCredentials, doing, fmt.Sprintf("create the Secret %s in the operator's namespace", name), err)
	}
	for _, key := range keys {
		if len(data[key]) == 0 {
			return nil, t.fault(v1alpha1.ReasonPowerCredentials, doing, "set it, not encoded twice and without a line break",
				fmt.Errorf("the Secret %s has no key %s, or it is empty", name, key))
		}
	}
	return data, nil
}
