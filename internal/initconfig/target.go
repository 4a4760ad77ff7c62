package initconfig

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Where the first boot's part of an installation lies on the installed system, for
// the formats whose installers have no such thing of their own.
const (
	firstBootPath = "/usr/local/sbin/rhizome-first-boot"
	firstBootDone = "/var/lib/rhizome/first-boot"
	firstBootUnit = "rhizome-first-boot.service"
)

// masked are units that must not start. The kubelet wants no swap, and k3s makes its own
// firewall rules and routes, which these would undo (k3s' documentation, "Requirements").
var masked = []string{"swap.target", "firewalld.service", "ufw.service", "nm-cloud-setup.service", "nm-cloud-setup.timer"}

// atFirstBoot are commands for formats whose files arrive in mid-boot, by cloud-init: they
// end what masked units began already, and keep an upgrade of the loader from putting the
// disk first in the firmware's boot order. None of it has to be there.
var atFirstBoot = [][]string{
	{"sh", "-c", "swapoff -a; systemctl stop firewalld.service ufw.service nm-cloud-setup.timer nm-cloud-setup.service 2>/dev/null; :"},
	{"sh", "-c", "if command -v debconf-set-selections >/dev/null; then " +
		"printf '%s grub2/update_nvram boolean false\\n' grub-efi-amd64 grub-efi-arm64 | debconf-set-selections; fi"},
}

// completed is the config with what every machine gets beside: no swap, no firewall of
// the distribution's, and what keeps waking enabled if it asks for that.
func (c NodeConfig) completed() NodeConfig {
	c.Files = slices.Clone(c.Files)
	for _, unit := range masked {
		// An empty unit is a masked one (systemd.unit(5)).
		c.Files = append(c.Files, File{Path: "/etc/systemd/system/" + unit})
	}
	// Fedora swaps to compressed memory unless this file says nothing.
	c.Files = append(c.Files, File{Path: "/etc/systemd/zram-generator.conf"})
	if c.Network.WakeOnLAN {
		file, unit := wakeOnLAN(c.Network.MAC)
		c.Files = append(c.Files, file)
		c.Units = append(slices.Clone(c.Units), unit)
	}
	return c
}

// target are all files of the installed system, units and keys included, in the
// order in which they are to be written. They stand for the config as a whole:
// after a boot of the system that has them, it is as declared.
func (c NodeConfig) target() []File {
	c = c.completed()
	files := slices.Clone(c.Files)
	var started []string
	for _, u := range c.Units {
		files = append(files, u.file())
		if u.Enable || u.Start {
			files = append(files, enabled(u.Name))
			started = append(started, u.Name)
		}
	}
	if len(c.Commands) > 0 {
		files = append(files, firstBoot(c.Commands, started)...)
	}
	if len(c.SSHKeys) > 0 {
		files = append(files, File{
			Path: "/root/.ssh/authorized_keys", Content: []byte(strings.Join(c.SSHKeys, "\n") + "\n"), Mode: 0o600,
		})
	}
	return append(files,
		File{Path: "/etc/hostname", Content: []byte(c.HostName + "\n")},
		// People log in by their keys and in no other way.
		File{Path: "/etc/ssh/sshd_config.d/10-rhizome.conf", Mode: 0o600, Content: []byte(
			"PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n")},
	)
}

// firstBoot runs the commands at the first boot, before the units that are to be
// started then. A command that fails does not keep the others back, as in cloud-init.
func firstBoot(commands [][]string, before []string) []File {
	var script strings.Builder
	script.WriteString("#!/bin/sh\n# What Rhizome runs at the first boot, once.\n")
	for _, command := range commands {
		words := make([]string, len(command))
		for i, word := range command {
			words[i] = shellWord(word)
		}
		script.WriteString(strings.Join(words, " ") + "\n")
	}
	fmt.Fprintf(&script, "mkdir -p %s\n: >%s\n", path.Dir(firstBootDone), firstBootDone)
	unit := Unit{Name: firstBootUnit, Content: `[Unit]
Description=What is to be done at the first boot (Rhizome)
ConditionPathExists=!` + firstBootDone + `
Before=` + strings.Join(before, " ") + `

[Service]
Type=oneshot
ExecStart=` + firstBootPath + `

[Install]
WantedBy=multi-user.target
`}
	if len(before) == 0 {
		unit.Content = strings.Replace(unit.Content, "Before=\n", "", 1)
	}
	return []File{{Path: firstBootPath, Content: []byte(script.String()), Mode: 0o755}, unit.file(), enabled(unit.Name)}
}

func (u Unit) file() File {
	return File{Path: "/etc/systemd/system/" + u.Name, Content: []byte(u.Content)}
}

// permissions is the mode in octal, with a zero in front.
func (f File) permissions() string {
	if f.Mode == 0 {
		return "0644"
	}
	return fmt.Sprintf("0%o", f.Mode)
}
