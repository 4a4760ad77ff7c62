package power

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// Target is the MAC that is woken to turn a node on. A Node whose power is reached
// in another way is refused.
func Target(node *v1alpha1.Node) (net.HardwareAddr, error) {
	if means := MeansOf(node); means != MeansWakeOnLAN {
		return nil, fmt.Errorf("Node/%s: spec.power.%s: the machine is not turned on by Wake-on-LAN, and what is asked for takes a Secret of the cluster: turn the machine on yourself", node.Name, means)
	}
	mac, field := node.Spec.MAC, "spec.mac"
	if p := node.Spec.Power; p != nil && p.WakeOnLAN != nil && p.WakeOnLAN.MAC != nil {
		mac, field = *p.WakeOnLAN.MAC, "spec.power.wakeOnLAN.mac"
	}
	target, err := net.ParseMAC(string(mac))
	if err != nil {
		return nil, fmt.Errorf("Node/%s: %s: %w", node.Name, field, err)
	}
	if len(target) != 6 {
		return nil, fmt.Errorf("Node/%s: %s: %s is no Ethernet address", node.Name, field, mac)
	}
	return target, nil
}

// wakeRounds is how often TurnOn sends magic packets: packets get lost.
const wakeRounds = 3

// wakeOnLAN is the driver of a machine that is woken from here.
type wakeOnLAN struct {
	target net.HardwareAddr
	waker  Waker
	timing Timing
}

// Means implements Driver.
func (*wakeOnLAN) Means() Means { return MeansWakeOnLAN }

// TurnOn implements TurnerOn: the packets are sent, and prove nothing.
func (w *wakeOnLAN) TurnOn(ctx context.Context) error {
	sending, done := context.WithCancel(ctx)
	defer done()
	waker := w.waker
	told := waker.Sent
	var last error
	waker.Sent = func(round int, err error) {
		if told != nil {
			told(round, err)
		}
		if last = err; round >= wakeRounds {
			done()
		}
	}
	if err := waker.Wake(sending, w.target); err != nil {
		return err
	}
	return errors.Join(ctx.Err(), last)
}
