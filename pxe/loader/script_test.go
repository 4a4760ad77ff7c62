package loader

import (
	"flag"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rhizome-dev/rhizome/pxe"
)

var update = flag.Bool("update", false, "rewrite the golden scripts")

var kernel = pxe.Kernel{
	Path: "/installer/amd64/vmlinuz", Initrds: []string{"/installer/amd64/initrd.img"},
	Args: []string{"console=ttyS0,115200n8", "rhizome.init=${base}/init/${mac}", "rhizome.mac=${mac}"},
}

var writers = map[string]func(pxe.MAC, pxe.Decision, netip.AddrPort) ([]byte, error){"ipxe": IPXE, "grub": GRUB}

func TestScriptsMatchTheGoldenOnes(t *testing.T) {
	two := kernel
	two.Initrds = append(two.Initrds, "/installer/amd64/firmware.img")
	for name, d := range map[string]pxe.Decision{
		"install":           {Action: pxe.Install, Reason: "open claim of node-1", Kernel: kernel},
		"install-grub":      {Action: pxe.Install, Reason: "open claim of node-1", Kernel: kernel, Loader: pxe.LoaderGRUB},
		"install-signed":    {Action: pxe.Install, Reason: "open claim of node-1", Kernel: two, Loader: pxe.LoaderSigned},
		"install-initrds":   {Action: pxe.Install, Reason: "open claim of node-1", Kernel: two},
		"install-no-initrd": {Action: pxe.Install, Reason: "open claim of node-1", Kernel: pxe.Kernel{Path: "/installer/amd64/vmlinuz"}},
		"local":             {Action: pxe.BootLocal, Reason: "no open claim"},
		"local-exit":        {Action: pxe.BootLocal, Reason: "no open claim", LocalBoot: pxe.LocalBootExit},
		"local-sanboot":     {Action: pxe.BootLocal, Reason: "no open claim", LocalBoot: pxe.LocalBootSANBoot},
		"local-chainload":   {Action: pxe.BootLocal, Reason: "no open claim", LocalBoot: pxe.LocalBootChainLoad},
	} {
		for kind, write := range writers {
			t.Run(name+"."+kind, func(t *testing.T) {
				got, err := write(mac, d, server)
				if err != nil {
					t.Fatal(err)
				}
				path := filepath.Join("testdata", name+"."+kind)
				if *update {
					if err := os.WriteFile(path, got, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), string(got)); diff != "" {
					t.Errorf("the script changed (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestWhatCannotBeSaidInAScriptIsAnError(t *testing.T) {
	args := func(a ...string) pxe.Kernel { return pxe.Kernel{Path: "/vmlinuz", Args: a} }
	for _, c := range []struct {
		name       string
		decision   pxe.Decision
		ipxe, grub string // what the error says; empty: none
	}{
		{"ignored", pxe.Decision{}, "is to be ignored", "is to be ignored"},
		{"no kernel", pxe.Decision{Action: pxe.Install}, "names no kernel", "names no kernel"},
		{"a path with a space", pxe.Decision{Action: pxe.Install, Kernel: pxe.Kernel{Path: "/a b"}}, "not a plain", "not a plain"},
		{"a path that climbs", pxe.Decision{Action: pxe.Install, Kernel: pxe.Kernel{Path: "/a/../b"}}, "not a plain", "not a plain"},
		{"a path with iPXE's syntax", pxe.Decision{Action: pxe.Install, Kernel: pxe.Kernel{Path: "/a", Initrds: []string{"/${b}"}}}, "not a plain", "not a plain"},
		{"a line break", pxe.Decision{Action: pxe.Install, Kernel: args("a=b\nexit")}, "white space", "white space"},
		{"a space", pxe.Decision{Action: pxe.Install, Kernel: args("a=b c")}, "white space", "white space"},
		{"nothing", pxe.Decision{Action: pxe.Install, Kernel: args("")}, "white space", "white space"},
		{"iPXE's variables", pxe.Decision{Action: pxe.Install, Kernel: args("a=${b}")}, "cannot be written", ""},
		{"iPXE's or", pxe.Decision{Action: pxe.Install, Kernel: args("||")}, "cannot be written", ""},
		{"quotes", pxe.Decision{Action: pxe.Install, Kernel: args(`a="b"`)}, "", "cannot be written"},
		{"GRUB's syntax", pxe.Decision{Action: pxe.Install, Kernel: args("a;b", "$c", "{d}", "&", "e|f", "#")}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for kind, want := range map[string]string{"ipxe": c.ipxe, "grub": c.grub} {
				text, err := writers[kind](mac, c.decision, server)
				if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("%s: error %v, want %q", kind, err, want)
				}
				if err != nil && text != nil {
					t.Errorf("%s: a script in spite of the error:\n%s", kind, text)
				}
			}
		})
	}
}

func TestAReasonCannotAddLinesToAScript(t *testing.T) {
	for kind, write := range writers {
		text, err := write(mac, pxe.Decision{Action: pxe.BootLocal, Reason: "a\nsanboot\r\n#!ipxe"}, server)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(text), "\n") {
			if strings.HasPrefix(line, "sanboot\r") || line == "sanboot" {
				t.Errorf("%s: the reason became a command:\n%s", kind, text)
			}
		}
	}
}

// GRUB's own parser takes every config: the one within the images, and those that
// machines are served.
func TestEveryConfigIsOfGRUBsLanguage(t *testing.T) {
	check, err := exec.LookPath("grub-script-check")
	if err != nil {
		t.Fatalf("%v: install the packages of pxe/loader/packages.txt (make setup)", err)
	}
	configs, err := filepath.Glob("testdata/*.grub")
	if err != nil || len(configs) == 0 {
		t.Fatalf("%d golden configs, %v", len(configs), err)
	}
	for _, file := range append(configs, "start.cfg") {
		if out, err := exec.Command(check, file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
	broken := filepath.Join(t.TempDir(), "broken.cfg")
	if err := os.WriteFile(broken, []byte("while true; do\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if exec.Command(check, broken).Run() == nil {
		t.Error("grub-script-check takes anything")
	}
}
