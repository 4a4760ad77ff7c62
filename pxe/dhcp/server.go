package dhcp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/net/ipv4"

	"github.com/rhizome-dev/rhizome/pxe"
)

// Responder answers the DHCP packets of one interface. All fields but Pool and
// Meter must be set.
type Responder struct {
	Interface string
	Address   netip.Addr // ours on the interface, and the source of every answer
	Mode      Mode
	Backend   pxe.Backend
	// BootFile says what the machine is to load, or why there is nothing.
	BootFile func(pxe.Machine, pxe.Decision) (file string, err error)
	// Pool hands out addresses to undeclared machines, in the mode Server; nil: they
	// get none.
	Pool   *Pool
	Logger *slog.Logger
	Now    func() time.Time
	Meter  pxe.Meter // nil: nobody counts

	conns []portConn
}

// portConn is a socket and the port of ours that it is bound to.
type portConn struct {
	*ipv4.PacketConn
	port int
}

// Listen binds ports 67 and 4011 on the interface, both or none.
func (s *Responder) Listen() error {
	for _, port := range []int{PortServer, PortBoot} {
		conn, err := listen(s.Interface, port)
		if err != nil {
			return errors.Join(err, s.Close())
		}
		s.conns = append(s.conns, portConn{conn, port})
	}
	return nil
}

// Serve answers until ctx ends, then closes the ports.
func (s *Responder) Serve(ctx context.Context) error {
	// Decisions come from memory and a datagram is sent without waiting, so one
	// goroutine a port keeps up and no flood of packets can pile up work.
	var loops sync.WaitGroup
	for _, conn := range s.conns {
		loops.Go(func() { s.loop(ctx, conn) })
	}
	<-ctx.Done()
	err := s.Close()
	loops.Wait()
	return err
}

// Close closes what Listen opened.
func (s *Responder) Close() error {
	var errs []error
	for _, conn := range s.conns {
		errs = append(errs, conn.Close())
	}
	s.conns = nil
	return errors.Join(errs...)
}

func (s *Responder) loop(ctx context.Context, conn portConn) {
	buf := make([]byte, 4096)
	mine := 0 // the interface's index, once a packet has shown it
	for {
		n, cm, from, err := conn.ReadFrom(buf)
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// The interface may be down for the moment: it comes back, and so do we.
			s.Logger.Warn("cannot read DHCP packets", "interface", s.Interface, "port", conn.port, "error", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
			continue
		}
		udp, ok := from.(*net.UDPAddr)
		if !ok || cm != nil && cm.IfIndex != mine && !s.ours(cm) {
			continue
		}
		if cm != nil {
			mine = cm.IfIndex
		}
		reply, to := s.Handle(buf[:n], conn.port, udp.AddrPort())
		if reply == nil {
			continue
		}
		source := &ipv4.ControlMessage{Src: s.Address.AsSlice()}
		if cm != nil {
			source.IfIndex = cm.IfIndex
		}
		if _, err := conn.WriteTo(reply, source, net.UDPAddrFromAddrPort(to)); err != nil {
			s.Logger.Warn("cannot send a DHCP answer", "interface", s.Interface, "to", to, "error", err)
		}
	}
}

// ours is false for a packet that is known to have come in on another interface:
// a second line of defence behind the binding of the socket. It asks the kernel for
// all its interfaces, which takes longer than an answer.
func (s *Responder) ours(cm *ipv4.ControlMessage) bool {
	if cm == nil || cm.IfIndex == 0 {
		return true
	}
	in, err := net.InterfaceByIndex(cm.IfIndex)
	return err == nil && in.Name == s.Interface
}

// Handle decides on one datagram that came to the port: the datagram to answer
// with and where to send it, or nil. It tells the backend of every network boot
// client, answered or not.
func (s *Responder) Handle(datagram []byte, port int, from netip.AddrPort) ([]byte, netip.AddrPort) {
	meter := s.Meter
	if meter == nil {
		meter = pxe.Unmetered
	}
	p, err := dhcpv4.FromBytes(datagram)
	if err != nil || p.OpCode != dhcpv4.OpcodeBootRequest {
		meter.Packet("INVALID", pxe.Ignore, false)
		return nil, netip.AddrPort{}
	}
	m := MachineOf(p)
	if m.MAC == "" {
		meter.Packet("INVALID", pxe.Ignore, false)
		return nil, netip.AddrPort{}
	}
	if isProbe(p) { // by one of us, who looks for others
		return nil, netip.AddrPort{}
	}
	q := Question{Packet: p, Machine: m, Port: port, Address: s.Address, Mode: s.Mode, Decision: s.Backend.Decide(m)}
	boots := IsNetworkBoot(p)
	var nothing error
	if boots && q.Decision.Action != pxe.Ignore {
		q.BootFile, nothing = s.BootFile(m, q.Decision)
	}
	if q.Decision.Action == pxe.Ignore && s.Pool != nil && s.Mode == Server && port == PortServer {
		q.Pooled = s.Pool.Lease(p, s.Address, s.Now())
	}
	reply, reason := Answer(q)
	if nothing != nil {
		reason += ": " + nothing.Error()
	}
	meter.Packet(kindOf(p), q.Decision.Action, reply != nil)
	if ctx := context.Background(); s.Logger.Enabled(ctx, slog.LevelDebug) {
		s.Logger.DebugContext(ctx, "DHCP", "mac", m.MAC, "type", p.MessageType(), "port", port, "answered", reply != nil, "reason", reason)
	}
	if boots {
		s.Backend.Observe(pxe.Observation{
			Time: s.Now(), Machine: m, From: addrOf(p.ClientIPAddr), Stage: pxe.StageDHCP,
			Message: fmt.Sprintf("%s: %s", describe(m), reason), Decision: q.Decision.Action,
		})
	}
	if reply == nil {
		return nil, netip.AddrPort{}
	}
	return encode(reply), Destination(reply, port, from)
}

// kindOf names the message type for counting: few names, whatever clients send.
func kindOf(p *dhcpv4.DHCPv4) string {
	switch t := p.MessageType(); t {
	case dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeInform,
		dhcpv4.MessageTypeDecline, dhcpv4.MessageTypeRelease:
		return t.String()
	}
	return "OTHER"
}

// encode fills a reply up to the 300 bytes below which relays and old clients
// drop it (RFC 1542 §2.1).
func encode(reply *dhcpv4.DHCPv4) []byte {
	raw := reply.ToBytes()
	return append(raw, make([]byte, max(0, 300-len(raw)))...)
}

func describe(m pxe.Machine) string {
	words := []string{"unknown firmware"}
	if m.Firmware != pxe.FirmwareUnknown {
		words = []string{string(m.Firmware), string(m.Arch)}
	}
	if m.IPXE {
		words = append([]string{"iPXE on"}, words...)
	}
	return strings.Join(words, " ")
}

// listen opens a UDP socket that sees only the interface and may broadcast.
func listen(iface string, port int) (*ipv4.PacketConn, error) {
	conn, err := ListenUDP(context.Background(), iface, netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(port)))
	if err != nil {
		return nil, err
	}
	pc := ipv4.NewPacketConn(conn)
	if err := pc.SetControlMessage(ipv4.FlagInterface|ipv4.FlagDst, true); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot learn the interface of packets to UDP port %d: %w", port, err), conn.Close())
	}
	return pc, nil
}
