package provision

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/pxe"
)

const (
	alphaMAC = pxe.MAC("52:54:00:00:00:01")
	betaMAC  = pxe.MAC("52:54:00:00:00:02")
)

func digest(b byte) v1alpha1.SHA256 { return v1alpha1.SHA256(strings.Repeat(string(b), 64)) }

// homelab is a cluster with a control-plane node alpha and a worker beta.
func homelab() inventory.Inventory {
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }
	minSize := resource.MustParse("100Gi")
	return inventory.Inventory{
		Clusters: []v1alpha1.Cluster{{
			ObjectMeta: named("cluster"),
			Spec: v1alpha1.ClusterSpec{
				Network:         v1alpha1.NetworkSpec{CIDR: "192.168.1.0/24", Gateway: "192.168.1.1", DHCP: v1alpha1.DHCPProxy},
				OperatingSystem: "debian",
				SSHKeys:         []string{"ssh-ed25519 AAAAC3Nza you@home"},
				Kubernetes: v1alpha1.KubernetesSpec{
					Version: "v1.33.5+k3s1",
					Files: []v1alpha1.KubernetesFiles{{
						Architecture: v1alpha1.AMD64,
						Binary:       v1alpha1.File{URL: "https://example.org/k3s", SHA256: digest('b')},
						Images:       []v1alpha1.File{{URL: "https://example.org/k3s-airgap-images-amd64.tar.zst", SHA256: digest('c')}},
					}},
				},
			},
		}},
		OperatingSystems: []v1alpha1.OperatingSystem{{
			ObjectMeta: named("debian"),
			Spec: v1alpha1.OperatingSystemSpec{
				Format: v1alpha1.FormatImage,
				Media: []v1alpha1.Medium{{
					Architecture: v1alpha1.AMD64,
					File:         v1alpha1.File{URL: "https://example.org/debian.raw.zst?x=1", SHA256: digest('a')},
				}},
				KernelArguments: []string{"console=ttyS0"},
			},
		}},
		Nodes: []v1alpha1.Node{
			{ObjectMeta: named("alpha"), Spec: v1alpha1.NodeSpec{
				Role: v1alpha1.ControlPlane, MAC: v1alpha1.MAC(alphaMAC), Address: "192.168.1.10", Architecture: v1alpha1.AMD64,
				Disk:   &v1alpha1.DiskHint{Serial: "S1", MinSize: &minSize},
				Labels: map[string]v1alpha1.LabelValue{"rack": "1"},
				Taints: []v1alpha1.Taint{{Key: "dedicated", Value: "control", Effect: "NoSchedule"}},
			}},
			{ObjectMeta: named("beta"), Spec: v1alpha1.NodeSpec{
				Role: v1alpha1.Worker, MAC: v1alpha1.MAC(betaMAC), Address: "192.168.1.11", Architecture: v1alpha1.AMD64,
			}},
		},
	}
}

// scene is a backend with everything around it.
type scene struct {
	*Backend
	t         *testing.T
	inventory inventory.Inventory
	ledger    *Ledger

	mu           sync.Mutex
	now          time.Time
	observations []pxe.Observation
	credentials  int // how often credentials were made
	fail         error
}

func newScene(t *testing.T, claims ...Claim) *scene {
	t.Helper()
	s := &scene{t: t, inventory: homelab(), ledger: NewLedger(claims, nil), now: t0}
	backend, err := NewBackend(Config{
		Inventory: func() inventory.Inventory { return s.inventory },
		Claims:    s.ledger,
		Credentials: func(_ context.Context, node *v1alpha1.Node, claim Claim) ([]k3s.File, error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.credentials++
			return []k3s.File{{Path: "/etc/" + node.Name, Content: []byte(claim.Purpose)}}, s.fail
		},
		Service:  Service{BaseURL: "http://192.168.1.2:7480/", SecureURL: "https://192.168.1.2:7443", CA: []byte("-----BEGIN CERTIFICATE-----\n")},
		Observer: func(o pxe.Observation) { s.mu.Lock(); defer s.mu.Unlock(); s.observations = append(s.observations, o) },
		Now:      func() time.Time { s.mu.Lock(); defer s.mu.Unlock(); return s.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Backend = backend
	return s
}

func (s *scene) at(d time.Duration) { s.mu.Lock(); defer s.mu.Unlock(); s.now = after(d) }

// last is the last observation, the zero one if there is none.
func (s *scene) last() pxe.Observation {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.observations) == 0 {
		return pxe.Observation{}
	}
	return s.observations[len(s.observations)-1]
}

func (s *scene) state(mac pxe.MAC) State {
	c, ok := s.ledger.Get(mac)
	if !ok {
		s.t.Fatalf("no claim of %s", mac)
	}
	return c.State(s.c.Now())
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }
