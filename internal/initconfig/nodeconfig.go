// Package initconfig renders one NodeConfig into the init config that an
// operating system's installer understands.
package initconfig

import (
	"net/netip"

	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
)

// NodeConfig is what a machine is to be, in no distribution's words.
type NodeConfig struct {
	HostName string
	// InstanceID changes with every installation of the machine, so that first-boot
	// configuration runs again after a reinstallation and never otherwise. It is
	// not a secret and holds none.
	InstanceID string
	Network    Network
	// SSHKeys in authorized_keys form. None: nobody may log in.
	SSHKeys []string
	// Files are written before Commands run, parents made as needed.
	Files []File
	// Units are systemd units: written, and enabled and started if asked for.
	Units []Unit
	// Commands run as root, in order, once, at the end of the first boot. Each is
	// an argument vector; there is no shell unless one is named.
	Commands [][]string
	// Installation is what a distribution's own installer is told. The format Image
	// has an installer of ours and does not look at it; the others need it.
	Installation *Installation
}

// Installation is how a distribution's own installer works and whom it tells.
type Installation struct {
	// Disk selects the disk, by the rules of pxe/installer/disk. The zero value
	// matches every disk, so it is unambiguous only on a machine with one.
	Disk plan.DiskHint
	// ReportURLs are where reports are posted, over HTTPS: the next one where one
	// does not answer.
	ReportURLs []string
	// CA is the PEM certificate, or several, of the authority that vouches for them.
	CA []byte
	// Claim of this installation. It is a secret of the installation, good for one
	// exchange over HTTPS; the init config alone carries it.
	Claim string
	// Packages is the URL of the distribution's packages, without a slash at the
	// end: Kickstart's installation tree, Preseed's mirror. Autoinstall needs none.
	Packages string
}

// Network is a static IPv4 configuration.
type Network struct {
	MAC         string       // of the interface, canonical
	Address     netip.Prefix // with the subnet's prefix length
	Gateway     netip.Addr
	Nameservers []netip.Addr
	// WakeOnLAN keeps waking by magic packet enabled at every boot.
	WakeOnLAN bool
}

// File is a file of the installed system.
type File struct {
	Path    string
	Content []byte
	Mode    uint32 // permission bits; zero means 0644
}

// Unit is a systemd unit.
type Unit struct {
	Name    string // with its suffix: k3s.service
	Content string
	Enable  bool // started at every boot
	Start   bool // at the end of the first boot too; implies Enable
}
