//go:build linux

package matrix

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/test/firmware"
	"github.com/rhizome-dev/rhizome/test/lab"
	"github.com/rhizome-dev/rhizome/test/pxeserver"
)

// patience with an emulated machine.
const patience = 12 * time.Minute

// bootFiles are our loaders and the installer, made from the sources as they are.
var bootFiles = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "rhizome-matrix-")
	if err != nil {
		return "", err
	}
	for _, script := range [][]string{{"../../pxe/loader/build.sh", dir}, {"../../pxe/installer/build.sh", dir}} {
		if out, err := exec.Command(script[0], script[1:]...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w\n%s", script[0], err, out)
		}
	}
	return dir, nil
})

// arm64Files adds the installer for arm64.
var arm64Files = sync.OnceValues(func() (string, error) {
	dir, err := bootFiles()
	if err != nil {
		return "", err
	}
	if out, err := exec.Command("../../pxe/installer/build.sh", dir, "arm64").CombinedOutput(); err != nil {
		return "", fmt.Errorf("pxe/installer/build.sh: %w\n%s", err, out)
	}
	return dir, nil
})

func filesFor(t *testing.T, c lab.MachineConfig) string {
	t.Helper()
	make := bootFiles
	if c.Firmware == lab.UEFIARM64 {
		for _, need := range []string{"/usr/bin/qemu-system-aarch64", "/usr/share/AAVMF/AAVMF_CODE.fd"} {
			if _, err := os.Stat(need); err != nil {
				t.Skipf("NOT TESTED: %v: install the packages of test/matrix/arm64-packages.txt", err)
			}
		}
		make = arm64Files
	}
	dir, err := make()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// The firmwares, and what a person calls them.
var (
	uefi     = firmwareOf{"UEFI PXE", lab.MachineConfig{}}
	uefiHTTP = firmwareOf{"UEFI HTTP", lab.MachineConfig{HTTPBoot: true}}
	romUEFI  = firmwareOf{"iPXE ROM on UEFI", lab.MachineConfig{IPXE: true}}
	bios     = firmwareOf{"BIOS, iPXE ROM", lab.MachineConfig{Firmware: lab.BIOS}}
	arm      = firmwareOf{"arm64 UEFI PXE", lab.MachineConfig{Firmware: lab.UEFIARM64}}
	armHTTP  = firmwareOf{"arm64 UEFI HTTP", lab.MachineConfig{Firmware: lab.UEFIARM64, HTTPBoot: true}}
	secure   = firmwareOf{"Secure Boot PXE", lab.MachineConfig{SecureBoot: true}}
	secHTTP  = firmwareOf{"Secure Boot HTTP", lab.MachineConfig{SecureBoot: true, HTTPBoot: true}}
)

type firmwareOf struct {
	name string
	lab.MachineConfig
}

// row is a machine that is to install itself.
type row struct {
	firmware firmwareOf
	network  string
	loader   pxe.LoaderPolicy
	// files are the loaders that it must fetch, in this order.
	files []string
	// refusal is what the server must say in place of an answer; empty: the machine
	// must ask for its init config.
	refusal string
}

var (
	chained = []string{"loader/snponly.efi"}
	grub    = []string{"loader/grubx64.efi"}
	arm64   = []string{"loader/grubaa64.efi"}
	signed  = []string{"loader/signed/shimx64.efi", "loader/signed/grubx64.efi"}
)

var rows = []row{
	{uefi, proxy, pxe.LoaderAuto, chained, ""},
	{uefi, server, pxe.LoaderAuto, chained, ""},
	{uefi, pool, pxe.LoaderAuto, chained, ""},
	{uefi, relayProxy, pxe.LoaderAuto, chained, ""},
	{uefi, relayServer, pxe.LoaderAuto, chained, ""},
	{uefi, proxy, pxe.LoaderGRUB, grub, ""},
	{uefi, server, pxe.LoaderGRUB, grub, ""},
	{uefi, relayProxy, pxe.LoaderGRUB, grub, ""},
	{uefiHTTP, proxy, pxe.LoaderAuto, chained, ""},
	{uefiHTTP, server, pxe.LoaderAuto, chained, ""},
	{uefiHTTP, relayServer, pxe.LoaderAuto, chained, ""},
	{uefiHTTP, proxy, pxe.LoaderGRUB, grub, ""},
	{romUEFI, proxy, pxe.LoaderAuto, nil, ""},
	{romUEFI, server, pxe.LoaderAuto, nil, ""},
	{romUEFI, proxy, pxe.LoaderGRUB, grub, ""},
	{bios, proxy, pxe.LoaderAuto, nil, ""},
	{bios, server, pxe.LoaderAuto, nil, ""},
	{bios, relayProxy, pxe.LoaderAuto, nil, ""},
	{bios, relayServer, pxe.LoaderAuto, nil, ""},
	{arm, proxy, pxe.LoaderAuto, arm64, ""},
	{arm, server, pxe.LoaderAuto, arm64, ""},
	{armHTTP, proxy, pxe.LoaderAuto, arm64, ""},
	{secure, server, pxe.LoaderSigned, signed, ""},
	{secure, relayServer, pxe.LoaderSigned, signed, ""},
	{secure, proxy, pxe.LoaderSigned, nil, "the signed GRUB asks for its config where its address comes from"},
	{secHTTP, proxy, pxe.LoaderSigned, nil, "the signed GRUB has no network where the firmware booted by HTTP"},
	{secHTTP, server, pxe.LoaderSigned, nil, "the signed GRUB has no network where the firmware booted by HTTP"},
}

func nameOf(l pxe.LoaderPolicy) string {
	if l == pxe.LoaderAuto {
		return "Auto"
	}
	return string(l)
}

func TestMatrix(t *testing.T) {
	for _, r := range rows {
		t.Run(fmt.Sprintf("%s, %s, %s", r.firmware.name, r.network, nameOf(r.loader)), func(t *testing.T) {
			began, last := time.Now(), "nothing"
			defer func() {
				verdict := "ok"
				switch {
				case t.Skipped():
					verdict = "not tested"
				case t.Failed():
					verdict = "FAILED"
				case r.refusal != "":
					verdict = "refused"
				}
				results.add(result{r.firmware.name, r.network, nameOf(r.loader), verdict, last, time.Since(began)})
			}()
			install(t, r, &last)
		})
	}
}

// install boots a row's machine. last is what was seen of it at the end.
func install(t *testing.T, r row, last *string) {
	files := filesFor(t, r.firmware.MachineConfig)
	site := newSite(t, r.network)
	config := r.firmware.MachineConfig
	config.Disks, config.Memory = []lab.Disk{}, 1024
	m, err := site.Machine(config)
	if err != nil {
		t.Fatal(err)
	}
	arch, console := pxe.AMD64, "ttyS0"
	if config.Firmware == lab.UEFIARM64 {
		arch, console = pxe.ARM64, "ttyAMA0"
	}
	mac := macOf(m.Config.MAC)
	site.config.BootFiles = files
	site.config.Machines = map[pxe.MAC]pxe.Decision{mac: {
		Action: pxe.Install, Reason: "an open claim", Loader: r.loader, Arch: arch, Lease: site.lease,
		Kernel: pxe.Kernel{
			Path: "/installer/" + string(arch) + "/vmlinuz", Initrds: []string{"/installer/" + string(arch) + "/initrd.img"},
			Args: []string{"console=" + console, "rhizome.init=${base}/init/${mac}", "rhizome.mac=${mac}"},
		},
	}}
	s := pxeserver.Start(t, site.in, site.config)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	defer func() {
		if all := s.Observations(); len(all) > 0 {
			o := all[len(all)-1]
			*last = fmt.Sprintf("%s: %s", o.Stage, o.Message)
		}
		t.Log(s.Story())
	}()
	if err := m.PowerOn(ctx); err != nil {
		t.Fatal(err)
	}
	if site.config.Pool.IsValid() {
		guestGetsAnAddress(t, site)
	}
	if r.refusal != "" {
		if _, err := s.WaitFor(ctx, func(o pxe.Observation) bool {
			return o.Machine.MAC == mac && o.Stage == pxe.StageDHCP && strings.Contains(o.Message, r.refusal)
		}); err != nil {
			t.Fatal(err)
		}
		return
	}
	if config.SecureBoot {
		if _, err := m.WaitForSerial(ctx, regexp.MustCompile(`[Ss]ecure boot enabled`)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.WaitFor(ctx, func(o pxe.Observation) bool { return o.Stage == pxe.StageInitConfig && o.Machine.MAC == mac }); err != nil {
		t.Fatalf("the installer did not ask for its init config: %v\nthe console:\n%s", err, lab.Tail(m.SerialLog(), 40))
	}
	var loaders []string
	for _, o := range s.Observations() {
		// Firmware asks for the size first, and may ask again.
		if o.Stage == pxe.StageLoader && (len(loaders) == 0 || loaders[len(loaders)-1] != o.Message) {
			loaders = append(loaders, o.Message)
		}
		if o.Stage == pxe.StageDHCP && o.Machine.MAC == mac && (o.Machine.UUID != m.Config.UUID || o.Machine.Arch != arch) {
			t.Errorf("seen as %+v, which is another UUID than %s or another architecture than %s", o.Machine, m.Config.UUID, arch)
		}
	}
	if got, want := strings.Join(loaders, " "), strings.Join(r.files, " "); got != want {
		t.Errorf("loaded %q, want %q", got, want)
	}
}

// guestGetsAnAddress lets an undeclared machine ask, which is given an address of the
// pool and nothing to boot.
func guestGetsAnAddress(t *testing.T, s site) {
	t.Helper()
	host, err := s.Network.Attach("guest", netip.Prefix{}, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	guest := firmware.Machine{
		MAC: net.HardwareAddr{0x52, 0x54, 0, 0x77, 0, 1}, Kind: firmware.UEFI,
		Waits: []time.Duration{time.Second, time.Second, 2 * time.Second, 4 * time.Second},
	}
	out, err := guest.Boot(t.Context(), host, "eth0")
	if err != nil {
		t.Fatal(err)
	}
	if !guests.Contains(out.Address.Addr()) || out.Local != "no answer" {
		t.Errorf("a guest got %+v, want an address of %s and nothing to boot", out, guests)
	}
}

func macOf(a net.HardwareAddr) pxe.MAC {
	mac, err := pxe.ParseMAC(a.String())
	if err != nil {
		panic(err)
	}
	return mac
}
