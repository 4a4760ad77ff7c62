//go:build linux

package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/rhizome-dev/rhizome/bootstrapper/state"
	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/internal/power"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/media"
	"github.com/rhizome-dev/rhizome/pxe/server"
	"github.com/rhizome-dev/rhizome/test/lab"
)

// asCaretaker makes the test's own program a caretaker; its value is the file that
// says for what.
const asCaretaker = "RHIZOME_FLEET_CARETAKER"

// caretaker installs machines in the operator's place, one after the other: a
// process of its own, for all of it must be inside the network.
type caretaker struct {
	Cluster    v1alpha1.Cluster
	Systems    []v1alpha1.OperatingSystem
	Declared   []v1alpha1.Node
	Secrets    state.Secrets
	Nodes      []string // to install, in this order
	Kubeconfig string
	Media      string // directory of the declared files
	Boot       string
	Address    netip.Addr

	inv    inventory.Inventory
	ledger *provision.Ledger
	join   provision.JoinSecrets
	kube   kubernetes.Interface
	sizes  map[string]int64
}

// careFor starts a caretaker that ends with the test.
func (w *world) careFor(names []string) {
	w.t.Helper()
	c := caretaker{Nodes: names, Kubeconfig: filepath.Join(w.dir, "state", "kubeconfig"), Media: filepath.Join(w.dir, "media"),
		Boot: w.built.programs.Boot, Address: w.lab.Network.Laptop}
	content, err := os.ReadFile(filepath.Join(w.dir, "state", "secrets.json"))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := json.Unmarshal(content, &c.Secrets); err != nil {
		w.t.Fatal(err)
	}
	w.insist("read the declared objects", func(ctx context.Context) error {
		var clusters v1alpha1.ClusterList
		var systems v1alpha1.OperatingSystemList
		if err := errors.Join(w.api.List(ctx, &clusters), w.api.List(ctx, &systems)); err != nil {
			return err
		}
		c.Cluster, c.Systems = clusters.Items[0], systems.Items
		return nil
	})
	for _, name := range w.names("") {
		n := *w.declared[name]
		n.Spec.Architecture = v1alpha1.AMD64
		c.Declared = append(c.Declared, n)
	}
	if content, err = json.Marshal(c); err != nil {
		w.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	run := w.lab.Network.Command(ctx, self)
	run.Env = append(os.Environ(), asCaretaker+"="+w.write("caretaker.json", content))
	run.Stdout, run.Stderr = w.log, w.log
	if err := run.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		cancel()
		var killed *exec.ExitError
		if err := run.Wait(); err != nil && !errors.As(err, &killed) {
			w.t.Errorf("the caretaker: %v", err)
		}
	})
}

// beCaretaker is the process.
func beCaretaker(file string) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM)
	defer stop()
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	c := caretaker{ledger: provision.NewLedger(nil, nil), sizes: map[string]int64{}}
	if err := json.Unmarshal(content, &c); err != nil {
		return err
	}
	c.inv = inventory.Inventory{Clusters: []v1alpha1.Cluster{c.Cluster}, OperatingSystems: c.Systems, Nodes: c.Declared}
	if c.join, err = c.Secrets.Founding.JoinSecrets(); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return err
	}
	if c.kube, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	if err := c.serve(ctx); err != nil {
		return err
	}
	for _, name := range c.Nodes {
		if err := c.install(ctx, name); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

func (c *caretaker) serve(ctx context.Context) error {
	certificate, err := c.Secrets.PXECertificate(c.Address, time.Now())
	if err != nil {
		return err
	}
	cache, err := media.Open(filepath.Join(c.Media, "cache"))
	if err != nil {
		return err
	}
	for _, name := range []string{"disk.raw", "k3s"} {
		f, err := cache.Add(ctx, filepath.Join(c.Media, name), name)
		if err != nil {
			return err
		}
		c.sizes[f.SHA256] = f.Size
	}
	backend, err := provision.NewBackend(provision.Config{
		Inventory:   func() inventory.Inventory { return c.inv },
		Claims:      c.ledger,
		Credentials: c.credentials,
		Service: provision.Service{BaseURL: fmt.Sprintf("http://%s:%d", c.Address, server.DefaultHTTPPort),
			SecureURL: fmt.Sprintf("https://%s:%d", c.Address, server.DefaultHTTPSPort), CA: c.Secrets.PXE.Certificate},
		MediaSize: func(digest string) int64 { return c.sizes[digest] },
		Observer: func(o pxe.Observation) {
			slog.Info("seen", "mac", o.Machine.MAC, "stage", o.Stage, "message", o.Message)
		},
		Now: time.Now,
	})
	if err != nil {
		return err
	}
	s, err := server.New(server.Config{Backend: backend, Interface: lab.BridgeName, Address: c.Address, Certificate: certificate,
		BootFiles: os.DirFS(c.Boot), Media: cache})
	if err != nil {
		return err
	}
	if err := s.Listen(); err != nil {
		return err
	}
	go func() {
		if err := s.Serve(ctx); err != nil {
			slog.Error("the PXE service ended", "error", err)
		}
	}()
	return nil
}

func (c *caretaker) credentials(ctx context.Context, node *v1alpha1.Node, _ provision.Claim) ([]k3s.File, error) {
	via := netip.MustParseAddr(firstAddress)
	if node.Spec.Role == v1alpha1.ControlPlane {
		return provision.JoinServer(c.inv, node, c.join, via)
	}
	token := k3s.NewBootstrapToken(time.Now().Add(5*time.Minute), "for "+node.Name)
	if _, err := c.kube.CoreV1().Secrets("kube-system").Create(ctx, token.SecretObject(), metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	return provision.JoinAgent(c.inv, node, c.join, token, via)
}

// install opens a claim and wakes the machine until its core Node is Ready.
func (c *caretaker) install(ctx context.Context, name string) error {
	var node *v1alpha1.Node
	for i := range c.inv.Nodes {
		if c.inv.Nodes[i].Name == name {
			node = &c.inv.Nodes[i]
		}
	}
	claim, err := provision.OpenClaim(&c.Cluster, node, provision.Join, 1, "", time.Now)
	if err != nil {
		return err
	}
	if err := c.ledger.Put(ctx, claim); err != nil {
		return err
	}
	target, err := power.Target(node)
	if err != nil {
		return err
	}
	waker := power.Waker{Interface: lab.BridgeName, Address: c.Address, Network: netip.MustParsePrefix(string(c.Cluster.Spec.Network.CIDR)), Interval: time.Second}
	waking, booted := context.WithCancel(ctx)
	defer booted()
	go func() {
		if err := waker.Wake(waking, target); err != nil {
			slog.Error("cannot wake", "node", name, "error", err)
		}
	}()
	for ; ctx.Err() == nil; wait(ctx) {
		if now, _ := c.ledger.Get(claim.MAC); now.State(time.Now()) != provision.StateOpen {
			booted()
		}
		core, err := c.kube.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err == nil && isReady(core) && (node.Spec.Role == v1alpha1.Worker || condition(core, "EtcdIsVoter")) {
			return nil
		}
	}
	return nil
}

func wait(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Second):
	}
}
