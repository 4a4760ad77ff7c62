package initconfig

import (
	"errors"
	"fmt"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// KickstartFile is the document of the format Kickstart.
const KickstartFile = "ks.cfg"

// Kickstart renders for Anaconda, the installer of Fedora and the Red Hat family.
// People log in as with Image.
type Kickstart struct{}

// Format is Kickstart.
func (Kickstart) Format() v1alpha1.Format { return v1alpha1.FormatKickstart }

// installerDir is where our part of a distribution's installer lies: in memory.
const installerDir = "/run/rhizome"

// answers is what the templates see.
type answers struct {
	NodeConfig
	Netmask        string
	Dir            string // where our part of the installer lies
	InstallerFiles string // a script that writes it
	TargetFiles    string // a script that writes the installed system's files
}

func (c NodeConfig) answers(dir string) (answers, error) {
	if err := errors.Join(c.check(), c.checkInstallation()); err != nil {
		return answers{}, err
	}
	if !c.Network.Address.Addr().Is4() {
		return answers{}, fmt.Errorf("cannot render the init config of %s: the address %s is not IPv4", c.HostName, c.Network.Address)
	}
	return answers{
		NodeConfig:     c,
		Netmask:        netmask(c.Network.Address),
		Dir:            dir,
		InstallerFiles: writeFiles(c.Installation.installerFiles(dir), endOfPart),
		TargetFiles:    writeFiles(c.target(), endOfFile),
	}, nil
}

// Render gives ks.cfg.
func (Kickstart) Render(c NodeConfig) (map[string][]byte, error) {
	a, err := c.answers(installerDir)
	if err != nil {
		return nil, err
	}
	if c.Installation.Packages == "" {
		return nil, fmt.Errorf("cannot render the init config of %s: no URL of the packages", c.HostName)
	}
	body, err := render("kickstart.tmpl", a)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{KickstartFile: body}, nil
}

// KernelArguments are what Anaconda's first stage needs to have a network.
func (Kickstart) KernelArguments(c NodeConfig) []string {
	return []string{"ip=dhcp", bootInterface(c.Network.MAC)}
}
