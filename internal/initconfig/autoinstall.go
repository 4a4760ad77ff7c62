package initconfig

import (
	"fmt"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// Autoinstall renders for Subiquity, the installer of Ubuntu, as a NoCloud seed of
// the installer's own system. The installed system is configured by cloud-init at its
// first boot, as with Image.
type Autoinstall struct{}

// Format is Autoinstall.
func (Autoinstall) Format() v1alpha1.Format { return v1alpha1.FormatAutoinstall }

// unchosen stands for the disk until it is chosen. There is no such disk, so nothing
// is installed if it is not.
const unchosen = "/dev/rhizome-unchosen"

// The keys of the installer's configuration
// (https://canonical-subiquity.readthedocs-hosted.com/en/latest/reference/autoinstall-reference.html).
type autoinstall struct {
	Version          int              `json:"version"`
	RefreshInstaller refreshInstaller `json:"refresh-installer"`
	Locale           string           `json:"locale"`
	Keyboard         keyboard         `json:"keyboard"`
	EarlyCommands    []string         `json:"early-commands"`
	Network          networkConfig    `json:"network"`
	APT              apt              `json:"apt"`
	Storage          storage          `json:"storage"`
	SSH              autoinstallSSH   `json:"ssh"`
	Packages         []string         `json:"packages"`
	Updates          string           `json:"updates"`
	LateCommands     []string         `json:"late-commands"`
	ErrorCommands    []string         `json:"error-commands"`
	Shutdown         string           `json:"shutdown"`
	UserData         cloudConfig      `json:"user-data"`
}

type refreshInstaller struct {
	Update bool `json:"update"`
}

type keyboard struct {
	Layout string `json:"layout"`
}

type apt struct {
	GeoIP bool `json:"geoip"`
	// Fallback is what to do when the archive cannot be reached.
	Fallback string `json:"fallback"`
}

type storage struct {
	Layout layout `json:"layout"`
	Swap   swap   `json:"swap"`
	GRUB   grub   `json:"grub"`
}

type layout struct {
	Name  string      `json:"name"`
	Match layoutMatch `json:"match"`
}

type layoutMatch struct {
	Path string `json:"path"`
}

type swap struct {
	Size int `json:"size"`
}

type grub struct {
	ReorderUEFI bool `json:"reorder_uefi"`
}

type autoinstallSSH struct {
	InstallServer bool `json:"install-server"`
	AllowPassword bool `json:"allow-pw"`
}

// chooseDisk comes behind the script that writes our part of the installer. The
// installer reads its configuration anew when the early commands have run.
const chooseDisk = installerDir + `/rhizome-installer disk >` + installerDir + `/disk
disk=$(cat ` + installerDir + `/disk)
sed -i "s|` + unchosen + `|$disk|" /autoinstall.yaml
`

const reportError = `reason='the installer met an error: its log is in /var/log/installer'
if [ -e ` + installerDir + `/reason ]; then
    reason=$(cat ` + installerDir + `/reason)
fi
` + installerDir + `/rhizome-installer failed "$reason"
sleep 60
reboot -f
`

// Render gives user-data and meta-data.
func (Autoinstall) Render(c NodeConfig) (map[string][]byte, error) {
	a, err := c.answers(installerDir)
	if err != nil {
		return nil, err
	}
	target := c.completed().cloudConfig()
	user, err := document("#cloud-config\n", map[string]autoinstall{"autoinstall": {
		Version:       1,
		Locale:        "en_US.UTF-8",
		Keyboard:      keyboard{Layout: "us"},
		EarlyCommands: []string{"set -eu\numask 022\nroot=\n" + a.InstallerFiles + chooseDisk},
		Network:       c.Network.config(),
		APT:           apt{Fallback: "offline-install"},
		// No swap: the kubelet does not want it. The firmware's boot order is left alone.
		Storage:       storage{Layout: layout{Name: "direct", Match: layoutMatch{Path: unchosen}}},
		SSH:           autoinstallSSH{InstallServer: true},
		Packages:      []string{"curl", "ethtool"},
		Updates:       "security",
		LateCommands:  []string{installerDir + "/rhizome-installer installed"},
		ErrorCommands: []string{reportError},
		Shutdown:      "reboot",
		UserData:      target,
	}})
	if err != nil {
		return nil, err
	}
	meta, err := document("", metaData{InstanceID: c.InstanceID, LocalHostname: c.HostName})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.HostName, err)
	}
	return map[string][]byte{UserData: user, MetaData: meta}, nil
}

// KernelArguments are what the installer's first stage needs to have a network.
func (Autoinstall) KernelArguments(c NodeConfig) []string {
	return []string{"ip=dhcp", bootInterface(c.Network.MAC)}
}
