package pxe

import (
	"fmt"
	"net"
	"strings"
)

// MAC is an Ethernet hardware address in its one canonical spelling: lower case
// with colons, such as 52:54:00:12:34:56. The zero value is no address.
type MAC string

// ParseMAC reads a 48-bit hardware address in any spelling that firmware and
// boot loaders use: colons, dashes or no separators, either case, and PXELINUX's
// BOOTIF form with the leading hardware type (01-52-54-...).
func ParseMAC(s string) (MAC, error) {
	if isCanonical(s) {
		return MAC(s), nil
	}
	digits := strings.Map(func(r rune) rune {
		if r == ':' || r == '-' || r == '.' {
			return -1
		}
		return r
	}, s)
	if len(digits) == 14 && strings.HasPrefix(digits, "01") {
		digits = digits[2:]
	}
	if len(digits) != 12 || len(s) > 20 {
		return "", fmt.Errorf("cannot read %q as a MAC address: want six bytes such as 52:54:00:12:34:56", s)
	}
	digits = strings.ToLower(digits)
	parts := make([]string, 0, 6)
	for i := 0; i < 12; i += 2 {
		parts = append(parts, digits[i:i+2])
	}
	canonical := strings.Join(parts, ":")
	if _, err := net.ParseMAC(canonical); err != nil {
		return "", fmt.Errorf("cannot read %q as a MAC address: want six bytes such as 52:54:00:12:34:56", s)
	}
	return MAC(canonical), nil
}

// isCanonical says whether s is spelled as a MAC is: loaders are told that spelling,
// so most are.
func isCanonical(s string) bool {
	if len(s) != len("52:54:00:12:34:56") {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case i%3 == 2:
			if c != ':' {
				return false
			}
		case (c < '0' || c > '9') && (c < 'a' || c > 'f'):
			return false
		}
	}
	return true
}

// Arch is a processor architecture by its Go name, amd64 or arm64; empty when it
// is not known.
type Arch string

// The architectures that can be booted.
const (
	AMD64 Arch = "amd64"
	ARM64 Arch = "arm64"
)

// Firmware is what runs in the machine at the moment of a request.
type Firmware string

// The firmwares, as told by DHCP option 93 (RFC 4578 and IANA's processor
// architecture types), 60 and 77.
const (
	FirmwareUnknown  Firmware = ""
	FirmwareBIOS     Firmware = "BIOS"
	FirmwareUEFI     Firmware = "UEFI"
	FirmwareUEFIHTTP Firmware = "UEFI HTTP"
)

// Machine is what one packet or request tells of the machine that sent it.
type Machine struct {
	MAC      MAC
	UUID     string // SMBIOS UUID in canonical form, empty until seen (DHCP option 97)
	Arch     Arch
	Firmware Firmware
	IPXE     bool // the client is iPXE already (user class iPXE or option 175)
}
