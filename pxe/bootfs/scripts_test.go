package bootfs

import (
	"fmt"
	"io"
	"testing"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/loader"
)

// A script that was written before is served for the same decision alone.
func TestAScriptFollowsTheDecision(t *testing.T) {
	const mac = pxe.MAC("52:54:00:12:34:57")
	decide := backend{}
	files := table()
	files.Backend = decide
	script := func(kind string) string {
		t.Helper()
		file, err := files.Open("boot/" + string(mac) + "/" + kind)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	kernel := func(arg string) pxe.Kernel {
		return pxe.Kernel{Path: "/installer/amd64/vmlinuz", Initrds: []string{"/installer/amd64/initrd.img"}, Args: []string{arg}}
	}
	for i, d := range []pxe.Decision{
		{Action: pxe.Install, Reason: "the claim is open", Kernel: kernel("console=ttyS0")},
		{Action: pxe.Install, Reason: "another claim is open", Kernel: kernel("console=ttyS0")},
		{Action: pxe.Install, Reason: "another claim is open", Kernel: kernel("console=ttyS1")},
		{Action: pxe.BootLocal, Reason: "the claim is used", LocalBoot: pxe.LocalBootExit},
		{Action: pxe.BootLocal, Reason: "the claim is used", LocalBoot: pxe.LocalBootSANBoot},
		{Action: pxe.Install, Reason: "the claim is open", Kernel: kernel("console=ttyS0")},
	} {
		decide[mac] = d
		for kind, write := range writers {
			want, err := write(mac, d, files.Server)
			if err != nil {
				t.Fatal(err)
			}
			for _, time := range []string{"first", "second"} {
				if got := script(kind); got != string(want) {
					t.Errorf("decision %d, %s, the %s time:\n%s\nwant:\n%s", i, kind, time, got, want)
				}
			}
		}
	}
	delete(decide, mac)
	if file, err := files.Open("boot/" + string(mac) + "/" + loader.IPXEScript); err == nil {
		t.Errorf("served %s to a machine that is declared no more", file.Name)
	}
}

func TestTheMemoryOfScriptsIsBounded(t *testing.T) {
	var s scripts
	for i := range 3 * maxScripts {
		want := fmt.Sprintf("script %d", i)
		got, err := s.get(scriptKey{pxe.MAC(want), loader.IPXEScript}, pxe.Decision{}, func() ([]byte, error) { return []byte(want), nil })
		if err != nil || string(got.text) != want {
			t.Fatalf("got %q, %v, want %q", got.text, err, want)
		}
		if len(s.written) > maxScripts {
			t.Fatalf("%d scripts are remembered, want at most %d", len(s.written), maxScripts)
		}
	}
}
