package disk

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// tree writes files below a new directory: sysfs and procfs as the kernel would
// have them for the machine of a test. "link:" makes a symbolic link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if to, ok := cutPrefix(content, "link:"); ok {
			err = os.Symlink(to, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func cutPrefix(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || s[:len(prefix)] != prefix {
		return s, false
	}
	return s[len(prefix):], true
}

func TestListReadsWhatTheKernelSays(t *testing.T) {
	identify := make([]byte, 60+512)
	swapped := func(word int, s string) {
		for i := 0; i < len(s); i += 2 {
			identify[60+2*word+i], identify[60+2*word+i+1] = s[i+1], s[i]
		}
	}
	swapped(10, "      S5XXNX0R123456")
	swapped(27, "Samsung SSD 870 EVO 500GB               ")

	sata := "devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/"
	nvme := "devices/pci0000:00/0000:00:1d.0/0000:01:00.0/nvme/nvme0/nvme0n1/"
	virtio := "devices/pci0000:00/0000:00:04.0/virtio1/block/vda/"
	usb := "devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/"
	stick := "devices/pci0000:00/0000:00:14.0/usb2/2-2/2-2:1.0/host7/target7:0:0/7:0:0:0/"
	root := tree(t, map[string]string{
		"sys/block/sda":                               "link:../" + sata + "block/sda",
		"sys/" + sata + "block/sda/size":              "976773168\n",
		"sys/" + sata + "block/sda/device":            "link:../../../0:0:0:0",
		"sys/" + sata + "block/sda/ro":                "0\n",
		"sys/" + sata + "vendor":                      "ATA     \n",
		"sys/" + sata + "model":                       "Samsung SSD 870 \n",
		"sys/" + sata + "type":                        "0\n",
		"sys/" + sata + "wwid":                        "naa.5002538f00000001\n",
		"sys/" + sata + "vpd_pg80":                    "\x00\x80\x00\x08  SHORT1",
		"sys/" + sata + "vpd_pg89":                    string(identify),
		"sys/" + sata + "block/sda/sda1/holders/dm-0": "",

		"sys/block/nvme0n1":      "link:../" + nvme,
		"sys/" + nvme + "size":   "2000\n",
		"sys/" + nvme + "wwid":   "eui.e8238fa6bf530001\n",
		"sys/" + nvme + "device": "link:../../nvme0",
		"sys/devices/pci0000:00/0000:00:1d.0/0000:01:00.0/nvme/nvme0/model":  "WD Blue\n",
		"sys/devices/pci0000:00/0000:00:1d.0/0000:01:00.0/nvme/nvme0/serial": "WD1234   \n",

		"sys/block/vda":                                      "link:../" + virtio,
		"sys/" + virtio + "size":                             "4096\n",
		"sys/" + virtio + "serial":                           "lab-1\n",
		"sys/" + virtio + "device":                           "link:../..",
		"sys/devices/pci0000:00/0000:00:04.0/virtio1/vendor": "0x1af4\n",

		"sys/block/sdb":                      "link:../" + usb + "block/sdb",
		"sys/" + usb + "block/sdb/size":      "100\n",
		"sys/" + usb + "block/sdb/removable": "1\n",
		"sys/" + usb + "block/sdb/ro":        "1\n",
		"sys/" + usb + "block/sdb/device":    "link:../../../6:0:0:0",
		"sys/" + usb + "type":                "0\n",
		"sys/" + usb + "vpd_pg80":            "\x00\x80\x00\x06AB\x00C  ",

		"sys/block/sdc":                                         "link:../" + stick + "block/sdc",
		"sys/" + stick + "block/sdc/size":                       "100\n",
		"sys/" + stick + "block/sdc/device":                     "link:../../../7:0:0:0",
		"sys/" + stick + "type":                                 "0\n",
		"sys/devices/pci0000:00/0000:00:14.0/usb2/2-2/idVendor": "0781\n",
		"sys/devices/pci0000:00/0000:00:14.0/usb2/2-2/serial":   "4C53\n",

		"sys/block/sr0/size":                 "0\n",
		"sys/block/sr0/device/type":          "5\n",
		"sys/block/loop0/size":               "0\n",
		"sys/block/nvme0c0n1/hidden":         "1\n",
		"sys/block/nvme0c0n1/size":           "2000\n",
		"sys/block/mmcblk0boot0/size":        "8192\n",
		"sys/block/mmcblk0boot0/device/name": "DG4016\n",
		"sys/block/broken/size":              "many\n",

		"proc/self/mounts": "/dev/nvme0n1p2 /mnt ext4 rw 0 0\nproc /proc proc rw 0 0\n",
		"proc/swaps":       "Filename Type Size\n/dev/vda partition 1 0\n",
	})
	got, err := List(filepath.Join(root, "sys"), filepath.Join(root, "proc"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Disk{
		{Path: "/dev/loop0", Virtual: true},
		{Path: "/dev/mmcblk0boot0", Size: 8192 * 512, Model: "DG4016", Firmware: true},
		{Path: "/dev/nvme0n1", Size: 2000 * 512, Model: "WD Blue", Serial: "WD1234", WWN: "eui.e8238fa6bf530001",
			InUse: "the file system mounted at /mnt",
			Links: []string{"/dev/disk/by-id/nvme-eui.e8238fa6bf530001", "/dev/disk/by-id/nvme-WD_Blue_WD1234", "/dev/disk/by-path/pci-0000:01:00.0-nvme-1"}},
		{Path: "/dev/sda", Size: 976773168 * 512, Model: "Samsung SSD 870 EVO 500GB", Serial: "S5XXNX0R123456", WWN: "naa.5002538f00000001",
			InUse: "dm-0",
			Links: []string{"/dev/disk/by-id/wwn-0x5002538f00000001", "/dev/disk/by-id/ata-Samsung_SSD_870_EVO_500GB_S5XXNX0R123456"}},
		{Path: "/dev/sdb", Size: 100 * 512, Serial: "AB C", USB: true, Removable: true, ReadOnly: true},
		{Path: "/dev/sdc", Size: 100 * 512, Serial: "4C53", USB: true},
		{Path: "/dev/sr0", CD: true},
		{Path: "/dev/vda", Size: 4096 * 512, Model: "virtio disk", Serial: "lab-1", InUse: "swap",
			Links: []string{"/dev/disk/by-id/virtio-lab-1", "/dev/disk/by-path/pci-0000:00:04.0"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("disks (-want +got):\n%s", diff)
	}
}

func TestAMachineWithoutBlockDevicesHasNoDisks(t *testing.T) {
	if disks, err := List(t.TempDir(), t.TempDir()); err != nil || len(disks) != 0 {
		t.Errorf("List = %v, %v", disks, err)
	}
}

func TestPartitionsBelongToTheirDisk(t *testing.T) {
	for _, tt := range []struct {
		device, disk string
		want         bool
	}{
		{"/dev/sda", "/dev/sda", true}, {"/dev/sda12", "/dev/sda", true}, {"/dev/sdaa1", "/dev/sda", false},
		{"/dev/nvme0n1p1", "/dev/nvme0n1", true}, {"/dev/nvme0n11", "/dev/nvme0n1", false}, {"proc", "/dev/sda", false},
	} {
		if got := partOf(tt.device, tt.disk); got != tt.want {
			t.Errorf("partOf(%s, %s) = %t", tt.device, tt.disk, got)
		}
	}
}

func TestDisksAreSettledWhenNoneCameForAWhile(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	one, two := Disk{Path: "/dev/sda", Size: 1}, Disk{Path: "/dev/sdb", Size: 1}
	var w Watch
	settled := func(s int) bool { _, ok := w.Settled(3*time.Second, at(s)); return ok }
	if settled(100) {
		t.Error("disks that were never looked at are settled")
	}
	w.See(nil, at(0))
	w.See([]Disk{one}, at(1))
	if settled(3) {
		t.Error("settled two seconds after a disk came")
	}
	if !settled(4) {
		t.Error("not settled three seconds after the last disk came")
	}
	w.See([]Disk{one, {Path: "/dev/loop0", Virtual: true}}, at(5))
	if !settled(5) {
		t.Error("a loop device unsettled the disks")
	}
	w.See([]Disk{one, two}, at(6))
	if settled(7) {
		t.Error("settled one second after a second disk came")
	}
}

func FuzzVitalProductData(f *testing.F) {
	f.Add([]byte("\x00\x80\x00\x08  SERIAL"))
	f.Add(make([]byte, 60+512))
	f.Fuzz(func(t *testing.T, page []byte) {
		_ = unitSerial(page)
		if model, serial, ok := ataIdentity(page); ok && (model == "" || serial == "") {
			t.Error("an empty identity is said to be one")
		}
	})
}
