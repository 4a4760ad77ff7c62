package initconfig

import (
	_ "embed"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// The documents of the format Preseed. The installer asks for the second when it has
// read the first.
const (
	PreseedFile   = "preseed.cfg"
	PreseedScript = "install.sh"
)

//go:embed preseed-disk.sh
var preseedDisk []byte

//go:embed preseed-watch.sh
var preseedWatch []byte

// Preseed renders for the Debian Installer. People log in as with Image.
type Preseed struct{}

// Format is Preseed.
func (Preseed) Format() v1alpha1.Format { return v1alpha1.FormatPreseed }

// preseedDir is where our part of the installer lies: its own system is in memory.
const preseedDir = "/tmp/rhizome"

// preseedRecipe is partman-auto's: an EFI system partition where the disk gets a GPT,
// and the rest (sizes in MB: least, priority, most) for the system.
const preseedRecipe = "512 512 512 fat32 $iflabel{ gpt } $reusemethod{ } method{ efi } format{ } . " +
	"8000 10000 -1 ext4 $primary{ } $bootable{ } method{ format } format{ } use_filesystem{ } filesystem{ ext4 } mountpoint{ / } ."

// Render gives preseed.cfg and install.sh.
func (Preseed) Render(c NodeConfig) (map[string][]byte, error) {
	a, err := c.answers(preseedDir)
	if err != nil {
		return nil, err
	}
	if c.Installation.Packages == "" {
		return nil, fmt.Errorf("cannot render the init config of %s: no URL of the packages", c.HostName)
	}
	mirror, err := url.Parse(c.Installation.Packages)
	if err != nil {
		return nil, fmt.Errorf("cannot render the init config of %s: the mirror: %w", c.HostName, err)
	}
	if mirror.Path == "" {
		mirror.Path = "/"
	}
	main, err := render("preseed.tmpl", struct {
		answers
		Mirror *url.URL
		Recipe string
	}{a, mirror, preseedRecipe})
	if err != nil {
		return nil, err
	}
	late, err := render("preseed-late.tmpl", a)
	if err != nil {
		return nil, err
	}
	a.InstallerFiles = writeFiles(append(c.Installation.installerFiles(preseedDir),
		File{Path: preseedDir + "/disk.sh", Content: preseedDisk},
		File{Path: preseedDir + "/watch.sh", Content: preseedWatch},
		File{Path: preseedDir + "/late.sh", Content: late},
	), endOfPart)
	script, err := render("preseed-install.tmpl", a)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{PreseedFile: main, PreseedScript: script}, nil
}

// KernelArguments are what the Debian Installer needs on the kernel's command line:
// it has to have a network before it can read its preseed file, and it has it as the
// installed system will. A command line holds one name server at most, since there
// are blanks between several.
func (Preseed) KernelArguments(c NodeConfig) []string {
	n := c.Network
	args := []string{
		"auto=true", "priority=critical",
		"interface=auto", bootInterface(n.MAC),
		"hostname=" + c.HostName, "domain=unassigned-domain",
		"netcfg/disable_autoconfig=true",
		"netcfg/get_ipaddress=" + n.Address.Addr().String(),
		"netcfg/get_netmask=" + netmask(n.Address),
		"netcfg/get_gateway=" + n.Gateway.String(),
	}
	if len(n.Nameservers) > 0 {
		args = append(args, "netcfg/get_nameservers="+n.Nameservers[0].String())
	}
	return append(args, "netcfg/confirm_static=true")
}

// bootInterface names an interface as PXELINUX does, which the installers read.
func bootInterface(mac string) string {
	return "BOOTIF=01-" + strings.ReplaceAll(strings.ToLower(mac), ":", "-")
}

func netmask(p netip.Prefix) string { return net.IP(net.CIDRMask(p.Bits(), 32)).String() }
