package loader

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/rhizome-dev/rhizome/pxe"
)

var server = netip.MustParseAddrPort("192.168.1.2:7480")

const mac = pxe.MAC("52:54:00:12:34:56")

func has(files ...string) func(string) bool {
	return func(f string) bool { return slices.Contains(files, f) }
}

var (
	bios     = pxe.Machine{MAC: mac, Firmware: pxe.FirmwareBIOS, Arch: pxe.AMD64}
	uefi     = pxe.Machine{MAC: mac, Firmware: pxe.FirmwareUEFI, Arch: pxe.AMD64}
	uefiHTTP = pxe.Machine{MAC: mac, Firmware: pxe.FirmwareUEFIHTTP, Arch: pxe.AMD64}
	arm      = pxe.Machine{MAC: mac, Firmware: pxe.FirmwareUEFI, Arch: pxe.ARM64}
	armHTTP  = pxe.Machine{MAC: mac, Firmware: pxe.FirmwareUEFIHTTP, Arch: pxe.ARM64}
	ipxe     = pxe.Machine{MAC: mac, Firmware: pxe.FirmwareUEFI, Arch: pxe.AMD64, IPXE: true}
)

func TestWhatAMachineIsToldToLoad(t *testing.T) {
	all := has(IPXEBIOS, IPXEAMD64, IPXEARM64, GRUBAMD64, GRUBARM64, ShimAMD64)
	lease := &pxe.Lease{Address: netip.MustParsePrefix("192.168.1.21/24")}
	signed := func(d pxe.Decision) pxe.Decision { d.Loader = pxe.LoaderSigned; return d }
	debian := has(IPXEBIOS, IPXEAMD64, GRUBAMD64, GRUBARM64) // there is no iPXE for arm64
	const script = "http://192.168.1.2:7480/boot/52:54:00:12:34:56/ipxe"
	for _, c := range []struct {
		name    string
		machine pxe.Machine
		pxe.Decision
		have func(string) bool
		want string
		err  string
	}{
		{"BIOS", bios, pxe.Decision{}, all, "undionly.kpxe", ""},
		{"BIOS, iPXE", bios, pxe.Decision{Loader: pxe.LoaderIPXE}, all, "undionly.kpxe", ""},
		{"BIOS, GRUB: there is none", bios, pxe.Decision{Loader: pxe.LoaderGRUB}, all, "undionly.kpxe", ""},
		{"UEFI", uefi, pxe.Decision{}, all, "snponly.efi", ""},
		{"UEFI, iPXE", uefi, pxe.Decision{Loader: pxe.LoaderIPXE}, all, "snponly.efi", ""},
		{"UEFI, GRUB", uefi, pxe.Decision{Loader: pxe.LoaderGRUB}, all, "grubx64.efi", ""},
		{"UEFI, its own disk", uefi, pxe.Decision{Action: pxe.BootLocal}, all, "grubx64.efi", ""},
		{"UEFI, its own disk by chain-loading", uefi, pxe.Decision{Action: pxe.BootLocal, LocalBoot: pxe.LocalBootChainLoad}, all, "grubx64.efi", ""},
		{"UEFI, its own disk by leaving", uefi, pxe.Decision{Action: pxe.BootLocal, LocalBoot: pxe.LocalBootExit}, all, "snponly.efi", ""},
		{"UEFI, its own disk by leaving, GRUB", uefi, pxe.Decision{Action: pxe.BootLocal, LocalBoot: pxe.LocalBootExit, Loader: pxe.LoaderGRUB}, all, "snponly.efi", ""},
		{"arm64, its own disk by leaving", arm, pxe.Decision{Action: pxe.BootLocal, LocalBoot: pxe.LocalBootExit}, debian, "grubaa64.efi", ""},
		{"UEFI, its own disk, iPXE", uefi, pxe.Decision{Action: pxe.BootLocal, Loader: pxe.LoaderIPXE}, all, "snponly.efi", ""},
		{"UEFI, its own disk, without GRUB", uefi, pxe.Decision{Action: pxe.BootLocal}, has(IPXEAMD64), "snponly.efi", ""},
		{"BIOS, its own disk", bios, pxe.Decision{Action: pxe.BootLocal}, all, "undionly.kpxe", ""},
		{"UEFI, without iPXE", uefi, pxe.Decision{}, has(GRUBAMD64), "grubx64.efi", ""},
		{"UEFI, iPXE, without it", uefi, pxe.Decision{Loader: pxe.LoaderIPXE}, has(GRUBAMD64), "", "loader/snponly.efi is missing"},
		{"UEFI, GRUB, without it", uefi, pxe.Decision{Loader: pxe.LoaderGRUB}, has(IPXEAMD64), "", "loader/grubx64.efi is missing"},
		{"UEFI HTTP", uefiHTTP, pxe.Decision{}, all, "http://192.168.1.2:7480/loader/snponly.efi", ""},
		{"UEFI HTTP, GRUB", uefiHTTP, pxe.Decision{Loader: pxe.LoaderGRUB}, all, "http://192.168.1.2:7480/loader/grubx64.efi", ""},
		{"arm64", arm, pxe.Decision{}, all, "snponly-arm64.efi", ""},
		{"arm64, of Debian's packages", arm, pxe.Decision{}, debian, "grubaa64.efi", ""},
		{"arm64, without loaders", arm, pxe.Decision{}, has(IPXEAMD64, GRUBAMD64), "", "loader/snponly-arm64.efi is missing"},
		{"Secure Boot, our DHCP server", uefi, signed(pxe.Decision{Lease: lease}), all, "signed/shimx64.efi", ""},
		{"Secure Boot, the router's DHCP server", uefi, signed(pxe.Decision{}), all, "", "set network.dhcp to Server, or switch Secure Boot off"},
		{"Secure Boot, HTTP", uefiHTTP, signed(pxe.Decision{}), all, "", "let the firmware boot by PXE"},
		{"Secure Boot, HTTP, our DHCP server", uefiHTTP, signed(pxe.Decision{Lease: lease}), all, "", "let the firmware boot by PXE"},
		{"Secure Boot, its own disk", uefi, signed(pxe.Decision{Action: pxe.BootLocal, Lease: lease}), all, "signed/shimx64.efi", ""},
		{"Secure Boot, its own disk by leaving", uefi, signed(pxe.Decision{Action: pxe.BootLocal, LocalBoot: pxe.LocalBootExit, Lease: lease}), all, "", "no signed loader hands back"},
		{"Secure Boot, without shim", uefi, signed(pxe.Decision{Lease: lease}), has(GRUBAMD64), "", "loader/signed/shimx64.efi is missing"},
		{"Secure Boot, arm64", arm, signed(pxe.Decision{Lease: lease}), all, "", "loader/signed/shimaa64.efi is missing"},
		{"Secure Boot, BIOS", bios, signed(pxe.Decision{}), all, "undionly.kpxe", ""},
		{"Secure Boot, iPXE that the firmware accepted", ipxe, signed(pxe.Decision{}), all, script, ""},
		{"arm64 HTTP", armHTTP, pxe.Decision{}, debian, "http://192.168.1.2:7480/loader/grubaa64.efi", ""},
		{"iPXE gets its script", ipxe, pxe.Decision{}, all, script, ""},
		{"iPXE gets its script, and GRUB by it", ipxe, pxe.Decision{Loader: pxe.LoaderGRUB}, all, script, ""},
		{"iPXE of an unknown firmware", pxe.Machine{MAC: mac, IPXE: true}, pxe.Decision{}, all, script, ""},
		{"unknown firmware", pxe.Machine{MAC: mac}, pxe.Decision{}, all, "", "no loader is known for unknown firmware of architecture unknown"},
		{"unknown policy", uefi, pxe.Decision{Loader: "LILO"}, all, "", `the loader policy "LILO" is not known`},
		{"not the declared machine", arm, pxe.Decision{Action: pxe.Install, Arch: pxe.AMD64}, all, "", "declared as amd64 but its firmware is arm64"},
		{"not the declared machine, by iPXE", ipxe, pxe.Decision{Action: pxe.Install, Arch: pxe.ARM64}, all, "", "declared as arm64 but its firmware is amd64"},
		{"the declared machine", arm, pxe.Decision{Action: pxe.Install, Arch: pxe.ARM64}, all, "snponly-arm64.efi", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := BootFile(c.machine, c.Decision, server, c.have)
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %q", err, c.err)
			}
		})
	}
}

func TestAChoiceSaysWhy(t *testing.T) {
	for _, c := range []struct {
		machine pxe.Machine
		policy  pxe.LoaderPolicy
		have    func(string) bool
		want    string
	}{
		{uefi, pxe.LoaderAuto, has(IPXEAMD64), "the faster one"},
		{arm, pxe.LoaderAuto, has(GRUBARM64), "there is no iPXE for this firmware"},
		{bios, pxe.LoaderGRUB, has(IPXEBIOS), "GRUB's BIOS image cannot be told our address"},
	} {
		choice, err := Choose(c.machine, pxe.Decision{Loader: c.policy}, c.have)
		if err != nil || !strings.Contains(choice.Reason, c.want) {
			t.Errorf("%+v, %s: %+v, %v; want a reason that says %q", c.machine, c.policy, choice, err, c.want)
		}
	}
}
