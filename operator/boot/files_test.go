package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/power"
	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/media"
	"github.com/rhizome-dev/rhizome/pxe/web"
	"github.com/rhizome-dev/rhizome/pxe/web/webtest"
)

// store is files by themselves, with a snapshot that a test sets.
type store struct {
	*files
	t *testing.T
}

func newStore(t *testing.T, clusters []v1alpha1.Cluster, system v1alpha1.File, archives []media.Source, dirs ...string) *store {
	t.Helper()
	dir := t.TempDir()
	cache, err := media.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	d := newDeclared(nil)
	f := newFiles(cache, dir, dirs, d, archives, slog.New(slog.DiscardHandler), newMetrics(), time.Now)
	f.own = netip.MustParseAddrPort("192.168.1.2:7480")
	s := &store{f, t}
	s.declare(clusters, system)
	return s
}

// declare sets the snapshot: the one machine beta waits.
func (s *store) declare(clusters []v1alpha1.Cluster, system v1alpha1.File) {
	s.t.Helper()
	systems := []v1alpha1.OperatingSystem{{ObjectMeta: metav1.ObjectMeta{Name: "debian"}, Spec: v1alpha1.OperatingSystemSpec{
		Format: v1alpha1.FormatImage, Media: []v1alpha1.Medium{{Architecture: v1alpha1.AMD64, File: system}},
	}}}
	nodes := []v1alpha1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "beta"}, Spec: v1alpha1.NodeSpec{Role: v1alpha1.Worker, MAC: betaMAC, Address: betaAddress, Architecture: v1alpha1.AMD64}}}
	next, err := newSnapshot(clusters, systems, nodes, s.declared.sums)
	if err != nil {
		s.t.Fatal(err)
	}
	s.declared.current.Store(next)
	s.declared.changed.ring()
}

// start fetches until the test ends.
func (s *store) start() {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { _ = s.files.run(ctx) })
	s.t.Cleanup(func() { cancel(); all.Wait() })
}

func (s *store) await(want bool, says string) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("readiness %v, %q", want, says), func() error {
		if ready, message := s.verdict(); ready != want || !strings.Contains(message, says) {
			return fmt.Errorf("%v %s", ready, message)
		}
		return nil
	})
}

func clusterWith(binary v1alpha1.File) []v1alpha1.Cluster {
	return []v1alpha1.Cluster{{ObjectMeta: metav1.ObjectMeta{Name: "home"}, Spec: v1alpha1.ClusterSpec{
		Network: v1alpha1.NetworkSpec{CIDR: "192.168.1.0/24", Gateway: "192.168.1.1"}, OperatingSystem: "debian",
		Kubernetes: v1alpha1.KubernetesSpec{Version: "v1.33.5+k3s1", Files: []v1alpha1.KubernetesFiles{{Architecture: v1alpha1.AMD64, Binary: binary}}},
	}}}
}

// The host's own files, then another pod's, and the internet only for the rest.
func TestTheInternetIsAskedLast(t *testing.T) {
	net := newInternet(t)
	close(net.open)
	system, binary := net.file("debian.raw", 100_000), net.file("k3s", 1000)
	operator := net.file("operator.tar", 5000)
	archive := media.Source{Name: "operator.tar", SHA256: string(operator.SHA256)}

	host := t.TempDir()
	write(t, filepath.Join(host, "operator.tar"), []byte("another file of the same name"))
	write(t, filepath.Join(host, "as-it-was-called-before.tar"), net.files["operator.tar"])
	first := newStore(t, clusterWith(binary), system, []media.Source{archive}, host)
	if n := value(t, first.metrics.mediaMissing); n != 0 {
		t.Fatalf("%v files are missing before anything was looked at", n)
	}
	if ready, message := first.verdict(); ready {
		t.Errorf("ready before anything was looked at: %s", message)
	}
	first.look(first.declared.current.Load())
	if n := value(t, first.metrics.mediaMissing); n != 3 {
		t.Errorf("%v files are missing, want 3", n)
	}
	first.start()
	first.await(true, "serves all 3 files")
	if n := value(t, first.metrics.mediaMissing); n != 0 {
		t.Errorf("%v files are still missing", n)
	}
	if asked := net.asked.Load(); asked != 2 {
		t.Errorf("the internet was asked %d times, want twice: for the image and k3s", asked)
	}
	if n := value(t, first.metrics.mediaFetched.WithLabelValues(fromSource)); n != 101_000 {
		t.Errorf("%v bytes from the internet, want 101000", n)
	}
	if n := value(t, first.metrics.mediaFetched.WithLabelValues(fromHost)); n != 5000 {
		t.Errorf("%v bytes from the host, want 5000", n)
	}

	peer := serveMedia(t, first)
	net.Close()
	second := newStore(t, clusterWith(binary), system, []media.Source{archive})
	second.peers = func() []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1"), peer} }
	second.start()
	second.await(true, "serves all 3 files")
	if n := value(t, second.metrics.mediaFetched.WithLabelValues(fromPeer)); n != 106_000 {
		t.Errorf("%v bytes from the other pod, want 106000", n)
	}
}

// Two pods that start at once: the one with the lower address asks the internet.
func TestOfTwoPodsOneAsksTheInternet(t *testing.T) {
	net := newInternet(t)
	system, binary := net.file("debian.raw", 100_000), net.file("k3s", 1000)
	lower, higher := newStore(t, clusterWith(binary), system, nil), newStore(t, clusterWith(binary), system, nil)
	lower.own, higher.own = netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("192.168.1.2:7480")
	at := serveMedia(t, lower)
	lower.peers = func() []netip.AddrPort { return nil }
	higher.peers = func() []netip.AddrPort { return []netip.AddrPort{at} }
	lower.start()
	eventually(t, "the lower one wants the files", func() error {
		if net.asked.Load() < 2 {
			return errors.New("nobody asks yet")
		}
		return nil
	})
	higher.start()
	higher.await(false, errPeerFetches.Error())
	close(net.open)
	lower.await(true, "serves all")
	higher.await(true, "serves all")
	if asked := net.asked.Load(); asked != 2 {
		t.Errorf("the internet was asked %d times, want twice in all", asked)
	}
}

func TestAFileOfTheLaptopIsRefusedInWords(t *testing.T) {
	net := newInternet(t)
	close(net.open)
	system, binary := net.file("debian.raw", 1000), net.file("k3s", 1000)
	mended := system
	system.URL = "file:///home/me/debian.raw"
	s := newStore(t, clusterWith(binary), system, nil)
	s.start()
	s.await(false, "file:///home/me/debian.raw is a file of the machine that the cluster was founded from")
	eventually(t, "it lacks that file alone", func() error {
		if lacking := s.lacking("beta"); lacking != "debian.raw" {
			return fmt.Errorf("beta lacks %q", lacking)
		}
		return nil
	})
	s.declare(clusterWith(binary), mended) // it is asked for at once, not after the wait
	s.await(true, "serves all 2 files")
}

func TestChecksumsThatWereKeptNeedNoInternet(t *testing.T) {
	net := newInternet(t)
	close(net.open)
	system := net.file("debian.raw", 1000)
	clusters := clusterWith(v1alpha1.File{})
	clusters[0].Spec.Kubernetes.Files = nil
	s := newStore(t, clusters, system, nil)
	sums := strings.Repeat("a", 64) + "  k3s\n" + strings.Repeat("b", 64) + "  k3s-airgap-images-amd64.tar.zst\n"
	write(t, filepath.Join(s.sumsDir, "sha256sum-v1.33.5+k3s1-amd64.txt"), []byte(sums))
	s.look(s.declared.current.Load())
	missing := s.missingSums()
	if len(missing) != 1 {
		t.Fatalf("missing %v", missing)
	}
	for r, address := range missing {
		if want := "https://github.com/k3s-io/k3s/releases/download/v1.33.5%2Bk3s1/sha256sum-amd64.txt"; address != want {
			t.Errorf("asked %s, want %s", address, want)
		}
		s.fetchSums(t.Context(), r, address)
	}
	s.declare(clusters, system)
	s.look(s.declared.current.Load())
	if got := s.want.of["beta"]; len(got) != 3 || got[1] != strings.Repeat("a", 64) || got[2] != strings.Repeat("b", 64) {
		t.Errorf("beta needs %v", got)
	}
}

// A member that is installed anew may be asked for before anybody knows that it
// waits: it keeps its claim until its files are here.
func TestAMemberThatIsInstalledAnewWaitsForItsFiles(t *testing.T) {
	net := newInternet(t)
	close(net.open)
	system, binary := net.file("debian.raw", 1000), net.file("k3s", 1000)
	s := newStore(t, clusterWith(binary), system, nil)
	s.declared.current.Load().inventory.Nodes[0].Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue}}
	s.start()
	s.await(true, "no machine waits")
	if s.lacking("beta") == "" {
		t.Error("nothing is said to be lacking, and nothing is here")
	}
	s.await(true, "serves all 2 files that 1 machines need")
	if lacking := s.lacking("beta"); lacking != "" {
		t.Errorf("beta lacks %s", lacking)
	}
}

// serveMedia serves a store's files as its pod does.
func serveMedia(t *testing.T, s *store) netip.AddrPort {
	t.Helper()
	handlers := &web.Handlers{Backend: nobody{}, Media: s.files, Logger: slog.New(slog.DiscardHandler), Now: time.Now}
	return webtest.Serve(t, handlers)
}

// nobody is a backend that only takes observations.
type nobody struct{ pxe.Backend }

func (nobody) Observe(pxe.Observation) {}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestMachinesAreWokenWhileTheOperatorSaysSo(t *testing.T) {
	if os.Getenv(ownNetwork) == "" {
		t.Skip("NOT TESTED: magic packets on a wire. It takes root to make a network namespace: run the tests as root")
	}
	wire, err := net.ListenPacket("udp4", ":9")
	if err != nil {
		t.Fatal(err)
	}
	defer wire.Close()
	node := func(name string, mac v1alpha1.MAC, phase v1alpha1.Phase, p *v1alpha1.PowerSpec) v1alpha1.Node {
		return v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.NodeSpec{MAC: mac, Power: p}, Status: v1alpha1.NodeStatus{Phase: phase}}
	}
	d := newDeclared(nil)
	set := func(nodes ...v1alpha1.Node) {
		s, err := newSnapshot(nil, nil, nodes, nil)
		if err != nil {
			t.Fatal(err)
		}
		d.current.Store(s)
		d.changed.ring()
	}
	set(
		node("asleep", betaMAC, v1alpha1.PhaseWaking, nil),
		node("claimed", alphaMAC, v1alpha1.PhaseClaimed, nil),
		node("managed", "52:54:00:00:00:03", v1alpha1.PhaseWaking, &v1alpha1.PowerSpec{Redfish: &v1alpha1.RedfishSpec{}}),
		node("plugged", "52:54:00:00:00:04", v1alpha1.PhaseWaking, &v1alpha1.PowerSpec{Webhook: &v1alpha1.WebhookSpec{}}),
	)
	log := &buffer{}
	w := &waking{declared: d, logger: slog.New(slog.NewTextHandler(log, nil)), metrics: newMetrics(), waker: power.Waker{
		Interface: "lo", Address: netip.MustParseAddr(podAddress), Network: netip.MustParsePrefix("192.168.1.0/24"), Interval: 5 * time.Millisecond,
	}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.run(ctx) }()
	target, _ := net.ParseMAC(betaMAC)
	magic, err := power.Magic(target)
	if err != nil {
		t.Fatal(err)
	}
	packet := make([]byte, 200)
	for range 3 {
		n, _, err := wire.ReadFrom(packet)
		if err != nil {
			t.Fatal(err)
		}
		if string(packet[:n]) != string(magic) {
			t.Fatalf("a packet that is not for the machine that sleeps: %x", packet[:n])
		}
	}
	set(node("asleep", betaMAC, v1alpha1.PhaseBooting, nil))
	eventually(t, "the waking ends", func() error {
		if !strings.Contains(log.String(), "no more magic packets") {
			return errors.New(log.String())
		}
		return nil
	})
	if value(t, w.metrics.magic) < 1 {
		t.Error("the rounds are not counted")
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// value is what a counter or a gauge says.
func value(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		t.Fatal(err)
	}
	return d.GetCounter().GetValue() + d.GetGauge().GetValue()
}
