package boot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/rhizome-dev/rhizome/chart"
	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/claims"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/dhcp"
	"github.com/rhizome-dev/rhizome/pxe/web"
	"github.com/rhizome-dev/rhizome/pxe/web/webtest"
	"github.com/rhizome-dev/rhizome/test/kube"
)

// world is an API server with a cluster of two machines, alpha, which is a member,
// and beta, which is not, and a source of media.
type world struct {
	client.Client
	t         *testing.T
	admin     *rest.Config
	config    *rest.Config // with the rights of a PXE pod, and no more
	namespace string
	authority *authority
	operator  *claims.Store // the operator's, in memory only what it wrote itself
	internet  *internet
}

const (
	alphaMAC = "52:54:00:00:00:01"
	betaMAC  = "52:54:00:00:00:02"
)

var worlds atomic.Int32

func newWorld(t *testing.T) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme, authenticationv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t, admin: kubeConfig(t), namespace: fmt.Sprintf("pxe-%d", worlds.Add(1)), authority: newAuthority(t), internet: newInternet(t)}
	var err error
	if w.Client, err = client.New(w.admin, client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	w.operator = claims.New(w.Client, w.Client, w.namespace)
	// There is one Cluster at a time: what the last test declared goes.
	t.Cleanup(func() {
		for _, kind := range []client.Object{&v1alpha1.Cluster{}, &v1alpha1.OperatingSystem{}, &v1alpha1.Node{}} {
			if err := w.DeleteAllOf(context.Background(), kind); err != nil {
				t.Error(err)
			}
		}
	})
	w.make(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.namespace}})
	w.grant()
	w.make(w.declared()...)
	w.certify(1)
	return w
}

func (w *world) make(objects ...client.Object) {
	w.t.Helper()
	for _, o := range objects {
		if err := w.Create(w.t.Context(), o); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) declared() []client.Object {
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }
	return []client.Object{
		&v1alpha1.Cluster{ObjectMeta: named("home"), Spec: v1alpha1.ClusterSpec{
			Network: v1alpha1.NetworkSpec{CIDR: "192.168.1.0/24", Gateway: "192.168.1.1"}, OperatingSystem: "debian",
			Kubernetes: v1alpha1.KubernetesSpec{
				Version: "v1.33.5+k3s1", PodCIDR: "10.42.0.0/16", ServiceCIDR: "10.43.0.0/16",
				Files: []v1alpha1.KubernetesFiles{{
					Architecture: v1alpha1.AMD64, Binary: w.internet.file("k3s", 100_000),
					Images: []v1alpha1.File{w.internet.file("images.tar", 50_000)},
				}},
			},
		}},
		&v1alpha1.OperatingSystem{ObjectMeta: named("debian"), Spec: v1alpha1.OperatingSystemSpec{
			Format: v1alpha1.FormatImage,
			Media:  []v1alpha1.Medium{{Architecture: v1alpha1.AMD64, File: w.internet.file("debian.raw", 3<<20)}},
		}},
		&v1alpha1.Node{ObjectMeta: named("alpha"), Spec: v1alpha1.NodeSpec{Role: v1alpha1.ControlPlane, MAC: alphaMAC, Address: "192.168.1.10"}},
		&v1alpha1.Node{ObjectMeta: named("beta"), Spec: v1alpha1.NodeSpec{Role: v1alpha1.Worker, MAC: betaMAC, Address: "192.168.1.11"}},
	}
}

// grant makes the service account of the PXE pods with the rights that the chart gives
// it, and no more.
func (w *world) grant() {
	w.t.Helper()
	text, err := chart.Render(w.namespace, "rhizome-system", map[string]any{"pxe": map[string]any{"namespace": w.namespace}})
	w.must(err)
	for document := range strings.SplitSeq("\n"+text, "\n---\n") {
		o := &unstructured.Unstructured{}
		w.must(yaml.Unmarshal([]byte(document), &o.Object))
		if o.GetLabels()["app.kubernetes.io/component"] == "pxe" {
			w.must(w.Patch(w.t.Context(), o, client.Apply, client.FieldOwner("test"), client.ForceOwnership))
		}
	}
	w.config = kube.As(w.t, w.admin, w.namespace, names.PXEDeployment)
}

// certify writes the serving certificate with a serial number.
func (w *world) certify(serial int64) {
	w.t.Helper()
	certificate, key := w.authority.issue(serial, podAddress, replicaAddress)
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: names.ServingSecret}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: certificate, corev1.TLSPrivateKeyKey: key, names.KeyAuthority: w.authority.pem}}
	if err := w.Create(w.t.Context(), s); err != nil {
		w.must(client.IgnoreAlreadyExists(err))
		w.must(w.Update(w.t.Context(), s))
	}
}

func (w *world) node(name string) *v1alpha1.Node {
	w.t.Helper()
	n := &v1alpha1.Node{}
	w.must(w.Get(w.t.Context(), client.ObjectKey{Name: name}, n))
	return n
}

func (w *world) cluster() *v1alpha1.Cluster {
	w.t.Helper()
	c := &v1alpha1.Cluster{}
	w.must(w.Get(w.t.Context(), client.ObjectKey{Name: "home"}, c))
	return c
}

// member makes a machine a Ready member.
func (w *world) member(name string) {
	w.t.Helper()
	n := w.node(name)
	n.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: "MemberReady", LastTransitionTime: metav1.Now()}}
	w.must(w.Status().Update(w.t.Context(), n))
}

// open opens a claim as the operator does.
func (w *world) open(name string, attempt int) provision.Claim {
	w.t.Helper()
	n, now := w.node(name), time.Now()
	c := provision.Claim{ID: provision.NewClaimID(), Node: name, MAC: pxe.MAC(n.Spec.MAC), Address: netip.MustParseAddr(string(n.Spec.Address)), Purpose: provision.Join,
		Attempt: attempt, Opened: now, Expires: now.Add(time.Hour)}
	w.must(w.operator.Open(w.t.Context(), n, c))
	return c
}

// eventually waits for what happens in its own time.
func (w *world) eventually(what string, so func() error) {
	w.t.Helper()
	eventually(w.t, what, so)
}

func eventually(t *testing.T, what string, so func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		err := so()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s: %v", what, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// options of a pod on loopback.
func (w *world) options(node string, log io.Writer) Options {
	w.t.Helper()
	boot := w.t.TempDir()
	for name, content := range map[string]string{"loader/snponly.efi": "ipxe", "installer/amd64/vmlinuz": "kernel", "installer/amd64/initrd.img": "initrd"} {
		path := filepath.Join(boot, name)
		w.must(errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)))
	}
	return Options{
		PXENamespace: w.namespace, NodeName: node, PodName: "rhizome-pxe-" + node, BootFiles: boot, MediaDir: w.t.TempDir(),
		HealthAddress: freeAddress(w.t), MetricsAddress: freeAddress(w.t), HTTPPort: port(freeAddress(w.t)), HTTPSPort: port(freeAddress(w.t)),
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		findLink: func(linkWish) (link, error) {
			return link{"lo", netip.MustParseAddr(podAddress), netip.MustParsePrefix("192.168.1.0/24")}, nil
		},
	}
}

// running is a whole pod.
type running struct {
	Options
	t    *testing.T
	log  *buffer
	stop func()
}

// run runs a whole pod until the test ends or stop is called.
func (w *world) run(node string, change ...func(*Options)) *running {
	w.t.Helper()
	if os.Getenv(ownNetwork) == "" {
		w.t.Skip("NOT TESTED: a PXE pod as a whole. It takes root to make a network namespace: run the tests as root")
	}
	r := &running{t: w.t, log: &buffer{}}
	r.Options = w.options(node, r.log)
	config := w.config
	for _, c := range change {
		c(&r.Options)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, config, r.Options) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Errorf("the pod ended with %v", err)
		}
		if w.t.Failed() {
			w.t.Logf("the log of the pod on %s:\n%s", node, r.log)
		}
		for _, secret := range []string{"BEGIN EC PRIVATE", "BEGIN PRIVATE"} {
			if strings.Contains(r.log.String(), secret) {
				w.t.Errorf("the log holds %q", secret)
			}
		}
	})
	w.t.Cleanup(r.stop)
	return r
}

// get asks as the machine beta.
func (r *running) get(url string) (int, string) {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(betaAddress)}}
	if strings.Contains(url, "127.0.0.1") {
		dialer = &net.Dialer{}
	}
	beta := &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
	answer, err := beta.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err.Error()
	}
	return answer.StatusCode, string(body)
}

func (r *running) plain(path string) (int, string) {
	return r.get(fmt.Sprintf("http://%s:%d%s", podAddress, r.HTTPPort, path))
}

func (r *running) ready() (int, string) { return r.get("http://" + r.HealthAddress + "/readyz") }

// await waits until the pod says this of its readiness.
func (r *running) await(status int, says string) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("the pod on %s says %d %q", r.NodeName, status, says), func() error {
		got, message := r.ready()
		if got != status || !strings.Contains(message, says) {
			return fmt.Errorf("it says %d %s", got, message)
		}
		return nil
	})
}

// replica is a pod without DHCP and TFTP, of which any number fit on loopback.
type replica struct {
	*pod
	URL string // of the plain side
}

func (w *world) replica(node string, config *rest.Config) *replica {
	w.t.Helper()
	log := &buffer{}
	o := w.options(node, log)
	w.must(o.check())
	p, err := newPod(config, o)
	w.must(err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	var all sync.WaitGroup
	w.t.Cleanup(func() {
		cancel()
		all.Wait()
		if w.t.Failed() {
			w.t.Logf("the log of the replica on %s:\n%s", node, log)
		}
	})
	run := func(f func(context.Context) error) {
		all.Go(func() {
			if err := f(ctx); err != nil {
				w.t.Error(err)
			}
		})
	}
	run(p.cache.Start)
	w.must(p.read(ctx))
	p.synced.Store(true)
	p.connect(link{"lo", netip.MustParseAddr(replicaAddress), netip.MustParsePrefix("192.168.1.0/24")})
	handlers := &web.Handlers{Backend: p.backend, Media: p.files, Logger: o.Logger, Now: o.Now, Meter: p.metrics}
	address := webtest.Serve(w.t, handlers)
	run(func(ctx context.Context) error { return p.declared.run(ctx, func(err error) { w.t.Error(err) }) })
	run(p.files.run)
	run(p.recorder.run)
	run(p.discover.run)
	return &replica{p, "http://" + address.String()}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func port(address string) uint16 { return netip.MustParseAddrPort(address).Port() }

// buffer is a log that is read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// bootPort is where a boot server answers the sender.
var bootPort = netip.AddrPortFrom(netip.MustParseAddr(podAddress), dhcp.PortBoot)

func (w *world) servingSecret() *corev1.Secret {
	w.t.Helper()
	s := &corev1.Secret{}
	w.must(w.Get(w.t.Context(), client.ObjectKey{Namespace: w.namespace, Name: names.ServingSecret}, s))
	return s
}

func digestOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}
