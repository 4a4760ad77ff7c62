package loader

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strings"
	"text/template"

	"github.com/rhizome-dev/rhizome/pxe"
)

//go:embed ipxe.tmpl grub.tmpl
var templates embed.FS

var scripts = template.Must(template.New("").
	Funcs(template.FuncMap{"quote": grubQuote}).
	ParseFS(templates, "*.tmpl"))

// script is what the templates see.
type script struct {
	MAC     pxe.MAC
	Reason  string
	Server  string // address:port of our HTTP side
	Files   string // the device by which GRUB reads our files
	Install bool
	Method  pxe.LocalBoot
	ViaGRUB bool
	Kernel  string
	Initrds []initrd
	Args    []string
}

// Tries are how often, ten seconds apart, a machine that cannot start its installer
// asks a server that does not answer, until it restarts: a minute, so that it does not
// restart more often.
func (script) Tries() [6]struct{} { return [6]struct{}{} }

type initrd struct{ Name, Path string }

// IPXE writes a decision as an iPXE script. It is an error if the decision is
// Ignore, or if the kernel's path or arguments cannot be said in iPXE's language.
func IPXE(mac pxe.MAC, d pxe.Decision, server netip.AddrPort) ([]byte, error) {
	s, err := newScript(mac, d, server)
	if err != nil {
		return nil, err
	}
	for _, a := range s.Args {
		// iPXE has no quoting: these would be read as its own syntax.
		if strings.Contains(a, "${") || a == "||" || a == "&&" || a == ";" {
			return nil, fmt.Errorf("the kernel argument %q cannot be written in an iPXE script", a)
		}
	}
	return render("ipxe.tmpl", s)
}

// GRUB writes a decision as a GRUB config. It is an error if the decision is
// Ignore, or if the kernel's path or arguments cannot be said on one line.
func GRUB(mac pxe.MAC, d pxe.Decision, server netip.AddrPort) ([]byte, error) {
	s, err := newScript(mac, d, server)
	if err != nil {
		return nil, err
	}
	for _, a := range s.Args {
		// GRUB puts a backslash before each of these in the kernel's command line.
		if strings.ContainsAny(a, `'"\`) {
			return nil, fmt.Errorf("the kernel argument %q cannot be written in a GRUB config: GRUB would add backslashes", a)
		}
	}
	return render("grub.tmpl", s)
}

func newScript(mac pxe.MAC, d pxe.Decision, server netip.AddrPort) (script, error) {
	s := script{
		MAC: mac, Reason: oneLine(d.Reason), Server: server.String(), Files: "http," + server.String(),
		Install: d.Action == pxe.Install, Method: d.LocalBoot, ViaGRUB: d.Loader == pxe.LoaderGRUB,
	}
	if d.Loader == pxe.LoaderSigned {
		// Debian's signed GRUB speaks TFTP alone, and may load no module.
		s.Files = "tftp," + server.Addr().String()
	}
	switch d.Action {
	case pxe.BootLocal:
		return s, nil
	case pxe.Install:
	default:
		return script{}, fmt.Errorf("there is no script for %s, which is to be ignored", mac)
	}
	if d.Kernel.Path == "" {
		return script{}, fmt.Errorf("the decision for %s installs but names no kernel", mac)
	}
	s.Kernel = d.Kernel.Path
	for i, p := range d.Kernel.Initrds {
		// The names are what Linux's EFI stub asks iPXE for by its argument initrd=.
		name := "initrd.img"
		if i > 0 {
			name = fmt.Sprintf("initrd%d.img", i)
		}
		s.Initrds = append(s.Initrds, initrd{name, p})
	}
	substitute := strings.NewReplacer("${base}", BaseURL(server), "${mac}", string(mac))
	for _, a := range d.Kernel.Args {
		s.Args = append(s.Args, substitute.Replace(a))
	}
	for _, p := range append([]string{d.Kernel.Path}, d.Kernel.Initrds...) {
		if !plainPath(p) {
			return script{}, fmt.Errorf("the path %q is not a plain absolute path", p)
		}
	}
	for _, a := range s.Args {
		if a == "" || strings.ContainsFunc(a, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			return script{}, fmt.Errorf("the kernel argument %q holds white space or is not ASCII: give each argument by itself", a)
		}
	}
	return s, nil
}

// plainPath is a path that means the same to HTTP, iPXE and GRUB.
func plainPath(p string) bool {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-:"
	return path.IsAbs(p) && path.Clean(p) == p && strings.Trim(p, plain) == ""
}

func render(name string, s script) ([]byte, error) {
	var b bytes.Buffer
	if err := scripts.ExecuteTemplate(&b, name, s); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot write the script of %s", s.MAC), err)
	}
	return b.Bytes(), nil
}

// grubQuote makes one word of GRUB's script language that stands for s, which has
// no quotes itself.
func grubQuote(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-:=,+@%") == "" {
		return s
	}
	return "'" + s + "'"
}

// oneLine keeps a text for people from being read as anything but a comment.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
