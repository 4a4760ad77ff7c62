package modules

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

var files = map[string]string{
	"modules.dep": `kernel/drivers/net/mii.ko:
kernel/drivers/net/ethernet/realtek/r8169.ko.xz: kernel/drivers/net/phy/libphy.ko.xz kernel/drivers/net/mdio/mdio_devres.ko.xz
kernel/drivers/net/mdio/mdio_devres.ko.xz: kernel/drivers/net/phy/libphy.ko.xz
kernel/drivers/net/phy/libphy.ko.xz:
kernel/drivers/net/phy/realtek.ko.xz: kernel/drivers/net/phy/libphy.ko.xz
kernel/drivers/usb/storage/usb-storage.ko: kernel/drivers/usb/core/usbcore.ko
kernel/drivers/usb/core/usbcore.ko:
kernel/lib/libcrc32c.ko:
kernel/crypto/crc32c_generic.ko:
kernel/a.ko:
kernel/b.ko:
`,
	"modules.alias": `# Aliases extracted from modules themselves.
alias pci:v000010ECd00008168sv*sd*bc*sc*i* r8169
alias usb:v*p*d*dc*dsc*dp*ic08isc06ip50in* usb_storage
alias mdio:0000000000011100110010?????????? realtek
alias crypto-crc32c crc32c_generic
alias crypto-crc32c not_in_this_tree
alias acpi*:PNP0D10:* a
alias dmi*:svn*Linux/x* b
`,
	"modules.softdep": `softdep r8169 pre: realtek
softdep libcrc32c pre: crypto-crc32c
softdep a pre: b
softdep b pre: a post: mii
`,
	"modules.builtin": "kernel/drivers/ata/built_in.ko\n",
}

func testTree(t testing.TB, files map[string]string) *Tree {
	t.Helper()
	dir := fstest.MapFS{}
	for name, content := range files {
		dir[name] = &fstest.MapFile{Data: []byte(content)}
	}
	tree, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestAliasesResolveAsModprobeDoes(t *testing.T) {
	tree := testTree(t, files)
	for _, tt := range []struct {
		alias string
		want  []string
	}{
		{"pci:v000010ECd00008168sv00001043sd000087C3bc02sc00i00", []string{"r8169"}},
		{"pci:v000010ECd00009999sv00001043sd000087C3bc02sc00i00", nil},
		{"usb:v0781p5567d0100dc00dsc00dp00ic08isc06ip50in00", []string{"usb_storage"}},
		{"mdio:00000000000111001100101100010110", []string{"realtek"}},
		{"crypto-crc32c", []string{"crc32c_generic"}},
		{"usb-storage", []string{"usb_storage"}},
		{"usb_storage", []string{"usb_storage"}},
		{"acpi:PNP0D10:PNP0D15:", []string{"a"}},
		{"dmi:bvnX:svnGNU/Linux/x86:", []string{"b"}},
		{"built_in", nil},
		{"", nil},
	} {
		if diff := cmp.Diff(tt.want, tree.Resolve(tt.alias)); diff != "" {
			t.Errorf("Resolve(%q) (-want +got):\n%s", tt.alias, diff)
		}
	}
}

func TestWhatAModuleRequiresComesFirst(t *testing.T) {
	tree := testTree(t, files)
	for _, tt := range []struct {
		name string
		want []string
	}{
		{"mii", []string{"mii"}},
		{"usb_storage", []string{"usbcore", "usb_storage"}},
		{"r8169", []string{"libphy", "realtek", "mdio_devres", "r8169"}},
		{"libcrc32c", []string{"crc32c_generic", "libcrc32c"}},
		{"a", []string{"b", "mii", "a"}},
		{"unknown", nil},
	} {
		if diff := cmp.Diff(tt.want, tree.Order(tt.name)); diff != "" {
			t.Errorf("Order(%q) (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestATreeWithoutDependenciesIsAnError(t *testing.T) {
	if _, err := Open(fstest.MapFS{}); err == nil || !strings.Contains(err.Error(), "modules.dep") {
		t.Errorf("Open = %v, want an error about modules.dep", err)
	}
}

// recorder stands where the kernel is.
type recorder struct {
	mu    sync.Mutex
	paths []string
	fail  map[string]error
}

func (r *recorder) insert(path string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paths = append(r.paths, Name(path))
	return r.fail[Name(path)]
}

func TestColdplugLoadsWhatDevicesAskForAndNothingTwice(t *testing.T) {
	sysfs := t.TempDir()
	device := func(bus, name, alias string) {
		dir := filepath.Join(sysfs, "bus", bus, "devices", name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "modalias"), []byte(alias+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	device("pci", "0000:00:01.0", "pci:v000010ECd00008168sv00001043sd000087C3bc02sc00i00")
	device("pci", "0000:00:02.0", "pci:v000010ECd00008168sv00001043sd000087C3bc02sc00i00")
	device("acpi", "X", "acpi:NOTHING:")
	var r recorder
	once := sync.OnceFunc(func() {
		// A driver that was loaded finds more devices.
		device("usb", "1-1:1.0", "usb:v0781p5567d0100dc00dsc00dp00ic08isc06ip50in00")
	})
	l := &Loader{Tree: testTree(t, files), Insert: func(path string) error {
		once()
		return r.insert(path)
	}}
	for range 2 {
		if err := l.Coldplug(sysfs); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"libphy", "realtek", "mdio_devres", "r8169", "usbcore", "usb_storage"}
	if diff := cmp.Diff(want, r.paths); diff != "" {
		t.Errorf("modules in their order (-want +got):\n%s", diff)
	}
	if l.Loaded() != len(want) {
		t.Errorf("Loaded = %d, want %d", l.Loaded(), len(want))
	}
}

func TestMissingHardwareIsNoErrorOtherFailuresAre(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want bool
	}{{syscall.ENODEV, false}, {syscall.EEXIST, false}, {syscall.ENOEXEC, true}, {errors.New("x"), true}} {
		r := recorder{fail: map[string]error{"usb_storage": tt.err}}
		l := &Loader{Tree: testTree(t, files), Insert: r.insert}
		if err := l.Load("usb-storage"); (err != nil) != tt.want {
			t.Errorf("Load with %v = %v", tt.err, err)
		}
	}
}

func FuzzIndex(f *testing.F) {
	f.Add(files["modules.dep"], files["modules.alias"], files["modules.softdep"], "crypto-crc32c")
	f.Add("a.ko: b.ko\nb.ko: a.ko", "alias [ a", "softdep a pre: a b post: c", "[")
	f.Fuzz(func(t *testing.T, dep, alias, softdep, name string) {
		dir := fstest.MapFS{
			"modules.dep":     {Data: []byte(dep)},
			"modules.alias":   {Data: []byte(alias)},
			"modules.softdep": {Data: []byte(softdep)},
		}
		tree, err := Open(dir)
		if err != nil {
			return
		}
		for _, n := range append(tree.Resolve(name), Name(name)) {
			seen := map[string]bool{}
			for _, o := range tree.Order(n) {
				if seen[o] {
					t.Errorf("Order(%q) has %q twice", n, o)
				}
				seen[o] = true
			}
		}
	})
}
