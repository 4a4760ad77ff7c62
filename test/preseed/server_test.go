//go:build linux

package preseed

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/media"
	"github.com/rhizome-dev/rhizome/pxe/server"
	"github.com/rhizome-dev/rhizome/test/lab"
)

// A server has to live in a process whose every thread is in the network namespace.
// So the test program runs itself there, told by this variable.
const serverVariable = "RHIZOME_TEST_PRESEED_SERVER"

// serverConfig is what the parent tells the child, as JSON.
type serverConfig struct {
	Interface string
	Address   netip.Addr
	BootFiles string
	Cache     string
	// What is declared, of each kind one.
	Cluster v1alpha1.Cluster
	System  v1alpha1.OperatingSystem
	Node    v1alpha1.Node
}

func TestMain(m *testing.M) {
	if config := os.Getenv(serverVariable); config != "" {
		if err := serve(config); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// serve runs the PXE server with the backend of the products, and one open claim. It
// writes "listening", then what the backend observes, as lines of JSON.
func serve(text string) error {
	var config serverConfig
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	inv := inventory.Inventory{
		Clusters: []v1alpha1.Cluster{config.Cluster}, OperatingSystems: []v1alpha1.OperatingSystem{config.System}, Nodes: []v1alpha1.Node{config.Node},
	}
	node := &inv.Nodes[0]
	cache, err := media.Open(config.Cache)
	if err != nil {
		return err
	}
	files, err := provision.Media(inv, node)
	if err != nil {
		return err
	}
	for _, f := range files {
		if _, err := cache.Fetch(ctx, f.Source, nil); err != nil && f.Kind != provision.KindBinary {
			return err
		}
	}
	authority, err := k3s.NewAuthority("rhizome-test", time.Now())
	if err != nil {
		return err
	}
	certificate, key, err := authority.Sign(x509.Certificate{
		Subject: pkix.Name{CommonName: "rhizome-test"}, IPAddresses: []net.IP{config.Address.AsSlice()},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, time.Now().Add(time.Hour))
	if err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return err
	}
	claim, err := provision.OpenClaim(&inv.Clusters[0], node, provision.Join, 1, "", time.Now)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	backend, err := provision.NewBackend(provision.Config{
		Inventory: func() inventory.Inventory { return inv },
		Claims:    provision.NewLedger([]provision.Claim{claim}, nil),
		Credentials: func(context.Context, *v1alpha1.Node, provision.Claim) ([]k3s.File, error) {
			return nil, pxe.ErrNotFound
		},
		Service: provision.Service{
			BaseURL: fmt.Sprintf("http://%s:%d", config.Address, server.DefaultHTTPPort), CA: authority.Certificate,
			SecureURL: fmt.Sprintf("https://%s:%d", config.Address, server.DefaultHTTPSPort),
		},
		Observer: func(o pxe.Observation) {
			mu.Lock()
			defer mu.Unlock()
			_ = out.Encode(o) // the parent is gone: nobody is left to be told
		},
		Now: time.Now,
	})
	if err != nil {
		return err
	}
	s, err := server.New(server.Config{
		Backend: backend, Interface: config.Interface, Address: config.Address, Certificate: pair,
		BootFiles: os.DirFS(config.BootFiles), Media: cache,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		return err
	}
	if err := s.Listen(); err != nil {
		return err
	}
	fmt.Println("listening")
	return s.Serve(ctx)
}

// running is a server in a process of its own.
type running struct {
	log      bytes.Buffer
	mu       sync.Mutex
	observed []pxe.Observation
	news     chan struct{} // closed, and replaced, at each observation
}

func startServer(t *testing.T, in *lab.Namespace, config serverConfig) *running {
	t.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	// nsenter would run itself: name the program.
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := &running{news: make(chan struct{})}
	cmd := in.Command(context.WithoutCancel(t.Context()), program)
	cmd.Env = append(os.Environ(), serverVariable+"="+string(text))
	cmd.Stderr = &s.log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	listening := lines.Scan() && lines.Text() == "listening"
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines.Scan() {
			var o pxe.Observation
			if json.Unmarshal(lines.Bytes(), &o) != nil {
				continue
			}
			s.mu.Lock()
			s.observed = append(s.observed, o)
			close(s.news)
			s.news = make(chan struct{})
			s.mu.Unlock()
		}
		_ = cmd.Wait() // it is killed
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		<-ended
		if t.Failed() {
			t.Logf("the server's log:\n%s", s.log.String())
		}
	})
	if !listening {
		_ = cmd.Process.Signal(syscall.SIGKILL)
		<-ended
		t.Fatalf("the server does not start: %s", s.log.String())
	}
	return s
}

// waitFor waits until an observation fits.
func (s *running) waitFor(ctx context.Context, fits func(pxe.Observation) bool) (pxe.Observation, error) {
	for {
		s.mu.Lock()
		observed, news := s.observed, s.news
		s.mu.Unlock()
		for _, o := range observed {
			if fits(o) {
				return o, nil
			}
		}
		select {
		case <-news:
		case <-ctx.Done():
			return pxe.Observation{}, fmt.Errorf("never seen: %w", context.Cause(ctx))
		}
	}
}

// story is what was seen, in lines.
func (s *running) story() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out bytes.Buffer
	last := pxe.Stage("")
	for _, o := range s.observed {
		if o.Stage != last || o.Stage == pxe.StageInstalling || o.Stage == pxe.StageFailed {
			fmt.Fprintf(&out, "%s %s %s\n", o.Time.Format(time.TimeOnly), o.Stage, o.Message)
		}
		last = o.Stage
	}
	return out.String()
}

// fileURL of a file, and its digest.
func fileURL(t *testing.T, path string) v1alpha1.File {
	t.Helper()
	digest, err := media.Digest(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return v1alpha1.File{URL: v1alpha1.URL("file://" + filepath.ToSlash(path)), SHA256: v1alpha1.SHA256(digest)}
}

// bootFiles has our loaders, as the make target makes them.
func bootFiles(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if out, err := exec.Command("../../pxe/loader/build.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("pxe/loader/build.sh: %v\n%s", err, out)
	}
	return dir
}
