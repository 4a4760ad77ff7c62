//go:build linux

package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/manifests"
	"github.com/rhizome-dev/rhizome/test/lab"
	"github.com/rhizome-dev/rhizome/test/lab/repository"
)

func TestStartTimeIsReadPastAnyProgramName(t *testing.T) {
	const rest = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21"
	tests := []struct {
		stat, want string
		bad        bool
	}{
		{"42 (lab)" + rest, "4711", false},
		{"42 (a) b (c)" + rest, "4711", false},
		{"42 (lab) S 1 2", "", true},
		{"42 (lab)" + strings.Replace(rest, "S", "Z", 1), "", true},
		{"", "", true},
	}
	for _, test := range tests {
		got, err := startTime([]byte(test.stat))
		if got != test.want || (err != nil) != test.bad {
			t.Errorf("startTime(%q) = %q, %v", test.stat, got, err)
		}
	}
}

func TestAProcessIsKnownByMoreThanItsNumber(t *testing.T) {
	self, err := identify(os.Getpid())
	if err != nil || !self.alive() {
		t.Fatalf("this process: %+v, %v", self, err)
	}
	self.Start = "1"
	if self.alive() {
		t.Error("another process with the same number counts as alive")
	}
}

// What the lab declares passes the checks that its user's manifests must pass.
func TestLabsManifestsPassTheChecks(t *testing.T) {
	digest := strings.Repeat("ab", 32)
	dir := t.TempDir()
	err := state{
		LAN: "10.77.0.0/24", Gateway: "10.77.0.1", Repository: "http://10.77.0.1/lab.git", Charts: "http://10.77.0.1/charts",
		Machines: []machineState{{Name: "node1", MAC: "52:54:00:01:02:03", Address: "10.77.0.10", Disk: "node1-disk0"}},
	}.writeRepository(dir, repository.Options{
		Release: repository.Release{
			Version: "v1.33.13+standin",
			Binary:  repository.File{URL: "file:///cache/k3s", SHA256: digest},
			Images:  []repository.File{{URL: "file:///cache/k3s-airgap-images-amd64.tar.zst", SHA256: digest}},
		},
		Image:  lab.OSImage{Path: "/cache/os.raw.zst", SHA256: digest},
		Loader: "GRUB",
		GitOps: &repository.GitOps{ArgoCD: repository.ArgoCD{Name: "rhizome.test/argocd:v2.14.21"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	inv, findings, err := manifests.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, finding := range append(findings, inventory.Check(inv)...) {
		t.Errorf("%+v", finding)
	}
	cluster, err := inv.Cluster()
	if err != nil {
		t.Fatal(err)
	}
	if cluster.Spec.PXE.Loader != "GRUB" || len(cluster.Spec.Kubernetes.Files) != 1 || len(inv.Nodes) != 1 {
		t.Errorf("the manifests say %+v", cluster.Spec)
	}
	if _, err := os.Stat(filepath.Join(dir, "gitops.yaml")); err != nil {
		t.Errorf("nothing says what the cluster follows: %v", err)
	}
}

func TestOneOfTheGrownMachinesHasABIOS(t *testing.T) {
	firmware := map[lab.Firmware]int{}
	for number := range 3 {
		config, role := keepOptions{firmware: "UEFI"}.machine(number + 1)
		firmware[config.Firmware]++
		if (role == "ControlPlane") != (number == 0) {
			t.Errorf("machine %d is a %s", number+1, role)
		}
	}
	if firmware[lab.BIOS] != 1 || firmware[lab.UEFI] != 2 {
		t.Errorf("firmwares: %v", firmware)
	}
}

func TestTheFirstMachinesAreServers(t *testing.T) {
	o := keepOptions{firmware: "BIOS", machines: 4, servers: 3}
	for number := range o.machines {
		config, role := o.machine(number + 1)
		if (role == "ControlPlane") != (number < 3) || number == 0 && config.Firmware != lab.BIOS || number < 3 && config.Memory < 3072 {
			t.Errorf("machine %d is a %s: %+v", number+1, role, config)
		}
	}
	for _, o := range []upOptions{{machines: 3, servers: 2}, {machines: 2, servers: 3}, {machines: 3}, {machines: 9, servers: 7}} {
		o.firmware = string(lab.UEFI)
		if err := o.check(); err == nil || !strings.Contains(err.Error(), "--servers") {
			t.Errorf("%d servers of %d machines: %v", o.servers, o.machines, err)
		}
	}
	if err := (upOptions{firmware: "UEFI", machines: 4, servers: 3}).check(); err != nil {
		t.Error(err)
	}
}

func TestWhatChangedIsCommittedOnce(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "a", "b"} {
		if err := repository.WriteNode(dir, repository.Node{Name: name, MAC: "52:54:00:00:00:01", Address: "10.77.0.10"}); err != nil {
			t.Fatal(err)
		}
		if err := commit(t.Context(), dir, "declare "+name); err != nil {
			t.Fatal(err)
		}
	}
	log, err := git(t.Context(), dir, "log", "--format=%s")
	if err != nil || log != "declare b\ndeclare a" {
		t.Errorf("the log is %q, %v", log, err)
	}
}

// The commands around the seed, with a stand-in for the bootstrapper that looks
// about and fails: what is shown then is that the lab stays, and that nothing
// stays after `lab down`.
func TestLabUpLeavesTheLabToLookAtAndDownLeavesNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: the lab makes network namespaces and needs root; run the test as root")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "lab")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	// The image is taken from the real cache; the lab itself goes elsewhere.
	real, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lab.BuildImage(t.Context(), os.Stderr); err != nil {
		t.Fatal(err)
	}
	cache, err := os.MkdirTemp("", "lab-up-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(cache) })
	if err := os.MkdirAll(filepath.Join(cache, "rhizome", "lab"), 0o755); err != nil {
		t.Fatal(err)
	}
	images, err := filepath.Glob(filepath.Join(real, "rhizome", "lab", "image-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range images {
		if err := os.Symlink(image, filepath.Join(cache, "rhizome", "lab", filepath.Base(image))); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, script string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("k3s-airgap-images-amd64.tar.zst", "")
	argoCD := write("argocd-images-amd64.tar.zst", "")
	if err := os.WriteFile(filepath.Join(dir, "name"), []byte("rhizome.test/argocd:v1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	module, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/argoproj/argo-cd/v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(strings.TrimSpace(string(module)), "manifests"), filepath.Join(dir, "manifests")); err != nil {
		t.Fatal(err)
	}
	k3s := write("k3s", "echo v1.33.13+standin\n")
	bootstrapper := write("bootstrapper", `echo "seeding: $*"; ip -brief address; exit 7`+"\n")
	run := func(args ...string) (string, int) {
		cmd := exec.Command(program, args...) // also after the test's context has ended
		cmd.Env = append(os.Environ(), "XDG_CACHE_HOME="+cache, "RHIZOME_LAB_ACCEL=tcg", "K3S_VERSION=")
		out, err := cmd.CombinedOutput()
		if err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	t.Cleanup(func() { run("down") })
	expect := func(wantCode int, want string, args ...string) string {
		t.Helper()
		out, code := run(args...)
		if code != wantCode || !strings.Contains(out, want) {
			t.Errorf("lab %s: exit code %d, want %d, and %q in:\n%s", strings.Join(args, " "), code, wantCode, want, out)
		}
		return out
	}

	expect(0, "No lab is up", "status")
	expect(1, "no lab is up", "exec", "--", "true")
	expect(1, "no lab is up", "heal")
	up := expect(7, "10.77.0.2/24", "up", "--bootstrapper="+bootstrapper, "--k3s="+k3s, "--argocd="+argoCD, "--loader=GRUB", "--", "--flag")
	for _, want := range []string{"seeding: seed --state=", "--flag " + cache, "The lab stays up", "lab down"} {
		if !strings.Contains(up, want) {
			t.Errorf("%q is missing in\n%s", want, up)
		}
	}
	expect(0, "machine node1  off  UEFI", "status")
	expect(1, "there is no cluster yet", "kubectl", "get", "nodes")
	expect(1, "there is no cluster yet", "heal")
	// The machines' board, which heal declares.
	expect(0, `"RedfishVersion"`, "exec", "--", "curl", "--insecure", "--fail", "--silent", "https://10.77.0.3/redfish/v1/")
	expect(0, "10.77.0.2/24", "exec", "--", "ip", "-brief", "address")
	// What the cluster would follow, and install Argo CD from.
	expect(0, "refs/heads/main", "exec", "--", "git", "ls-remote", "http://10.77.0.1/lab.git")
	expect(0, "argo-cd-7.9.1.tgz", "exec", "--", "curl", "--fail", "--silent", "http://10.77.0.1/charts/index.yaml")
	if out, code := run("exec", "--", "git", "-C", filepath.Join(cache, "rhizome", "lab", "up", "repository"), "push", "--quiet", "http://10.77.0.1/lab.git", "HEAD:refs/heads/other"); code == 0 {
		t.Errorf("anybody may push to the lab's repository:\n%s", out)
	}
	expect(7, "going on with it", "up", "--bootstrapper="+bootstrapper, "--k3s="+k3s, "--argocd="+argoCD)

	shell := exec.CommandContext(t.Context(), program, "exec", "--", "sh", "-c", "echo inside; exec sleep 1000")
	shell.Env = append(os.Environ(), "XDG_CACHE_HOME="+cache)
	said, err := shell.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	// `lab down` ends what is inside, not what is about to enter.
	if line, err := bufio.NewReader(said).ReadString('\n'); line != "inside\n" {
		t.Fatalf("the shell said %q, %v", line, err)
	}
	expect(0, "The lab is gone", "down")
	if err := shell.Wait(); err == nil {
		t.Error("the shell in the lab went on to its own end after `lab down`")
	}
	expect(0, "No lab is up", "down")
	if _, err := os.Lstat(filepath.Join(cache, "rhizome", "lab", "up")); !os.IsNotExist(err) {
		t.Errorf("the lab's directory is still there: %v", err)
	}

	// A lab whose keeper was killed.
	expect(7, "", "up", "--bootstrapper="+bootstrapper, "--k3s="+k3s, "--argocd="+argoCD)
	t.Setenv("XDG_CACHE_HOME", cache)
	_, s, err := readState()
	if err != nil {
		t.Fatal(err)
	}
	keeper, err := os.FindProcess(s.Keeper.PID)
	if err != nil {
		t.Fatal(err)
	}
	if err := keeper.Kill(); err != nil {
		t.Fatal(err)
	}
	for s.Keeper.alive() {
		time.Sleep(10 * time.Millisecond)
	}
	expect(0, "not shut down", "status")
	expect(0, "Removed what a lab had left", "down")
}
