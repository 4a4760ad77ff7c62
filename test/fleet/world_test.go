//go:build linux

package fleet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"text/template"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/go-logr/logr"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/test/firmware"
	"github.com/rhizome-dev/rhizome/test/kube"
	"github.com/rhizome-dev/rhizome/test/lab"
	"github.com/rhizome-dev/rhizome/test/machine"
)

// built is built once.
type built struct {
	dir, bootstrapper string
	programs          machine.Programs
}

var programs = sync.OnceValues(func() (built, error) {
	dir, err := os.MkdirTemp("", "fleet-programs-")
	if err != nil {
		return built{}, err
	}
	b := built{dir: dir}
	b.bootstrapper, b.programs, err = machine.Build(dir)
	return b, err
})

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard())
	if file := os.Getenv(asCaretaker); file != "" {
		if err := beCaretaker(file); err != nil {
			fmt.Fprintln(os.Stderr, "caretaker:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	code := m.Run()
	if b, _ := programs(); b.dir != "" {
		_ = os.RemoveAll(b.dir)
	}
	os.Exit(code)
}

// world is a network with machines, the first of which is a cluster.
type world struct {
	t        testing.TB
	lab      *lab.Lab
	dir      string
	built    built
	internet string                      // where media come from
	machines map[string]*machine.Machine // the simulated ones
	real     map[string]*lab.Machine     // those of QEMU
	declared map[string]*v1alpha1.Node   // what the world's manifests may declare
	maximum  int32
	prepare  func(*machine.Machine) // changes a machine before it is plugged in
	ways     *ways
	*recorder

	log  *os.File
	rest *rest.Config
	api  client.Client
	kube kubernetes.Interface
}

// options of a world. The zero value has the first server only.
type options struct {
	servers, workers int    // beside the first server
	growth           string // fields of the Cluster's spec.growth and spec.pxe, as YAML
	pxe              string
	prepare          func(*machine.Machine)
	real             *realParts // what some of the machines need, of QEMU
}

// The machines: alpha is the first server; addresses tell the roles.
const (
	first        = "alpha"
	firstAddress = "10.77.0.10"
)

func serverName(i int) string { return fmt.Sprintf("server%d", i+2) }
func workerName(i int) string { return fmt.Sprintf("worker%02d", i+1) }

// newWorld makes the network and plugs the machines in. All are off and blank.
func newWorld(t testing.TB, o options) *world {
	t.Helper()
	b, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, lab: lab.New(t, lab.Options{}), built: b, machines: map[string]*machine.Machine{}, real: map[string]*lab.Machine{}, declared: map[string]*v1alpha1.Node{}, maximum: 5, prepare: o.prepare, ways: newWays()}
	w.dir = filepath.Join(w.lab.Dir, "world")
	if err := os.MkdirAll(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if w.log, err = os.Create(filepath.Join(w.lab.Dir, "machines.log")); err != nil {
		t.Fatal(err)
	}
	w.recorder = newRecorder(t)
	image := w.write("media/disk.raw", noise(4<<20))
	w.serveMedia()
	d := declaration{Image: digest(t, image), PXE: o.pxe, Growth: o.growth}
	if o.real != nil {
		d.with(w, o.real)
	} else {
		// The stand-in's hundred megabytes need not be copied to every machine.
		d.K3s = digest(t, w.write("media/k3s", []byte("#!/bin/sh\nexec "+kube.Standin(t)+" \"$@\"\n")))
	}
	w.writeManifests(d)
	plugIn := func(name string, role v1alpha1.Role, address netip.Addr) {
		if o.real != nil && slices.Contains(o.real.names, name) {
			w.plugInReal(name, role, address)
			return
		}
		w.plugIn(name, role, address, d.Image)
	}
	plugIn(first, v1alpha1.ControlPlane, netip.MustParseAddr(firstAddress))
	next := netip.MustParseAddr("10.77.0.11")
	for i := range o.servers {
		plugIn(serverName(i), v1alpha1.ControlPlane, next)
		next = next.Next()
	}
	next = netip.MustParseAddr("10.77.0.20")
	for i := range o.workers {
		plugIn(workerName(i), v1alpha1.Worker, next)
		next = next.Next()
	}
	return w
}

func noise(n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(rand.Uint32())
	}
	return out
}

func (w *world) write(name string, content []byte) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		w.t.Fatal(err)
	}
	return path
}

func digest(t testing.TB, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sum(content)
}

func sum(content []byte) string {
	d := sha256.Sum256(content)
	return hex.EncodeToString(d[:])
}

// serveMedia is the internet: a host that serves the declared files.
func (w *world) serveMedia() {
	w.t.Helper()
	address := netip.MustParsePrefix("10.77.0.3/24")
	host, err := w.lab.Network.Attach("internet", address, netip.Addr{})
	if err != nil {
		w.t.Fatal(err)
	}
	listener, err := host.Listen("tcp4", address.Addr().String()+":80")
	if err != nil {
		w.t.Fatal(err)
	}
	w.internet = "http://" + address.Addr().String()
	server := &http.Server{Handler: http.FileServer(http.Dir(filepath.Join(w.dir, "media")))}
	go func() { _ = server.Serve(listener) }() // ends with the test
	w.t.Cleanup(func() { _ = server.Close() })
}

// declaration is what differs between the worlds' manifests.
type declaration struct {
	Internet             string // where the media come from
	First, MAC, Address  string
	Image, K3s           string // digests
	PXE, Growth          string // fields of the Cluster's spec, as YAML; empty: none
	Images               []medium
	System               *medium // of machines of QEMU; nil: there are none
	FirstOperatingSystem string  // empty: the Cluster's
}

var manifests = template.Must(template.New("cluster.yaml").Parse(`apiVersion: rhizome.dev/v1alpha1
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
        url: {{.Internet}}/k3s
        sha256: {{.K3s}}
{{- if .Images}}
      images:
{{- range .Images}}
      - url: {{$.Internet}}/{{.Name}}
        sha256: {{.SHA256}}
{{- end}}
{{- end}}
{{- if .PXE}}
  pxe: {{.PXE}}
{{- end}}
{{- if .Growth}}
  growth: {{.Growth}}
{{- end}}
---
apiVersion: rhizome.dev/v1alpha1
kind: OperatingSystem
metadata:
  name: fake
spec:
  format: Image
  media:
  - architecture: amd64
    url: {{.Internet}}/disk.raw
    sha256: {{.Image}}
{{- if .System}}
---
apiVersion: rhizome.dev/v1alpha1
kind: OperatingSystem
metadata:
  name: ` + realSystem + `
spec:
  format: Image
  media:
  - architecture: amd64
    url: {{.Internet}}/{{.System.Name}}
    sha256: {{.System.SHA256}}
  kernelArguments: ["console=ttyS0,115200n8"]
{{- end}}
---
apiVersion: rhizome.dev/v1alpha1
kind: Node
metadata:
  name: {{.First}}
spec:
  role: ControlPlane
  mac: {{.MAC}}
  address: {{.Address}}
{{- if .FirstOperatingSystem}}
  operatingSystem: {{.FirstOperatingSystem}}
{{- end}}
`))

func (w *world) writeManifests(d declaration) {
	w.t.Helper()
	d.Internet, d.First, d.MAC, d.Address = w.internet, first, macOf(netip.MustParseAddr(firstAddress)).String(), firstAddress
	var out bytes.Buffer
	if err := manifests.Execute(&out, d); err != nil {
		w.t.Fatal(err)
	}
	w.write("manifests/cluster.yaml", out.Bytes())
}

func macOf(address netip.Addr) net.HardwareAddr {
	a := address.As4()
	return net.HardwareAddr{0x52, 0x54, 0, 0xaa, 0, a[3]}
}

// plugIn adds a machine: with power, off and blank. Every fourth has a BIOS.
func (w *world) plugIn(name string, role v1alpha1.Role, address netip.Addr, image string) {
	w.t.Helper()
	host, err := w.lab.Network.Attach(name, netip.Prefix{}, netip.Addr{})
	if err != nil {
		w.t.Fatal(err)
	}
	mac := macOf(address)
	m := &machine.Machine{
		Name: name, MAC: mac, UUID: [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 15: mac[5]}, Address: netip.PrefixFrom(address, 24), Host: host,
		Dir: filepath.Join(w.dir, name), Image: image, Programs: w.built.programs, Log: w.logf,
		Wiped: func(claim string) { w.recorder.wiped(name, claim) },
		// The stand-in's leases outlast an emulated machine; here a server that died
		// must be replaced, and a member missed, within a test's patience.
		ServerArgs: []string{
			"--kube-controller-manager-arg=node-monitor-grace-period=50s",
			"--kube-controller-manager-arg=leader-elect-lease-duration=45s", "--kube-controller-manager-arg=leader-elect-renew-deadline=35s",
			"--kube-scheduler-arg=leader-elect-lease-duration=45s", "--kube-scheduler-arg=leader-elect-renew-deadline=35s",
		},
	}
	if address.As4()[3]%4 == 3 {
		m.Kind = firmware.BIOS
	}
	if w.prepare != nil {
		w.prepare(m)
	}
	w.machines[name] = m
	w.declared[name] = &v1alpha1.Node{Spec: v1alpha1.NodeSpec{Role: role, MAC: v1alpha1.MAC(mac.String()), Address: v1alpha1.Address(address.String())}}
	w.declared[name].Name = name
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := m.Run(ctx); err != nil && ctx.Err() == nil {
			w.t.Errorf("the simulated machine %s: %v", name, err)
		}
	}()
	w.t.Cleanup(func() { cancel(); <-done })
}

// logf keeps what machines say apart from what the test says.
func (w *world) logf(format string, args ...any) {
	_, _ = fmt.Fprintf(w.log, time.Now().Format("15:04:05.000 ")+format+"\n", args...)
}

// seed founds the cluster on the first machine by the real bootstrapper, which is
// gone afterwards.
func (w *world) seed() {
	w.t.Helper()
	w.seedWithin(10 * time.Minute)
}

// seedWithin is seed with a patience of its own, and further flags.
func (w *world) seedWithin(patience time.Duration, flags ...string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	state := filepath.Join(w.dir, "state")
	args := append([]string{"seed", filepath.Join(w.dir, "manifests"), "--state", state,
		"--cache", filepath.Join(w.dir, "cache"), "--boot-files", w.built.programs.Boot, "--interface", lab.BridgeName, "-o", "plain"}, flags...)
	seed := w.lab.Network.Command(ctx, w.built.bootstrapper, args...)
	out, err := seed.CombinedOutput()
	if err != nil {
		w.t.Fatalf("bootstrapper seed: %v\n%s", err, out)
	}
	w.logf("test: seeded:\n%s", out)
	w.connect(filepath.Join(state, "kubeconfig"))
	w.seededBy(filepath.Join(state, "claims.json"))
	w.recorder.watch(w)
}

// connect makes the test a cluster administrator, by whichever server answers.
func (w *world) connect(kubeconfig string) {
	w.t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		w.t.Fatal(err)
	}
	config.QPS, config.Burst, config.Timeout = 100, 200, 0
	config.Dial = w.dial
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			w.t.Fatal(err)
		}
	}
	w.rest = config
	if w.api, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		w.t.Fatal(err)
	}
	if w.kube, err = kubernetes.NewForConfig(config); err != nil {
		w.t.Fatal(err)
	}
}

// dial connects to the first server that takes a connection, whatever the address.
func (w *world) dial(ctx context.Context, network, address string) (net.Conn, error) {
	addresses := []string{address}
	for _, name := range w.names(v1alpha1.ControlPlane) {
		addresses = append(addresses, string(w.declared[name].Spec.Address)+":6443")
	}
	last := errors.New("every server is out of order")
	for _, a := range addresses {
		if w.ways.closed(a) {
			continue
		}
		trying, cancel := context.WithTimeout(ctx, 2*time.Second)
		conn, err := w.lab.Network.DialContext(trying, network, a)
		cancel()
		if err == nil {
			return w.ways.follow(conn), nil
		}
		last = err
	}
	return nil, last
}

// names are the machines of a role, sorted; empty: all.
func (w *world) names(role v1alpha1.Role) []string {
	var out []string
	for name, n := range w.declared {
		if role == "" || n.Spec.Role == role {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// declare applies Nodes, as a commit does.
func (w *world) declare(names ...string) {
	w.t.Helper()
	for _, name := range names {
		n := w.declared[name].DeepCopy()
		n.TypeMeta.APIVersion, n.TypeMeta.Kind = v1alpha1.GroupVersion.String(), "Node"
		w.insist("declare "+name, func(ctx context.Context) error {
			return w.api.Patch(ctx, n.DeepCopy(), client.Apply, client.FieldOwner("git"), client.ForceOwnership) //nolint:staticcheck // of this client's version
		})
	}
}

// undeclare deletes Nodes, as a commit that removes their files does.
func (w *world) undeclare(names ...string) {
	w.t.Helper()
	for _, name := range names {
		n := w.declared[name].DeepCopy()
		w.insist("delete "+name, func(ctx context.Context) error { return client.IgnoreNotFound(w.api.Delete(ctx, n)) })
	}
}

// annotate sets an annotation of a Node, as a commit does.
func (w *world) annotate(name, key, value string) {
	w.t.Helper()
	patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, key, value))
	n := w.declared[name].DeepCopy()
	w.insist("annotate "+name, func(ctx context.Context) error { return w.api.Patch(ctx, n, patch) })
}

// insist does what a person would try again.
func (w *world) insist(what string, do func(context.Context) error) {
	w.t.Helper()
	var err error
	for until := time.Now().Add(2 * time.Minute); time.Now().Before(until); time.Sleep(time.Second) {
		ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
		err = do(ctx)
		cancel()
		if err == nil {
			return
		}
	}
	w.t.Fatalf("cannot %s: %v", what, err)
}

// cut takes a machine's cable out, or puts it back.
func (w *world) cut(name string, out bool) {
	w.t.Helper()
	err := w.lab.Network.Do(func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if out {
			return netlink.LinkSetDown(link)
		}
		return netlink.LinkSetUp(link)
	})
	if err != nil {
		w.t.Fatalf("cannot cut %s off: %v", name, err)
	}
	w.logf("the cable of %s: out %v", name, out)
}

// kill ends the containers of a namespace, on all machines, as a crash does.
func (w *world) kill(namespace string) int {
	killed := 0
	for _, name := range w.names("") {
		killed += w.machines[name].Kill(namespace)
	}
	return killed
}

func isReady(n *corev1.Node) bool { return condition(n, corev1.NodeReady) }

func condition(n *corev1.Node, kind corev1.NodeConditionType) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == kind {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
