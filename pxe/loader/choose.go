// Package loader decides what a machine loads: the boot loader for its firmware,
// and the script or config that tells the loader what the backend decided.
package loader

import (
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
func Choose(m pxe.Machine, d pxe.Decision, have func(file string) bool) (Choice, error) {
	var ipxe, grub string
	switch {
	case m.Firmware == pxe.FirmwareBIOS && m.Arch == pxe.AMD64:
		ipxe = IPXEBIOS
	case isEFI(m.Firmware) && m.Arch == pxe.AMD64:
		ipxe, grub = IPXEAMD64, GRUBAMD64
	case isEFI(m.Firmware) && m.Arch == pxe.ARM64:
		ipxe, grub = IPXEARM64, GRUBARM64
	default:
		return Choice{}, fmt.Errorf("no loader is known for %s firmware of architecture %s", orUnknown(string(m.Firmware)), orUnknown(string(m.Arch)))
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
	return Choice{}, fmt.Errorf("the loader policy %q is not known: want GRUB, IPXE or none", d.Loader)
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
