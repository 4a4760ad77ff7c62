//go:build linux

package netboot

import (
	"context"
	"crypto/rand"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/dhcp"
	"github.com/rhizome-dev/rhizome/test/firmware"
	"github.com/rhizome-dev/rhizome/test/lab"
	"github.com/rhizome-dev/rhizome/test/pxeserver"
)

// bed is a lab with a router that keeps DHCP, one simulated machine that may
// install, and the config of a server beside them.
type bed struct {
	*lab.Lab
	config  pxeserver.Config
	machine firmware.Machine
	host    *lab.Namespace
}

var sameAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func newBed(t *testing.T) bed {
	t.Helper()
	b := bed{Lab: lab.New(t, lab.Options{})}
	b.machine = firmware.Machine{
		MAC: net.HardwareAddr{0x52, 0x54, 0, 0x20, 0, 1}, UUID: [16]byte{1, 2, 3}, Kind: firmware.UEFI, Waits: patience,
	}
	b.config = pxeserver.Config{
		Interface: lab.BridgeName, Address: b.Network.Laptop, BootFiles: contractFiles(t),
		Machines: map[pxe.MAC]pxe.Decision{mustMAC(b.machine.MAC): install(pxe.AMD64, pxe.LoaderAuto)},
	}
	b.host = b.attach(t, "machine", netip.Prefix{})
	return b
}

func (b bed) attach(t *testing.T, name string, address netip.Prefix) *lab.Namespace {
	t.Helper()
	host, err := b.Network.Attach(name, address, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	return host
}

func (b bed) mustBoot(t *testing.T, m firmware.Machine) firmware.Outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := m.Boot(ctx, b.host, "eth0")
	if err != nil {
		t.Fatal(err)
	}
	if out.Kernel.Size == 0 {
		t.Fatalf("the machine started no kernel: %+v", out)
	}
	return out
}

func TestAServerThatWasKilledIsReplacedByAnyOther(t *testing.T) {
	b := newBed(t)
	first := pxeserver.Start(t, b.Network.Namespace, b.config)
	before := b.mustBoot(t, b.machine)
	first.Kill()
	pxeserver.Start(t, b.Network.Namespace, b.config)
	after := b.mustBoot(t, b.machine)
	if diff := cmp.Diff(before, after, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), sameAddr); diff != "" {
		t.Errorf("the second server answered otherwise (-first +second):\n%s", diff)
	}
}

// Told to end, the server closes its ports and goes, also while a client of TFTP
// leaves it waiting.
func TestAServerThatIsToldToEndFreesItsPorts(t *testing.T) {
	b := newBed(t)
	s := pxeserver.Start(t, b.Network.Namespace, b.config)
	b.mustBoot(t, b.machine)
	host := b.attach(t, "stalled", netip.MustParsePrefix("10.77.0.67/24"))
	conn, err := host.ListenPacket("udp4", "10.77.0.67:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	buf := make([]byte, 2048)
	for try := 0; ; try++ { // the first packet of a new card may be lost
		if _, err := conn.WriteTo([]byte("\x00\x01snponly.efi\x00octet\x00"), &net.UDPAddr{IP: b.Network.Laptop.AsSlice(), Port: 69}); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, _, err = conn.ReadFrom(buf); err == nil {
			break
		}
		if try == 20 {
			t.Fatal(err)
		}
	}
	if err := s.Process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Ended:
	case <-time.After(time.Minute):
		t.Fatal("the server does not end")
	}
	if code := s.Process.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	pxeserver.Start(t, b.Network.Namespace, b.config)
	b.mustBoot(t, b.machine)
}

// A machine that is between two packets when its server dies goes on with the
// next server, since neither knows anything of it.
func TestAMachineGoesOnWithTheNextServer(t *testing.T) {
	b := newBed(t)
	first := pxeserver.Start(t, b.Network.Namespace, b.config)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	done := make(chan error, 1)
	var out firmware.Outcome
	go func() {
		var err error
		out, err = b.machine.Boot(ctx, b.host, "eth0")
		done <- err
	}()
	mac := mustMAC(b.machine.MAC)
	if _, err := first.WaitFor(ctx, func(o pxe.Observation) bool { return o.Machine.MAC == mac }); err != nil {
		t.Fatal(err)
	}
	first.Kill()
	pxeserver.Start(t, b.Network.Namespace, b.config)
	if err := <-done; err != nil {
		// The one thing that may be lost is the transfer that was under way: real
		// firmware then tries its next boot entry, which is the network again.
		t.Logf("the machine was cut off (%v) and boots again", err)
		out = b.mustBoot(t, b.machine)
	}
	if out.Kernel.Size == 0 {
		t.Errorf("the machine started no kernel: %+v", out)
	}
}

func TestTwoServersAtOnceGiveEqualAnswers(t *testing.T) {
	b := newBed(t)
	pxeserver.Start(t, b.Network.Namespace, b.config)
	address := netip.PrefixFrom(netip.MustParseAddr("10.77.0.5"), 24)
	second := b.config
	second.Interface, second.Address = "eth0", address.Addr()
	pxeserver.Start(t, b.attach(t, "second", address), second)
	for range 5 {
		out := b.mustBoot(t, b.machine)
		server := out.Servers[0].String()
		if server != b.config.Address.String() && server != second.Address.String() {
			t.Fatalf("answered by %s", server)
		}
		// But for the address of the server that answered, all is as with one.
		last := out.Servers[len(out.Servers)-1]
		if want := "http://" + last.String() + ":7480/installer/amd64/vmlinuz"; out.Kernel.URL != want {
			t.Errorf("kernel %s, want %s", out.Kernel.URL, want)
		}
		if diff := cmp.Diff([]string{"snponly.efi"}, out.Loaders); diff != "" {
			t.Errorf("loaders (-want +got):\n%s", diff)
		}
	}
}

// Some hundred packets a second of rubbish are nothing to the server. (More than
// the processor can take is lost by the kernel, whatever the server does.)
func TestPacketsOfRandomBytesDoNotStallTheServer(t *testing.T) {
	b := newBed(t)
	s := pxeserver.Start(t, b.Network.Namespace, b.config)
	storm := b.attach(t, "storm", netip.MustParsePrefix("10.77.0.66/24"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int)
	go func() {
		sent := 0
		defer func() { done <- sent }()
		conn, err := storm.ListenPacket("udp4", "10.77.0.66:0")
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		buf := make([]byte, 1472)
		for ctx.Err() == nil {
			if sent%30 == 0 {
				time.Sleep(20 * time.Millisecond)
			}
			rand.Read(buf)
			n := int(buf[0])*5 + 1
			if buf[1]&1 == 0 && n > 240 { // as far as it looks like DHCP
				copy(buf, []byte{1, 1, 6, 0})
				copy(buf[236:], []byte{99, 130, 83, 99})
			}
			if buf[1]&3 == 1 { // or a read request of TFTP
				copy(buf, []byte{0, 1})
			}
			for _, port := range []int{67, 4011, 69} {
				_, _ = conn.WriteTo(buf[:n], &net.UDPAddr{IP: b.Network.Laptop.AsSlice(), Port: port})
				sent++
			}
		}
	}()
	for range 10 {
		b.mustBoot(t, b.machine)
	}
	cancel()
	t.Logf("%d packets of random bytes went to the server meanwhile", <-done)
	select {
	case <-s.Ended:
		t.Error("the server has died")
	default:
	}
}

func TestFirmwareThatAsksOnPort4011IsToldTheFile(t *testing.T) {
	b := newBed(t)
	pxeserver.Start(t, b.Network.Namespace, b.config)
	address := netip.MustParsePrefix("10.77.0.40/24")
	host := b.attach(t, "asker", address)
	file, err := b.machine.AskBootServer(t.Context(), host, address, b.Network.Laptop)
	if err != nil {
		t.Fatal(err)
	}
	if file != "snponly.efi" {
		t.Errorf("told %q", file)
	}
}

func TestTheProbeFindsForeignServersAndNotOurs(t *testing.T) {
	b := newBed(t)
	pxeserver.Start(t, b.Network.Namespace, b.config)
	host := b.attach(t, "asker", netip.Prefix{})
	probe := func() (found []dhcp.Foreign) {
		t.Helper()
		// The socket is opened by Probe itself, in the thread of the namespace.
		if err := host.Do(func() (err error) {
			found, err = dhcp.Probe(t.Context(), "eth0")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return found
	}
	router := dhcp.Foreign{Server: b.Network.Gateway, OffersAddress: true}
	if diff := cmp.Diff([]dhcp.Foreign{router}, probe(), sameAddr); diff != "" {
		t.Errorf("beside the router and our server (-want +got):\n%s", diff)
	}

	other := b.attach(t, "other", netip.MustParsePrefix("10.77.0.7/24"))
	dnsmasq := other.Command(context.WithoutCancel(t.Context()), "dnsmasq",
		"--conf-file=/dev/null", "--keep-in-foreground", "--log-facility=-", "--pid-file=", "--user=root",
		"--port=0", "--interface=eth0", "--bind-interfaces", "--dhcp-range=10.77.0.0,proxy",
		"--pxe-service=x86PC,other,pxelinux", "--dhcp-leasefile="+t.TempDir()+"/leases")
	if err := dnsmasq.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = dnsmasq.Process.Kill()
		_ = dnsmasq.Wait()
	})
	var found []dhcp.Foreign
	for range 5 {
		if found = probe(); len(found) == 2 {
			break
		}
	}
	if len(found) != 2 || found[1].Server != netip.MustParseAddr("10.77.0.7") || found[1].BootFile == "" || found[1].OffersAddress {
		t.Errorf("beside a foreign boot server: %+v", found)
	}
}

func TestAPortInUseIsNamed(t *testing.T) {
	b := newBed(t)
	for _, c := range []struct {
		network, address string
		want             string
	}{
		{"udp4", "0.0.0.0:67", "UDP port 67 is in use on br0"},
		{"udp4", "0.0.0.0:4011", "UDP port 4011 is in use on br0"},
		{"udp4", b.Network.Laptop.String() + ":69", "UDP port 69 is in use on br0"},
		{"tcp4", "0.0.0.0:7480", "TCP port 7480 (HTTP) is in use on " + b.Network.Laptop.String()},
		{"tcp4", b.Network.Laptop.String() + ":7443", "TCP port 7443 (HTTPS) is in use on " + b.Network.Laptop.String()},
	} {
		t.Run(c.want, func(t *testing.T) {
			if strings.HasPrefix(c.network, "udp") {
				conn, err := b.Network.ListenPacket(c.network, c.address)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
			} else {
				l, err := b.Network.Listen(c.network, c.address)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
			}
			if _, err := pxeserver.Run(t, b.Network.Namespace, b.config); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error that says %q", err, c.want)
			}
		})
	}
}
