package initconfig

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
)

// authority is a certificate in form; what is in it does not matter here.
const authority = "-----BEGIN CERTIFICATE-----\nZXhhbXBsZSBvZiBhIGNlcnRpZmljYXRl\n-----END CERTIFICATE-----\n"

// installed is the example with what a distribution's own installer is told.
func installed() NodeConfig {
	c := example()
	c.Installation = &Installation{
		Disk:       plan.DiskHint{Serial: "S5XX NX0R", MinBytes: 100e9},
		ReportURLs: []string{"https://192.168.1.2:7443/v1/report", "https://192.168.1.3:7443/v1/report"},
		CA:         []byte(authority),
		Claim:      "example-claim",
		Packages:   "http://192.168.1.2:7480/tree/0123/os",
	}
	return c
}

// distributions are the renderers for the installers of others.
var distributions = []Renderer{Kickstart{}, Preseed{}, Autoinstall{}}

func rendered(t testing.TB, r Renderer, c NodeConfig) map[string][]byte {
	t.Helper()
	documents, err := r.Render(c)
	if err != nil {
		t.Fatal(err)
	}
	return documents
}

func TestEveryDistributionIsGivenItsDocuments(t *testing.T) {
	for _, r := range distributions {
		dir := filepath.Join("testdata", strings.ToLower(string(r.Format())))
		documents := rendered(t, r, installed())
		if *update {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		var found []string
		for name, body := range documents {
			if *update {
				if err := os.WriteFile(filepath.Join(dir, name), body, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(body)); diff != "" {
				t.Errorf("%s/%s (- golden, + rendered; go test -update writes it anew):\n%s", r.Format(), name, diff)
			}
			found = append(found, name)
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != len(found) {
			t.Errorf("%s: there are %d golden files and the documents %v", r.Format(), len(entries), found)
		}
	}
}

func TestWhatAnInstallerCannotBeToldIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*NodeConfig)
		want   string
	}{
		"nothing":           {func(c *NodeConfig) { c.Installation = nil }, "nothing is said about the installation"},
		"host name":         {func(c *NodeConfig) { c.HostName = "a b" }, "not a host name"},
		"no report":         {func(c *NodeConfig) { c.Installation.ReportURLs = nil }, "no URL for reports"},
		"reports in plain":  {func(c *NodeConfig) { c.Installation.ReportURLs[1] = "http://x/" }, "not a plain URL of https"},
		"blank in a URL":    {func(c *NodeConfig) { c.Installation.ReportURLs[0] = "https://x/a b" }, "not a plain URL of https"},
		"quote in a URL":    {func(c *NodeConfig) { c.Installation.Packages = `http://x/"$(reboot)"` }, "not a plain URL of http or https"},
		"password in a URL": {func(c *NodeConfig) { c.Installation.Packages = "http://me:secret@x/" }, "not a plain URL of http or https"},
		"no claim":          {func(c *NodeConfig) { c.Installation.Claim = "" }, "the claim is empty"},
		"line in the claim": {func(c *NodeConfig) { c.Installation.Claim = "a\nb" }, "the claim is empty or holds"},
		"no authority":      {func(c *NodeConfig) { c.Installation.CA = nil }, "no certificate"},
		"a key": {func(c *NodeConfig) {
			c.Installation.CA = []byte(strings.ReplaceAll(authority, "CERTIFICATE", "PRIVATE KEY"))
		}, "no certificate"},
		"text behind":         {func(c *NodeConfig) { c.Installation.CA = []byte(authority + "x") }, "no certificate"},
		"line in the serial":  {func(c *NodeConfig) { c.Installation.Disk.Serial = "a\nreport https://x" }, "control character"},
		"negative size":       {func(c *NodeConfig) { c.Installation.Disk.MaxBytes = -1 }, "size is negative"},
		"letters in the unit": {func(c *NodeConfig) { c.Units[0].Name = "a b.service" }, "with its suffix"},
	} {
		for _, r := range distributions {
			config := installed()
			c.change(&config)
			documents, err := r.Render(config)
			if err == nil || !strings.Contains(err.Error(), c.want) || documents != nil {
				t.Errorf("%s, %s: %v, want an error with %q and no documents", r.Format(), name, err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("%s, %s: the error tells a secret: %v", r.Format(), name, err)
			}
		}
	}
	config := installed()
	config.Installation.Packages = ""
	for _, r := range []Renderer{Kickstart{}, Preseed{}} {
		if _, err := r.Render(config); err == nil || !strings.Contains(err.Error(), "no URL of the packages") {
			t.Errorf("%s without packages: %v", r.Format(), err)
		}
	}
}

func TestEveryFormatLeavesSwapAndFirewallsOff(t *testing.T) {
	for format, r := range renderers {
		var all strings.Builder
		for _, document := range rendered(t, r, installed()) {
			all.Write(document)
		}
		for _, unit := range masked {
			if !strings.Contains(all.String(), "/etc/systemd/system/"+unit) {
				t.Errorf("%s masks no %s", format, unit)
			}
		}
		// cloud-init comes to it in mid-boot, when they run.
		byCloudInit := format == v1alpha1.FormatImage || format == v1alpha1.FormatAutoinstall
		if stops := strings.Contains(all.String(), "swapoff -a; systemctl stop firewalld.service"); stops != byCloudInit {
			t.Errorf("%s stops them at the first boot: %t", format, stops)
		}
	}
}

func TestTheKernelArgumentsAreWordsOfTheLoaders(t *testing.T) {
	for format, want := range map[v1alpha1.Format]string{
		v1alpha1.FormatImage:       "",
		v1alpha1.FormatKickstart:   "ip=dhcp BOOTIF=01-52-54-00-12-34-56",
		v1alpha1.FormatAutoinstall: "ip=dhcp BOOTIF=01-52-54-00-12-34-56",
		v1alpha1.FormatPreseed: "auto=true priority=critical interface=auto BOOTIF=01-52-54-00-12-34-56 hostname=alpha domain=unassigned-domain " +
			"netcfg/disable_autoconfig=true netcfg/get_ipaddress=192.168.1.10 netcfg/get_netmask=255.255.255.0 " +
			"netcfg/get_gateway=192.168.1.1 netcfg/get_nameservers=192.168.1.1 netcfg/confirm_static=true",
	} {
		if got := strings.Join(renderers[format].KernelArguments(example()), " "); got != want {
			t.Errorf("%s:\n%s, want\n%s", format, got, want)
		}
	}
}

// shells stand for those of the installers, with the programs of the machine that tests
// run on: dash for any POSIX shell, busybox for the Debian Installer's.
var shells = [][]string{{"dash"}, {"busybox", "sh"}}

func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: install the packages of test/preseed/packages.txt (make setup)", err)
	}
	return path
}

func run(t testing.TB, shell []string, script string, env ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := exec.Command(tool(t, shell[0]), append(shell[1:], "-s")...)
	cmd.Stdin = strings.NewReader(script)
	cmd.Env = append(os.Environ(), env...)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// arrives runs the script that writes files and compares what is there.
func arrives(t testing.TB, shell []string, files []File, end string) {
	t.Helper()
	root := t.TempDir()
	if _, stderr, err := run(t, shell, "set -eu\numask 022\nroot="+shellWord(root)+"\n"+writeFiles(files, end)); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	last := map[string]File{}
	for _, f := range files {
		last[f.Path] = f
	}
	for _, f := range last {
		path := filepath.Join(root, f.Path)
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, f.Content) {
			t.Errorf("%s: %q arrives as %q", f.Path, f.Content, got)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if mode := fmt.Sprintf("0%o", info.Mode().Perm()); mode != f.permissions() {
			t.Errorf("%s: its permissions are %s, want %s", f.Path, mode, f.permissions())
		}
	}
}

func TestEveryByteArrivesThroughAShell(t *testing.T) {
	var all []byte
	for b := range 256 {
		all = append(all, byte(b))
	}
	files := append(installed().target(), installed().Installation.installerFiles("/x y")...)
	for i, content := range []string{
		string(all), "", "\n", "a", "a\n\n\n", "%end\n", "  %include /etc/shadow\n", endOfFile + "\n", endOfPart + "\n",
		"$HOME `id` \\ \\\n'\"\n", "- a: b\n...\n", strings.Repeat("x", 100000) + "\n", "é\n",
	} {
		files = append(files, File{Path: fmt.Sprintf("/odd/it's $HOME/%d", i), Content: []byte(content), Mode: 0o640})
	}
	for _, shell := range allShells(t) {
		arrives(t, shell, files, endOfFile)
		arrives(t, shell, files, endOfPart)
	}
}

func TestAWordIsReadAsItIs(t *testing.T) {
	for _, word := range []string{"", "a", "two words", "it's", `"$HOME"`, "`id`", "a\nb", `\`, "*", "~", "-n", "é", "!"} {
		for _, shell := range allShells(t) {
			if got, _, err := run(t, shell, "printf '[%s]' "+shellWord(word)); err != nil || got != "["+word+"]" {
				t.Errorf("%q is read as %q, %v", word, got, err)
			}
		}
	}
}

func FuzzEveryByteArrivesThroughAShell(f *testing.F) {
	f.Add([]byte("%end\n"), "two words", "/etc/it's")
	f.Add([]byte(endOfFile+"\n"), "'", "/a")
	f.Fuzz(func(t *testing.T, content []byte, word, path string) {
		c := installed()
		c.Files = append(c.Files, File{Path: path, Content: content})
		c.Commands = [][]string{{word}}
		c.SSHKeys = []string{word}
		if c.check() != nil || len(path) > 200 || strings.HasPrefix(path, "/etc/example/") || strings.Count(path, "/") > 3 {
			return
		}
		arrives(t, shells[0], []File{{Path: "/fuzz" + path, Content: content}}, endOfFile)
		if got, _, err := run(t, shells[0], "printf %s "+shellWord(word)); err != nil || got != strings.ReplaceAll(word, "\x00", "") {
			t.Errorf("%q is read as %q, %v", word, got, err)
		}
		if problems := kickstartProblems(string(rendered(t, Kickstart{}, c)[KickstartFile])); len(problems) > 0 {
			t.Errorf("%q, %q: the kickstart file is no more what it was: %v", content, word, problems)
		}
		for _, r := range distributions {
			rendered(t, r, c)
		}
	})
}

func TestAnUpgradeOfTheLoaderIsToldToLeaveTheBootOrderAlone(t *testing.T) {
	programs, command := t.TempDir(), atFirstBoot[1]
	ask := func(path string) string {
		t.Helper()
		cmd := exec.Command(tool(t, "dash"), command[1:]...)
		cmd.Env = []string{"PATH=" + path}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return string(out)
	}
	if got := ask(programs); got != "" {
		t.Errorf("without debconf: %s", got)
	}
	// What it is told, and what it says to that: nothing, if it is right.
	script := "#!/bin/sh\ntee /dev/stderr | /usr/bin/debconf-set-selections --checkonly\n"
	if err := os.WriteFile(programs+"/debconf-set-selections", []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	want := "grub-efi-amd64 grub2/update_nvram boolean false\ngrub-efi-arm64 grub2/update_nvram boolean false\n"
	if got := ask(programs + ":/usr/bin:/bin"); got != want {
		t.Errorf("it is told %q, want %q", got, want)
	}
}
