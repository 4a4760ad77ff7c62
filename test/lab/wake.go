//go:build linux

package lab

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

// MagicPacket finds the target of a Wake-on-LAN magic packet in an Ethernet
// frame: six bytes of ones and sixteen times the target's MAC address, anywhere
// in the payload and in any protocol (AMD, Magic Packet Technology, 1995). As a
// network card in standby does, it disregards frames that are addressed to
// another card. A SecureOn password behind the pattern is ignored.
func MagicPacket(frame []byte) (target net.HardwareAddr, ok bool) {
	const header, mac, repeats = 14, 6, 16
	if len(frame) < header {
		return nil, false
	}
	destination, payload := frame[:mac], frame[header:]
	sync := bytes.Repeat([]byte{0xff}, mac)
	for at := 0; ; {
		found := bytes.Index(payload[at:], sync)
		if found < 0 {
			return nil, false
		}
		at += found
		body := payload[at+mac:]
		if len(body) < mac*repeats {
			return nil, false
		}
		candidate := body[:mac]
		// A broadcast or multicast address is no machine's. The former also
		// stands for a run of ones in which the pattern begins later.
		if candidate[0]&1 == 0 && bytes.Equal(body[:mac*repeats], bytes.Repeat(candidate, repeats)) {
			if destination[0]&1 == 0 && !bytes.Equal(destination, candidate) {
				return nil, false
			}
			return bytes.Clone(candidate), true
		}
		at++
	}
}

// standby is the network cards of all machines that are off: a host on the LAN
// that hears what they would hear.
type standby struct {
	conn *packet.Conn
	done chan struct{}

	mu   sync.Mutex
	wake map[string]func(context.Context) error // by MAC
}

func listenForWakeOnLAN(ctx context.Context, network *Network, logger *slog.Logger) (*standby, error) {
	host, err := network.Attach("standby", netip.Prefix{}, netip.Addr{})
	if err != nil {
		return nil, err
	}
	s := &standby{done: make(chan struct{}), wake: map[string]func(context.Context) error{}}
	err = host.Do(func() error {
		card, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		s.conn, err = packet.Listen(card, packet.Raw, unix.ETH_P_ALL, nil)
		if err != nil {
			return err
		}
		// A magic packet may be addressed to the sleeping card alone.
		return s.conn.SetPromiscuous(true)
	})
	if err != nil {
		return nil, fmt.Errorf("cannot listen for Wake-on-LAN: %w", err)
	}
	go s.listen(ctx, logger)
	return s, nil
}

func (s *standby) register(mac net.HardwareAddr, wake func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wake[mac.String()] = wake
}

func (s *standby) listen(ctx context.Context, logger *slog.Logger) {
	defer close(s.done)
	frame := make([]byte, 65536)
	for {
		n, _, err := s.conn.ReadFrom(frame)
		if err != nil {
			if ctx.Err() == nil {
				logger.Error("the Wake-on-LAN listener has stopped", "error", err)
			}
			return
		}
		mac, ok := MagicPacket(frame[:n])
		if !ok {
			continue
		}
		s.mu.Lock()
		wake := s.wake[mac.String()]
		s.mu.Unlock()
		if wake == nil {
			// The simulated machines of other tests hear such packets by themselves.
			logger.Debug("magic packet for a machine that is not in the lab", "mac", mac.String())
			continue
		}
		if err := wake(ctx); err != nil && ctx.Err() == nil {
			logger.Error("cannot power a machine on", "mac", mac.String(), "error", err)
		}
	}
}

func (s *standby) close() error {
	err := s.conn.Close()
	<-s.done
	return err
}
