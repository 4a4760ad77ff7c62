//go:build linux

// Package firmware is a fake: machines that boot from the network without being
// machines. They ask and judge as real firmware and boot loaders do, as strictly
// as the strictest that is known, and stop where a kernel would be started. They
// take milliseconds, so that a test may have hundreds.
package firmware

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// Kind is a firmware.
type Kind string

// The firmwares.
const (
	UEFI      Kind = "UEFI PXE, x86-64"       // EDK2's PXE
	UEFIBC    Kind = "UEFI PXE, type 9"       // the same, of vendors that send type 9
	UEFIHTTP  Kind = "UEFI HTTP boot, x86-64" // EDK2's HTTP boot
	UEFIARM64 Kind = "UEFI PXE, arm64"        // EDK2's PXE
	BIOS      Kind = "BIOS PXE"               // the PXE ROM of a network card
	IPXEBIOS  Kind = "iPXE in ROM, BIOS"      // as in QEMU's network cards
	IPXEUEFI  Kind = "iPXE in ROM, UEFI"      // the same on UEFI
	UBoot     Kind = "U-Boot, arm64"          // reads nothing but the header of an answer
)

// Machine is one machine. Its zero value lacks a MAC.
type Machine struct {
	MAC  net.HardwareAddr
	UUID [16]byte // as sent in option 97; zero: the option is sent with length 0
	Kind Kind
	// Blank: there is nothing to boot on its disk.
	Blank bool
	// Waits are the times after each DISCOVER. Nil: 4, 8, 16 and 32 seconds, as real
	// firmware has it.
	Waits []time.Duration
}

// Host is where the machine's network card is: a network namespace. It must run
// fn on a thread that is in the namespace.
type Host interface {
	Do(fn func() error) error
}

// Outcome is what the machine would run at the end.
type Outcome struct {
	// Local is how it boots its own disk: "no answer", "exit", "sanboot" or
	// "chainload"; "restart" is that it found none and begins anew. Empty: it starts the
	// kernel.
	Local   string
	Kernel  Fetched
	Initrds []Fetched
	Args    []string
	// Address that the DHCP server gave it.
	Address netip.Prefix
	// Loader files that it ran, in their order.
	Loaders []string
	// Answers to its DHCP requests that said what to boot, by server.
	Servers []netip.Addr
}

// Fetched is a file that was fetched whole.
type Fetched struct {
	URL    string
	Size   int64
	SHA256 string
}

// maxChain is how many loaders and scripts a machine follows before it is said
// to run in circles.
const maxChain = 8

// Boot powers the machine on with its card on the host's interface, which must be
// up. The address that the machine gets is on the interface until Boot returns.
// An error is a machine that hangs, or shows an error to nobody.
func (m Machine) Boot(ctx context.Context, host Host, iface string) (Outcome, error) {
	if len(m.MAC) != 6 {
		return Outcome{}, errors.New("the machine has no MAC")
	}
	if m.Waits == nil {
		m.Waits = []time.Duration{4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second}
	}
	s := &session{Machine: m, host: host, iface: iface}
	err := s.boot(ctx)
	return s.out, errors.Join(err, s.dropAddress())
}

// session is one run of a machine from power on.
type session struct {
	Machine
	host  Host
	iface string
	out   Outcome
	added bool
	steps int
	slept time.Duration // by what its scripts said
}

func (s *session) boot(ctx context.Context) error {
	asIPXE := s.Kind == IPXEBIOS || s.Kind == IPXEUEFI
	for {
		if s.steps++; s.steps > maxChain {
			return fmt.Errorf("the machine runs in circles: %s", strings.Join(s.out.Loaders, ", "))
		}
		boot, err := s.dhcp(ctx, asIPXE)
		if err != nil {
			return err
		}
		if boot.file == "" {
			s.out.Local = "no answer"
			return nil
		}
		s.out.Servers = append(s.out.Servers, boot.server)
		if asIPXE {
			return s.ipxeChain(ctx, boot.file)
		}
		image, err := s.load(ctx, boot)
		if err != nil {
			return err
		}
		switch name := boot.file[strings.LastIndexByte(boot.file, '/')+1:]; {
		case name == "snponly.efi" && s.isX86EFI(), name == "undionly.kpxe" && s.Kind == BIOS:
			s.out.Loaders = append(s.out.Loaders, name)
			asIPXE = true
		case name == "grubx64.efi" && s.isX86EFI(), name == "grubaa64.efi" && (s.Kind == UEFIARM64 || s.Kind == UBoot):
			s.out.Loaders = append(s.out.Loaders, name)
			return s.grub(ctx, image)
		default:
			return fmt.Errorf("the firmware (%s) cannot run the file %q", s.Kind, boot.file)
		}
	}
}

func (s *session) isX86EFI() bool {
	return s.Kind == UEFI || s.Kind == UEFIBC || s.Kind == UEFIHTTP || s.Kind == IPXEUEFI
}

// load fetches what DHCP named, in the way that the firmware can.
func (s *session) load(ctx context.Context, boot bootServer) ([]byte, error) {
	if s.Kind == UEFIHTTP {
		if _, err := s.http(ctx, http.MethodHead, boot.file); err != nil {
			return nil, err
		}
		return s.http(ctx, http.MethodGet, boot.file)
	}
	if strings.Contains(boot.file, "://") {
		return nil, fmt.Errorf("the PXE firmware was given a URL: %s", boot.file)
	}
	return s.tftp(ctx, boot.server, boot.file)
}

func fetched(url string, body []byte) Fetched {
	sum := sha256.Sum256(body)
	return Fetched{URL: url, Size: int64(len(body)), SHA256: hex.EncodeToString(sum[:])}
}
