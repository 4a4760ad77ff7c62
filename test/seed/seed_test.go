//go:build linux

package seed

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/rhizome-dev/rhizome/test/firmware"
	"github.com/rhizome-dev/rhizome/test/kube"
	"github.com/rhizome-dev/rhizome/test/lab"
	"github.com/rhizome-dev/rhizome/test/machine"
)

// built is built once: the bootstrapper and the operator as they are shipped.
type built struct {
	dir, bootstrapper string
	programs          machine.Programs
}

var programs = sync.OnceValues(func() (built, error) {
	dir, err := os.MkdirTemp("", "seed-programs-")
	if err != nil {
		return built{}, err
	}
	b := built{dir: dir}
	b.bootstrapper, b.programs, err = machine.Build(dir)
	return b, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if b, _ := programs(); b.dir != "" {
		_ = os.RemoveAll(b.dir)
	}
	os.Exit(code)
}

// home is a lab with one simulated machine, and manifests that declare it.
type home struct {
	t        *testing.T
	lab      *lab.Lab
	machine  *machine.Machine
	programs built
	dir      string // holds manifests, state, cache
}

const declared = "10.77.0.10"

func newHome(t *testing.T) *home {
	t.Helper()
	programs, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	h := &home{t: t, lab: lab.New(t, lab.Options{}), programs: programs, dir: t.TempDir()}
	host, err := h.lab.Network.Attach("alpha", netip.Prefix{}, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	image := make([]byte, 4<<20)
	for i := range image {
		image[i] = byte(rand.Uint32())
	}
	h.machine = &machine.Machine{
		Name: "alpha", MAC: net.HardwareAddr{0x52, 0x54, 0, 0xaa, 0, 1}, UUID: [16]byte{1, 2, 3, 4, 5},
		Address: netip.MustParsePrefix(declared + "/24"), Host: host, Dir: filepath.Join(h.dir, "alpha"),
		Image: digest(t, h.write("disk.raw", image)), Programs: programs.programs, Log: t.Logf,
	}
	h.writeManifests()
	return h
}

func (h *home) write(name string, content []byte) string {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		h.t.Fatal(err)
	}
	return path
}

func digest(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(hash.Sum(nil))
}

func (h *home) writeManifests() {
	h.t.Helper()
	k3s := kube.Standin(h.t)
	disk := filepath.Join(h.dir, "disk.raw")
	h.write("manifests/cluster.yaml", fmt.Appendf(nil, `apiVersion: rhizome.dev/v1alpha1
kind: Cluster
metadata:
  name: home
spec:
  network:
    cidr: 10.77.0.0/24
    gateway: 10.77.0.1
  operatingSystem: fake
  kubernetes:
    version: v1.33.13+k3s1
    files:
    - architecture: amd64
      binary:
        url: file://%s
        sha256: %s
---
apiVersion: rhizome.dev/v1alpha1
kind: OperatingSystem
metadata:
  name: fake
spec:
  format: Image
  media:
  - architecture: amd64
    url: file://%s
    sha256: %s
---
apiVersion: rhizome.dev/v1alpha1
kind: Node
metadata:
  name: alpha
spec:
  role: ControlPlane
  mac: %s
  address: %s
`, k3s, digest(h.t, k3s), disk, digest(h.t, disk), h.machine.MAC, declared))
}

// plugIn gives the machine power until the test ends.
func (h *home) plugIn() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(h.t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := h.machine.Run(ctx); err != nil && ctx.Err() == nil {
			h.t.Errorf("the simulated machine: %v", err)
		}
	}()
	h.t.Cleanup(func() { cancel(); <-done })
}

// run is one run of the bootstrapper.
type run struct {
	cmd    *exec.Cmd
	lines  chan string
	out    output
	closed chan struct{}
}

// output is what the program wrote so far, both streams.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func (h *home) start(args ...string) *run {
	h.t.Helper()
	args = append([]string{"seed", filepath.Join(h.dir, "manifests"), "--state", filepath.Join(h.dir, "state"), "--cache", filepath.Join(h.dir, "cache"),
		"--boot-files", h.programs.programs.Boot, "--interface", lab.BridgeName, "-o", "plain"}, args...)
	r := &run{lines: make(chan string, 4096), closed: make(chan struct{})}
	// Not bound to the test's context: the test itself ends it, in its own way.
	r.cmd = h.lab.Network.Command(context.Background(), h.programs.bootstrapper, args...)
	pipe, err := r.cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	r.cmd.Stderr = &r.out
	if err := r.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() {
		defer close(r.closed)
		defer close(r.lines)
		for scanner := bufio.NewScanner(pipe); scanner.Scan(); {
			line := scanner.Text()
			fmt.Fprintln(&r.out, line)
			h.t.Logf("| %s", line)
			r.lines <- line
		}
	}()
	h.t.Cleanup(func() { _ = r.cmd.Process.Kill() })
	return r
}

func (r *run) output() string { return r.out.String() }

// until waits for a line that matches; false: the program ended before.
func (r *run) until(t *testing.T, pattern string) bool {
	t.Helper()
	want := regexp.MustCompile(pattern)
	limit := time.After(5 * time.Minute)
	for {
		select {
		case line, open := <-r.lines:
			if !open {
				return false
			}
			if want.MatchString(line) {
				return true
			}
		case <-limit:
			t.Fatalf("no line matches %q:\n%s", pattern, r.output())
		}
	}
}

// end waits for the end and gives the exit code; -1 is a signal.
func (r *run) end(t *testing.T) int {
	t.Helper()
	select {
	case <-r.closed:
	case <-time.After(10 * time.Minute):
		t.Fatalf("the bootstrapper does not end:\n%s", r.output())
	}
	err := r.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return r.cmd.ProcessState.ExitCode()
}

func (h *home) kubeconfig() string { return filepath.Join(h.dir, "state", "kubeconfig") }

// versions are the resource versions of everything that a seed applies.
func (h *home) versions() map[string]string {
	h.t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", h.kubeconfig())
	if err != nil {
		h.t.Fatal(err)
	}
	config.Dial = h.lab.Network.DialContext
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		h.t.Fatal(err)
	}
	out := map[string]string{}
	for _, resource := range []schema.GroupVersionResource{
		{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"},
		{Group: "rhizome.dev", Version: "v1alpha1", Resource: "clusters"},
		{Group: "rhizome.dev", Version: "v1alpha1", Resource: "operatingsystems"},
		{Group: "rhizome.dev", Version: "v1alpha1", Resource: "nodes"},
		{Group: "apps", Version: "v1", Resource: "deployments"},
		{Version: "v1", Resource: "secrets"},
		{Version: "v1", Resource: "serviceaccounts"},
		{Version: "v1", Resource: "namespaces"},
		{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"},
		{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterrolebindings"},
	} {
		list, err := client.Resource(resource).List(h.t.Context(), metav1.ListOptions{})
		if err != nil {
			h.t.Fatal(err)
		}
		for _, o := range list.Items {
			out[resource.Resource+" "+o.GetNamespace()+"/"+o.GetName()] = string(o.GetUID()) + " " + o.GetResourceVersion()
		}
	}
	return out
}

// claims are the claims that were ever written, as they are now.
func (h *home) claims() (all []struct {
	Node        string
	Attempt     int
	ExchangedAt time.Time
}) {
	h.t.Helper()
	content, err := os.ReadFile(filepath.Join(h.dir, "state", "claims.json"))
	if err != nil {
		h.t.Fatal(err)
	}
	if err := json.Unmarshal(content, &all); err != nil {
		h.t.Fatal(err)
	}
	return all
}

var phases = []string{"check", "media", "found", "pxe", "claim", "wake", "boot", "install", "join", "kubeconfig", "chart", "manifests", "done"}

// The whole life on one machine: a seed that is killed at the begin and at the
// end of every phase and started again each time, ends in one cluster of one
// installation; run once more it changes nothing; and nobody founds a second one.
func TestASeedThatIsKilledAtEveryPhaseBoundaryEndsInOneClusterOfOneInstallation(t *testing.T) {
	h := newHome(t)
	h.plugIn()
	for _, phase := range phases {
		for _, boundary := range []string{"begin", "(done|skipped)"} {
			r := h.start()
			if !r.until(t, "^"+phase+": "+boundary) {
				t.Fatalf("the run ended before %s: %s:\n%s", phase, boundary, r.output())
			}
			h.kill(r)
			r.end(t)
		}
	}
	last := h.start()
	if code := last.end(t); code != 0 {
		t.Fatalf("the last run ended with %d:\n%s", code, last.output())
	}
	if got := len(h.machine.Wipes()); got != 1 {
		t.Errorf("the disk was wiped %d times, want once", got)
	}
	if claims := h.claims(); len(claims) != 1 || claims[0].Attempt != 1 || claims[0].ExchangedAt.IsZero() {
		t.Errorf("claims: %+v, want one of one attempt, exchanged", claims)
	}
	t.Run("run again it changes nothing", h.changesNothing)
	t.Run("no second cluster is founded without the state", h.foundsNoSecond)
	t.Run("a foreign kubeconfig is not overwritten", h.keepsForeignKubeconfig)
}

// kill ends the bootstrapper as a crash does. nsenter has become the program, so
// the process is the bootstrapper itself.
func (h *home) kill(r *run) {
	h.t.Helper()
	if err := r.cmd.Process.Signal(unix.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		h.t.Fatal(err)
	}
}

func (h *home) changesNothing(t *testing.T) {
	files := func() map[string]string {
		out := map[string]string{}
		entries, err := os.ReadDir(filepath.Join(h.dir, "state"))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Name() != "lock" {
				out[e.Name()] = digest(t, filepath.Join(h.dir, "state", e.Name()))
			}
		}
		return out
	}
	kept, before := files(), h.versions()
	r := h.start()
	if code := r.end(t); code != 0 {
		t.Fatalf("ended with %d:\n%s", code, r.output())
	}
	if diff := cmp.Diff(before, h.versions()); diff != "" {
		t.Errorf("objects of the cluster (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(kept, files()); diff != "" {
		t.Errorf("files of the state (-before +after):\n%s", diff)
	}
	for _, phase := range []string{"media", "pxe", "claim", "wake", "boot", "install"} {
		if !strings.Contains(r.output(), phase+": skipped (") {
			t.Errorf("%s was not skipped", phase)
		}
	}
}

func (h *home) foundsNoSecond(t *testing.T) {
	r := h.start("--state", filepath.Join(h.dir, "state2"))
	if code := r.end(t); code != 1 {
		t.Errorf("ended with %d, want 1", code)
	}
	if out := r.output(); !strings.Contains(out, "found: failed (") || !strings.Contains(out, declared) || !strings.Contains(out, "what to do:") {
		t.Errorf("the refusal does not say what answers, where, and what to do:\n%s", out)
	}
	if got := len(h.machine.Wipes()); got != 1 {
		t.Errorf("the disk was wiped %d times, want once", got)
	}
}

func (h *home) keepsForeignKubeconfig(t *testing.T) {
	foreign := h.write("foreign", []byte("apiVersion: v1\nkind: Config\n"))
	r := h.start("--kubeconfig", foreign)
	if code := r.end(t); code != 1 || !strings.Contains(r.output(), "--kubeconfig") {
		t.Errorf("ended with %d:\n%s", code, r.output())
	}
	if content, err := os.ReadFile(foreign); err != nil || string(content) != "apiVersion: v1\nkind: Config\n" {
		t.Errorf("the file is now %q (%v)", content, err)
	}
}

func TestNothingIsFoundedWhereSomethingListens(t *testing.T) {
	h := newHome(t)
	squatter, err := h.lab.Network.Attach("squatter", netip.MustParsePrefix(declared+"/24"), netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := squatter.Listen("tcp4", declared+":6443")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "220 ready\r\n")
			conn.Close()
		}
	}()
	r := h.start()
	if code := r.end(t); code != 1 || !strings.Contains(r.output(), "found: failed (") || !strings.Contains(r.output(), declared) {
		t.Errorf("ended with %d:\n%s", code, r.output())
	}
	if _, err := os.Stat(filepath.Join(h.dir, "state", "claims.json")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a claim was opened: %v", err)
	}
}

func TestAnInterruptedSeedClosesItsPortsAndSaysHowToGoOn(t *testing.T) {
	h := newHome(t) // nobody plugs the machine in
	for _, signal := range []os.Signal{os.Interrupt, unix.SIGTERM} {
		r := h.start()
		if !r.until(t, "^wake: begin") {
			t.Fatalf("ended early:\n%s", r.output())
		}
		second := h.start()
		if code := second.end(t); code != 1 || !strings.Contains(second.output(), fmt.Sprintf("process %d", r.cmd.Process.Pid)) {
			t.Errorf("a second seed at the same time ended with %d:\n%s", code, second.output())
		}
		if err := r.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		if code := r.end(t); code != 130 {
			t.Errorf("%v: ended with %d, want 130", signal, code)
		}
		if out := r.output(); !strings.Contains(out, "wake: failed (") || !strings.Contains(out, "interrupted") || !strings.Contains(out, "run the same command again") {
			t.Errorf("%v:\n%s", signal, out)
		}
		listener, err := h.lab.Network.Listen("tcp4", h.lab.Network.Laptop.String()+":7480")
		if err != nil {
			t.Fatalf("%v: the port is not closed: %v", signal, err)
		}
		listener.Close()
	}
	if claims := h.claims(); len(claims) != 1 || claims[0].Attempt != 1 {
		t.Errorf("claims: %+v, want the one that was open", claims)
	}
}

func TestAnInstallersFailureIsShownWithItsReasonAndTriedAgainByAPerson(t *testing.T) {
	h := newHome(t)
	const broken = "two disks match: set spec.disk"
	h.machine.Break(broken)
	h.plugIn()
	r := h.start()
	if code := r.end(t); code != 1 || !strings.Contains(r.output(), "install: failed (") || !strings.Contains(r.output(), broken) {
		t.Fatalf("ended with %d:\n%s", code, r.output())
	}
	again := h.start()
	if code := again.end(t); code != 1 || !strings.Contains(again.output(), "attempt 2") {
		t.Errorf("the second run ended with %d:\n%s", code, again.output())
	}
	third := h.start()
	if code := third.end(t); code != 1 || !strings.Contains(third.output(), "attempt 3") {
		t.Errorf("the third run ended with %d:\n%s", code, third.output())
	}
	fourth := h.start()
	if code := fourth.end(t); code != 1 || !strings.Contains(fourth.output(), "claim: failed (") || !strings.Contains(fourth.output(), "--retry") {
		t.Errorf("the fourth run ended with %d:\n%s", code, fourth.output())
	}
	if got := len(h.machine.Wipes()); got != 0 {
		t.Errorf("the disk was wiped %d times", got)
	}
}

func TestStrangersGetNothingAndAreNamed(t *testing.T) {
	h := newHome(t)
	stranger, err := h.lab.Network.Attach("stranger", netip.MustParsePrefix("10.77.0.66/24"), netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	r := h.start()
	if !r.until(t, "^wake: begin") {
		t.Fatalf("ended early:\n%s", r.output())
	}
	laptop := h.lab.Network.Laptop.String()
	other := &machine.Machine{Name: "stranger", Host: stranger}
	secrets := struct {
		PXE struct{ Certificate []byte }
	}{}
	kept, err := os.ReadFile(filepath.Join(h.dir, "state", "secrets.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(kept, &secrets); err != nil {
		t.Fatal(err)
	}
	_, err = machine.Call(t.Context(), other.Client(string(secrets.PXE.Certificate)), "POST", "https://"+laptop+":7443/v1/credentials", "a-guess", nil)
	var refused *machine.Refusal
	if !errors.As(err, &refused) || !strings.HasPrefix(refused.Status, "403") {
		t.Errorf("a guessed claim: %v, want 403", err)
	}
	if !r.until(t, "^wake: warning: 10.77.0.66: refused: ClaimUnknown") {
		t.Errorf("the refusal was not shown:\n%s", r.output())
	}
	for path, want := range map[string]string{"/init/52:54:00:bb:00:01": "404", "/boot/52:54:00:bb:00:01/ipxe": "404", "/media/" + strings.Repeat("0", 64) + "/x": "404"} {
		_, err := machine.Call(t.Context(), other.Client(""), "GET", "http://"+laptop+":7480"+path, "", nil)
		if !errors.As(err, &refused) || !strings.HasPrefix(refused.Status, want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
	outcome, err := firmware.Machine{MAC: net.HardwareAddr{0x52, 0x54, 0, 0xbb, 0, 1}, Kind: firmware.UEFI, UUID: [16]byte{9},
		Waits: []time.Duration{time.Second, time.Second}}.Boot(t.Context(), stranger, "eth0")
	if err != nil || outcome.Local != "no answer" {
		t.Errorf("an undeclared machine: %+v, %v", outcome, err)
	}
	if !r.until(t, "^wake: 52:54:00:bb:00:01 .* no Node declares it") {
		t.Errorf("the undeclared machine was not named:\n%s", r.output())
	}
	h.kill(r)
	r.end(t)
}

func TestOutputForProgramsIsJSONLines(t *testing.T) {
	h := newHome(t)
	r := h.start("-o", "json", "--timeout", "wake=3s")
	if code := r.end(t); code != 1 {
		t.Errorf("ended with %d", code)
	}
	var begun []string
	for _, line := range strings.Split(strings.TrimSpace(r.output()), "\n") {
		var event struct{ Phase, Event, Message, Fix string }
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if event.Event == "begin" {
			begun = append(begun, event.Phase)
		}
		if event.Event == "failed" && (event.Phase != "wake" || !strings.Contains(event.Message, "not done within 3s") || event.Fix == "") {
			t.Errorf("failure: %+v", event)
		}
	}
	if want := phases[:slices.Index(phases, "wake")+1]; !slices.Equal(want, begun) {
		t.Errorf("phases %v, want %v", begun, want)
	}
}
