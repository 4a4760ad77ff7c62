//go:build linux

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/sys/unix"
)

func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func TestLabNetworkIsApartFromTheHosts(t *testing.T) {
	l := New(t, Options{})
	own, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}

	inside, err := l.Network.Command(t.Context(), "readlink", "/proc/self/ns/net").Output()
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(inside)) == own {
		t.Error("a command runs in the host's network namespace")
	}
	links, err := l.Network.Command(t.Context(), "ip", "-brief", "address").Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(links), BridgeName) || !strings.Contains(string(links), "10.77.0.2/24") {
		t.Errorf("the laptop's addresses:\n%s", links)
	}
	if _, err := net.InterfaceByName(BridgeName); err == nil {
		t.Errorf("the host sees %s", BridgeName)
	}

	if err := l.Network.Do(func() error {
		_, err := net.InterfaceByName(BridgeName)
		return err
	}); err != nil {
		t.Errorf("Do: %v", err)
	}
	if now, _ := os.Readlink("/proc/thread-self/ns/net"); now != own {
		t.Error("Do did not bring the goroutine back")
	}

	listener, err := l.Network.Listen("tcp", l.Network.Laptop.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	conn, err := l.Network.DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatalf("cannot connect inside the lab: %v", err)
	}
	_ = conn.Close()
	// Something on the host may have the same network, but not this port.
	if conn, err := net.DialTimeout("tcp", listener.Addr().String(), time.Second); err == nil {
		_ = conn.Close()
		t.Error("the host reaches the lab")
	}
	if _, err := l.Network.DialContext(t.Context(), "tcp", "localhost:80"); err == nil {
		t.Error("a name was looked up")
	}
}

func TestLabRouterHandsOutAddressesAndAnswersForTheNetwork(t *testing.T) {
	l := New(t, Options{})
	client, err := l.Network.Attach("client", netip.Prefix{}, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	offer := discover(t, client)
	if !offer.IsValid() || offer.Less(l.Router.First) || l.Router.Last.Less(offer) {
		t.Errorf("offered %s, want an address from %s to %s", offer, l.Router.First, l.Router.Last)
	}
	reachRouter(t, l)
	// What is outside is refused at once, not swallowed.
	_, err = l.Network.DialContext(within(t, time.Minute), "tcp", "192.0.2.1:80")
	if !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EHOSTUNREACH) {
		t.Errorf("beyond the router: %v, want unreachable", err)
	}
}

func TestLabWithoutDHCPHasNobodyWhoAnswers(t *testing.T) {
	l := New(t, Options{NoDHCP: true, LAN: netip.MustParsePrefix("192.168.77.0/24")})
	// The router is there, only not as a DHCP server.
	reachRouter(t, l)
	log, err := os.ReadFile(filepath.Join(l.Dir, "router.log"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(log), "DHCP, IP range") {
		t.Errorf("the router hands out addresses:\n%s", log)
	}
}

// reachRouter connects from the laptop to the router's DNS server.
func reachRouter(t *testing.T, l *Lab) {
	t.Helper()
	conn, err := l.Network.DialContext(within(t, time.Minute), "tcp", l.Network.Gateway.String()+":53")
	if err != nil {
		t.Errorf("the router does not answer: %v", err)
		return
	}
	_ = conn.Close()
}

// discover sends a DHCPDISCOVER from a host without an address and returns the
// address that is offered.
func discover(t *testing.T, client *Namespace) netip.Addr {
	t.Helper()
	const transaction = "\x11\x22\x33\x44"
	message := make([]byte, 240, 300)
	copy(message, "\x01\x01\x06\x00"+transaction)
	message[10] = 0x80 // answer by broadcast
	copy(message[28:], "\x52\x54\x00\x99\x99\x99")
	copy(message[236:], "\x63\x82\x53\x63")
	message = append(message, 53, 1, 1, 255)
	message = append(message, make([]byte, 60)...)

	var offer netip.Addr
	err := client.Do(func() error {
		listen := net.ListenConfig{Control: onCard("eth0")}
		conn, err := listen.ListenPacket(t.Context(), "udp4", "0.0.0.0:68")
		if err != nil {
			return err
		}
		defer conn.Close()
		answer := make([]byte, 1500)
		for range 10 {
			if _, err := conn.WriteTo(message, &net.UDPAddr{IP: net.IPv4bcast, Port: 67}); err != nil {
				return err
			}
			if err := conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
				return err
			}
			n, _, err := conn.ReadFrom(answer)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				continue
			}
			if err != nil {
				return err
			}
			if n < 240 || string(answer[4:8]) != transaction {
				return fmt.Errorf("not an answer: %x", answer[:n])
			}
			offer = netip.AddrFrom4([4]byte(answer[16:20]))
			return nil
		}
		return errors.New("no offer")
	})
	if err != nil {
		t.Fatal(err)
	}
	return offer
}

func TestLabEndsWithItsOwner(t *testing.T) {
	if os.Getenv("LAB_TEST_OWNER") != "" {
		l, err := Start(t.Context(), Options{Dir: os.Getenv("LAB_TEST_OWNER")})
		if err != nil {
			t.Fatal(err)
		}
		m, err := l.Machine(MachineConfig{Firmware: BIOS, Memory: 256})
		if err != nil {
			t.Fatal(err)
		}
		if err := m.PowerOn(t.Context()); err != nil {
			t.Fatal(err)
		}
		fmt.Println("up")
		select {}
	}
	needsRoot(t)
	dir := t.TempDir()
	owner := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestLabEndsWithItsOwner$", "-test.v")
	owner.Env = append(os.Environ(), "LAB_TEST_OWNER="+dir, "RHIZOME_LAB_ACCEL=tcg")
	out, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	buffer := make([]byte, 4096)
	for !strings.Contains(said.String(), "up\n") {
		n, err := out.Read(buffer)
		said.Write(buffer[:n])
		if err != nil {
			t.Fatalf("the owner has ended: %v\n%s", err, said.String())
		}
	}
	if running := processesWith(t, dir); len(running) < 2 {
		t.Fatalf("router and machine should run, and there is %q", running)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait() // "signal: killed"
	ctx := within(t, time.Minute)
	for {
		running := processesWith(t, dir)
		if len(running) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("still running after the owner was killed: %q", running)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// processesWith lists the command lines of running programs that name dir.
func processesWith(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		line, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(line), dir) {
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return found
}

func TestLabMachineIsWokenAndAsksTheNetwork(t *testing.T) {
	for _, firmware := range []Firmware{BIOS, UEFI} {
		t.Run(string(firmware), func(t *testing.T) {
			l := New(t, Options{})
			m, err := l.Machine(MachineConfig{Firmware: firmware, Memory: 512, CPUs: 1})
			if err != nil {
				t.Fatal(err)
			}
			if m.Running() {
				t.Fatal("a new machine is powered on")
			}
			ctx := within(t, 5*time.Minute)

			// By UDP from the laptop, as a person would.
			conn, err := l.Network.ListenPacket("udp4", ":0")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.WriteTo(magic(m.Config.MAC), &net.UDPAddr{IP: net.IPv4bcast, Port: 9}); err != nil {
				t.Fatal(err)
			}
			if _, err := m.WaitForSerial(ctx, regexp.MustCompile(`power on 1,`)); err != nil {
				t.Fatal(err)
			}
			// OVMF drops an offer without a boot file, and so never takes the lease.
			asked := serialLog{path: filepath.Join(l.Dir, "router.log")}
			if _, err := asked.wait(ctx, regexp.MustCompile(`DHCPDISCOVER.* `+m.Config.MAC.String())); err != nil {
				t.Fatal(m.explain(fmt.Errorf("it asks for no address: %w", err)))
			}
			if state, err := m.Status(ctx); state != "running" || err != nil {
				t.Errorf("Status = %q, %v", state, err)
			}
			if err := m.Reset(ctx); err != nil {
				t.Errorf("Reset: %v", err)
			}
			m.PowerOff()
			if state, err := m.Status(ctx); state != "off" || err != nil {
				t.Errorf("Status = %q, %v", state, err)
			}

			// By a frame of its own type, addressed to the card alone.
			wakeByFrame(t, l, m.Config.MAC)
			if _, err := m.WaitForSerial(ctx, regexp.MustCompile(`power on 2,`)); err != nil {
				t.Fatal(err)
			}
			isWiped(t, m)
			if _, err := l.Machine(MachineConfig{Name: "m9", MAC: m.Config.MAC}); err == nil {
				t.Error("a second machine with the same MAC was made")
			}
			if _, err := l.Machine(MachineConfig{Name: "no/name"}); err == nil {
				t.Error("a machine whose name is a path was made")
			}
		})
	}
}

// isWiped wipes a machine that is on, and expects it to be off, with a blank disk of
// the same size.
func isWiped(t *testing.T, m *Machine) {
	t.Helper()
	disk, err := os.OpenFile(m.DiskPath(0), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	before, err := disk.Stat()
	if err != nil {
		t.Fatal(err)
	}
	const at = 1 << 20
	if _, err := disk.WriteAt([]byte("a partition"), at); err != nil {
		t.Fatal(err)
	}
	if err := m.Wipe(); err != nil || m.Running() {
		t.Fatalf("Wipe: %v; the machine is on: %t", err, m.Running())
	}
	after, err := disk.Stat()
	if err != nil || after.Size() != before.Size() {
		t.Errorf("the disk has %d bytes, %v; want %d", after.Size(), err, before.Size())
	}
	left := make([]byte, 16)
	if _, err := disk.ReadAt(left, at); err != nil || !bytes.Equal(left, make([]byte, 16)) {
		t.Errorf("on the disk is left %q, %v", left, err)
	}
}

func wakeByFrame(t *testing.T, l *Lab, target net.HardwareAddr) {
	t.Helper()
	err := l.Network.Do(func() error {
		card, err := net.InterfaceByName(BridgeName)
		if err != nil {
			return err
		}
		conn, err := packet.Listen(card, packet.Raw, 0x0842, nil)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.WriteTo(frame(target, 0x0842, magic(target)), &packet.Addr{HardwareAddr: target})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
