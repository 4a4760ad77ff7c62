package disk

import (
	"path/filepath"
	"regexp"
	"strings"
)

// links are the names below /dev/disk/by-id and by-path that udev's
// 60-persistent-storage.rules give whole disks of the common kinds, so that a
// Node may name a disk as it is named on an installed system. There is no udev in
// the installer; names of other kinds (by-uuid, by-label: of what is on the disk)
// do not select a disk here.
func (n node) links(name, real string, d Disk) []string {
	var links []string
	id := func(s string) { links = append(links, "/dev/disk/by-id/"+s) }
	serial := udevName(d.Serial)
	kind, wwn, _ := strings.Cut(d.WWN, ".")
	switch {
	case d.Virtual || d.CD:
		return nil
	case strings.HasPrefix(name, "vd") && serial != "":
		id("virtio-" + serial)
	case strings.HasPrefix(name, "nvme"):
		if d.WWN != "" {
			id("nvme-" + d.WWN)
		}
		if serial != "" {
			id("nvme-" + udevName(d.Model) + "_" + serial)
		}
	case strings.HasPrefix(name, "mmcblk") && serial != "":
		id("mmc-" + udevName(n.read("device/name")) + "_" + serial)
	case strings.HasPrefix(name, "sd"):
		if kind == "naa" || kind == "eui" {
			id("wwn-0x" + wwn)
		}
		if strings.Contains(real, "/ata") && serial != "" {
			id("ata-" + udevName(d.Model) + "_" + serial)
		}
	}
	if s := pciPath(name, real); s != "" {
		links = append(links, "/dev/disk/by-path/"+s)
	}
	return links
}

var (
	pciAddress    = regexp.MustCompile(`^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$`)
	nvmeNamespace = regexp.MustCompile(`^nvme\d+n(\d+)$`)
)

// pciPath is udev's path_id of an NVMe or virtio disk; empty for one that is
// reached in another way, where udev counts ports by rules of its own.
func pciPath(name, real string) string {
	function := ""
	for part := range strings.SplitSeq(real, string(filepath.Separator)) {
		if pciAddress.MatchString(part) {
			function = "pci-" + part
		}
	}
	namespace := nvmeNamespace.FindStringSubmatch(name)
	switch {
	case function == "":
		return ""
	case namespace != nil:
		return function + "-nvme-" + namespace[1]
	case strings.HasPrefix(name, "vd"):
		return function
	}
	return ""
}

// udevName replaces what cannot stand in a name below /dev/disk.
func udevName(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ', r == '/':
			return '_'
		case strings.ContainsRune("#+-.:=@_", r), '0' <= r && r <= '9', 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z':
			return r
		}
		return '_'
	}, s)
}
