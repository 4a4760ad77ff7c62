package disk

import (
	"errors"
	"strings"
	"testing"

	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
)

const gb = 1000 * 1000 * 1000

func TestChooseTakesExactlyOneDiskOrNone(t *testing.T) {
	ssd := Disk{Path: "/dev/sda", Size: 500 * gb, Model: "Samsung SSD 870", Serial: "S5XX", WWN: "naa.5002538f00000001", Links: []string{"/dev/disk/by-id/ata-Samsung_SSD_870_S5XX"}}
	nvme := Disk{Path: "/dev/nvme0n1", Size: 1000 * gb, Model: "WD Blue", Serial: "WD  1234", WWN: "eui.e8238fa6bf530001"}
	stick := Disk{Path: "/dev/sdb", Size: 32 * gb, Model: "Stick", Serial: "USB1", USB: true, Removable: true}
	usbSSD := Disk{Path: "/dev/sdd", Size: 64 * gb, Serial: "USB2", USB: true}
	card := Disk{Path: "/dev/mmcblk1", Size: 32 * gb, Serial: "0x1", Removable: true}
	reader := Disk{Path: "/dev/sdc", Model: "Card Reader", USB: true, Removable: true, Serial: "R"}
	cd := Disk{Path: "/dev/sr0", Size: gb, CD: true, Serial: "CD"}
	loop := Disk{Path: "/dev/loop0", Size: 100 * gb, Virtual: true}
	firmware := Disk{Path: "/dev/mmcblk0boot0", Size: gb, Firmware: true, Serial: "B"}
	locked := Disk{Path: "/dev/sde", Size: 500 * gb, Serial: "RO", ReadOnly: true}
	busy := Disk{Path: "/dev/sdf", Size: 500 * gb, Serial: "BUSY", InUse: "the file system mounted at /mnt"}
	twin := ssd
	twin.Path = "/dev/sdg"

	tests := []struct {
		reason string
		disks  []Disk
		hint   plan.DiskHint
		need   int64
		want   string // the path, or
		rule   string
		says   []string
	}{
		{reason: "the only disk needs no hint", disks: []Disk{ssd}, want: "/dev/sda"},
		{reason: "sticks, cards, CDs, empty readers and loops do not make the only disk ambiguous",
			disks: []Disk{ssd, stick, usbSSD, card, reader, cd, loop, firmware}, want: "/dev/sda"},
		{reason: "two disks and no hint are ambiguous, and the message says what to set",
			disks: []Disk{ssd, nvme}, rule: Ambiguous,
			says: []string{"2 disks", "empty spec.disk", "/dev/sda  500.0 GB  Samsung SSD 870  serial S5XX  wwn naa.5002538f00000001", `spec.disk: {serial: "S5XX"}`, `spec.disk: {serial: "WD  1234"}`}},
		{reason: "no disk at all", rule: None, says: []string{"no disk that the installer's drivers find"}},
		{reason: "only loops is no disk at all", disks: []Disk{loop}, rule: None},
		{reason: "by path", disks: []Disk{ssd, nvme}, hint: plan.DiskHint{Path: "/dev/nvme0n1"}, want: "/dev/nvme0n1"},
		{reason: "by a link", disks: []Disk{ssd, nvme}, hint: plan.DiskHint{Path: "/dev/disk/by-id/ata-Samsung_SSD_870_S5XX"}, want: "/dev/sda"},
		{reason: "by serial, whatever the case and padding", disks: []Disk{ssd, nvme}, hint: plan.DiskHint{Serial: " wd 1234 "}, want: "/dev/nvme0n1"},
		{reason: "by WWN as lsblk writes it", disks: []Disk{ssd, nvme}, hint: plan.DiskHint{WWN: "0x5002538F00000001"}, want: "/dev/sda"},
		{reason: "by WWN as udev writes it", disks: []Disk{ssd, nvme}, hint: plan.DiskHint{WWN: "eui.e8238fa6bf530001"}, want: "/dev/nvme0n1"},
		{reason: "by the least size", disks: []Disk{ssd, nvme}, hint: plan.DiskHint{MinBytes: 600 * gb}, want: "/dev/nvme0n1"},
		{reason: "by the greatest size", disks: []Disk{ssd, nvme}, hint: plan.DiskHint{MaxBytes: 600 * gb}, want: "/dev/sda"},
		{reason: "a size alone does not choose a stick", disks: []Disk{stick}, hint: plan.DiskHint{MaxBytes: 64 * gb}, rule: NoMatch, says: []string{"it is a USB disk"}},
		{reason: "a stick that is named", disks: []Disk{ssd, stick}, hint: plan.DiskHint{Serial: "USB1"}, want: "/dev/sdb"},
		{reason: "a card that is named", disks: []Disk{ssd, card}, hint: plan.DiskHint{Path: "/dev/mmcblk1"}, want: "/dev/mmcblk1"},
		{reason: "a stick alone is not chosen", disks: []Disk{stick}, rule: NoMatch, says: []string{"choose it by path, serial or WWN", `{serial: "USB1"}`}},
		{reason: "a card alone is not chosen", disks: []Disk{card}, rule: NoMatch, says: []string{"it is removable"}},
		{reason: "every field of the hint must match", disks: []Disk{ssd, nvme}, hint: plan.DiskHint{Serial: "S5XX", MinBytes: 600 * gb}, rule: NoMatch,
			says: []string{"serial S5XX, minSize 600.0 GB", "it is smaller than 600.0 GB", "its serial is not S5XX"}},
		{reason: "a path that is not there", disks: []Disk{ssd}, hint: plan.DiskHint{Path: "/dev/vda"}, rule: NoMatch, says: []string{"its path is not /dev/vda"}},
		{reason: "a WWN that is not there", disks: []Disk{ssd}, hint: plan.DiskHint{WWN: "1"}, rule: NoMatch, says: []string{"its WWN is not 1"}},
		{reason: "two disks that say the same of themselves", disks: []Disk{ssd, twin}, hint: plan.DiskHint{Serial: "S5XX"}, rule: Ambiguous},
		{reason: "larger than allowed", disks: []Disk{ssd}, hint: plan.DiskHint{MaxBytes: gb}, rule: NoMatch, says: []string{"it is larger than 1.0 GB"}},
		{reason: "smaller than the image", disks: []Disk{ssd}, need: 600 * gb, rule: NoMatch, says: []string{"it is smaller than 600.0 GB"}},
		{reason: "read-only, even when named", disks: []Disk{locked}, hint: plan.DiskHint{Serial: "RO"}, rule: NoMatch, says: []string{"it is read-only"}},
		{reason: "in use, even when named", disks: []Disk{busy}, hint: plan.DiskHint{Serial: "BUSY"}, rule: NoMatch, says: []string{"it is in use by the file system mounted at /mnt"}},
		{reason: "a CD, even when named", disks: []Disk{cd}, hint: plan.DiskHint{Serial: "CD"}, rule: NoMatch, says: []string{"it is a CD drive"}},
		{reason: "a loop, even when named", disks: []Disk{loop}, hint: plan.DiskHint{Path: "/dev/loop0"}, rule: NoMatch, says: []string{"made by the kernel"}},
		{reason: "an eMMC's boot partition, even when named", disks: []Disk{firmware}, hint: plan.DiskHint{Serial: "B"}, rule: NoMatch, says: []string{"boot partition"}},
		{reason: "a reader without a card, even when named", disks: []Disk{reader}, hint: plan.DiskHint{Serial: "R"}, rule: NoMatch, says: []string{"it has no medium"}},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			got, err := Choose(tt.disks, tt.hint, tt.need)
			if tt.rule == "" {
				if err != nil || got.Path != tt.want {
					t.Errorf("Choose = %s, %v, want %s", got.Path, err, tt.want)
				}
				return
			}
			var refusal *Refusal
			if !errors.As(err, &refusal) || refusal.Rule != tt.rule || got.Path != "" {
				t.Fatalf("Choose = %q, %v, want the refusal %s", got.Path, err, tt.rule)
			}
			for _, says := range append(tt.says, "nothing was written") {
				if !strings.Contains(err.Error(), says) {
					t.Errorf("the refusal does not say %q:\n%v", says, err)
				}
			}
		})
	}
}

func TestUnusableDisksAreNotSuggested(t *testing.T) {
	_, err := Choose([]Disk{{Path: "/dev/sda", Size: gb, Serial: "RO", ReadOnly: true}}, plan.DiskHint{}, 0)
	if err == nil || strings.Contains(err.Error(), "to choose it") {
		t.Errorf("a read-only disk is suggested: %v", err)
	}
}

func TestBytesAreWrittenAsDisksAreSold(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_949: "999.9 kB", 999_951: "1.0 MB", 500 * gb: "500.0 GB", 2000 * gb: "2.0 TB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}
