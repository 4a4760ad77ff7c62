package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files and the generated documentation anew")

// binary is the program as a user runs it.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "bootstrapper")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "bootstrapper")
		build := exec.Command("go", "build", "-o", binary, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "cannot build the program: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// bootstrapper runs the program and gives its output and exit code.
func bootstrapper(t *testing.T, change func(*exec.Cmd), args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if change != nil {
		change(cmd)
	}
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

var initFlags = []string{"--cidr", "192.0.2.0/24", "--gateway", "192.0.2.1",
	"--node", "name=alpha,mac=52-54-00-AB-CD-EF,address=192.0.2.20", "--node", "name=beta,mac=52:54:00:ab:cd:f0,role=Worker"}

func TestInitThenCheck(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	out, errs, code := bootstrapper(t, nil, append([]string{"init", dir}, initFlags...)...)
	if code != 0 || !strings.Contains(out, "Wrote 24 files") {
		t.Fatalf("init: code %d\n%s%s", code, out, errs)
	}
	out, errs, code = bootstrapper(t, nil, "check", "--host=false", dir)
	if code != exitFailed || strings.Count(out, "\n") != 2 || !strings.Contains(out, "debian-12.yaml:24: error: OperatingSystem/debian-12: spec.media[0].sha256: is still to be filled in") || errs != "" {
		t.Fatalf("check of what lacks a digest: code %d\n%s%s", code, out, errs)
	}

	system := filepath.Join(dir, "bootstrap/cluster/operatingsystems/debian-12.yaml")
	content, err := os.ReadFile(system)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(system, bytes.Replace(content, []byte("FILL-IN"), bytes.Repeat([]byte("0a"), 32), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	out, errs, code = bootstrapper(t, nil, "check", "--host=false", dir)
	if code != 0 || out != "sound: 0 errors, 0 warnings in 4 objects of 18 files (15 documents of other kinds)\n" || errs != "" {
		t.Fatalf("check of a filled in repository: code %d\n%s%s", code, out, errs)
	}

	before, _ := os.ReadFile(system)
	out, errs, code = bootstrapper(t, nil, append([]string{"init", dir}, initFlags...)...)
	after, _ := os.ReadFile(system)
	if code != exitFailed || !strings.Contains(errs, "nothing was written") || !strings.Contains(errs, system) || !bytes.Equal(before, after) {
		t.Errorf("a second init: code %d\n%s%s", code, out, errs)
	}
}

// The repository that the cluster follows is one flag, and one object more.
func TestInitWithARepositoryThenCheck(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	flags := append([]string{"init", dir, "--repository", "https://github.com/you/homelab.git", "--image-sha256", strings.Repeat("0a", 32)}, initFlags...)
	out, errs, code := bootstrapper(t, nil, flags...)
	if code != 0 || !strings.Contains(out, "will follow https://github.com/you/homelab.git") {
		t.Fatalf("init: code %d\n%s%s", code, out, errs)
	}
	out, errs, code = bootstrapper(t, nil, "check", "--host=false", dir)
	if code != 0 || !strings.HasPrefix(out, "sound: 0 errors, 0 warnings in 5 objects") || errs != "" {
		t.Fatalf("check: code %d\n%s%s", code, out, errs)
	}
	_, errs, code = bootstrapper(t, nil, append([]string{"init", dir + "2", "--branch", "live"}, initFlags...)...)
	if code != exitUsage || !strings.Contains(errs, "say the repository too") {
		t.Errorf("a branch of no repository: code %d\n%s", code, errs)
	}
}

func TestABrokenRepositoryGivesEachFinding(t *testing.T) {
	out, errs, code := bootstrapper(t, nil, "check", "--host=false", "testdata/broken")
	if code != exitFailed || errs != "" {
		t.Errorf("code %d, stderr %s", code, errs)
	}
	golden(t, "testdata/broken.golden", out)

	out, _, code = bootstrapper(t, nil, "check", "--host=false", "-o", "json", "testdata/broken")
	var s summary
	if err := json.Unmarshal([]byte(out), &s); err != nil || code != exitFailed {
		t.Fatalf("code %d, %v", code, err)
	}
	if s.Errors+s.Warnings != len(s.Findings) || s.Errors == 0 || s.Findings[0].Rule != "EvenControlPlane" || s.Findings[1].File == "" {
		t.Errorf("the JSON is not what the text is: %+v", s)
	}
}

func TestExitCodes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--version"}, 0, "bootstrapper version"},
		{nil, 0, "check"},
		{[]string{"chekc"}, exitUsage, `no command "chekc"`},
		{[]string{"check"}, exitUsage, "wants one directory"},
		{[]string{"check", "a", "b"}, exitUsage, "wants one directory"},
		{[]string{"check", "--nonsense", "."}, exitUsage, "unknown flag: --nonsense: see bootstrapper check --help"},
		{[]string{"check", "-o", "xml", "."}, exitUsage, "want text or json"},
		{[]string{"check", "--host=false", "/nowhere"}, exitUsage, "/nowhere"},
		{[]string{"check", "--host=false", file}, exitUsage, "is not a directory"},
		{[]string{"init", t.TempDir(), "--cidr", "192.0.2.7/24"}, exitUsage, "no host bits"},
		{[]string{"init", t.TempDir(), "--node", "mac=x"}, exitUsage, "MAC"},
		{[]string{"init", t.TempDir(), "--node", "mac=52:54:00:00:00:01"}, exitUsage, "has no name"},
		{[]string{"init", t.TempDir(), "--node", "name=a,name=b"}, exitUsage, "name is given twice"},
		{[]string{"check", "--http-port", "0", "."}, exitUsage, "want a port from 1 to 65535"},
		{[]string{"seed", "--http-port", "8443", "--https-port", "8443", "."}, exitUsage, "are both 8443"},
		{[]string{"seed", "--timeout", "boot=soon", "."}, exitUsage, "want a positive duration"},
		{[]string{"seed", "--output", "xml", "."}, exitUsage, "want plain, terminal or json"},
		{[]string{"seed"}, exitUsage, "wants one directory"},
		{[]string{"help", "nonsense"}, exitUsage, `no command "nonsense"`},
		{[]string{"init", t.TempDir(), "--node", "name=a,colour=red"}, exitUsage, `unknown key "colour"`},
		{[]string{"init", t.TempDir(), "--cidr", "192.0.2.0/24", "--gateway", "10.0.0.1"}, exitUsage, "spec.network.gateway"},
		{[]string{"discovered", "a", "b"}, exitUsage, "wants one directory, or none"},
		{[]string{"discovered", "--kubeconfig", "/nowhere"}, exitFailed, "/nowhere"},
		{[]string{"discovered", "--kubeconfig", file}, exitFailed, "there is no kubeconfig: name the kubeconfig that seed wrote"},
	} {
		out, errs, code := bootstrapper(t, nil, tc.args...)
		if code != tc.code || !strings.Contains(out+errs, tc.says) {
			t.Errorf("%q: code %d, want %d, output %q", tc.args, code, tc.code, out+errs)
		}
	}
}

func TestCheckJudgesThisMachine(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: a network namespace needs root; run the tests as root")
	}
	dir := filepath.Join(t.TempDir(), "home")
	sum := strings.Repeat("0a", 32)
	if out, errs, code := bootstrapper(t, nil, append([]string{"init", dir, "--image-sha256", sum}, initFlags...)...); code != 0 {
		t.Fatalf("init: code %d\n%s%s", code, out, errs)
	}
	// An empty network namespace is a machine without a network.
	own := func(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET} }
	out, errs, code := bootstrapper(t, own, "check", dir)
	want := "error: this machine: interface: no interface of this machine stands in the cluster's network 192.0.2.0/24; there is no interface but the loopback; connect this machine to the network 192.0.2.0/24, or correct network.cidr\n" +
		"not sound: 1 error, 0 warnings in 4 objects of 18 files (15 documents of other kinds)\n"
	if code != exitFailed || out != want {
		t.Errorf("code %d\n%s%s", code, cmp.Diff(want, out), errs)
	}
	out, errs, code = bootstrapper(t, own, "init", t.TempDir())
	if code != exitUsage || !strings.Contains(errs, "no default route to take the network from: say --cidr and --gateway") {
		t.Errorf("init without a network: code %d\n%s%s", code, out, errs)
	}
}

// golden compares with a file that a person can read.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s is stale; if the change is meant, write it anew: go test ./bootstrapper -update (-want +got):\n%s", path, diff)
	}
}
