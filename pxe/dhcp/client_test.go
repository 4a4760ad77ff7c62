package dhcp

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/rhizome-dev/rhizome/pxe"
)

func TestMachineOfAPacket(t *testing.T) {
	const m = pxe.MAC("52:54:00:12:34:56")
	const uuid = "00112233-4455-6677-8899-aabbccddeeff"
	with := func(code dhcpv4.OptionCode, value []byte) dhcpv4.Modifier { return dhcpv4.WithGeneric(code, value) }
	without := dhcpv4.WithoutOption
	for _, c := range []struct {
		name  string
		class string
		arch  iana.Arch
		more  []dhcpv4.Modifier
		want  pxe.Machine
		boots bool
	}{
		{"BIOS", "PXEClient", iana.INTEL_X86PC, nil, pxe.Machine{MAC: m, UUID: uuid, Arch: pxe.AMD64, Firmware: pxe.FirmwareBIOS}, true},
		{"BIOS that does not say so", "PXEClient", 0, []dhcpv4.Modifier{without(dhcpv4.OptionClientSystemArchitectureType)}, pxe.Machine{MAC: m, UUID: uuid, Arch: pxe.AMD64, Firmware: pxe.FirmwareBIOS}, true},
		{"EFI", "PXEClient:Arch:00007", iana.EFI_X86_64, nil, pxe.Machine{MAC: m, UUID: uuid, Arch: pxe.AMD64, Firmware: pxe.FirmwareUEFI}, true},
		{"EFI, type 9", "PXEClient:Arch:00009", iana.EFI_BC, nil, pxe.Machine{MAC: m, UUID: uuid, Arch: pxe.AMD64, Firmware: pxe.FirmwareUEFI}, true},
		{"EFI, 32 bits", "PXEClient:Arch:00006", iana.EFI_IA32, nil, pxe.Machine{MAC: m, UUID: uuid}, true},
		{"EFI, arm64", "PXEClient:Arch:00011", iana.EFI_ARM64, nil, pxe.Machine{MAC: m, UUID: uuid, Arch: pxe.ARM64, Firmware: pxe.FirmwareUEFI}, true},
		{"HTTP", "HTTPClient:Arch:00016", iana.EFI_X86_64_HTTP, nil, pxe.Machine{MAC: m, UUID: uuid, Arch: pxe.AMD64, Firmware: pxe.FirmwareUEFIHTTP}, true},
		{"HTTP, type 15", "HTTPClient:Arch:00015", iana.EFI_X86_HTTP, nil, pxe.Machine{MAC: m, UUID: uuid, Arch: pxe.AMD64, Firmware: pxe.FirmwareUEFIHTTP}, true},
		{"HTTP, arm64", "HTTPClient:Arch:00019", iana.EFI_ARM64_HTTP, nil, pxe.Machine{MAC: m, UUID: uuid, Arch: pxe.ARM64, Firmware: pxe.FirmwareUEFIHTTP}, true},
		{"iPXE by user class", "PXEClient", iana.EFI_X86_64, []dhcpv4.Modifier{with(dhcpv4.OptionUserClassInformation, []byte("iPXE"))}, pxe.Machine{MAC: m, UUID: uuid, Arch: pxe.AMD64, Firmware: pxe.FirmwareUEFI, IPXE: true}, true},
		{"iPXE by user class of RFC 3004", "PXEClient", iana.EFI_X86_64, []dhcpv4.Modifier{with(dhcpv4.OptionUserClassInformation, []byte("\x04iPXE"))}, pxe.Machine{MAC: m, UUID: uuid, Arch: pxe.AMD64, Firmware: pxe.FirmwareUEFI, IPXE: true}, true},
		{"iPXE by option 175", "other", iana.EFI_X86_64, []dhcpv4.Modifier{with(optionIPXE, []byte{0x13, 1, 1})}, pxe.Machine{MAC: m, UUID: uuid, Arch: pxe.AMD64, Firmware: pxe.FirmwareUEFI, IPXE: true}, true},
		{"U-Boot", "U-Boot.armv8", iana.EFI_ARM64, nil, pxe.Machine{MAC: m, UUID: uuid, Arch: pxe.ARM64, Firmware: pxe.FirmwareUEFI}, true},
		{"an operating system", "dhcpcd", 0, []dhcpv4.Modifier{without(dhcpv4.OptionClientSystemArchitectureType)}, pxe.Machine{MAC: m, UUID: uuid}, false},
		{"a UUID of length 0", "PXEClient", iana.EFI_X86_64, []dhcpv4.Modifier{with(dhcpv4.OptionClientMachineIdentifier, []byte{})}, pxe.Machine{MAC: m, Arch: pxe.AMD64, Firmware: pxe.FirmwareUEFI}, true},
		{"a UUID of zeros", "PXEClient", iana.EFI_X86_64, []dhcpv4.Modifier{with(dhcpv4.OptionClientMachineIdentifier, make([]byte, 17))}, pxe.Machine{MAC: m, Arch: pxe.AMD64, Firmware: pxe.FirmwareUEFI}, true},
		{"a UUID of ones", "PXEClient", iana.EFI_X86_64, []dhcpv4.Modifier{with(dhcpv4.OptionClientMachineIdentifier, append([]byte{0}, bytes.Repeat([]byte{255}, 16)...))}, pxe.Machine{MAC: m, Arch: pxe.AMD64, Firmware: pxe.FirmwareUEFI}, true},
		{"a UUID of another type", "PXEClient", iana.EFI_X86_64, []dhcpv4.Modifier{with(dhcpv4.OptionClientMachineIdentifier, append([]byte{1}, smbios[1:]...))}, pxe.Machine{MAC: m, Arch: pxe.AMD64, Firmware: pxe.FirmwareUEFI}, true},
		{"an architecture of one byte", "PXEClient", 0, []dhcpv4.Modifier{with(dhcpv4.OptionClientSystemArchitectureType, []byte{7})}, pxe.Machine{MAC: m, UUID: uuid, Arch: pxe.AMD64, Firmware: pxe.FirmwareBIOS}, true},
		{"no Ethernet", "PXEClient", iana.EFI_X86_64, []dhcpv4.Modifier{dhcpv4.WithHWType(iana.HWTypeInfiniband)}, pxe.Machine{UUID: uuid, Arch: pxe.AMD64, Firmware: pxe.FirmwareUEFI}, true},
		{"no address", "PXEClient", iana.EFI_X86_64, []dhcpv4.Modifier{dhcpv4.WithHwAddr(make([]byte, 6))}, pxe.Machine{UUID: uuid, Arch: pxe.AMD64, Firmware: pxe.FirmwareUEFI}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := client(dhcpv4.MessageTypeDiscover, c.class, c.arch, c.more...)
			if diff := cmp.Diff(c.want, MachineOf(p)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got := IsNetworkBoot(p); got != c.boots {
				t.Errorf("network boot client: %v, want %v", got, c.boots)
			}
		})
	}
}

// One machine of QEMU's: its firmware, the iPXE of its card and the iPXE that was
// loaded into it tell the same UUID, the one that QEMU was given.
func TestAllFirmwareOfAMachineTellsTheSameUUID(t *testing.T) {
	const uuid = "c95aa144-c1d0-4f2f-b3c8-f967fdc1de9e"
	for name, want := range map[string]pxe.Machine{
		"ovmf-pxe-discover":         {Firmware: pxe.FirmwareUEFI},
		"ovmf-ipxe-discover":        {Firmware: pxe.FirmwareUEFI, IPXE: true},
		"ovmf-ipxe-rom-discover":    {Firmware: pxe.FirmwareUEFI, IPXE: true},
		"seabios-ipxe-rom-discover": {Firmware: pxe.FirmwareBIOS, IPXE: true},
	} {
		want.MAC, want.UUID, want.Arch = "52:54:00:ca:0d:f2", uuid, pxe.AMD64
		if diff := cmp.Diff(want, MachineOf(recorded(t, name))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
