package dhcp

import (
	"bytes"
	"encoding/hex"
	"net"
	"slices"
	"strings"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/rhizome-dev/rhizome/pxe"
)

// optionIPXE is the option that iPXE encapsulates its own settings in (175,
// registered for Etherboot). Its presence gives an iPXE away whose user class
// was overridden.
const optionIPXE = dhcpv4.GenericOptionCode(175)

// IsNetworkBoot says whether the client is firmware or a boot loader that asks
// what to boot, as opposed to an operating system that only wants an address. It
// is the one place that says so:
//
//   - option 60 begins with PXEClient (PXE 2.1 §2.2.1) or HTTPClient (UEFI 2.10
//     §24.7.2): the firmware's own network boot;
//   - user class iPXE or option 175: iPXE, built into a card or loaded by us;
//   - option 93, the client's architecture (RFC 4578 §2.1): U-Boot and others
//     that name themselves in option 60. No operating system sends it.
//
// Options 94 and 97, which RFC 4578 demands too, are not: real ROMs omit them.
func IsNetworkBoot(p *dhcpv4.DHCPv4) bool {
	class := p.ClassIdentifier()
	return strings.HasPrefix(class, classPXE) ||
		strings.HasPrefix(class, classHTTP) ||
		isIPXE(p) ||
		p.Options.Has(dhcpv4.OptionClientSystemArchitectureType)
}

func isIPXE(p *dhcpv4.DHCPv4) bool {
	if p.Options.Has(optionIPXE) {
		return true
	}
	return hasUserClass(p, "iPXE")
}

// hasUserClass says whether this is the client's one user class. It stands bare
// (iPXE's own way) or behind a length byte (RFC 3004).
func hasUserClass(p *dhcpv4.DHCPv4, class string) bool {
	option := p.Options.Get(dhcpv4.OptionUserClassInformation)
	return string(option) == class || string(option) == string(rune(len(class)))+class
}

// classProbe is the user class of Probe's packets, by which our own servers know
// them: they answer none and list none as a machine that wants to boot.
const classProbe = "rhizome-probe"

func isProbe(p *dhcpv4.DHCPv4) bool { return hasUserClass(p, classProbe) }

// MachineOf says what a packet tells of its sender. The MAC is empty if the
// packet carries none of an Ethernet's.
func MachineOf(p *dhcpv4.DHCPv4) pxe.Machine {
	m := pxe.Machine{IPXE: isIPXE(p)}
	if p.HWType == iana.HWTypeEthernet && len(p.ClientHWAddr) == 6 {
		m.MAC = canonicalMAC(p.ClientHWAddr)
	}
	m.Firmware, m.Arch = firmwareOf(p)
	m.UUID = uuidOf(p.Options.Get(dhcpv4.OptionClientMachineIdentifier))
	return m
}

// canonicalMAC is empty for an address that no single machine can have: zero,
// or with the group bit set.
func canonicalMAC(a net.HardwareAddr) pxe.MAC {
	if a[0]&1 == 1 || bytes.Equal(a, make([]byte, 6)) {
		return ""
	}
	mac, err := pxe.ParseMAC(a.String())
	if err != nil {
		return ""
	}
	return mac
}

// firmwareOf reads option 93 (IANA's processor architecture types). Type 9 was
// meant for EFI byte code, but x86-64 firmware sends it as often as 7 (RFC 4578
// errata), and so with 15 and 16. A PXE client that does not say what it is, is
// a BIOS: they are older than the option.
func firmwareOf(p *dhcpv4.DHCPv4) (pxe.Firmware, pxe.Arch) {
	arches := p.ClientArch()
	if len(arches) == 0 {
		if strings.HasPrefix(p.ClassIdentifier(), classPXE) {
			return pxe.FirmwareBIOS, pxe.AMD64
		}
		return pxe.FirmwareUnknown, ""
	}
	switch arches[0] {
	case iana.INTEL_X86PC:
		return pxe.FirmwareBIOS, pxe.AMD64
	case iana.EFI_X86_64, iana.EFI_BC:
		return pxe.FirmwareUEFI, pxe.AMD64
	case iana.EFI_ARM64:
		return pxe.FirmwareUEFI, pxe.ARM64
	case iana.EFI_X86_HTTP, iana.EFI_X86_64_HTTP:
		return pxe.FirmwareUEFIHTTP, pxe.AMD64
	case iana.EFI_ARM64_HTTP:
		return pxe.FirmwareUEFIHTTP, pxe.ARM64
	}
	return pxe.FirmwareUnknown, ""
}

// uuidOf reads option 97 (RFC 4578 §2.3): a type byte 0 and the 16 bytes of the
// SMBIOS UUID. SMBIOS stores the first three fields with the least significant
// byte first (DMTF DSP0134 §7.2.1), and firmware and iPXE alike send them so; the
// canonical form, which Linux and dmidecode show too, has the most significant
// byte first.
//
// The option may have length 0, and boards that were never given a UUID send
// nothing but zeros or ones: all of these are no UUID.
func uuidOf(option []byte) string {
	if len(option) != 17 || option[0] != 0 {
		return ""
	}
	u := bytes.Clone(option[1:])
	if bytes.Equal(u, bytes.Repeat(u[:1], 16)) {
		return ""
	}
	slices.Reverse(u[0:4])
	slices.Reverse(u[4:6])
	slices.Reverse(u[6:8])
	h := hex.EncodeToString(u)
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
