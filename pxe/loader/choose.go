// Package loader decides what a machine loads: the boot loader for its firmware,
// and the script or config that tells the loader what the backend decided.
package loader

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/rhizome-dev/rhizome/pxe"
)

// The loader files, by what can run them.
const (
	IPXEBIOS  = "undionly.kpxe"
	IPXEAMD64 = "snponly.efi"
	IPXEARM64 = "snponly-arm64.efi"
	GRUBAMD64 = "grubx64.efi"
	GRUBARM64 = "grubaa64.efi"
	// Shim starts the grubx64.efi of its own directory, if that is signed by the
	// distribution.
	ShimAMD64 = "signed/shimx64.efi"
	ShimARM64 = "signed/shimaa64.efi"
)

// The files that shim and the GRUB that it starts ask for by themselves.
const (
	SignedGRUB = "signed/grubx64.efi"
	// SignedConfig is the first config of the signed GRUB, with the placeholder of our
	// address.
	SignedConfig = "signed/grub.cfg"
	// SignedConfigPath is what the signed GRUB asks for: its prefix is fixed.
	SignedConfigPath = "grub/grub.cfg"
)

// Choice is a loader file and why it is this one.
type Choice struct {
	File   string
	Reason string
}

// Choose picks the loader for the firmware that asks. have tells whether a file
// is there to be served.
//
// Both loaders do the same: they read the decision over HTTP and start a Linux
// kernel, or the machine's disk. Auto takes for each what it is better at: iPXE
// fetches an order of magnitude faster, so it installs; on EFI GRUB alone can find
// a loader on a disk, so it boots that. To leave the machine to its firmware is
// for iPXE alone, whatever the policy: what GRUB's exit says to EFI is "success",
// and the firmware then opens its set-up menu. There is no GRUB for BIOS: its image is
// compressed, so the server's address could not be written into it, and without it
// GRUB asks the router for its config.
//
// Signed is for Secure Boot. Nothing can be written into a signed GRUB: it asks for
// its config the server that its address came from, by TFTP. That is us only if the
// address is ours to give. From firmware that booted by HTTP it takes over no network:
// Debian's (2.06) sends nothing and waits at its prompt, whoever gave the address
// (test/matrix).
func Choose(m pxe.Machine, d pxe.Decision, have func(file string) bool) (Choice, error) {
	var ipxe, grub, shim string
	switch {
	case m.Firmware == pxe.FirmwareBIOS && m.Arch == pxe.AMD64:
		ipxe = IPXEBIOS
	case isEFI(m.Firmware) && m.Arch == pxe.AMD64:
		ipxe, grub, shim = IPXEAMD64, GRUBAMD64, ShimAMD64
	case isEFI(m.Firmware) && m.Arch == pxe.ARM64:
		ipxe, grub, shim = IPXEARM64, GRUBARM64, ShimARM64
	default:
		return Choice{}, fmt.Errorf("no loader is known for %s firmware of architecture %s", orUnknown(string(m.Firmware)), orUnknown(string(m.Arch)))
	}
	if d.Loader == pxe.LoaderSigned {
		return chooseSigned(m, d, have, ipxe, shim)
	}
	if d.Action == pxe.BootLocal && d.LocalBoot == pxe.LocalBootExit && d.Loader != pxe.LoaderIPXE {
		return first(have, Choice{ipxe, "iPXE, which hands back to the firmware"}, Choice{grub, "GRUB, since there is no iPXE for this firmware"})
	}
	switch d.Loader {
	case pxe.LoaderGRUB:
		if grub == "" {
			return first(have, Choice{ipxe, "iPXE, though GRUB was asked for: GRUB's BIOS image cannot be told our address"})
		}
		return first(have, Choice{grub, "GRUB, as asked for"})
	case pxe.LoaderIPXE:
		return first(have, Choice{ipxe, "iPXE, as asked for"})
	case pxe.LoaderAuto:
		if d.Action == pxe.BootLocal && (d.LocalBoot == pxe.LocalBootAuto || d.LocalBoot == pxe.LocalBootChainLoad) {
			return first(have, Choice{grub, "GRUB, which finds the loader on a disk"}, Choice{ipxe, "iPXE, since there is no GRUB for this firmware"})
		}
		return first(have, Choice{ipxe, "iPXE, the faster one"}, Choice{grub, "GRUB, since there is no iPXE for this firmware"})
	}
	return Choice{}, fmt.Errorf("the loader policy %q is not known: want GRUB, IPXE, Signed or none", d.Loader)
}

// chooseSigned is the choice for the policy Signed. shim is empty for a BIOS.
func chooseSigned(m pxe.Machine, d pxe.Decision, have func(string) bool, ipxe, shim string) (Choice, error) {
	switch {
	case shim == "":
		return first(have, Choice{ipxe, "iPXE, since a BIOS has no Secure Boot"})
	case d.Action == pxe.BootLocal && d.LocalBoot == pxe.LocalBootExit:
		return Choice{}, errors.New("no signed loader hands back to the firmware: without an answer it goes on to its next boot entry")
	case m.Firmware == pxe.FirmwareUEFIHTTP:
		return Choice{}, errors.New("the signed GRUB has no network where the firmware booted by HTTP: let the firmware boot by PXE, or switch Secure Boot off and choose another loader")
	case d.Lease == nil:
		return Choice{}, errors.New("the signed GRUB asks for its config where its address comes from, which is not here: set network.dhcp to Server, or switch Secure Boot off and choose another loader")
	}
	return first(have, Choice{shim, "shim and the distribution's GRUB, as asked for"})
}

// first of the choices that exists and is there.
func first(have func(string) bool, choices ...Choice) (Choice, error) {
	choices = slices.DeleteFunc(choices, func(c Choice) bool { return c.File == "" })
	for _, c := range choices {
		if have(c.File) {
			return c, nil
		}
	}
	return Choice{}, fmt.Errorf("the boot file loader/%s is missing", choices[0].File)
}

// BootFile is the one ordered decision on what a DHCP answer names, for every
// machine that is not to be ignored:
//
//  1. a machine whose firmware is not of the declared architecture loads nothing
//     to install itself: it is not the machine that was meant;
//  2. iPXE gets the URL of its script, never iPXE again, or it would load itself
//     for ever;
//  3. UEFI HTTP boot gets the URL of the chosen loader;
//  4. PXE gets the TFTP path of the chosen loader.
//
// server is the address and port of our HTTP side.
func BootFile(m pxe.Machine, d pxe.Decision, server netip.AddrPort, have func(file string) bool) (string, error) {
	if d.Action == pxe.Install && d.Arch != "" && m.Arch != "" && d.Arch != m.Arch {
		return "", fmt.Errorf("the machine is declared as %s but its firmware is %s", d.Arch, m.Arch)
	}
	if m.IPXE {
		return BaseURL(server) + ScriptPath(m.MAC, IPXEScript), nil
	}
	choice, err := Choose(m, d, have)
	if err != nil {
		return "", err
	}
	if m.Firmware == pxe.FirmwareUEFIHTTP {
		return BaseURL(server) + "/loader/" + choice.File, nil
	}
	return choice.File, nil
}

// The names of the decision in the two languages that loaders speak.
const (
	IPXEScript = "ipxe"
	GRUBConfig = "grub"
)

// ScriptPath is the HTTP path of a machine's script.
func ScriptPath(mac pxe.MAC, kind string) string {
	return "/boot/" + string(mac) + "/" + kind
}

// BaseURL of our HTTP side, without a slash at the end.
func BaseURL(server netip.AddrPort) string { return "http://" + server.String() }

func isEFI(f pxe.Firmware) bool {
	return f == pxe.FirmwareUEFI || f == pxe.FirmwareUEFIHTTP
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}
