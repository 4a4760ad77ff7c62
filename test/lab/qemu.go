package lab

import (
	"fmt"
	"path/filepath"
	"strings"
)

// flash is a UEFI firmware in its two parts, as a Debian package has them.
type flash struct{ code, vars, from string }

// flashOf is the firmware of a machine; false for a BIOS.
func flashOf(c MachineConfig) (flash, bool) {
	switch {
	case c.Firmware == UEFIARM64:
		return flash{"/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd", "qemu-efi-aarch64"}, true
	case c.Firmware == UEFI && c.SecureBoot:
		// With the keys of Microsoft enrolled.
		return flash{"/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd", "ovmf"}, true
	case c.Firmware == UEFI:
		return flash{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd", "ovmf"}, true
	}
	return flash{}, false
}

// Accelerators, as arguments of QEMU's -accel.
const (
	emulation = "tcg,thread=multi,tb-size=1024"
	kvm       = "kvm"
)

// emulated is the processor of machines without KVM: all that QEMU has but for what
// programs choose because it is fast on real ones, and is slow to emulate. SHA-256 with
// AVX2 has half the speed of that without; REP MOVSB copies one byte at a time.
const emulated = "max,-avx2,-erms,-fsrm"

// qemuArgs is the command line of a machine.
func qemuArgs(c MachineConfig, dir, accelerator, tap string) []string {
	program, machine, cpu := "qemu-system-x86_64", "q35", "max"
	if accelerator == emulation {
		cpu = emulated
	}
	switch {
	case c.Firmware == BIOS:
		machine += ",graphics=off" // SeaBIOS then uses the serial console
	case c.Firmware == UEFIARM64:
		// What "max" has beyond this one, such as signed pointers, is slow to emulate.
		program, machine, cpu, accelerator = "qemu-system-aarch64", "virt", "cortex-a57", emulation
	case c.SecureBoot:
		machine += ",smm=on" // the firmware keeps its keys from the system by it
	}
	args := []string{
		program,
		"-name", quote(c.Name), "-uuid", c.UUID,
		"-nodefaults", "-no-user-config", "-display", "none", "-vga", "none",
		"-machine", machine, "-accel", accelerator, "-cpu", cpu,
		"-smp", fmt.Sprint(c.CPUs), "-m", fmt.Sprint(c.Memory),
		"-rtc", "base=utc",
		"-device", "virtio-rng-pci",
		"-chardev", "file,id=serial,append=on,path=" + quote(filepath.Join(dir, serialFile)), "-serial", "chardev:serial",
		"-qmp", "unix:" + quote(filepath.Join(dir, monitorFile)) + ",server=on,wait=off",
	}
	if flash, ok := flashOf(c); ok {
		args = append(args,
			"-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+flash.code,
			"-drive", "if=pflash,unit=1,format=raw,file="+quote(filepath.Join(dir, varsFile)),
		)
	}
	if c.SecureBoot {
		args = append(args, "-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1")
	}
	if c.HTTPBoot {
		args = append(args, "-fw_cfg", "name=opt/org.tianocore/IPv4PXESupport,string=n", "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n")
	}

	card := "virtio-net-pci,netdev=lan,mac=" + c.MAC.String()
	index := 0
	if c.BootOrder == NetworkThenDisk {
		card += fmt.Sprintf(",bootindex=%d", index)
		index++
	}
	// Without a ROM on the card OVMF uses its own PXE stack; a ROM would also
	// start before the disk on a BIOS machine that shall not ask the network.
	if (c.Firmware != BIOS && !c.IPXE) || c.BootOrder == DiskOnly {
		card += ",romfile="
	}
	args = append(args,
		"-netdev", "tap,id=lan,script=no,downscript=no,ifname="+tap,
		"-device", card,
	)

	for i, d := range c.Disks {
		// The host's page cache outlives the machine: what a guest has flushed
		// survives its power cut without a flush to the host's disk.
		args = append(args, "-drive", fmt.Sprintf("if=none,id=disk%d,format=raw,cache=unsafe,discard=unmap,detect-zeroes=unmap,file=%s", i, quote(d.Path)))
		device := fmt.Sprintf("drive=disk%d,serial=%s,bootindex=%d", i, quote(d.Serial), index)
		index++
		switch d.Bus {
		case NVMe:
			args = append(args, "-device", "nvme,"+device)
		case SCSI:
			args = append(args, "-device", fmt.Sprintf("virtio-scsi-pci,id=scsi%d", i), "-device", fmt.Sprintf("scsi-hd,bus=scsi%d.0,%s", i, device))
		case AHCI:
			args = append(args, "-device", fmt.Sprintf("ahci,id=ahci%d", i), "-device", fmt.Sprintf("ide-hd,bus=ahci%d.0,%s", i, device))
		default:
			args = append(args, "-device", "virtio-blk-pci,"+device)
		}
	}
	return args
}

// quote protects a value from QEMU's option parser, in which a comma separates
// and a doubled comma stands for itself.
func quote(value string) string { return strings.ReplaceAll(value, ",", ",,") }
