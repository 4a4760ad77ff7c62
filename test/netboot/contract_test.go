//go:build linux

package netboot

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/dhcp"
	"github.com/rhizome-dev/rhizome/test/firmware"
	"github.com/rhizome-dev/rhizome/test/lab"
	"github.com/rhizome-dev/rhizome/test/pxeserver"
)

// patience is that of simulated machines which are answered. Those that are to
// get no answer ask as often and wait less. (The first packet of a card that was
// just plugged in is often lost.)
var (
	patience   = []time.Duration{time.Second / 2, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second}
	impatience = []time.Duration{time.Second / 2, time.Second, time.Second}
)

// contractFiles are our loaders and a kernel that nobody runs, for two
// architectures. Of arm64 there is the loader that the build makes, if any.
func contractFiles(t *testing.T) string {
	t.Helper()
	dir := bootFiles(t)
	for _, arch := range []pxe.Arch{pxe.AMD64, pxe.ARM64} {
		to := filepath.Join(dir, "installer", string(arch))
		if err := os.MkdirAll(to, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"vmlinuz", "initrd.img"} {
			if err := os.WriteFile(filepath.Join(to, name), []byte(strings.Repeat(name+string(arch), 5000)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func install(arch pxe.Arch, loader pxe.LoaderPolicy) pxe.Decision {
	return pxe.Decision{
		Action: pxe.Install, Reason: "an open claim", Arch: arch, Loader: loader,
		Kernel: pxe.Kernel{
			Path:    "/installer/" + string(arch) + "/vmlinuz",
			Initrds: []string{"/installer/" + string(arch) + "/initrd.img"},
			Args:    []string{"rhizome.init=${base}/init/${mac}", "rhizome.mac=${mac}"},
		},
	}
}

// Whatever an answer or a script names is served: for every firmware, loader
// policy and decision the machine ends where the decision says, beside a foreign
// DHCP server and with ours.
func TestEveryFirmwareEndsWhereTheDecisionSays(t *testing.T) {
	files := contractFiles(t)
	_, err := os.Stat(filepath.Join(files, "loader", "grubaa64.efi"))
	haveARM := err == nil
	if !haveARM {
		t.Log("there is no loader for arm64 in this build: arm64 machines must get no answer")
	}
	// Without a loader file the machine must be left alone.
	loaders := map[firmware.Kind]map[pxe.LoaderPolicy][]string{
		firmware.UEFI:      {pxe.LoaderAuto: {"snponly.efi"}, pxe.LoaderIPXE: {"snponly.efi"}, pxe.LoaderGRUB: {"grubx64.efi"}},
		firmware.UEFIBC:    {pxe.LoaderAuto: {"snponly.efi"}, pxe.LoaderIPXE: {"snponly.efi"}, pxe.LoaderGRUB: {"grubx64.efi"}},
		firmware.UEFIHTTP:  {pxe.LoaderAuto: {"snponly.efi"}, pxe.LoaderIPXE: {"snponly.efi"}, pxe.LoaderGRUB: {"grubx64.efi"}},
		firmware.BIOS:      {pxe.LoaderAuto: {"undionly.kpxe"}, pxe.LoaderIPXE: {"undionly.kpxe"}, pxe.LoaderGRUB: {"undionly.kpxe"}},
		firmware.IPXEBIOS:  {pxe.LoaderAuto: {}, pxe.LoaderIPXE: {}, pxe.LoaderGRUB: {}},
		firmware.IPXEUEFI:  {pxe.LoaderAuto: {}, pxe.LoaderIPXE: {}, pxe.LoaderGRUB: {"grubx64.efi"}},
		firmware.UEFIARM64: {pxe.LoaderIPXE: nil},
		firmware.UBoot:     {pxe.LoaderIPXE: nil},
	}
	for _, kind := range []firmware.Kind{firmware.UEFIARM64, firmware.UBoot} {
		if haveARM {
			loaders[kind][pxe.LoaderAuto], loaders[kind][pxe.LoaderGRUB] = []string{"grubaa64.efi"}, []string{"grubaa64.efi"}
		} else {
			loaders[kind][pxe.LoaderAuto], loaders[kind][pxe.LoaderGRUB] = nil, nil
		}
	}
	type action struct {
		name  string
		local pxe.LocalBoot
		pxe.Action
		blank bool // there is nothing on the disk
	}
	actions := []action{
		{"install", "", pxe.Install, true}, {"ignore", "", pxe.Ignore, false},
		{"local", pxe.LocalBootAuto, pxe.BootLocal, false}, {"local by exit", pxe.LocalBootExit, pxe.BootLocal, false},
		{"local by sanboot", pxe.LocalBootSANBoot, pxe.BootLocal, false}, {"local by chainload", pxe.LocalBootChainLoad, pxe.BootLocal, false},
		{"local by silence", pxe.LocalBootSilence, pxe.BootLocal, false},
		{"blank", pxe.LocalBootAuto, pxe.BootLocal, true}, {"blank, exit", pxe.LocalBootExit, pxe.BootLocal, true},
		{"blank, sanboot", pxe.LocalBootSANBoot, pxe.BootLocal, true},
	}
	type job struct {
		name    string
		machine firmware.Machine
		pxe.Decision
		loaders []string
	}
	var jobs []job
	for _, kind := range []firmware.Kind{
		firmware.UEFI, firmware.UEFIBC, firmware.UEFIHTTP, firmware.BIOS, firmware.IPXEBIOS, firmware.IPXEUEFI,
		firmware.UEFIARM64, firmware.UBoot,
	} {
		arch := pxe.AMD64
		if kind == firmware.UEFIARM64 || kind == firmware.UBoot {
			arch = pxe.ARM64
		}
		for _, policy := range []pxe.LoaderPolicy{pxe.LoaderAuto, pxe.LoaderIPXE, pxe.LoaderGRUB} {
			for _, a := range actions {
				d := install(arch, policy)
				if d.Action = a.Action; a.Action != pxe.Install {
					d.Kernel = pxe.Kernel{}
				}
				d.LocalBoot = a.local
				n := len(jobs) + 1
				m := firmware.Machine{MAC: net.HardwareAddr{0x52, 0x54, 0, 0x10, byte(n >> 8), byte(n)}, Kind: kind, Blank: a.blank}
				if n%2 == 0 {
					m.UUID = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, byte(n)}
				}
				policyName := string(policy)
				if policyName == "" {
					policyName = "auto"
				}
				jobs = append(jobs, job{fmt.Sprintf("%s, %s, %s", kind, policyName, a.name), m, d, loaders[kind][policy]})
			}
		}
	}
	for _, mode := range []dhcp.Mode{dhcp.Proxy, dhcp.Server} {
		t.Run(mode.String(), func(t *testing.T) {
			l := lab.New(t, lab.Options{NoDHCP: true, LAN: netip.MustParsePrefix("10.77.0.0/22")})
			if mode == dhcp.Proxy {
				foreignDHCP(t, l)
			}
			machines := map[pxe.MAC]pxe.Decision{}
			for i, j := range jobs {
				d := j.Decision
				if mode == dhcp.Server && d.Action != pxe.Ignore {
					d.Lease = &pxe.Lease{
						Address: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, 1, byte(i + 1)}), 22), Gateway: l.Network.Gateway,
						Nameservers: []netip.Addr{l.Network.Gateway}, HostName: fmt.Sprintf("m%d", i),
					}
				}
				machines[mustMAC(j.machine.MAC)] = d
			}
			s := pxeserver.Start(t, l.Network.Namespace, pxeserver.Config{
				Interface: lab.BridgeName, Address: l.Network.Laptop, Mode: mode, BootFiles: files, Machines: machines,
			})
			base := "http://" + l.Network.Laptop.String() + ":7480"
			for i, j := range jobs {
				t.Run(j.name, func(t *testing.T) {
					t.Parallel()
					host, err := l.Network.Attach(fmt.Sprintf("m%d", i), netip.Prefix{}, netip.Addr{})
					if err != nil {
						t.Fatal(err)
					}
					silent := j.Action == pxe.Ignore || j.LocalBoot == pxe.LocalBootSilence || j.loaders == nil
					m := j.machine
					if m.Waits = patience; silent {
						m.Waits = impatience
					}
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					out, err := m.Boot(ctx, host, "eth0")
					if err != nil {
						t.Fatalf("%v\n%+v", err, out)
					}
					wantLocal, wantLoaders := expectation(j.machine.Kind, j.Decision, silent, j.loaders)
					if j.machine.Blank && (wantLocal == "sanboot" || wantLocal == "chainload") {
						wantLocal = "restart" // whoever is to leave it to the firmware does so all the same
					}
					// Silence proves something only if the question was heard.
					if _, err := s.WaitFor(ctx, func(o pxe.Observation) bool {
						return o.Stage == pxe.StageDHCP && o.Machine.MAC == mustMAC(m.MAC) && o.Decision == j.Action
					}); err != nil {
						t.Errorf("the server did not see the machine: %v", err)
					}
					if out.Local != wantLocal {
						t.Errorf("it boots its disk by %q, want %q", out.Local, wantLocal)
					}
					if diff := cmp.Diff(wantLoaders, append([]string{}, out.Loaders...)); diff != "" {
						t.Errorf("loaders (-want +got):\n%s", diff)
					}
					if wantLocal != "" {
						return
					}
					if want := base + j.Kernel.Path; out.Kernel.URL != want || out.Kernel.Size == 0 {
						t.Errorf("kernel %+v, want %s", out.Kernel, want)
					}
					if len(out.Initrds) != 1 || out.Initrds[0].URL != base+j.Kernel.Initrds[0] {
						t.Errorf("initial ramdisks %+v", out.Initrds)
					}
					args := strings.Join(out.Args, " ")
					if want := fmt.Sprintf("rhizome.init=%s/init/%s rhizome.mac=%s", base, m.MAC, m.MAC); !strings.HasSuffix(args, want) {
						t.Errorf("arguments %q, want %q at the end", args, want)
					}
				})
			}
		})
	}
}

// foreignDHCP starts a DHCP server that is not ours and knows nothing of network
// boot, with more addresses than the lab's router has.
func foreignDHCP(t *testing.T, l *lab.Lab) {
	t.Helper()
	host, err := l.Network.Attach("dhcp", netip.MustParsePrefix("10.77.0.3/22"), netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	dnsmasq := host.Command(context.WithoutCancel(t.Context()), "dnsmasq",
		"--conf-file=/dev/null", "--keep-in-foreground", "--log-facility=-", "--pid-file=", "--user=root",
		"--port=0", "--interface=eth0", "--bind-interfaces", "--dhcp-range=10.77.1.1,10.77.2.250,255.255.252.0,1h",
		"--dhcp-leasefile="+filepath.Join(t.TempDir(), "leases"), "--dhcp-authoritative", "--no-ping")
	if err := dnsmasq.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = dnsmasq.Process.Kill()
		_ = dnsmasq.Wait()
	})
}

// expectation is how a machine boots, and by which loaders, given those that it
// installs by.
func expectation(kind firmware.Kind, d pxe.Decision, silent bool, loaders []string) (local string, by []string) {
	by = append([]string{}, loaders...)
	grub := len(by) > 0 && strings.HasPrefix(by[0], "grub")
	searches := d.LocalBoot == pxe.LocalBootAuto || d.LocalBoot == pxe.LocalBootChainLoad
	bios := kind == firmware.BIOS || kind == firmware.IPXEBIOS
	inROM := kind == firmware.IPXEBIOS || kind == firmware.IPXEUEFI
	switch {
	case silent:
		return "no answer", []string{}
	case d.Action == pxe.Install:
		return "", by
	case inROM:
		by, grub = []string{}, false // iPXE is there, and reads the decision itself
	case searches && !bios && d.Loader == pxe.LoaderAuto && !grub:
		by, grub = []string{"grubx64.efi"}, true
	}
	haveIPXE := kind != firmware.UEFIARM64 && kind != firmware.UBoot
	switch {
	case d.LocalBoot == pxe.LocalBootExit && inROM:
		return "exit", by
	case d.LocalBoot == pxe.LocalBootExit && haveIPXE:
		if by = []string{"snponly.efi"}; bios {
			by = []string{"undionly.kpxe"}
		}
		return "exit", by
	case bios:
		return "sanboot", by
	case grub:
		return "chainload", by
	case searches:
		return "chainload", append(by, "grubx64.efi")
	}
	return "exit", by // sanboot, which iPXE cannot do on EFI
}
