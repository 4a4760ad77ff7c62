// Package radv tells declared machines that no IPv6 router is ours, so that iPXE
// stops waiting for one.
//
// iPXE configures IPv4 and IPv6 at once and goes on when it knows the end of
// both. On a network without an IPv6 router nobody answers its solicitations, and
// it gives up after a quarter of a minute. An advertisement with a lifetime of
// zero says "not a default router" (RFC 4861 §4.2) and ends the wait. It goes to
// the one machine that asked (§6.2.6 allows that), holds no prefix, no flag and no
// address, and so configures nothing.
package radv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"golang.org/x/net/ipv6"

	"github.com/rhizome-dev/rhizome/pxe"
)

// allRouters is the group that solicitations are sent to (RFC 4291 §2.7.1).
var allRouters = net.ParseIP("ff02::2")

// hopLimit of neighbour discovery: a packet with less has crossed a router, which
// none may (RFC 4861 §6.1.1).
const hopLimit = 255

// advertisement has type 134 and code 0; the kernel fills the checksum in. All
// else is zero: hop limit, flags, lifetime and timers unspecified (RFC 4861 §4.2).
var advertisement = append([]byte{134}, make([]byte, 15)...)

// Responder answers the router solicitations of one interface. All fields must be
// set.
type Responder struct {
	Interface string
	Backend   pxe.Backend
	Logger    *slog.Logger

	conn *ipv6.PacketConn
	link *net.Interface
}

// Listen opens the socket. A host without IPv6 is an error that costs nothing but
// the machines' time.
func (r *Responder) Listen() error {
	link, err := net.InterfaceByName(r.Interface)
	if err != nil {
		return fmt.Errorf("cannot answer router solicitations on %s: %w", r.Interface, err)
	}
	conn, err := new(net.ListenConfig).ListenPacket(context.Background(), "ip6:ipv6-icmp", "::")
	if err != nil {
		return fmt.Errorf("cannot answer router solicitations on %s: %w", r.Interface, err)
	}
	r.link, r.conn = link, ipv6.NewPacketConn(conn)
	var filter ipv6.ICMPFilter
	filter.SetAll(true)
	filter.Accept(ipv6.ICMPTypeRouterSolicitation)
	if err := errors.Join(
		r.conn.SetICMPFilter(&filter),
		r.conn.JoinGroup(link, &net.UDPAddr{IP: allRouters}),
		r.conn.SetControlMessage(ipv6.FlagInterface|ipv6.FlagHopLimit, true),
		r.conn.SetHopLimit(hopLimit),
	); err != nil {
		return errors.Join(fmt.Errorf("cannot answer router solicitations on %s: %w", r.Interface, err), conn.Close())
	}
	return nil
}

// Close closes what Listen opened.
func (r *Responder) Close() error {
	if r.conn == nil {
		return nil
	}
	return r.conn.Close()
}

// Serve answers until ctx ends, then closes the socket. It does nothing if Listen
// failed.
func (r *Responder) Serve(ctx context.Context) error {
	if r.conn == nil {
		return nil
	}
	stop := context.AfterFunc(ctx, func() { _ = r.conn.Close() })
	defer stop()
	buf := make([]byte, 2048)
	for {
		n, cm, from, err := r.conn.ReadFrom(buf)
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			r.Logger.Debug("cannot read router solicitations", "interface", r.Interface, "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			continue
		}
		if cm == nil || cm.IfIndex != r.link.Index || cm.HopLimit != hopLimit {
			continue
		}
		mac, ok := solicitor(buf[:n])
		if !ok || r.Backend.Decide(pxe.Machine{MAC: mac}).Action == pxe.Ignore {
			continue
		}
		if _, err := r.conn.WriteTo(advertisement, &ipv6.ControlMessage{IfIndex: r.link.Index, HopLimit: hopLimit}, from); err != nil {
			r.Logger.Debug("cannot answer a router solicitation", "mac", mac, "error", err)
		}
	}
}

// solicitor is the machine that sent a router solicitation (RFC 4861 §4.1), by
// its option of the source's link-layer address (§4.6.1). Without one, the machine
// has no IPv6 address yet, and needs no answer.
func solicitor(p []byte) (pxe.MAC, bool) {
	if len(p) < 8 || p[0] != byte(ipv6.ICMPTypeRouterSolicitation) || p[1] != 0 {
		return "", false
	}
	for options := p[8:]; len(options) >= 8; {
		length := 8 * int(options[1])
		if length == 0 || length > len(options) {
			return "", false
		}
		if options[0] == 1 && length == 8 && !bytes.Equal(options[2:8], make([]byte, 6)) {
			mac, err := pxe.ParseMAC(net.HardwareAddr(options[2:8]).String())
			return mac, err == nil
		}
		options = options[length:]
	}
	return "", false
}
