//go:build linux

package netboot

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/dhcp"
	"github.com/rhizome-dev/rhizome/test/firmware"
	"github.com/rhizome-dev/rhizome/test/lab"
	"github.com/rhizome-dev/rhizome/test/pxeserver"
)

// Machines behind a router that relays DHCP boot as those beside the server do: with
// the addresses of their own router, and with ours.
func TestMachinesBehindARelayBoot(t *testing.T) {
	files := contractFiles(t)
	for _, mode := range []dhcp.Mode{dhcp.Proxy, dhcp.Server} {
		t.Run(mode.String(), func(t *testing.T) {
			near := lab.New(t, lab.Options{NoDHCP: true})
			far := lab.New(t, lab.Options{LAN: netip.MustParsePrefix("10.78.0.0/24"), NoDHCP: mode == dhcp.Server})
			gateway, err := far.Relay(near)
			if err != nil {
				t.Fatal(err)
			}
			kinds := []firmware.Kind{firmware.UEFI, firmware.UEFIHTTP, firmware.BIOS, firmware.IPXEUEFI, firmware.UBoot}
			config := pxeserver.Config{
				Interface: lab.BridgeName, Address: near.Network.Laptop, Mode: mode, BootFiles: files, Machines: map[pxe.MAC]pxe.Decision{},
			}
			mac := func(i int) net.HardwareAddr { return net.HardwareAddr{0x52, 0x54, 0, 0x30, 0, byte(i)} }
			archOf := func(k firmware.Kind) pxe.Arch {
				if k == firmware.UBoot {
					return pxe.ARM64
				}
				return pxe.AMD64
			}
			for i, kind := range kinds {
				d := install(archOf(kind), pxe.LoaderAuto)
				if mode == dhcp.Server {
					d.Lease = &pxe.Lease{Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 78, 0, byte(20 + i)}), 24), Gateway: gateway}
				}
				config.Machines[mustMAC(mac(i))] = d
			}
			// Declared in the server's own network, and standing in the other.
			stray := mac(99)
			d := install(pxe.AMD64, pxe.LoaderAuto)
			d.Lease = &pxe.Lease{Address: netip.MustParsePrefix("10.77.0.99/24"), Gateway: near.Network.Gateway}
			config.Machines[mustMAC(stray)] = d
			s := pxeserver.Start(t, near.Network.Namespace, config)
			b := bed{Lab: far}
			for i, kind := range kinds {
				b.host = b.attach(t, fmt.Sprintf("m%d", i), netip.Prefix{})
				out := b.mustBoot(t, firmware.Machine{MAC: mac(i), Kind: kind, Waits: patience})
				if !far.Network.LAN.Contains(out.Address.Addr()) {
					t.Errorf("%s has the address %s, which is not of its network", kind, out.Address)
				}
			}
			if mode == dhcp.Proxy {
				return
			}
			out, err := firmware.Machine{MAC: stray, Kind: firmware.UEFI, Waits: impatience}.Boot(t.Context(), b.attach(t, "stray", netip.Prefix{}), "eth0")
			if err != nil || out.Local != "no answer" {
				t.Errorf("a machine that is declared elsewhere got %+v, %v", out, err)
			}
			if _, err := s.WaitFor(t.Context(), func(o pxe.Observation) bool { return o.Machine.MAC == mustMAC(stray) }); err != nil {
				t.Error(err)
			}
		})
	}
}

// A host stands in several networks, and boots machines in one of them.
func TestOnlyTheChosenInterfaceIsAnswered(t *testing.T) {
	chosen := lab.New(t, lab.Options{})
	other := lab.New(t, lab.Options{LAN: netip.MustParsePrefix("10.78.0.0/24")})
	address := netip.MustParsePrefix("10.77.0.5/24")
	host, err := chosen.Network.Attach("server", address, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Network.Join(host, "server", "eth1", netip.MustParsePrefix("10.78.0.5/24")); err != nil {
		t.Fatal(err)
	}
	m := firmware.Machine{MAC: net.HardwareAddr{0x52, 0x54, 0, 0x20, 0, 1}, Kind: firmware.UEFI, Waits: patience}
	s := pxeserver.Start(t, host, pxeserver.Config{
		Interface: "eth0", Address: address.Addr(), BootFiles: contractFiles(t),
		Machines: map[pxe.MAC]pxe.Decision{mustMAC(m.MAC): install(pxe.AMD64, pxe.LoaderAuto)},
	})
	there := bed{Lab: other}
	m.Waits = impatience
	out, err := m.Boot(t.Context(), there.attach(t, "machine", netip.Prefix{}), "eth0")
	if err != nil || out.Local != "no answer" || !out.Address.IsValid() {
		t.Errorf("on the other network: %+v, %v; want an address of the router and nothing to boot", out, err)
	}
	if all := s.Observations(); len(all) > 0 {
		t.Errorf("the server heard of another network: %+v", all)
	}
	m.Waits = patience
	here := bed{Lab: chosen}
	here.host = here.attach(t, "machine", netip.Prefix{})
	if out := here.mustBoot(t, m); len(out.Servers) == 0 || out.Servers[0] != address.Addr() {
		t.Errorf("answered by %v, want %s", out.Servers, address.Addr())
	}
}

// With a pool, guests get an address and nothing to boot; declared machines boot.
func TestGuestsGetAnAddressAndNothingToBoot(t *testing.T) {
	l := lab.New(t, lab.Options{NoDHCP: true})
	m := firmware.Machine{MAC: net.HardwareAddr{0x52, 0x54, 0, 0x20, 0, 1}, Kind: firmware.UEFI, Waits: patience}
	d := install(pxe.AMD64, pxe.LoaderAuto)
	d.Lease = &pxe.Lease{Address: netip.MustParsePrefix("10.77.0.20/24"), Gateway: l.Network.Gateway}
	pool := netip.MustParsePrefix("10.77.0.192/27")
	pxeserver.Start(t, l.Network.Namespace, pxeserver.Config{
		Interface: lab.BridgeName, Address: l.Network.Laptop, Mode: dhcp.Server, BootFiles: contractFiles(t),
		Machines: map[pxe.MAC]pxe.Decision{mustMAC(m.MAC): d}, Pool: pool, Network: l.Network.LAN,
	})
	b := bed{Lab: l}
	seen := map[netip.Addr]bool{}
	for i := range 5 {
		guest := firmware.Machine{MAC: net.HardwareAddr{0x52, 0x54, 0, 0x77, 0, byte(i)}, Kind: firmware.BIOS, Waits: impatience}
		out, err := guest.Boot(t.Context(), b.attach(t, fmt.Sprintf("guest%d", i), netip.Prefix{}), "eth0")
		if err != nil || out.Local != "no answer" || !pool.Contains(out.Address.Addr()) || seen[out.Address.Addr()] {
			t.Errorf("guest %d: %+v, %v; want an address of %s of its own, and nothing to boot", i, out, err, pool)
		}
		seen[out.Address.Addr()] = true
	}
	b.host = b.attach(t, "machine", netip.Prefix{})
	b.mustBoot(t, m)
}
