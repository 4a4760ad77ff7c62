// Package disk finds the disks of the machine, chooses the one to install on,
// and writes to it.
package disk

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
)

// Disk is what is known about one block device of the machine.
type Disk struct {
	Path   string   // /dev/sda
	Links  []string // the names below /dev/disk that udev would give it
	Size   int64    // bytes; zero: no medium
	Model  string
	Serial string
	WWN    string // as the kernel writes it, such as naa.5000c500a1b2c3d4

	Removable bool // the medium is: card readers, sticks
	USB       bool
	ReadOnly  bool
	CD        bool
	Virtual   bool   // loop, ram, zram, md, dm: made by the kernel, no hardware
	Firmware  bool   // a boot or RPMB partition of an eMMC
	InUse     string // what holds it, empty: nothing
}

// String is the disk for people: path, size, model, serial.
func (d Disk) String() string {
	s := d.Path + "  " + Bytes(d.Size)
	for _, f := range []struct{ name, value string }{{"", d.Model}, {"serial ", d.Serial}, {"wwn ", d.WWN}} {
		if f.value != "" {
			s += "  " + f.name + f.value
		}
	}
	return s
}

// The rules of a Refusal.
const (
	None      = "DiskNone"
	NoMatch   = "DiskNoMatch"
	Ambiguous = "DiskAmbiguous"
)

// Refusal says why no disk was chosen. Its message lists every disk and what to
// set in the Node to choose it.
type Refusal struct {
	// Rule is a short stable name, one of the constants above.
	Rule     string
	message  string
	Verdicts []Verdict
}

// Verdict is why one disk is not the one.
type Verdict struct {
	Disk Disk
	Why  string // empty: it could be chosen
}

// Error implements error.
func (r *Refusal) Error() string {
	var b strings.Builder
	b.WriteString(r.message)
	for _, v := range r.Verdicts {
		fmt.Fprintf(&b, "\n  %s", v.Disk)
		if v.Why != "" {
			fmt.Fprintf(&b, "\n      not chosen: %s", v.Why)
		}
		if hint := suggestion(v.Disk); hint != "" && !unusable(v.Disk) {
			fmt.Fprintf(&b, "\n      to choose it, set in the Node: spec.disk: {%s}", hint)
		}
	}
	return b.String()
}

// Choose returns the one disk that the hint selects, or a *Refusal.
//
// need is the least number of bytes that the disk must have. The rules:
//   - every field of the hint that is set must match;
//   - a read-only disk, a CD drive, a drive without a medium, a disk that is in
//     use and a device that is no hardware are never chosen;
//   - a removable or USB disk is chosen only when the hint names it by path,
//     serial or WWN;
//   - exactly one disk must be left.
func Choose(disks []Disk, hint plan.DiskHint, need int64) (Disk, error) {
	named := hint.Path != "" || hint.Serial != "" || hint.WWN != ""
	var chosen []Disk
	var verdicts []Verdict
	for _, d := range disks {
		if d.Virtual && !named {
			continue // no one looks for these in a list of disks
		}
		why := against(d, hint, need, named)
		if why == "" {
			chosen = append(chosen, d)
		}
		verdicts = append(verdicts, Verdict{Disk: d, Why: why})
	}
	slices.SortFunc(verdicts, func(a, b Verdict) int { return strings.Compare(a.Disk.Path, b.Disk.Path) })
	switch {
	case len(chosen) == 1:
		return chosen[0], nil
	case len(verdicts) == 0:
		return Disk{}, &Refusal{Rule: None,
			message: "this machine has no disk that the installer's drivers find: nothing was written"}
	case len(chosen) == 0:
		return Disk{}, &Refusal{Rule: NoMatch, Verdicts: verdicts,
			message: fmt.Sprintf("no disk of this machine matches %s: nothing was written", describe(hint))}
	}
	return Disk{}, &Refusal{Rule: Ambiguous, Verdicts: verdicts,
		message: fmt.Sprintf("%d disks of this machine match %s, and exactly one must: nothing was written", len(chosen), describe(hint))}
}

// against is the first reason not to choose the disk, empty when there is none.
func against(d Disk, hint plan.DiskHint, need int64, named bool) string {
	least := max(need, hint.MinBytes)
	switch {
	case hint.Path != "" && path.Clean(hint.Path) != d.Path && !slices.Contains(d.Links, path.Clean(hint.Path)):
		return fmt.Sprintf("its path is not %s", hint.Path)
	case hint.Serial != "" && !strings.EqualFold(squeeze(hint.Serial), squeeze(d.Serial)):
		return fmt.Sprintf("its serial is not %s", hint.Serial)
	case hint.WWN != "" && bareWWN(hint.WWN) != bareWWN(d.WWN):
		return fmt.Sprintf("its WWN is not %s", hint.WWN)
	case d.CD:
		return "it is a CD drive"
	case d.Virtual:
		return "it is made by the kernel, not hardware"
	case d.Firmware:
		return "it is an eMMC's own boot partition"
	case d.Size <= 0:
		return "it has no medium"
	case d.ReadOnly:
		return "it is read-only"
	case d.InUse != "":
		return "it is in use by " + d.InUse
	case d.USB && !named:
		return "it is a USB disk: choose it by path, serial or WWN"
	case d.Removable && !named:
		return "it is removable: choose it by path, serial or WWN"
	case d.Size < least:
		return fmt.Sprintf("it is smaller than %s", Bytes(least))
	case hint.MaxBytes > 0 && d.Size > hint.MaxBytes:
		return fmt.Sprintf("it is larger than %s", Bytes(hint.MaxBytes))
	}
	return ""
}

// unusable disks are not suggested.
func unusable(d Disk) bool {
	return d.CD || d.Virtual || d.Firmware || d.ReadOnly || d.Size <= 0 || d.InUse != ""
}

func suggestion(d Disk) string {
	switch {
	case d.Serial != "":
		return "serial: " + strconv.Quote(d.Serial)
	case d.WWN != "":
		return "wwn: " + strconv.Quote(d.WWN)
	}
	return "path: " + d.Path
}

func describe(h plan.DiskHint) string {
	var parts []string
	for _, f := range []struct{ name, value string }{{"path", h.Path}, {"serial", h.Serial}, {"wwn", h.WWN}} {
		if f.value != "" {
			parts = append(parts, f.name+" "+f.value)
		}
	}
	if h.MinBytes > 0 {
		parts = append(parts, "minSize "+Bytes(h.MinBytes))
	}
	if h.MaxBytes > 0 {
		parts = append(parts, "maxSize "+Bytes(h.MaxBytes))
	}
	if len(parts) == 0 {
		return "the Node's empty spec.disk"
	}
	return "the Node's spec.disk (" + strings.Join(parts, ", ") + ")"
}

// squeeze drops the padding that disks put around and into their serial numbers.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

// bareWWN is a World Wide Name without the ways to introduce one, in lower case.
func bareWWN(s string) string {
	s = strings.ToLower(squeeze(s))
	for _, prefix := range []string{"wwn-", "nvme-", "naa.", "eui.", "uuid.", "t10.", "0x"} {
		s = strings.TrimPrefix(s, prefix)
	}
	return s
}

// Bytes writes a number of bytes for people, in decimal units as disks are sold.
func Bytes(n int64) string {
	const units = "kMGTPE"
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, unit := float64(n)/1000, 0
	for f >= 999.95 && unit < len(units)-1 {
		f, unit = f/1000, unit+1
	}
	return fmt.Sprintf("%.1f %cB", f, units[unit])
}
