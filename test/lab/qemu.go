package lab

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Where Debian's ovmf package puts the firmware without Secure Boot.
const (
	firmwareCode = "/usr/share/OVMF/OVMF_CODE_4M.fd"
	firmwareVars = "/usr/share/OVMF/OVMF_VARS_4M.fd"
)

// Accelerators, as arguments of QEMU's -accel.
const (
	emulation = "tcg,thread=multi,tb-size=1024"
	kvm       = "kvm"
)

// qemuArgs is the command line of a machine.
func qemuArgs(c MachineConfig, dir, accelerator, tap string) []string {
	machine := "q35"
	if c.Firmware == BIOS {
		machine += ",graphics=off" // SeaBIOS then uses the serial console
	}
	args := []string{
		"qemu-system-x86_64",
		"-name", quote(c.Name), "-uuid", c.UUID,
		"-nodefaults", "-no-user-config", "-display", "none", "-vga", "none",
		"-machine", machine, "-accel", accelerator, "-cpu", "max",
		"-smp", fmt.Sprint(c.CPUs), "-m", fmt.Sprint(c.Memory),
		"-rtc", "base=utc",
		"-device", "virtio-rng-pci",
		"-chardev", "file,id=serial,append=on,path=" + quote(filepath.Join(dir, serialFile)), "-serial", "chardev:serial",
		"-qmp", "unix:" + quote(filepath.Join(dir, monitorFile)) + ",server=on,wait=off",
	}
	if c.Firmware == UEFI {
		args = append(args,
			"-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+firmwareCode,
			"-drive", "if=pflash,unit=1,format=raw,file="+quote(filepath.Join(dir, varsFile)),
		)
	}

	card := "virtio-net-pci,netdev=lan,mac=" + c.MAC.String()
	index := 0
	if c.BootOrder == NetworkThenDisk {
		card += fmt.Sprintf(",bootindex=%d", index)
		index++
	}
	// Without a ROM on the card OVMF uses its own PXE stack; a ROM would also
	// start before the disk on a BIOS machine that shall not ask the network.
	if (c.Firmware == UEFI && !c.IPXE) || c.BootOrder == DiskOnly {
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
