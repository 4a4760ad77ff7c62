// Package bootfs is the one table of the files that machines boot from. TFTP and
// HTTP serve the same names from it, so that whatever a DHCP answer or a script
// names is found by either.
package bootfs

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/loader"
)

// Table finds boot files by name:
//
//	loader/<file>                           a boot loader, told our address
//	loader/signed/<file>                    those that Secure Boot accepts
//	grub/grub.cfg                           what the signed GRUB asks for: loader/signed/grub.cfg
//	installer/<arch>/{vmlinuz,initrd.img}   the installer
//	boot/<mac>/{ipxe,grub}                  the decision for one machine
//
// It may be used from many goroutines at once. Neither it nor the files in Files are
// changed then.
type Table struct {
	// Files holds loader/ and installer/. Its files must implement io.ReaderAt, as
	// those of os.DirFS, os.Root and embed do.
	Files fs.FS
	// Backend decides what boot/ says.
	Backend pxe.Backend
	// Server is the address and port of our HTTP side.
	Server netip.AddrPort

	scripts scripts
	loaders sync.Map // of names: loaders that are there; asked for at every DHCP packet
	small   sync.Map // of names: *kept
}

// maxKept is the size in bytes of the largest file of Files that is kept in memory once
// it was read: a config or a small loader. There are as many as Files has.
const maxKept = 64 << 10

// kept is a small file.
type kept struct {
	text    []byte
	modTime time.Time
	etag    string
}

// File is an open boot file.
type File struct {
	*io.SectionReader
	Name        string    // as in the table, without a leading slash
	ContentType string    // media type
	ModTime     time.Time // zero: not known
	ETag        string    // quoted; equal for equal content served by one address
	Stage       pxe.Stage // what fetching this file means
	MAC         pxe.MAC   // the machine that the file is for; empty: any
	Text        []byte    // all of it, if it is in memory; not to be changed
	close       func() error
}

// Close releases the file.
func (f *File) Close() error {
	if f.close == nil {
		return nil
	}
	return f.close()
}

// Clean makes the table's spelling of a name out of a client's: firmware doubles
// slashes, turns them round, and puts them in front or leaves them out. The
// result never leaves the table's root; it is empty if nothing remains.
func Clean(name string) string {
	if plain := strings.IndexByte(name, '\\') < 0 && path.Clean(name) == name; plain && name[0] != '/' && name[0] != '.' {
		return name
	}
	name = strings.ReplaceAll(name, `\`, "/")
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}

// Open opens the file with a client's spelling of its name. A loader is found
// without its directory too, where firmware and shim look for it. A name that is
// not in the table, and the script of a machine that is not declared, is
// fs.ErrNotExist.
func (t *Table) Open(name string) (*File, error) {
	name = Clean(name)
	first, rest, nested := strings.Cut(name, "/")
	switch {
	case name == "":
		return nil, missing(name)
	case !nested:
		return t.openLoader("loader/" + name)
	case first == "loader":
		return t.openLoader(name)
	case first == "signed":
		return t.openLoader("loader/" + name)
	case name == loader.SignedConfigPath:
		return t.openLoader("loader/" + loader.SignedConfig)
	case first == "installer":
		return t.openInstaller(name)
	case first == "boot":
		return t.openScript(name, rest)
	}
	return nil, missing(name)
}

// Has says whether a loader is there to be served.
func (t *Table) Has(file string) bool {
	if _, ok := t.loaders.Load(file); ok {
		return true
	}
	info, err := fs.Stat(t.Files, "loader/"+file)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	t.loaders.Store(file, true)
	return true
}

// Check opens every loader that our address is written into, so that a bad image
// is found at start and not by a machine.
func (t *Table) Check() error {
	found := false
	for _, name := range []string{
		loader.IPXEBIOS, loader.IPXEAMD64, loader.IPXEARM64, loader.GRUBAMD64, loader.GRUBARM64,
		loader.ShimAMD64, loader.SignedGRUB, loader.SignedConfig,
	} {
		if !t.Has(name) {
			if strings.HasPrefix(name, "signed/") && t.Has(loader.ShimAMD64) {
				return fmt.Errorf("the boot files hold loader/%s and not loader/%s: make them anew with pxe/loader/build.sh", loader.ShimAMD64, name)
			}
			continue
		}
		found = true
		f, err := t.openLoader("loader/" + name)
		if err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return fmt.Errorf("cannot read the boot file loader/%s: %w", name, err)
		}
	}
	if !found {
		return fmt.Errorf("the boot files hold no boot loader, such as loader/%s: make them with pxe/loader/build.sh", loader.IPXEAMD64)
	}
	return nil
}

func (t *Table) openLoader(name string) (*File, error) {
	f, err := t.openFile(name)
	if err != nil {
		return nil, err
	}
	f.Stage = pxe.StageLoader
	switch strings.TrimPrefix(name, "loader/") {
	case loader.GRUBAMD64, loader.GRUBARM64:
	case loader.SignedConfig:
		f.Stage, f.ContentType = pxe.StageConfig, "text/plain; charset=utf-8"
	default:
		return f, nil
	}
	image, err := loader.Patch(f.SectionReader, f.Size(), t.Server)
	if err != nil {
		return nil, fmt.Errorf("cannot serve the boot file %s: %w", name, closeAfter(err, f))
	}
	f.SectionReader, f.Text = io.NewSectionReader(image, 0, f.Size()), nil
	f.ETag = strings.TrimSuffix(f.ETag, `"`) + "-" + t.Server.String() + `"`
	return f, nil
}

func (t *Table) openInstaller(name string) (*File, error) {
	f, err := t.openFile(name)
	if err != nil {
		return nil, err
	}
	f.Stage = pxe.StageInitrd
	if path.Base(name) == "vmlinuz" {
		f.Stage = pxe.StageKernel
	}
	return f, nil
}

// writers write a decision in the languages that loaders speak.
var writers = map[string]func(pxe.MAC, pxe.Decision, netip.AddrPort) ([]byte, error){
	loader.IPXEScript: loader.IPXE,
	loader.GRUBConfig: loader.GRUB,
}

// openScript serves the decision. rest is <mac>/<kind>.
func (t *Table) openScript(name, rest string) (*File, error) {
	spelling, kind, _ := strings.Cut(rest, "/")
	mac, err := pxe.ParseMAC(spelling)
	if err != nil {
		return nil, missing(name)
	}
	write, ok := writers[kind]
	if !ok {
		return nil, missing(name)
	}
	decision := t.Backend.Decide(pxe.Machine{MAC: mac, IPXE: kind == loader.IPXEScript})
	if decision.Action == pxe.Ignore {
		return nil, missing(name)
	}
	script, err := t.scripts.get(scriptKey{mac, kind}, decision, func() ([]byte, error) { return write(mac, decision, t.Server) })
	if err != nil {
		return nil, fmt.Errorf("cannot serve %s: %w", name, err)
	}
	return &File{
		SectionReader: io.NewSectionReader(bytes.NewReader(script.text), 0, int64(len(script.text))),
		Name:          name, ContentType: "text/plain; charset=utf-8", ETag: script.etag,
		Stage: pxe.StageConfig, MAC: mac, Text: script.text,
	}, nil
}

func (t *Table) openFile(name string) (*File, error) {
	if small, ok := t.small.Load(name); ok {
		return small.(*kept).open(name), nil
	}
	file, err := t.Files.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("cannot read the boot file %s: %w", name, closeAfter(err, file))
	}
	if !info.Mode().IsRegular() {
		return nil, closeAfter(missing(name), file)
	}
	at, ok := file.(io.ReaderAt)
	if !ok {
		return nil, closeAfter(fmt.Errorf("cannot serve the boot file %s: it cannot be read at any offset", name), file)
	}
	etag := fmt.Sprintf(`"%x-%x"`, info.Size(), info.ModTime().UnixNano())
	whole := io.NewSectionReader(at, 0, info.Size())
	if info.Size() <= maxKept {
		text, err := io.ReadAll(whole)
		if err != nil {
			return nil, fmt.Errorf("cannot read the boot file %s: %w", name, closeAfter(err, file))
		}
		small := &kept{text, info.ModTime(), etag}
		t.small.Store(name, small)
		return small.open(name), file.Close()
	}
	return &File{
		SectionReader: whole, Name: name, ContentType: binary, ModTime: info.ModTime(), ETag: etag, close: file.Close,
	}, nil
}

const binary = "application/octet-stream"

func (k *kept) open(name string) *File {
	return &File{
		SectionReader: io.NewSectionReader(bytes.NewReader(k.text), 0, int64(len(k.text))),
		Name:          name, ContentType: binary, ModTime: k.modTime, ETag: k.etag, Text: k.text,
	}
}

func missing(name string) error {
	return &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// closeAfter closes what an error leaves useless; the error that says why wins.
func closeAfter(err error, c io.Closer) error {
	_ = c.Close()
	return err
}
