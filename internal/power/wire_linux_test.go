package power

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Two cables in a network namespace of the test's own, the default route over the
// wrong one: the packets of every round are on the right one.
func TestMagicPacketsAreOnTheRightWire(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: whether magic packets reach the wire. It takes root to make a network namespace: run the tests as root")
	}
	// The thread is never unlocked: the runtime ends it with its namespace.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("cannot make a network namespace: %v", err)
	}
	right := cable(t, "lan0", "10.9.0.1/24")
	wrong := cable(t, "wan0", "10.8.0.1/24")
	wan, err := netlink.LinkByName("wan0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: wan.Attrs().Index, Gw: net.IPv4(10, 8, 0, 2)}); err != nil {
		t.Fatal(err)
	}

	const rounds = 3
	ctx, booted := context.WithCancel(t.Context())
	defer booted()
	target := net.HardwareAddr{0x52, 0x54, 0, 0x12, 0x34, 0x56}
	w := Waker{
		Interface: "lan0", Address: netip.MustParseAddr("10.9.0.1"), Network: netip.MustParsePrefix("10.9.0.0/24"),
		Interval: time.Millisecond, Deadline: time.Minute,
		Sent: func(round int, err error) {
			if err != nil {
				t.Error(err)
			}
			if round == rounds {
				booted()
			}
		},
	}
	if err := w.Wake(ctx, target); err != nil {
		t.Fatal(err)
	}
	magic, err := Magic(target)
	if err != nil {
		t.Fatal(err)
	}
	got := capture(t, right, magic, 2*rounds)
	for _, to := range []netip.Addr{netip.MustParseAddr("10.9.0.255"), netip.MustParseAddr("255.255.255.255")} {
		if got[to] != rounds {
			t.Errorf("%d packets to %s on the right wire, want %d", got[to], to, rounds)
		}
	}
	if got := capture(t, wrong, magic, 0); len(got) != 0 {
		t.Errorf("packets on the wrong wire: %v", got)
	}
}

// cable makes an interface with an address and returns a socket at the other end.
func cable(t *testing.T, name, address string) *packet.Conn {
	t.Helper()
	link := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "-end"}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatalf("cannot make a cable: %v", err)
	}
	a, err := netlink.ParseAddr(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(link, a); err != nil {
		t.Fatal(err)
	}
	end, err := netlink.LinkByName(link.PeerName)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []netlink.Link{link, end} {
		if err := netlink.LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
	}
	ifi, err := net.InterfaceByName(link.PeerName)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// capture counts the magic broadcasts that arrive, by destination, until there are
// as many as are expected and for a moment longer.
func capture(t *testing.T, conn *packet.Conn, magic []byte, expected int) map[netip.Addr]int {
	t.Helper()
	counts := map[netip.Addr]int{}
	frame := make([]byte, 2000)
	for seen := 0; ; {
		patience := 200 * time.Millisecond
		if seen < expected {
			// A machine with much to do hands packets over late.
			patience = 20 * time.Second
		}
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		n, _, err := conn.ReadFrom(frame)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return counts
		}
		if err != nil {
			t.Fatal(err)
		}
		// Ethernet header of 14 bytes, IPv4 of 20, UDP of 8.
		if n < 42 || !bytes.HasSuffix(frame[:n], magic) {
			continue
		}
		if !bytes.Equal(frame[:6], []byte{255, 255, 255, 255, 255, 255}) {
			t.Errorf("a magic packet to %x, want the broadcast", frame[:6])
		}
		to, _ := netip.AddrFromSlice(frame[30:34])
		counts[to]++
		seen++
	}
}
