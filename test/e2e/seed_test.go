//go:build linux

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/rhizome-dev/rhizome/test/lab"
	"github.com/rhizome-dev/rhizome/test/lab/repository"
)

// The phases at whose end the seed is killed, in their order, and what the line
// of their end begins with.
var phases = []string{"check", "media", "found", "pxe", "claim", "wake", "boot", "install", "join", "kubeconfig", "chart", "manifests"}

func ended(phase string) func(string) bool {
	return func(line string) bool {
		return strings.HasPrefix(line, phase+": done (") || strings.HasPrefix(line, phase+": skipped (")
	}
}

// A blank UEFI machine, beside a foreign DHCP server, becomes a cluster, although
// the seed is killed at the end of every one of its phases, and in the middle of
// the installation as well.
func TestAMachineBecomesAClusterAlthoughTheSeedIsKilledAtEveryPhaseBoundary(t *testing.T) {
	s := newSite(t, repository.Options{}, repository.Node{Name: "node1", MAC: "52:54:00:00:00:11", Address: "10.77.0.10", Serial: "node1-disk0"})
	node := s.machine(t, lab.MachineConfig{Name: "node1", MAC: mustMAC("52:54:00:00:00:11")})

	for _, phase := range phases {
		if phase == "install" {
			r := s.seed(t)
			if line, ok := r.waitLine(t.Context(), func(line string) bool {
				return strings.HasPrefix(line, "install: ") && strings.Contains(line, "%")
			}); !ok {
				t.Fatalf("the installation never said how far it is; last line: %q", line)
			}
			r.kill()
			t.Log("KILLED in the middle of the installation")
		}
		r := s.seed(t)
		if _, ok := r.waitLine(t.Context(), ended(phase)); !ok {
			t.Fatalf("the phase %s never ended; the machine's console: %s", phase, node.SerialLog())
		}
		r.kill()
		t.Logf("KILLED at the end of %s", phase)
	}
	if err := s.seed(t).wait(t); err != nil {
		t.Fatalf("the last run: %v", err)
	}

	config, client := s.client(t)
	core, err := client.CoreV1().Nodes().Get(t.Context(), "node1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !nodeReady(core) {
		t.Errorf("core Node node1 is not Ready: %+v", core.Status.Conditions)
	}
	pods, err := client.CoreV1().Pods("rhizome-system").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(pods.Items) != 1 || pods.Items[0].Status.Phase != corev1.PodRunning {
		t.Errorf("want one running pod of the operator, got %s", podPhases(pods.Items))
	}
	if info, err := os.Stat(s.path("kubeconfig")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("kubeconfig: %v, %v; want mode 0600", info, err)
	}
	claims := s.claims(t)
	if len(claims) != 1 || claims[0]["attempt"] != float64(1) {
		t.Errorf("want one claim, at its first attempt: the machine was to be installed once; got %d claims", len(claims))
	}
	if n := node.PowerOns(); n != 1 {
		t.Errorf("the machine was powered on %d times", n)
	}
	noSecretsIn(t, s, node)

	dyn, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("seeding again changes nothing", func(t *testing.T) {
		before := specs(t, dyn)
		if err := s.seed(t).wait(t); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, specs(t, dyn)); diff != "" {
			t.Errorf("(-before +after)\n%s", diff)
		}
		if diff := cmp.Diff(claims, s.claims(t)); diff != "" {
			t.Error("the claims changed") // and are secrets, so they are not shown
		}
	})

	t.Run("a second cluster is refused", func(t *testing.T) {
		r := s.seed(t, "--state="+s.path("other-state"), "--kubeconfig="+s.path("other-kubeconfig"))
		if err := r.wait(t); err == nil {
			t.Fatal("a second cluster was founded, or taken over")
		}
		if !strings.Contains(r.output(), "found: failed") || !strings.Contains(r.output(), "10.77.0.10") {
			t.Errorf("the refusal does not name its phase and what answered:\n%s", r.output())
		}
		if _, err := os.Stat(s.path("other-kubeconfig")); !os.IsNotExist(err) {
			t.Errorf("a kubeconfig was written: %v", err)
		}
		if !node.Running() {
			t.Error("the machine is off")
		}
	})
}

// The other loader and the other firmware, to the point where the machine runs
// from its own disk and has exchanged its claim: until then everything depends
// on the firmware, and after it nothing does.
func TestEveryLoaderAndFirmwareInstalls(t *testing.T) {
	cases := []struct {
		name     string
		firmware lab.Firmware
		loader   string
		form     func(*testing.T, lab.OSImage) lab.OSImage
		after    string
		beside   bool // machines that are to be refused
	}{
		{"GRUB on UEFI", lab.UEFI, "GRUB", nil, "", false},
		{"iPXE on BIOS, and only the machine with the claim", lab.BIOS, "IPXE", nil, "", true},
		{"iPXE on UEFI, from a qcow2 file into the system by kexec", lab.UEFI, "IPXE", asQcow2, "Kexec", false},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			nodes := []repository.Node{{Name: "node1", MAC: "52:54:00:00:00:11", Address: "10.77.0.10", Serial: "node1-disk0"}}
			if test.beside {
				nodes = append(nodes, repository.Node{Name: "waiting", Role: "Worker", MAC: "52:54:00:00:00:12", Address: "10.77.0.11"})
			}
			s := newSiteOf(t, test.form, repository.Options{Loader: test.loader, AfterInstall: test.after}, nodes...)
			node := s.machine(t, lab.MachineConfig{Name: "node1", MAC: mustMAC("52:54:00:00:00:11"), Firmware: test.firmware})

			r := s.seed(t)
			areRefused := func() {}
			if test.beside {
				areRefused = s.powerOnRefused(t, r)
			}
			if _, ok := r.waitLine(t.Context(), ended("install")); !ok {
				t.Fatalf("the machine was not installed; its console: %s", node.SerialLog())
			}
			areRefused()
			if _, ok := r.waitLine(t.Context(), func(line string) bool {
				return strings.Contains(line, "exchanged its claim")
			}); !ok {
				t.Fatalf("the installed system never asked for its credentials; its console: %s", node.SerialLog())
			}
			console, err := os.ReadFile(node.SerialLog())
			if err != nil {
				t.Fatal(err)
			}
			if byKexec := strings.Contains(string(console), "done, starting the installed system's kernel"); byKexec != (test.after == "Kexec") {
				t.Errorf("the machine went into its system by kexec: %v", byKexec)
			}
		})
	}
}

// powerOnRefused turns on, while the first machine's claim is open, one that is
// declared and has no claim and one that is not declared. What it returns is called
// when the first machine is installed, and looks whether the others are still blank.
func (s *site) powerOnRefused(t *testing.T, r *run) (judge func()) {
	t.Helper()
	if _, ok := r.waitLine(t.Context(), ended("claim")); !ok {
		t.Fatal("no claim was opened")
	}
	// Small machines: they are only to be refused.
	waiting := s.machine(t, lab.MachineConfig{Name: "waiting", MAC: mustMAC("52:54:00:00:00:12"), Firmware: lab.BIOS, Memory: 512, CPUs: 1})
	stranger := s.machine(t, lab.MachineConfig{Name: "stranger", MAC: mustMAC("52:54:00:00:00:99"), Firmware: lab.BIOS, Memory: 512, CPUs: 1})
	for _, m := range []*lab.Machine{waiting, stranger} {
		if err := m.PowerOn(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		for _, m := range []*lab.Machine{waiting, stranger} {
			m.PowerOff()
			if blank, err := isBlank(m.DiskPath(0)); err != nil || !blank {
				t.Errorf("%s has no claim, and its disk is not blank any more (%v)", m.Config.Name, err)
			}
		}
		// They asked for a boot long ago by now.
		said := "waiting (52:54:00:00:00:12) is declared and not the first node"
		if n := strings.Count(r.output(), said); n != 1 {
			t.Errorf("the seed named the declared machine without a claim %d times, want once: %q", n, said)
		}
	}
}

// specs is the version of everything in the cluster that a seed writes.
func specs(t *testing.T, dyn dynamic.Interface) map[string]string {
	t.Helper()
	versions := map[string]string{}
	for _, resource := range []schema.GroupVersionResource{
		{Group: "rhizome.dev", Version: "v1alpha1", Resource: "clusters"},
		{Group: "rhizome.dev", Version: "v1alpha1", Resource: "operatingsystems"},
		{Group: "rhizome.dev", Version: "v1alpha1", Resource: "nodes"},
		{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"},
		{Group: "apps", Version: "v1", Resource: "deployments"},
		{Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"},
		{Version: "v1", Resource: "serviceaccounts"},
		{Version: "v1", Resource: "secrets"},
	} {
		list, err := dyn.Resource(resource).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range list.Items {
			if resource.Resource == "secrets" && o.GetNamespace() != "rhizome-system" {
				continue // k3s' own
			}
			key := fmt.Sprintf("%s %s/%s", resource.Resource, o.GetNamespace(), o.GetName())
			versions[key] = fmt.Sprintf("%s generation %d", o.GetUID(), o.GetGeneration())
			if o.GetGeneration() == 0 { // objects without a status of their own
				versions[key] = fmt.Sprintf("%s version %s", o.GetUID(), o.GetResourceVersion())
			}
		}
	}
	return versions
}

func nodeReady(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func podPhases(pods []corev1.Pod) string {
	var all []string
	for _, p := range pods {
		all = append(all, p.Name+" "+string(p.Status.Phase))
	}
	return strings.Join(all, ", ")
}

// noSecretsIn looks for the claim's identifier and the keys of the authorities in
// what the machine and the network showed.
func noSecretsIn(t *testing.T, s *site, node *lab.Machine) {
	t.Helper()
	console, err := os.ReadFile(node.SerialLog())
	if err != nil {
		t.Fatal(err)
	}
	for _, claim := range s.claims(t) {
		id, _ := claim["id"].(string)
		if id == "" {
			t.Fatal("a claim without an identifier: this test looks for nothing")
		}
		if strings.Contains(string(console), id) {
			t.Errorf("the identifier of a claim is on the machine's console")
		}
	}
	if strings.Contains(string(console), "PRIVATE KEY") {
		t.Error("a private key is on the machine's console")
	}
}

func (s *site) machine(t *testing.T, config lab.MachineConfig) *lab.Machine {
	t.Helper()
	m, err := s.Machine(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keepConsole(t, m) })
	return m
}

// keepConsole shows the end of a machine's console when the test failed.
func keepConsole(t *testing.T, m *lab.Machine) {
	if !t.Failed() {
		return
	}
	raw, err := os.ReadFile(m.SerialLog())
	if err != nil {
		t.Log(err)
		return
	}
	lines := strings.Split(string(raw), "\n")
	t.Logf("the end of the console of %s (%s):\n%s", m.Config.Name, filepath.Base(m.SerialLog()),
		strings.Join(lines[max(0, len(lines)-60):], "\n"))
}

func mustMAC(s string) net.HardwareAddr {
	mac, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return mac
}
