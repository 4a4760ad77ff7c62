package provision

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/pxe/media"
	"github.com/rhizome-dev/rhizome/pxe/web"
	"github.com/rhizome-dev/rhizome/pxe/web/webtest"
)

// joining is a machine's root directory after cloud-init, and the real PXE web
// handlers with the real Backend behind them. The script runs for real; only the
// root directory is not /.
type joining struct {
	t      *testing.T
	root   string
	claim  Claim
	ledger *Ledger
	files  map[string][]byte // what must be there in the end, by path

	mu       sync.Mutex
	now      time.Time
	requests []string // METHOD path range
	// meddle may answer a request in the place of the handlers.
	meddle  func(n int, w http.ResponseWriter, r *http.Request) (answered bool)
	process int // the group of the script that runs
}

// killer ends the script that runs now, and no later one, as a power cut would.
func (j *joining) killer() func() {
	j.mu.Lock()
	defer j.mu.Unlock()
	group := j.process
	return func() { _ = syscall.Kill(-group, syscall.SIGKILL) }
}

func newJoining(t *testing.T) *joining {
	t.Helper()
	for _, tool := range []string{"sh", "curl", "tar", "sha256sum", "systemctl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("this test runs the join of a real machine, which needs %s: install it", tool)
		}
	}
	j := &joining{t: t, root: t.TempDir(), now: t0, files: map[string][]byte{}}
	cache, err := media.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	add := func(name string, content []byte) media.File {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := cache.Add(t.Context(), path, name)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	binary := bytes.Repeat([]byte("#!/bin/sh\nexit 0\n"), 1<<16)
	images := bytes.Repeat([]byte("image layers "), 1<<16)
	operator := bytes.Repeat([]byte("operator "), 1<<14)
	j.files[k3s.BinaryPath] = binary
	j.files[k3s.ImagesDir+"/k3s-airgap-images-amd64.tar.zst"] = images
	j.files[k3s.ImagesDir+"/operator.tar"] = operator

	inv := homelab()
	inv.Clusters[0].Spec.Network = v1alpha1.NetworkSpec{CIDR: "127.0.0.0/8", Gateway: "127.0.0.1"}
	inv.Nodes[0].Spec.Address = "127.0.0.1"
	inv.Clusters[0].Spec.Kubernetes.Files = []v1alpha1.KubernetesFiles{{
		Architecture: v1alpha1.AMD64,
		Binary:       v1alpha1.File{URL: "https://example.org/k3s", SHA256: v1alpha1.SHA256(add("k3s", binary).SHA256)},
		Images: []v1alpha1.File{{URL: "https://example.org/k3s-airgap-images-amd64.tar.zst",
			SHA256: v1alpha1.SHA256(add("images", images).SHA256)}},
	}}
	archive := media.Source{Name: "operator.tar", SHA256: add("operator", operator).SHA256, URL: "file:///operator.tar"}

	founding, err := NewFounding(time.Now)
	if err != nil {
		t.Fatal(err)
	}
	credentials, err := founding.FirstServer(inv, &inv.Nodes[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range credentials {
		j.files[f.Path] = f.Content
	}

	handlers := &web.Handlers{Media: cache, Logger: slog.New(slog.DiscardHandler), Now: time.Now}
	// The requests in the clear are watched on their way to the server.
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: webtest.Serve(t, handlers).String()})
	proxy.ErrorLog = log.New(io.Discard, "", 0) // a client that goes away is what some tests are about
	plain := httptest.NewServer(j.watch(proxy))
	t.Cleanup(plain.Close)
	ca, err := k3s.NewAuthority("pxe", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	secure := httptest.NewUnstartedServer(j.watch(handlers.Secure()))
	secure.TLS = &tls.Config{Certificates: []tls.Certificate{leaf(t, ca)}}
	secure.StartTLS()
	t.Cleanup(secure.Close)

	service := Service{BaseURL: plain.URL, SecureURL: secure.URL, CA: ca.Certificate}
	j.claim, err = OpenClaim(&inv.Clusters[0], &inv.Nodes[0], Seed, 1, "", func() time.Time { return t0 })
	if err != nil {
		t.Fatal(err)
	}
	if err := j.claim.Consume(t0, leased); err != nil {
		t.Fatal(err)
	}
	j.ledger = NewLedger([]Claim{j.claim}, nil)
	handlers.Backend, err = NewBackend(Config{
		Inventory: func() inventory.Inventory { return inv },
		Claims:    j.ledger,
		Credentials: func(context.Context, *v1alpha1.Node, Claim) ([]k3s.File, error) {
			return credentials, nil
		},
		Service: service,
		Now:     func() time.Time { j.mu.Lock(); defer j.mu.Unlock(); return j.now },
	})
	if err != nil {
		t.Fatal(err)
	}

	wanted, err := Media(inv, &inv.Nodes[0], archive)
	if err != nil {
		t.Fatal(err)
	}
	config, err := NodeConfig(inv, &inv.Nodes[0], j.claim, service, wanted)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range config.Files {
		j.write(f.Path, f.Content, f.Mode)
	}
	for _, u := range config.Units {
		j.write("/etc/systemd/system/"+u.Name, []byte(u.Content), 0)
	}
	return j
}

func leaf(t *testing.T, ca k3s.Authority) tls.Certificate {
	t.Helper()
	certificate, key, err := ca.Sign(x509.Certificate{
		Subject: pkix.Name{CommonName: "pxe"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

func (j *joining) write(path string, content []byte, mode uint32) {
	j.t.Helper()
	if mode == 0 {
		mode = 0o644
	}
	path = filepath.Join(j.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		j.t.Fatal(err)
	}
	if err := os.WriteFile(path, content, os.FileMode(mode)); err != nil {
		j.t.Fatal(err)
	}
}

func (j *joining) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		j.mu.Lock()
		line := r.Method + " " + r.URL.Path
		if from := r.Header.Get("Range"); from != "" {
			line += " " + from
		}
		j.requests = append(j.requests, line)
		n, meddle := len(j.requests), j.meddle
		j.mu.Unlock()
		if meddle != nil && meddle(n, w, r) {
			return
		}
		next.ServeHTTP(w, r)
	})
}

// run runs the installed script as its unit does, in a process group of its own.
// The output is checked for secrets.
func (j *joining) run() (output string, err error) {
	j.t.Helper()
	// A curl that writes down its arguments, to prove what is not among them.
	bin, arguments := j.t.TempDir(), filepath.Join(j.t.TempDir(), "arguments")
	curl, err := exec.LookPath("curl")
	if err != nil {
		j.t.Fatal(err)
	}
	wrapper := fmt.Sprintf("#!/bin/sh\nprintf '%%s\\n' \"$@\" >>%s\nexec %s \"$@\"\n", arguments, curl)
	if err := os.WriteFile(filepath.Join(bin, "curl"), []byte(wrapper), 0o755); err != nil {
		j.t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(j.root, joinScriptPath))
	cmd.Env = []string{"RHIZOME_ROOT=" + j.root, "PATH=" + bin + ":" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	// The first request waits for the lock, and so finds what to kill.
	j.mu.Lock()
	err = cmd.Start()
	if err == nil {
		j.process = cmd.Process.Pid
	}
	j.mu.Unlock()
	if err != nil {
		j.t.Fatal(err)
	}
	err = cmd.Wait()
	called, readErr := os.ReadFile(arguments)
	if readErr != nil && !errors.Is(readErr, os.ErrNotExist) {
		j.t.Fatal(readErr)
	}
	for where, text := range map[string]string{"the output": out.String(), "curl's arguments": string(called)} {
		if strings.Contains(text, j.claim.ID) || strings.Contains(text, "K10") || strings.Contains(text, "PRIVATE KEY") {
			j.t.Errorf("a secret is in %s:\n%s", where, text)
		}
	}
	return out.String(), err
}

// hasJoined checks that everything is in its place and nothing else is left.
func (j *joining) hasJoined() {
	j.t.Helper()
	for path, want := range j.files {
		got, err := os.ReadFile(filepath.Join(j.root, path))
		if err != nil || !bytes.Equal(got, want) {
			j.t.Errorf("%s: %v, or wrong content (%d bytes, want %d)", path, err, len(got), len(want))
		}
	}
	modes := map[string]os.FileMode{
		k3s.BinaryPath: 0o755, k3s.ConfigPath: 0o600, k3s.NodePasswordPath: 0o600,
		k3s.ServerTLSDir + "/server-ca.key": 0o600, k3s.ServerTLSDir + "/server-ca.crt": 0o644,
	}
	for path, want := range modes {
		if info, err := os.Stat(filepath.Join(j.root, path)); err != nil || info.Mode() != want {
			j.t.Errorf("%s: %v, %v, want mode %v", path, info, err, want)
		}
	}
	if target, err := os.Readlink(filepath.Join(j.root, "/etc/systemd/system/multi-user.target.wants/k3s.service")); err != nil {
		j.t.Errorf("k3s.service is not enabled: %v", err)
	} else if filepath.Base(target) != "k3s.service" {
		j.t.Errorf("k3s.service is enabled as %s", target)
	}
	if _, err := os.Stat(filepath.Join(j.root, joinedPath)); err != nil {
		j.t.Error("not marked as joined")
	}
	var left []string
	for _, dir := range []string{"/var/lib/rhizome", k3s.ImagesDir, "/usr/local/bin"} {
		entries, err := os.ReadDir(filepath.Join(j.root, dir))
		if err != nil {
			j.t.Fatal(err)
		}
		for _, e := range entries {
			if _, wanted := j.files[dir+"/"+e.Name()]; !wanted && dir+"/"+e.Name() != joinedPath {
				left = append(left, dir+"/"+e.Name())
			}
		}
	}
	if len(left) > 0 {
		j.t.Errorf("left behind: %v", left)
	}
	if c, _ := j.ledger.Get(alphaMAC); c.State(t0) != StateExchanged {
		j.t.Errorf("the claim is %s", c.State(t0))
	}
}

func (j *joining) hasNotJoined() {
	j.t.Helper()
	for _, path := range []string{joinedPath, k3s.ConfigPath, "/etc/systemd/system/multi-user.target.wants/k3s.service"} {
		if _, err := os.Lstat(filepath.Join(j.root, path)); !errors.Is(err, os.ErrNotExist) {
			j.t.Errorf("%s is there: %v", path, err)
		}
	}
}
