package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// List reads the block devices of the machine from sysfs and what holds them
// from procfs, given where these are mounted. Devices that go away meanwhile are
// left out.
func List(sysfs, procfs string) ([]Disk, error) {
	entries, err := os.ReadDir(filepath.Join(sysfs, "block"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // no driver for a block device is loaded yet
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list the disks: %w", err)
	}
	var disks []Disk
	for _, e := range entries {
		node := node{filepath.Join(sysfs, "block", e.Name())}
		if node.read("hidden") == "1" {
			continue // one path of a multipath NVMe disk, which is listed by itself
		}
		d, err := node.disk(e.Name())
		if err != nil {
			continue
		}
		d.InUse = inUse(node, e.Name(), procfs)
		disks = append(disks, d)
	}
	return disks, nil
}

// node is a directory of sysfs.
type node struct{ dir string }

// read returns an attribute without the white space around it; empty when there
// is none.
func (n node) read(name string) string {
	b, err := os.ReadFile(filepath.Join(n.dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.TrimRight(string(b), "\x00"))
}

func (n node) first(names ...string) string {
	for _, name := range names {
		if s := n.read(name); s != "" {
			return s
		}
	}
	return ""
}

var (
	emmcFirmware = regexp.MustCompile(`^mmcblk\d+(boot\d+|rpmb|gp\d+)$`)
	cdDrive      = regexp.MustCompile(`^(sr|fd)\d+$`)
)

// scsiDisk is the device type of a disk (SPC-5 table 63); 5 is a CD drive.
const scsiDisk = "0"

func (n node) disk(name string) (Disk, error) {
	// The size is in units of 512 bytes whatever the sectors of the disk are.
	sectors, err := strconv.ParseInt(n.read("size"), 10, 64)
	if err != nil || sectors < 0 {
		return Disk{}, fmt.Errorf("cannot read the size of %s", name)
	}
	real, err := filepath.EvalSymlinks(n.dir)
	if err != nil {
		return Disk{}, err
	}
	d := Disk{
		// Slashes of device names (cciss!c0d0) are exclamation marks in sysfs.
		Path:      "/dev/" + strings.ReplaceAll(name, "!", "/"),
		Size:      sectors * 512,
		Model:     squeeze(strings.TrimSpace(n.read("device/vendor") + " " + n.first("device/model", "device/name"))),
		Serial:    squeeze(n.first("serial", "device/serial")),
		WWN:       squeeze(n.first("wwid", "device/wwid")),
		Removable: n.read("removable") == "1" || n.read("device/type") == "SD",
		ReadOnly:  n.read("ro") == "1",
		USB:       strings.Contains(real, "/usb"),
		Firmware:  emmcFirmware.MatchString(name),
		CD:        cdDrive.MatchString(name) || (strings.HasPrefix(name, "sd") && n.read("device/type") != scsiDisk),
	}
	if _, err := os.Stat(filepath.Join(n.dir, "device")); err != nil {
		d.Virtual = true
	}
	if strings.HasPrefix(name, "vd") {
		d.Model = "virtio disk" // its vendor is a PCI number
	}
	n.scsi(&d)
	if d.USB && d.Serial == "" {
		d.Serial = usbSerial(real)
	}
	d.Links = n.links(name, real, d)
	return d, nil
}

// scsi takes what the disk itself says in its vital product data, which is not
// cut short as the kernel's model and serial are.
func (n node) scsi(d *Disk) {
	if b, err := os.ReadFile(filepath.Join(n.dir, "device/vpd_pg80")); err == nil && d.Serial == "" {
		d.Serial = unitSerial(b)
	}
	if b, err := os.ReadFile(filepath.Join(n.dir, "device/vpd_pg89")); err == nil {
		if model, serial, ok := ataIdentity(b); ok {
			d.Model, d.Serial = model, serial
		}
	}
}

// usbSerial is the serial number of the USB device that a disk is in: the
// directory above it that has a vendor.
func usbSerial(real string) string {
	for dir := real; len(dir) > 1; dir = filepath.Dir(dir) {
		if device := (node{dir}); device.read("idVendor") != "" {
			return squeeze(device.read("serial"))
		}
	}
	return ""
}

// unitSerial reads the unit serial number page (SPC-5 section 7.7.18): four bytes
// of header with the length in the last two, then the number.
func unitSerial(page []byte) string {
	if len(page) < 4 {
		return ""
	}
	n := min(int(page[2])<<8|int(page[3]), len(page)-4)
	return printable(page[4 : 4+n])
}

// ataIdentity reads the ATA information page (SAT-4 section 12.4.2), which holds
// the IDENTIFY DEVICE data at byte 60: serial number in words 10 to 19, model in
// words 27 to 46, two characters a word, the first in the high byte (ACS-4
// section 7.12.7).
func ataIdentity(page []byte) (model, serial string, ok bool) {
	const identify = 60
	if len(page) < identify+512 {
		return "", "", false
	}
	words := func(first, last int) string {
		b := append([]byte(nil), page[identify+2*first:identify+2*last+2]...)
		for i := 0; i+1 < len(b); i += 2 {
			b[i], b[i+1] = b[i+1], b[i]
		}
		return printable(b)
	}
	model, serial = words(27, 46), words(10, 19)
	return model, serial, model != "" && serial != ""
}

// printable is the text in a padded field.
func printable(b []byte) string {
	return squeeze(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, string(b)))
}

// inUse says what holds the disk: a file system, swap, or a device made of it.
func inUse(n node, name, procfs string) string {
	for _, pattern := range []string{"holders/*", name + "*/holders/*"} {
		if held, _ := filepath.Glob(filepath.Join(n.dir, pattern)); len(held) > 0 {
			return filepath.Base(held[0])
		}
	}
	device := "/dev/" + strings.ReplaceAll(name, "!", "/")
	for _, table := range []string{"self/mounts", "swaps"} {
		b, err := os.ReadFile(filepath.Join(procfs, table))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			fields := strings.Fields(line)
			if len(fields) > 1 && partOf(fields[0], device) {
				if table == "swaps" {
					return "swap"
				}
				return "the file system mounted at " + fields[1]
			}
		}
	}
	return ""
}

// partOf reports whether a device is the disk or one of its partitions: sda1,
// nvme0n1p1.
func partOf(device, disk string) bool {
	rest, ok := strings.CutPrefix(device, disk)
	if !ok {
		return false
	}
	if last := disk[len(disk)-1]; last >= '0' && last <= '9' && rest != "" {
		rest, ok = strings.CutPrefix(rest, "p")
		if !ok {
			return false
		}
	}
	return strings.Trim(rest, "0123456789") == ""
}
