package bootfs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/netip"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/loader"
)

type backend map[pxe.MAC]pxe.Decision

func (b backend) Decide(m pxe.Machine) pxe.Decision { return b[m.MAC] }
func (backend) Observe(pxe.Observation)             {}
func (backend) InitConfig(context.Context, pxe.MAC, netip.Addr) (pxe.Document, error) {
	return pxe.Document{}, pxe.ErrNotFound
}
func (backend) Report(context.Context, string, pxe.Report, netip.Addr) error { return pxe.ErrNotFound }
func (backend) Credentials(context.Context, string, netip.Addr) ([]byte, error) {
	return nil, pxe.ErrNotFound
}

func table() *Table {
	when := time.Unix(1700000000, 0)
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s), ModTime: when} }
	return &Table{
		Files: fstest.MapFS{
			"loader/snponly.efi":         file("ipxe"),
			"loader/grubx64.efi":         file("grub " + loader.Placeholder + " end"),
			"loader/signed/shimx64.efi":  file("shim"),
			"loader/signed/grubx64.efi":  file("signed grub"),
			"loader/signed/grub.cfg":     file("set server=" + loader.Placeholder + "\n"),
			"installer/amd64/vmlinuz":    file("kernel"),
			"installer/amd64/initrd.img": file("initrd"),
			"secret":                     file("secret"),
			"other/secret":               file("secret"),
		},
		Backend: backend{
			"52:54:00:12:34:56": {Action: pxe.BootLocal, Reason: "no open claim"},
			"52:54:00:12:34:57": {Action: pxe.Install},
		},
		Server: netip.MustParseAddrPort("192.168.1.2:7480"),
	}
}

func TestEverySpellingOfANameFindsTheFile(t *testing.T) {
	const script = "#!ipxe\n# 52:54:00:12:34:56: no open claim\n"
	for name, want := range map[string]string{
		"loader/snponly.efi":              "ipxe",
		"/loader/snponly.efi":             "ipxe",
		"//loader///snponly.efi":          "ipxe",
		`\loader\snponly.efi`:             "ipxe",
		`loader\\snponly.efi`:             "ipxe",
		"./loader/./snponly.efi":          "ipxe",
		"loader/../loader/snponly.efi":    "ipxe",
		"snponly.efi":                     "ipxe",
		"/snponly.efi":                    "ipxe",
		`\snponly.efi`:                    "ipxe",
		"grubx64.efi":                     "grub 192.168.1.2:7480         end",
		"signed/shimx64.efi":              "shim",
		"/loader/signed/shimx64.efi":      "shim",
		"signed//grubx64.efi":             "signed grub", // whose signature must not break
		"/loader/signed//grubx64.efi":     "signed grub",
		"/grub/grub.cfg":                  "set server=192.168.1.2:7480        \n",
		"grub/grub.cfg":                   "set server=192.168.1.2:7480        \n",
		"/installer/amd64//vmlinuz":       "kernel",
		"boot/52:54:00:12:34:56/ipxe":     script,
		"boot/52-54-00-12-34-56/ipxe":     script,
		"boot/525400123456/ipxe":          script,
		"/boot/01-52-54-00-12-34-56/ipxe": script,
		"/boot/52:54:00:12:34:56/grub":    "# 52:54:00:12:34:56: no open claim\n",
	} {
		f, err := table().Open(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := io.ReadAll(f)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !strings.HasPrefix(string(got), want) || f.MAC == "" && string(got) != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
		if f.ETag == "" || f.Stage == "" || f.ContentType == "" {
			t.Errorf("%s: incomplete: %+v", name, f)
		}
		if err := f.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNothingElseIsFound(t *testing.T) {
	for _, name := range []string{
		"", "/", ".", "..", "secret", "/secret", "other/secret", "loader", "loader/", "installer", "installer/amd64",
		"signed", "signed/none", "signed/../secret", "grub", "grub/x86_64-efi/grub.cfg", "grub/grub.cfg/x", "loader/../secret", "../loader/../../secret", `..\..\secret`, "loader/../other/secret", "loader/none", "none",
		"boot", "boot/", "boot/x/ipxe", "boot/52:54:00:12:34:56", "boot/52:54:00:12:34:56/", "boot/52:54:00:12:34:56/none",
		"boot/52:54:00:12:34:56/ipxe/x", "boot/52:54:00:12:34:99/ipxe", "boot/52:54:00:12:34:99/grub", "loader/\x00", "loader/\xff",
	} {
		f, err := table().Open(name)
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: got %+v, %v; want that there is none", name, f, err)
		}
	}
}

func TestADecisionThatCannotBeWrittenIsNoMissingFile(t *testing.T) {
	_, err := table().Open("boot/52:54:00:12:34:57/ipxe") // installs, without a kernel
	if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "names no kernel") {
		t.Errorf("error %v, want one that says that there is no kernel", err)
	}
}

func TestCheckFindsABadTreeAtStart(t *testing.T) {
	good := table()
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		files fstest.MapFS
		want  string
	}{
		"empty":          {fstest.MapFS{}, "no boot loader"},
		"unpatched GRUB": {fstest.MapFS{"loader/grubx64.efi": {Data: []byte("grub")}}, "lacks the placeholder"},
		"shim alone":     {fstest.MapFS{"loader/signed/shimx64.efi": {}}, "not loader/signed/grubx64.efi"},
		"unpatched config": {fstest.MapFS{
			"loader/signed/shimx64.efi": {}, "loader/signed/grubx64.efi": {}, "loader/signed/grub.cfg": {Data: []byte("set x=y")},
		}, "lacks the placeholder"},
		"a directory": {fstest.MapFS{"loader/snponly.efi/x": {}}, "no boot loader"},
	} {
		bad := table()
		bad.Files = c.files
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

func TestETagsTellFilesApart(t *testing.T) {
	tag := func(tb *Table, name string) string {
		t.Helper()
		f, err := tb.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return f.ETag
	}
	one, other := table(), table()
	other.Server = netip.MustParseAddrPort("192.168.1.3:7480")
	if tag(one, "snponly.efi") != tag(other, "snponly.efi") {
		t.Error("two servers tag one file differently")
	}
	if tag(one, "grubx64.efi") == tag(other, "grubx64.efi") {
		t.Error("images with different addresses have one tag")
	}
	if tag(one, "boot/52:54:00:12:34:56/ipxe") != tag(one, "boot/525400123456/ipxe") {
		t.Error("one script has two tags")
	}
}

// Whatever name is asked for, nothing is served but what the table holds.
func FuzzOpen(f *testing.F) {
	for _, name := range []string{"snponly.efi", `\\loader\grubx64.efi`, "/boot/52:54:00:12:34:56/ipxe", "loader/../../secret", "installer/amd64/../../secret"} {
		f.Add(name)
	}
	tb := table()
	f.Fuzz(func(t *testing.T, name string) {
		file, err := tb.Open(name)
		if err != nil {
			return
		}
		defer file.Close()
		body, err := io.ReadAll(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(body), "secret") || int64(len(body)) != file.Size() {
			t.Fatalf("%q: served %q", name, body)
		}
	})
}

// A small file is read once: it is asked for by every machine, and does not change.
func TestASmallFileIsKept(t *testing.T) {
	files := fstest.MapFS{
		"loader/undionly.kpxe": {Data: bytes.Repeat([]byte("s"), maxKept)},
		"loader/snponly.efi":   {Data: bytes.Repeat([]byte("l"), maxKept+1)},
	}
	table := Table{Files: files}
	for range 2 {
		for name, kept := range map[string]bool{"undionly.kpxe": true, "snponly.efi": false} {
			f, err := table.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(f); err != nil || !bytes.Equal(got, files["loader/"+name].Data) {
				t.Errorf("%s: %d bytes, %v", name, len(got), err)
			}
			if (f.Text != nil) != kept || f.Stage != pxe.StageLoader {
				t.Errorf("%s: %d bytes in memory, %s", name, len(f.Text), f.Stage)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	delete(files, "loader/undionly.kpxe")
	if _, err := table.Open("undionly.kpxe"); err != nil {
		t.Errorf("read again: %v", err)
	}
}
