//go:build linux

package preseed

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/test/lab"
)

// netboot is where Debian's package of the installer has its kernel and ramdisk.
const netboot = "/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64"

// declared is a cluster of one machine with this MAC, that is to be installed by the
// Debian Installer.
func declared(t *testing.T, l *lab.Lab, address string) serverConfig {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "k3s")
	if err := os.WriteFile(binary, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	mac, err := pxe.ParseMAC(address)
	if err != nil {
		t.Fatal(err)
	}
	inv := inventory.Inventory{
		Clusters: []v1alpha1.Cluster{{
			ObjectMeta: metav1.ObjectMeta{Name: "lab"},
			Spec: v1alpha1.ClusterSpec{
				Network: v1alpha1.NetworkSpec{
					CIDR: v1alpha1.CIDR(l.Network.LAN.Masked().String()), Gateway: v1alpha1.Address(l.Network.Gateway.String()), DHCP: v1alpha1.DHCPProxy,
				},
				OperatingSystem: "debian", SSHKeys: []string{"ssh-ed25519 AAAAC3Nza you@home"},
				Kubernetes: v1alpha1.KubernetesSpec{Version: "v1.33.5+k3s1", Files: []v1alpha1.KubernetesFiles{{
					Architecture: v1alpha1.AMD64, Binary: fileURL(t, binary),
				}}},
			},
		}},
		OperatingSystems: []v1alpha1.OperatingSystem{{
			ObjectMeta: metav1.ObjectMeta{Name: "debian"},
			Spec: v1alpha1.OperatingSystemSpec{
				Format: v1alpha1.FormatPreseed, KernelArguments: []string{"console=ttyS0"},
				Media: []v1alpha1.Medium{{
					Architecture: v1alpha1.AMD64,
					Files: []v1alpha1.TreeFile{
						{Path: "linux", File: fileURL(t, netboot+"/linux")}, {Path: "initrd.gz", File: fileURL(t, netboot+"/initrd.gz")},
					},
					// The lab's internet has no packages.
					Packages: v1alpha1.URL("http://" + l.Network.Gateway.String() + "/debian"),
				}},
			},
		}},
		Nodes: []v1alpha1.Node{{
			ObjectMeta: metav1.ObjectMeta{Name: "alpha"},
			Spec: v1alpha1.NodeSpec{
				Role: v1alpha1.ControlPlane, MAC: v1alpha1.MAC(mac), Address: "10.77.0.20", Architecture: v1alpha1.AMD64,
			},
		}},
	}
	return serverConfig{
		Interface: lab.BridgeName, Address: l.Network.Laptop, BootFiles: bootFiles(t), Cache: t.TempDir(),
		Cluster: inv.Clusters[0], System: inv.OperatingSystems[0], Node: inv.Nodes[0],
	}
}

// The Debian Installer takes its preseed file and our script, and tells us by it
// where it is and that it failed: it is not given a mirror that has anything.
func TestTheDebianInstallerIsLedByItsPreseedFile(t *testing.T) {
	l := lab.New(t, lab.Options{})
	m, err := l.Machine(lab.MachineConfig{Memory: 1536})
	if err != nil {
		t.Fatal(err)
	}
	s := startServer(t, l.Network.Namespace, declared(t, l, m.Config.MAC.String()))
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Minute)
	defer cancel()
	if err := m.PowerOn(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			serial, err := os.ReadFile(m.SerialLog())
			t.Logf("the end of what was on the screen (%v):\n%s", err, plain(serial))
		}
	})
	s.sees(ctx, t, append([]step{
		{"the kernel, out of the tree", func(o pxe.Observation) bool { return o.Stage == pxe.StageMedia && o.Message == "linux" }},
		{"the initial ramdisk", func(o pxe.Observation) bool { return o.Stage == pxe.StageMedia && o.Message == "initrd.gz" }},
	}, led...))
}

// step is what the server must see.
type step struct {
	what string
	fits func(pxe.Observation) bool
}

// led are the steps of an installer that has its preseed file.
var led = []step{
	{"a report of our script, from the declared address", func(o pxe.Observation) bool {
		return o.Stage == pxe.StageInstalling && strings.Contains(o.Message, "the Debian Installer is at") && o.From.String() == "10.77.0.20"
	}},
	{"that it wants to choose the mirror, as the last step that it can", func(o pxe.Observation) bool {
		return o.Stage == pxe.StageInstalling && strings.Contains(o.Message, "choose-mirror")
	}},
}

// sees waits for the steps.
func (s *running) sees(ctx context.Context, t *testing.T, steps []step) {
	t.Helper()
	for _, want := range steps {
		o, err := s.waitFor(ctx, want.fits)
		if err != nil {
			t.Fatalf("%s: %v\n%s", want.what, err, s.story())
		}
		t.Logf("%s: %s", want.what, o.Message)
	}
	t.Log("\n" + s.story())
}

// plain is the end of a terminal's output without its control sequences.
func plain(b []byte) string {
	b = regexp.MustCompile(`\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>])`).ReplaceAll(b, nil)
	if len(b) > 4000 {
		b = b[len(b)-4000:]
	}
	return string(b)
}
