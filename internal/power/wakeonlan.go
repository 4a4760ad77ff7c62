package power

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/wol"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
)

// Magic is the magic packet for a MAC: six bytes of ones and the MAC sixteen
// times.
func Magic(target net.HardwareAddr) ([]byte, error) {
	packet, err := (&wol.MagicPacket{Target: target}).MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("cannot make the magic packet for %s: %w", target, err)
	}
	return packet, nil
}

// wakePort is discard, the port that magic packets customarily go to. Network
// cards look at the payload only.
const wakePort = 9

// Destinations are where magic packets go: the broadcast address of the network,
// and the limited broadcast, since of some cards and switches only one comes
// through.
func Destinations(network netip.Prefix) []netip.AddrPort {
	limited := netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), wakePort)
	// RFC 3021: a /31 has no broadcast address, nor has a /32.
	if !network.Addr().Is4() || network.Bits() > 30 {
		return []netip.AddrPort{limited}
	}
	b := network.Masked().Addr().As4()
	for i := network.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4(b), wakePort), limited}
}

// Waker wakes machines on one network.
type Waker struct {
	// Interface is the network interface that the machines are reached by.
	Interface string
	// Address is ours on that interface.
	Address netip.Addr
	// Network is the machines'.
	Network netip.Prefix
	// Interval between packets; zero: 5 seconds.
	Interval time.Duration
	// Deadline after which Wake gives up; zero: 10 minutes.
	Deadline time.Duration
	// Sent is told of every round of packets, with its number from 1, and of what
	// could not be sent (nil if nothing). nil: nobody is.
	Sent func(round int, err error)
}

// For is the waker for a Node of the Cluster: where that stands in another network than
// ours, packets go to that network's broadcast address. Its router passes them on only
// if it is set to (directed broadcasts, RFC 2644).
func (w Waker) For(c *v1alpha1.Cluster, n *v1alpha1.Node) Waker {
	address, err := netip.ParseAddr(string(n.Spec.Address))
	if err != nil {
		return w
	}
	if s, ok := inventory.SegmentOf(c, address); ok {
		if network, err := netip.ParsePrefix(string(s.CIDR)); err == nil {
			w.Network = network
		}
	}
	return w
}

// ErrDeadline is returned when the machine was not seen to boot by the deadline.
var ErrDeadline = errors.New("the machine was not seen to boot")

// Wake sends magic packets for target, again and again, until ctx ends: the
// caller ends it when it has seen the machine boot. Wake then returns nil, and
// ErrDeadline if that did not happen in time. A network that is down for a while
// is no error; sockets that cannot be opened are.
func (w Waker) Wake(ctx context.Context, target net.HardwareAddr) error {
	packet, err := Magic(target)
	if err != nil {
		return err
	}
	conn, err := listen(ctx, w.Interface, w.Address)
	if err != nil {
		return fmt.Errorf("cannot send magic packets on %s from %s: %w", w.Interface, w.Address, err)
	}
	defer conn.Close()

	interval, deadline := w.Interval, w.Deadline
	if interval <= 0 {
		interval = 5 * time.Second
	}
	if deadline <= 0 {
		deadline = 10 * time.Minute
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	end := time.NewTimer(deadline)
	defer end.Stop()
	for round := 1; ; round++ {
		err := w.send(conn, packet)
		if w.Sent != nil {
			w.Sent(round, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-end.C:
			return fmt.Errorf("%s: %w within %s of the first magic packet (%d rounds sent on %s)", target, ErrDeadline, deadline, round, w.Interface)
		case <-ticker.C:
		}
	}
}

func (w Waker) send(conn net.PacketConn, packet []byte) error {
	var problems []error
	for _, to := range Destinations(w.Network) {
		if _, err := conn.WriteTo(packet, net.UDPAddrFromAddrPort(to)); err != nil {
			problems = append(problems, fmt.Errorf("cannot send a magic packet to %s: %w", to, err))
		}
	}
	return errors.Join(problems...)
}

// listen opens a socket whose packets leave by one interface: the limited
// broadcast would else follow the default route.
func listen(ctx context.Context, name string, address netip.Addr) (net.PacketConn, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: bindTo(ifi)}
	return config.ListenPacket(ctx, "udp4", netip.AddrPortFrom(address, 0).String())
}
