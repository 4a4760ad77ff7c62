package healing

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

// gatewayPorts are those that a router often answers on, by an acceptance or by a
// refusal, which is as good.
var gatewayPorts = []int{53, 80, 443}

// gatewayPatience is how long it may take to answer.
const gatewayPatience = 3 * time.Second

// reachGateway tries to reach the router: by an echo, where this process may send
// one, and by TCP. One answer is enough.
func reachGateway(ctx context.Context, gateway netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, gatewayPatience)
	defer cancel()
	answers := make(chan error, len(gatewayPorts)+1)
	go func() { answers <- echo(ctx, gateway) }()
	for _, port := range gatewayPorts {
		go func() { answers <- knock(ctx, gateway, port) }()
	}
	var all []error
	for range len(gatewayPorts) + 1 {
		err := <-answers
		if err == nil {
			return nil
		}
		all = append(all, err)
	}
	return fmt.Errorf("%s answers neither an echo nor on the TCP ports %v within %s: %w", gateway, gatewayPorts, gatewayPatience, errors.Join(all...))
}

// knock returns nil if anybody answers, be it that the port is closed.
func knock(ctx context.Context, address netip.Addr, port int) error {
	c, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(address.String(), strconv.Itoa(port)))
	if err == nil {
		return c.Close()
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil
	}
	return err
}

// echo sends one echo request from an unprivileged socket, which the container
// runtime permits by net.ipv4.ping_group_range.
func echo(ctx context.Context, address netip.Addr) error {
	c, err := icmp.ListenPacket("udp4", "0.0.0.0")
	if err != nil {
		return fmt.Errorf("cannot send an echo: %w", err)
	}
	defer func() { _ = c.Close() }()
	if due, ok := ctx.Deadline(); ok {
		if err := c.SetDeadline(due); err != nil {
			return err
		}
	}
	message := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: os.Getpid() & 0xffff, Seq: 1, Data: []byte("rhizome")}}
	packet, err := message.Marshal(nil)
	if err != nil {
		return err
	}
	if _, err := c.WriteTo(packet, &net.UDPAddr{IP: address.AsSlice()}); err != nil {
		return fmt.Errorf("cannot send an echo: %w", err)
	}
	answer := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(answer)
		if err != nil {
			return fmt.Errorf("no answer to an echo: %w", err)
		}
		peer, ok := from.(*net.UDPAddr)
		if !ok || !peer.IP.Equal(address.AsSlice()) {
			continue
		}
		if m, err := icmp.ParseMessage(ipv4.ICMPTypeEcho.Protocol(), answer[:n]); err == nil && m.Type == ipv4.ICMPTypeEchoReply {
			return nil
		}
	}
}
