package initramfs

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/u-root/u-root/pkg/cpio"

	"github.com/rhizome-dev/rhizome/pxe/installer/modules"
)

var moduleDir = fstest.MapFS{
	"modules.dep": {Data: []byte(`kernel/drivers/net/ethernet/intel/e1000e/e1000e.ko: kernel/drivers/ptp/ptp.ko
kernel/drivers/ptp/ptp.ko:
kernel/drivers/net/ethernet/brocade/bna/bna.ko:
kernel/sound/soundcore.ko:
`)},
	"modules.alias":   {Data: []byte("alias pci:v00008086d* e1000e\nalias pci:v00001657d* bna\nalias char-major-14-* soundcore\n")},
	"modules.softdep": {Data: []byte("softdep soundcore pre: ptp\n")},
	"modules.builtin": {Data: []byte("kernel/x.ko\n")},
	"kernel/drivers/net/ethernet/intel/e1000e/e1000e.ko": {Data: []byte("e1000e")},
	"kernel/drivers/ptp/ptp.ko":                          {Data: []byte("ptp")},
	"kernel/drivers/net/ethernet/brocade/bna/bna.ko":     {Data: []byte("bna")},
	"kernel/sound/soundcore.ko":                          {Data: []byte("sound")},
}

func choice(t *testing.T, list string) Choice {
	t.Helper()
	c, err := ReadChoice(strings.NewReader(list))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheLastRuleThatMatchesDecides(t *testing.T) {
	for _, tt := range []struct {
		list string
		want []string
	}{
		{"", nil},
		{"# nothing\n\n", nil},
		{"drivers/ptp/ptp", []string{"ptp"}},
		{"drivers/ptp/", []string{"ptp"}},
		{"drivers/net/ethernet/", []string{"bna", "e1000e", "ptp"}},
		{"drivers/net/ethernet/\n- drivers/net/ethernet/brocade/", []string{"e1000e", "ptp"}},
		{"drivers/net/ethernet/\n-drivers/net/*/brocade/", []string{"e1000e", "ptp"}},
		{"- drivers/net/ethernet/brocade/\ndrivers/net/ethernet/", []string{"bna", "e1000e", "ptp"}},
		{"sound/sound*", []string{"ptp", "soundcore"}},
	} {
		tree, err := modules.Open(moduleDir)
		if err != nil {
			t.Fatal(err)
		}
		got := choice(t, tt.list).Select(tree)
		if diff := cmp.Diff(strings.Join(tt.want, " "), strings.Join(got, " ")); diff != "" {
			t.Errorf("list %q (-want +got):\n%s", tt.list, diff)
		}
	}
}

func TestAnUnreadablePatternNamesItsLine(t *testing.T) {
	if _, err := ReadChoice(strings.NewReader("ok\n[\n")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("ReadChoice = %v, want an error about line 2", err)
	}
}

func TestTheListOfThisRepositoryIsReadable(t *testing.T) {
	f, err := os.Open("modules.list")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := ReadChoice(f); err != nil {
		t.Error(err)
	}
}

// listed reads an archive: contents by name, without directories.
func listed(t *testing.T, archive []byte) map[string]string {
	t.Helper()
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(archive)))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, r := range records {
		b := make([]byte, r.FileSize)
		if r.FileSize > 0 {
			if _, err := r.ReadAt(b, 0); err != nil {
				t.Fatal(err)
			}
		}
		if r.Mode&cpio.S_IFMT != cpio.S_IFDIR {
			got[r.Name] = string(b)
		}
		if r.Name == "init" && r.Mode != cpio.S_IFREG|0o755 {
			t.Errorf("init has the mode %o", r.Mode)
		}
	}
	return got
}

func TestProgramArchiveHoldsWhatTheKernelStarts(t *testing.T) {
	var archive bytes.Buffer
	if err := WriteProgram(&archive, []byte("program")); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"init": "program", "sbin/modprobe": "../init", "dev/console": ""}
	if diff := cmp.Diff(want, listed(t, archive.Bytes())); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestModuleArchiveHoldsTheChosenOnly(t *testing.T) {
	var first, second bytes.Buffer
	for _, archive := range []*bytes.Buffer{&first, &second} {
		if _, err := WriteModules(archive, "6.1", moduleDir, choice(t, "drivers/net/ethernet/intel/")); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same modules gave different bytes")
	}
	want := map[string]string{
		"lib/modules/6.1/kernel/drivers/net/ethernet/intel/e1000e/e1000e.ko": "e1000e",
		"lib/modules/6.1/kernel/drivers/ptp/ptp.ko":                          "ptp",
		"lib/modules/6.1/modules.dep":                                        "kernel/drivers/net/ethernet/intel/e1000e/e1000e.ko: kernel/drivers/ptp/ptp.ko\nkernel/drivers/ptp/ptp.ko:\n",
		"lib/modules/6.1/modules.alias":                                      "alias pci:v00008086d* e1000e\n",
		"lib/modules/6.1/modules.softdep":                                    "", "lib/modules/6.1/modules.builtin": "",
	}
	if diff := cmp.Diff(want, listed(t, first.Bytes())); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestMissingDriversAreNamed(t *testing.T) {
	if missing := Missing([]string{"virtio_net"}, "kernel/drivers/mmc/core/mmc_block.ko\n"); len(missing) == 0 || strings.Contains(strings.Join(missing, " "), "virtio_net") || strings.Contains(strings.Join(missing, " "), "mmc_block") {
		t.Errorf("Missing = %q", missing)
	}
}
