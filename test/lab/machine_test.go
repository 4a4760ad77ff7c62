//go:build linux

package lab

import (
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMachineDefaultsAreCompleteAndStable(t *testing.T) {
	a, b := MachineConfig{}.withDefaults(1), MachineConfig{Name: "m1"}.withDefaults(7)
	if diff := cmp.Diff(a, b); diff != "" {
		t.Errorf("the name does not determine the machine: %s", diff)
	}
	other := MachineConfig{}.withDefaults(2)
	if a.MAC.String() == other.MAC.String() || a.UUID == other.UUID || a.Disks[0].Serial == other.Disks[0].Serial {
		t.Errorf("two machines share an identity: %+v, %+v", a, other)
	}
	if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(a.UUID) {
		t.Errorf("%s is not a version 4 UUID", a.UUID)
	}
	if none := (MachineConfig{Disks: []Disk{}}).withDefaults(1); len(none.Disks) != 0 {
		t.Errorf("a machine that shall have no disk got %+v", none.Disks)
	}
}

func TestQEMUCommandLine(t *testing.T) {
	base := MachineConfig{Name: "m1", MAC: net.HardwareAddr{0x52, 0x54, 0, 1, 2, 3}, UUID: "u"}
	with := func(change func(*MachineConfig)) MachineConfig {
		c := base
		change(&c)
		c = c.withDefaults(1)
		for i := range c.Disks {
			c.Disks[i].Path = "/d"
		}
		return c
	}
	tests := []struct {
		reason     string
		config     MachineConfig
		want, dont []string
	}{
		{
			"UEFI uses its own PXE and boots from the network first", with(func(*MachineConfig) {}),
			[]string{"OVMF_CODE", "mac=52:54:00:01:02:03,bootindex=0,romfile=", "virtio-blk-pci,drive=disk0,serial=m1-disk0,bootindex=1", "file=/dir,,x/efi-vars.fd", "ifname=tap7"},
			[]string{"graphics=off"},
		},
		{
			"Secure Boot has the vendors' keys, and memory that the system cannot write", with(func(c *MachineConfig) { c.SecureBoot = true }),
			[]string{"OVMF_CODE_4M.secboot.fd", "smm=on", "property=secure,value=on", "romfile="}, []string{"OVMF_CODE_4M.fd"},
		},
		{
			"HTTP boot is a set-up of the firmware", with(func(c *MachineConfig) { c.HTTPBoot = true }),
			[]string{"OVMF_CODE_4M.fd", "IPv4PXESupport,string=n"}, nil,
		},
		{
			"arm64 is emulated", with(func(c *MachineConfig) { c.Firmware = UEFIARM64 }),
			[]string{"qemu-system-aarch64", "virt", "AAVMF_CODE.fd", "tcg", "romfile="}, []string{"q35", "OVMF"},
		},
		{
			"UEFI with iPXE in the card keeps the card's ROM", with(func(c *MachineConfig) { c.IPXE = true }),
			[]string{"OVMF_CODE"}, []string{"romfile="},
		},
		{
			"BIOS boots by the card's ROM and speaks on the serial console", with(func(c *MachineConfig) { c.Firmware = BIOS }),
			[]string{"q35,graphics=off"}, []string{"romfile=", "OVMF"},
		},
		{
			"a machine that boots from disk only never asks the network", with(func(c *MachineConfig) { c.Firmware, c.BootOrder = BIOS, DiskOnly }),
			[]string{"romfile=", "serial=m1-disk0,bootindex=0"}, []string{"mac=52:54:00:01:02:03,bootindex"},
		},
		{
			"disks keep their order on any bus", with(func(c *MachineConfig) { c.Disks = []Disk{{Bus: NVMe}, {Bus: SCSI}, {Bus: AHCI, Serial: "S,1"}} }),
			[]string{"nvme,drive=disk0,serial=m1-disk0,bootindex=1", "scsi-hd,bus=scsi1.0,drive=disk1,serial=m1-disk1,bootindex=2", "ide-hd,bus=ahci2.0,drive=disk2,serial=S,,1,bootindex=3"}, nil,
		},
	}
	for _, test := range tests {
		line := strings.Join(qemuArgs(test.config, "/dir,x", emulation, "tap7"), " ")
		for _, want := range test.want {
			if !strings.Contains(line, want) {
				t.Errorf("%s: %q is missing in\n%s", test.reason, want, line)
			}
		}
		for _, dont := range test.dont {
			if strings.Contains(line, dont) {
				t.Errorf("%s: %q should not be in\n%s", test.reason, dont, line)
			}
		}
	}
}
