package initconfig

import (
	"encoding/pem"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
)

var hostName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// unitName has the letters of systemd.unit(5) that need no quoting.
var unitName = regexp.MustCompile(`^[A-Za-z0-9:_.@-]+$`)

func (c NodeConfig) check() error {
	switch {
	case !hostName.MatchString(c.HostName):
		return fmt.Errorf("cannot render the init config: %q is not a host name", c.HostName)
	case c.InstanceID == "":
		return fmt.Errorf("cannot render the init config of %s: no instance ID", c.HostName)
	case c.Network.MAC == "" || !c.Network.Address.IsValid():
		return fmt.Errorf("cannot render the init config of %s: the network has no MAC or no address", c.HostName)
	}
	for _, f := range c.Files {
		if !path.IsAbs(f.Path) || path.Clean(f.Path) != f.Path || strings.ContainsFunc(f.Path, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return fmt.Errorf("cannot render the init config of %s: file %q: want a clean absolute path", c.HostName, f.Path)
		}
	}
	for _, u := range c.Units {
		if !unitName.MatchString(u.Name) || path.Ext(u.Name) == "" {
			return fmt.Errorf("cannot render the init config of %s: unit %q: want a name with its suffix", c.HostName, u.Name)
		}
	}
	for i, command := range c.Commands {
		if len(command) == 0 {
			return fmt.Errorf("cannot render the init config of %s: command %d is empty", c.HostName, i+1)
		}
	}
	return nil
}

// checkInstallation says what a distribution's own installer could not be told.
// Where a value stands in a line of a file, its text must not end the line.
func (c NodeConfig) checkInstallation() error {
	refuse := func(what string, args ...any) error {
		return fmt.Errorf("cannot render the init config of %s: "+what, append([]any{c.HostName}, args...)...)
	}
	i := c.Installation
	switch {
	case i == nil:
		return refuse("nothing is said about the installation")
	case len(i.ReportURLs) == 0:
		return refuse("no URL for reports")
	case i.Claim == "" || strings.ContainsFunc(i.Claim, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return refuse("the claim is empty or holds what cannot stand in a header")
	case i.Disk.MinBytes < 0 || i.Disk.MaxBytes < 0:
		return refuse("the disk's size is negative")
	}
	for rest := []byte(strings.TrimSpace(string(i.CA))); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return refuse("the authority is no certificate in PEM form")
		}
		if len(rest) == 0 {
			break
		}
	}
	for _, u := range i.ReportURLs {
		if err := plainURL(u, "https"); err != nil {
			return refuse("the URL for reports: %w", err)
		}
	}
	if i.Packages != "" {
		if err := plainURL(i.Packages, "http", "https"); err != nil {
			return refuse("the URL of the packages: %w", err)
		}
	}
	for _, h := range []struct{ name, value string }{
		{"path", i.Disk.Path}, {"serial", i.Disk.Serial}, {"wwn", i.Disk.WWN},
	} {
		if strings.ContainsFunc(h.value, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return refuse("the disk's %s %q holds a control character", h.name, h.value)
		}
	}
	return nil
}

// plainURL refuses a URL that would need quoting in one of the formats.
func plainURL(s string, schemes ...string) error {
	u, err := url.Parse(s)
	if err != nil {
		return err
	}
	for _, scheme := range schemes {
		if u.Scheme == scheme && u.Host != "" && u.User == nil && !strings.ContainsFunc(s, func(r rune) bool {
			return !strings.ContainsRune("-._~:/?&=%+,@[]", r) && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
		}) {
			return nil
		}
	}
	return fmt.Errorf("%q is not a plain URL of %s", u.Redacted(), strings.Join(schemes, " or "))
}
