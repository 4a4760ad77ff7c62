package initconfig

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"sigs.k8s.io/yaml"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// The documents of cloud-init's NoCloud data source
// (https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html).
const (
	UserData      = "user-data"
	MetaData      = "meta-data"
	NetworkConfig = "network-config"
)

// Image renders for disk images that cloud-init configures, as a NoCloud seed.
//
// People log in as root, by the keys of the config and in no other way: root has
// no password and SSH takes none. That is the one account which every
// distribution has under the same name; cloud images' own users (debian, ubuntu,
// fedora, ...) are not made.
type Image struct{}

// Format is Image.
func (Image) Format() v1alpha1.Format { return v1alpha1.FormatImage }

// Render gives user-data, meta-data and network-config.
func (Image) Render(c NodeConfig) (map[string][]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	user, err := document("#cloud-config\n", c.completed().cloudConfig())
	if err != nil {
		return nil, err
	}
	meta, err := document("", metaData{InstanceID: c.InstanceID, LocalHostname: c.HostName})
	if err != nil {
		return nil, err
	}
	network, err := document("", c.Network.config())
	if err != nil {
		return nil, err
	}
	return map[string][]byte{UserData: user, MetaData: meta, NetworkConfig: network}, nil
}

// The keys of cloud-config
// (https://cloudinit.readthedocs.io/en/latest/reference/modules.html).
type cloudConfig struct {
	Hostname         string      `json:"hostname"`
	PreserveHostname bool        `json:"preserve_hostname"`
	ManageEtcHosts   string      `json:"manage_etc_hosts"`
	Users            []cloudUser `json:"users"`
	DisableRoot      bool        `json:"disable_root"`
	SSHPasswordAuth  bool        `json:"ssh_pwauth"`
	PackageUpdate    bool        `json:"package_update"`
	PackageUpgrade   bool        `json:"package_upgrade"`
	Growpart         growpart    `json:"growpart"`
	ResizeRootFS     bool        `json:"resize_rootfs"`
	WriteFiles       []cloudFile `json:"write_files,omitempty"`
	RunCmd           [][]string  `json:"runcmd,omitempty"`
}

type cloudUser struct {
	Name              string   `json:"name"`
	LockPassword      bool     `json:"lock_passwd"`
	SSHAuthorizedKeys []string `json:"ssh_authorized_keys,omitempty"`
}

type growpart struct {
	Mode    string   `json:"mode"`
	Devices []string `json:"devices"`
}

type cloudFile struct {
	Path        string `json:"path"`
	Permissions string `json:"permissions"`
	Encoding    string `json:"encoding,omitempty"`
	Content     string `json:"content"`
}

type metaData struct {
	InstanceID    string `json:"instance-id"`
	LocalHostname string `json:"local-hostname"`
}

func (c NodeConfig) cloudConfig() cloudConfig {
	config := cloudConfig{
		Hostname: c.HostName,
		// The name resolves on the machine itself even when no DNS server knows it.
		ManageEtcHosts: "localhost",
		Users:          []cloudUser{{Name: "root", LockPassword: true, SSHAuthorizedKeys: c.SSHKeys}},
		Growpart:       growpart{Mode: "auto", Devices: []string{"/"}},
		ResizeRootFS:   true,
	}
	for _, f := range c.Files {
		config.WriteFiles = append(config.WriteFiles, newCloudFile(f))
	}
	var start [][]string
	for _, u := range c.Units {
		config.WriteFiles = append(config.WriteFiles,
			newCloudFile(u.file()))
		if u.Enable || u.Start {
			config.WriteFiles = append(config.WriteFiles, newCloudFile(enabled(u.Name)))
		}
		if u.Start {
			// cloud-init runs commands in a unit that much of the boot waits for: a
			// unit that waits for the boot in turn would wait for ever.
			start = append(start, []string{"systemctl", "start", "--no-block", u.Name})
		}
	}
	// Before the units are read anew: a masked one has no command any more to end it.
	config.RunCmd = append(config.RunCmd, atFirstBoot...)
	if len(c.Units) > 0 {
		config.RunCmd = append(config.RunCmd, []string{"systemctl", "daemon-reload"})
	}
	config.RunCmd = append(config.RunCmd, c.Commands...)
	config.RunCmd = append(config.RunCmd, start...)
	return config
}

// enabled makes every boot start a unit. A file and not systemctl enable, because
// cloud-init runs commands once, whether or not they came to their end: a machine
// whose power went at that moment would never start the unit. Files are written
// early in the boot.
func enabled(unit string) File {
	return File{
		Path:    "/etc/systemd/system/multi-user.target.d/" + unit + ".conf",
		Content: []byte("[Unit]\nWants=" + unit + "\n"),
	}
}

func newCloudFile(f File) cloudFile {
	out := cloudFile{Path: f.Path, Permissions: f.permissions(), Content: string(f.Content)}
	if !plain(f.Content) {
		out.Encoding, out.Content = "b64", base64.StdEncoding.EncodeToString(f.Content)
	}
	return out
}

// plain says whether a file can stand in YAML as readable text and come out the
// same byte for byte.
func plain(content []byte) bool {
	return utf8.Valid(content) && bytes.IndexFunc(content, func(r rune) bool {
		return r != '\n' && r != '\t' && (r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 || r == 0xfeff)
	}) < 0
}

// KernelArguments are none: our installer finds the interface by itself.
func (Image) KernelArguments(NodeConfig) []string { return nil }

func document(head string, v any) ([]byte, error) {
	body, err := yaml.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("cannot render the init config: %w", err)
	}
	return append([]byte(head), body...), nil
}

// InterfaceName is what the machine's interface is called in the installed
// system, by its MAC: one name on every distribution.
const InterfaceName = "lan0"

// networkConfig is network configuration version 2
// (https://cloudinit.readthedocs.io/en/latest/reference/network-config-format-v2.html).
type networkConfig struct {
	Version   int                 `json:"version"`
	Ethernets map[string]ethernet `json:"ethernets"`
}

type ethernet struct {
	Match       match        `json:"match"`
	SetName     string       `json:"set-name"`
	DHCP4       bool         `json:"dhcp4"`
	Addresses   []string     `json:"addresses"`
	Routes      []route      `json:"routes,omitempty"`
	Nameservers *nameservers `json:"nameservers,omitempty"`
	WakeOnLAN   bool         `json:"wakeonlan,omitempty"`
}

type match struct {
	MACAddress string `json:"macaddress"`
}

type route struct {
	To  string `json:"to"`
	Via string `json:"via"`
}

type nameservers struct {
	Addresses []netip.Addr `json:"addresses"`
}

func (n Network) config() networkConfig {
	e := ethernet{
		Match: match{MACAddress: strings.ToLower(n.MAC)},
		// Without set-name cloud-init's networkd renderer matches by the key of
		// this map as well as by the MAC, and so matches nothing.
		SetName:   InterfaceName,
		Addresses: []string{n.Address.String()},
		WakeOnLAN: n.WakeOnLAN,
	}
	if n.Gateway.IsValid() {
		// Not every renderer knows the word "default".
		e.Routes = []route{{To: "0.0.0.0/0", Via: n.Gateway.String()}}
	}
	if len(n.Nameservers) > 0 {
		e.Nameservers = &nameservers{Addresses: n.Nameservers}
	}
	return networkConfig{Version: 2, Ethernets: map[string]ethernet{InterfaceName: e}}
}
