package initconfig

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/installer/disk"
	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
)

// scripts are all shell scripts that a machine is handed, by where they come from.
func scripts(t *testing.T) map[string]string {
	ks := string(rendered(t, Kickstart{}, installed())[KickstartFile])
	var user struct{ Autoinstall autoinstall }
	if err := yaml.Unmarshal(rendered(t, Autoinstall{}, installed())[UserData], &user); err != nil {
		t.Fatal(err)
	}
	install := string(rendered(t, Preseed{}, installed())[PreseedScript])
	_, late, _ := strings.Cut(install, "cat >\"$root\"/tmp/rhizome/late.sh <<'"+endOfPart+"'\n")
	late, _, ok := strings.Cut(late, endOfPart)
	if !ok {
		t.Fatal("there is no late.sh")
	}
	out := map[string]string{
		"installer.sh": string(installerScript), "preseed-disk.sh": string(preseedDisk), "preseed-watch.sh": string(preseedWatch),
		"%pre": section(t, ks, "%pre", 1), "%pre-install": section(t, ks, "%pre-install", 1),
		"%post": section(t, ks, "%post", 1), "%post --nochroot": section(t, ks, "%post", 2), "%onerror": section(t, ks, "%onerror", 1),
		PreseedScript: install, "late.sh": late,
	}
	for i, command := range atFirstBoot {
		out[fmt.Sprintf("first boot %d", i)] = command[2]
	}
	for kind, commands := range map[string][]string{
		"early": user.Autoinstall.EarlyCommands, "late": user.Autoinstall.LateCommands, "error": user.Autoinstall.ErrorCommands,
	} {
		for i, c := range commands {
			out[fmt.Sprintf("%s-command %d", kind, i)] = c
		}
	}
	return out
}

func TestEveryScriptPassesShellcheck(t *testing.T) {
	check := tool(t, "shellcheck")
	for name, script := range scripts(t) {
		// 2016: a first boot's command may hold a dollar sign in quotes, which is meant.
		cmd := exec.Command(check, "--shell=sh", "--exclude=SC2016", "-")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

func TestThePreseedFileIsOneForDebconf(t *testing.T) {
	check := tool(t, "debconf-set-selections")
	try := func(text string) (string, error) {
		path := filepath.Join(t.TempDir(), PreseedFile)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(check, "--checkonly", path).CombinedOutput()
		return string(out), err
	}
	text := string(rendered(t, Preseed{}, installed())[PreseedFile])
	if out, err := try(text); err != nil || strings.Contains(strings.ToLower(out), "warning") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := try(text + "d-i lonely\n"); err == nil {
		t.Error("debconf-set-selections takes anything")
	}
	types := map[string]bool{"string": true, "boolean": true, "select": true, "multiselect": true, "password": true, "note": true}
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		words := strings.Fields(line)
		if !strings.HasPrefix(line, "#") && (len(words) < 3 || !types[words[2]] || strings.HasSuffix(line, `\`)) {
			t.Errorf("line %d: %q is not OWNER QUESTION TYPE VALUE", i+1, line)
		}
	}
}

// machine is the sysfs and procfs of a machine with disks of many kinds.
func machine(t *testing.T, keep ...string) string {
	t.Helper()
	identify := make([]byte, 60+512)
	swapped := func(word int, s string) {
		for i := 0; i < len(s); i += 2 {
			identify[60+2*word+i], identify[60+2*word+i+1] = s[i+1], s[i]
		}
	}
	swapped(10, "      S5XXNX0R123456")
	swapped(27, "Samsung SSD 870 EVO 500GB               ")
	pci := "devices/pci0000:00/"
	sata, usb := pci+"0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/", pci+"0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/"
	nvme, virtio := pci+"0000:00:1d.0/0000:01:00.0/nvme/nvme0/nvme0n1/", pci+"0000:00:04.0/virtio1/block/vda/"
	all := map[string]map[string]string{
		"sda": {
			"sys/block/sda": "->../" + sata + "block/sda", "sys/" + sata + "block/sda/size": "976773168\n",
			"sys/" + sata + "block/sda/device": "->../../../0:0:0:0", "sys/" + sata + "type": "0\n",
			"sys/" + sata + "wwid": "naa.5002538f00000001\n", "sys/" + sata + "vpd_pg89": string(identify),
			"sys/" + sata + "vpd_pg80": "\x00\x80\x00\x08  SHORT1",
		},
		"nvme0n1": {
			"sys/block/nvme0n1": "->../" + nvme, "sys/" + nvme + "size": "2000000000\n", "sys/" + nvme + "wwid": "eui.e8238fa6bf530001\n",
			"sys/" + nvme + "device": "->../../nvme0", "sys/" + nvme + "nvme0n1p1/size": "1\n",
			"sys/" + pci + "0000:00:1d.0/0000:01:00.0/nvme/nvme0/model":  "WD Blue\n",
			"sys/" + pci + "0000:00:1d.0/0000:01:00.0/nvme/nvme0/serial": "WD  1234   \n",
		},
		"vda": {
			"sys/block/vda": "->../" + virtio, "sys/" + virtio + "size": "41943040\n", "sys/" + virtio + "serial": "lab-1\n",
			"sys/" + virtio + "device": "->../..",
		},
		"sdb": {
			"sys/block/sdb": "->../" + usb + "block/sdb", "sys/" + usb + "block/sdb/size": "976773168\n",
			"sys/" + usb + "block/sdb/device": "->../../../6:0:0:0", "sys/" + usb + "type": "0\n", "sys/" + usb + "block/sdb/removable": "0\n",
			"sys/" + pci + "0000:00:14.0/usb2/2-1/idVendor": "0781\n", "sys/" + pci + "0000:00:14.0/usb2/2-1/serial": "USB77\n",
		},
		"sdc":     {"sys/block/sdc/size": "100000000\n", "sys/block/sdc/device/type": "0\n", "sys/block/sdc/removable": "1\n", "sys/block/sdc/serial": "CARD\n"},
		"sdd":     {"sys/block/sdd/size": "100000000\n", "sys/block/sdd/device/type": "0\n", "sys/block/sdd/ro": "1\n"},
		"sde":     {"sys/block/sde/size": "0\n", "sys/block/sde/device/type": "0\n"},
		"sdf":     {"sys/block/sdf/size": "100000000\n", "sys/block/sdf/device/type": "0\n", "sys/block/sdf/sdf1/holders/dm-0": ""},
		"sdg":     {"sys/block/sdg/size": "100000000\n", "sys/block/sdg/device/type": "0\n", "proc/self/mounts": "/dev/sdg2 /mnt ext4 rw 0 0\n/dev/sdaa1 /x ext4 rw 0 0\n"},
		"sdh":     {"sys/block/sdh/size": "100000000\n", "sys/block/sdh/device/type": "0\n", "proc/swaps": "Filename Type\n/dev/sdh partition\n"},
		"sdi":     {"sys/block/sdi/size": "100000000\n", "sys/block/sdi/device/type": "5\n"},
		"sr0":     {"sys/block/sr0/size": "2097151\n", "sys/block/sr0/device/type": "5\n"},
		"loop0":   {"sys/block/loop0/size": "100000000\n"},
		"mmcblk0": {"sys/block/mmcblk0/size": "60000000\n", "sys/block/mmcblk0/device/type": "MMC\n", "sys/block/mmcblk0/device/serial": "0x1a2b\n"},
		"mmcblk0boot0": {"sys/block/mmcblk0boot0/size": "8192\n", "sys/block/mmcblk0boot0/device/type": "MMC\n",
			"sys/block/mmcblk0boot0/device/serial": "0x1a2b\n"},
		"mmcblk1":     {"sys/block/mmcblk1/size": "60000000\n", "sys/block/mmcblk1/device/type": "SD\n"},
		"nvme0c0n1":   {"sys/block/nvme0c0n1/size": "2000\n", "sys/block/nvme0c0n1/hidden": "1\n", "sys/block/nvme0c0n1/device/x": ""},
		"cciss!c0d0":  {"sys/block/cciss!c0d0/size": "70000000\n", "sys/block/cciss!c0d0/device/x": ""},
		"proc":        {"proc/self/x": ""},
		"without any": {"sys/block/.keep/x": ""},
	}
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "sys/block"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, files := range all {
		wanted := len(keep) == 0
		for _, k := range keep {
			wanted = wanted || k == name
		}
		if !wanted || name == "without any" {
			continue
		}
		for file, content := range files {
			path := filepath.Join(root, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			var err error
			if to, ok := strings.CutPrefix(content, "->"); ok {
				err = os.Symlink(to, path)
			} else {
				err = os.WriteFile(path, []byte(content), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return root
}

// service is a PXE service that takes reports.
type service struct {
	*httptest.Server
	mu      sync.Mutex
	reports []pxe.Report
	refuse  int // a status; zero: every report is acknowledged
}

func newService(t *testing.T) *service {
	s := new(service)
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		body, err := io.ReadAll(r.Body)
		var report pxe.Report
		if err != nil || json.Unmarshal(body, &report) != nil || r.Method != http.MethodPost || r.URL.Path != "/v1/report" {
			http.Error(w, "no report", http.StatusBadRequest)
			return
		}
		if r.Header.Get("Authorization") != "Bearer example-claim" {
			http.Error(w, "no claim", http.StatusUnauthorized)
			return
		}
		if s.refuse != 0 {
			http.Error(w, "refused", s.refuse)
			return
		}
		s.reports = append(s.reports, report)
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *service) last() pxe.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.reports) == 0 {
		return pxe.Report{}
	}
	return s.reports[len(s.reports)-1]
}

func (s *service) ca() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

// laid is a directory with our part of an installer.
func laid(t *testing.T, i Installation) string {
	t.Helper()
	dir := t.TempDir()
	if _, stderr, err := run(t, shells[0], "set -eu\nroot=\n"+writeFiles(i.installerFiles(dir), endOfPart)); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	return dir
}

// onlyWget is a PATH on which there is every program but curl.
func onlyWget(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range strings.Fields("sh dash busybox cat chmod cut dd dirname env grep mkdir mktemp readlink rm sed sleep tail tr wc wget") {
		if err := os.Symlink(tool(t, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// ours runs our part of an installer.
func ours(t *testing.T, shell []string, dir string, env []string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := exec.Command(tool(t, shell[0]), append(append(shell[1:], dir+"/rhizome-installer"), args...)...)
	cmd.Env = append(os.Environ(), env...)
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	err = cmd.Run()
	return out.String(), said.String(), err
}

func TestTheDiskIsTheOneThatOurOwnInstallerWouldChoose(t *testing.T) {
	s := newService(t)
	root := machine(t)
	disks, err := disk.List(filepath.Join(root, "sys"), filepath.Join(root, "proc"))
	if err != nil || len(disks) < 16 {
		t.Fatalf("%d disks, %v", len(disks), err)
	}
	hints := []plan.DiskHint{{}, {MinBytes: 400e9}, {MinBytes: 400e9, MaxBytes: 600e9}, {MinBytes: 9e18}, {MaxBytes: 25e9}, {Serial: "missing"}}
	for i, d := range disks {
		hints = append(hints, plan.DiskHint{Path: d.Path})
		if d.Serial != "" {
			hints = append(hints, []plan.DiskHint{
				{Serial: d.Serial}, {Serial: strings.ToLower(" " + d.Serial)}, {Serial: d.Serial, MinBytes: 1e15},
			}[i%3])
		}
		if d.WWN != "" {
			_, bare, _ := strings.Cut(d.WWN, ".")
			hints = append(hints, plan.DiskHint{WWN: "0x" + strings.ToUpper(bare)}, plan.DiskHint{WWN: d.WWN, Path: "/dev/vda"})
		}
	}
	chosen := 0
	all := allShells(t)
	for n, hint := range hints {
		shell := all[n%len(all)]
		if hint.Serial != "" {
			// Reading serial numbers takes programs that differ most.
			shell = all[0]
		}
		dir := laid(t, Installation{Disk: hint, ReportURLs: []string{s.URL + "/v1/report"}, CA: s.ca(), Claim: "example-claim"})
		answer, stderr, err := ours(t, shell, dir, []string{"RHIZOME_ROOT=" + root, "RHIZOME_PAUSE=0", "RHIZOME_TRIES=2"}, "disk")
		want, refused := disk.Choose(disks, hint, 0)
		var refusal *disk.Refusal
		switch {
		case refused == nil:
			chosen++
			if err != nil || answer != want.Path+"\n" {
				t.Errorf("%v %+v: %q, %v, want %s\n%s", shell, hint, answer, err, want.Path, stderr)
			}
			if r := s.last(); r.Stage != pxe.StageInstalling || !strings.Contains(r.Disk, want.Path) {
				t.Errorf("%+v: the PXE service was told %+v", hint, r)
			}
		case errors.As(refused, &refusal):
			reason, _ := os.ReadFile(dir + "/reason")
			if err == nil || len(answer) > 0 || !strings.HasPrefix(string(reason), refusal.Rule+": ") {
				t.Errorf("%v %+v: %q, %v, reason %q, want the rule %s\n%s", shell, hint, answer, err, reason, refusal.Rule, stderr)
			}
		}
	}
	if chosen < 10 {
		t.Errorf("only %d of %d hints choose a disk: the test says little", chosen, len(hints))
	}
}

// client is how reports go: the shell of an installer, and the programs that it has.
type client struct {
	shell []string
	path  string
}

// clients are the programs that reports go by: the Debian Installer has no curl.
func clients(t *testing.T) map[string]client {
	all := map[string]client{"curl": {shells[1], os.Getenv("PATH")}, "wget": {shells[1], onlyWget(t)}}
	if inside := inTheDebianInstaller(t); inside != nil {
		all["the Debian Installer's wget"] = client{inside, "/usr/bin:/bin:/usr/sbin:/sbin"}
	}
	return all
}

func TestReportsGoToTheServiceThatTheAuthorityVouchesFor(t *testing.T) {
	tool(t, "curl")
	s, other := newService(t), newService(t)
	odd := `a "quoted" \ word
and $HOME é`
	for name, client := range clients(t) {
		dir := laid(t, Installation{
			// The first one is dead.
			ReportURLs: []string{"https://127.0.0.1:1/v1/report", s.URL + "/v1/report"}, CA: s.ca(), Claim: "example-claim",
		})
		env := []string{"PATH=" + client.path, "RHIZOME_PAUSE=0", "RHIZOME_TRIES=2"}
		for args, want := range map[[3]string]pxe.Report{
			{"report", "packages", odd}: {Stage: pxe.StageInstalling, Step: "packages", Message: "a 'quoted' / word and $HOME "},
			{"installed"}:               {Stage: pxe.StageInstalled, Step: "done", Message: "the installer has ended"},
			{"failed", odd}:             {Stage: pxe.StageFailed, Step: "install", Message: "a 'quoted' / word and $HOME "},
		} {
			_, stderr, err := ours(t, client.shell, dir, env, strings.Split(strings.TrimRight(strings.Join(args[:], "|"), "|"), "|")...)
			if got := s.last(); err != nil || got != want {
				t.Errorf("%s %s: %v, the service was told %+v, want %+v\n%s", name, args[0], err, got, want, stderr)
			}
			if strings.Contains(stderr, "example-claim") {
				t.Errorf("%s %s: the claim is told to whoever looks at the screen", name, args[0])
			}
		}
		// A server with a certificate of its own is told nothing.
		stranger := laid(t, Installation{ReportURLs: []string{other.URL + "/v1/report"}, CA: []byte(authority), Claim: "example-claim"})
		if _, _, err := ours(t, client.shell, stranger, env, "report", "x", "y"); err != nil || len(other.reports) > 0 {
			t.Errorf("%s: %v, and a stranger was told %v", name, err, other.reports)
		}
		if leftovers, err := filepath.Glob(dir + "/report.*"); err != nil || len(leftovers) > 0 {
			t.Errorf("%s leaves %v", name, leftovers)
		}
	}
}

func TestNothingIsInstalledOnADiskThatTheServiceDidNotAcknowledge(t *testing.T) {
	root := machine(t, "vda")
	for by, client := range clients(t) {
		for name, refuse := range map[string]int{"refused": http.StatusForbidden, "unknown": http.StatusNotFound} {
			s := newService(t)
			s.refuse = refuse
			dir := laid(t, Installation{ReportURLs: []string{s.URL + "/v1/report"}, CA: s.ca(), Claim: "example-claim"})
			out, stderr, err := ours(t, client.shell, dir, []string{"PATH=" + client.path, "RHIZOME_ROOT=" + root, "RHIZOME_PAUSE=0", "RHIZOME_TRIES=2"}, "disk")
			reason, _ := os.ReadFile(dir + "/reason")
			if err == nil || out != "" || !strings.Contains(stderr, fmt.Sprint(refuse)) || !strings.Contains(string(reason), "not acknowledged") {
				t.Errorf("%s, %s: %q, %v, reason %q\n%s", by, name, out, err, reason, stderr)
			}
		}
	}
}

func TestTheDebianInstallersStepsAreTold(t *testing.T) {
	s, shell := newService(t), allShells(t)[0]
	dir := laid(t, Installation{ReportURLs: []string{s.URL + "/v1/report"}, CA: s.ca(), Claim: "example-claim"})
	log := filepath.Join(dir, "syslog")
	watch := func(text string) {
		t.Helper()
		if err := os.WriteFile(log, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		// What would restart the machine ends the script.
		script := "sleep() { :; }\nreboot() { exit 3; }\n" + string(preseedWatch)
		if _, stderr, err := run(t, shell, script, "RHIZOME_DIR="+dir, "RHIZOME_LOG="+log, "RHIZOME_PAUSE=0", "RHIZOME_TRIES=2"); err == nil {
			t.Fatalf("it ended well\n%s", stderr)
		}
	}
	watch("main-menu[200]: INFO: Menu item 'netcfg' selected\nmain-menu[200]: INFO: Menu item 'partman-base' selected\n")
	if got := s.last(); got.Stage != pxe.StageFailed || !strings.Contains(got.Message, "said nothing for half an hour at partman-base") {
		t.Errorf("an installer that says nothing: %+v", got)
	}
	if got := s.reports[0]; got.Stage != pxe.StageInstalling || got.Step != "partman-base" {
		t.Errorf("a step: %+v", got)
	}
	watch("main-menu[200]: INFO: Menu item 'bootstrap-base' selected\nbase-installer: error: no mirror\n" +
		"main-menu[200]: WARNING **: Menu item 'bootstrap-base' failed.\n")
	if got := s.last(); got.Stage != pxe.StageFailed || !strings.Contains(got.Message, "step bootstrap-base failed: base-installer: error: no mirror") {
		t.Errorf("a step that failed: %+v", got)
	}
	watch("main-menu[200]: INFO: Menu item 'choose-mirror' selected\nchoose-mirror[9]: WARNING **: mirror does not support the specified release (bookworm)\n")
	if got := s.last(); got.Stage != pxe.StageFailed || !strings.Contains(got.Message, "no release at the mirror") {
		t.Errorf("a mirror that has nothing: %+v", got)
	}
}

func TestThePartitionerIsGivenTheChosenDiskOrNothing(t *testing.T) {
	s, shell := newService(t), allShells(t)[0]
	programs := t.TempDir()
	if err := os.WriteFile(programs+"/debconf-set", []byte("#!/bin/sh\necho debconf-set \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		disks []string
		want  string
	}{
		"one disk":  {[]string{"vda"}, "debconf-set partman-auto/disk /dev/vda\ndebconf-set grub-installer/bootdev /dev/vda\n"},
		"two disks": {[]string{"vda", "nvme0n1"}, ""},
		"no disk":   {[]string{"proc"}, ""},
	} {
		dir := laid(t, Installation{ReportURLs: []string{s.URL + "/v1/report"}, CA: s.ca(), Claim: "example-claim"})
		// The restart ends the script, which would wait for it for ever.
		script := "sleep() { :; }\nreboot() { exit 3; }\n" + string(preseedDisk)
		out, stderr, err := run(t, shell, script, "RHIZOME_DIR="+dir, "RHIZOME_ROOT="+machine(t, c.disks...), "PATH="+programs+":"+os.Getenv("PATH"), "RHIZOME_PAUSE=0", "RHIZOME_TRIES=2")
		if out != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, %v, want %q\n%s", name, out, err, c.want, stderr)
		}
		if c.want == "" && s.last().Stage != pxe.StageFailed {
			t.Errorf("%s: the PXE service was told %+v", name, s.last())
		}
	}
}
