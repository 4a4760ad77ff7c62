package provision

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/pxe/media"
	"github.com/rhizome-dev/rhizome/pxe/web"
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
	meddle func(n int, w http.ResponseWriter, r *http.Request) (answered bool)
	kill   func()
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
	plain := httptest.NewServer(j.watch(handlers.Plain()))
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

// run runs the installed script as its unit does. kill ends it and all that it
// started as a power cut would. The output is checked for secrets.
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
	if err := cmd.Start(); err != nil {
		j.t.Fatal(err)
	}
	j.mu.Lock()
	j.kill = func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	j.mu.Unlock()
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

func TestAnInstalledMachineJoins(t *testing.T) {
	j := newJoining(t)
	output, err := j.run()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	j.hasJoined()
	var got []string
	for _, r := range j.requests {
		if !strings.HasPrefix(r, "POST /v1/report") {
			got = append(got, filepath.Base(strings.Fields(r)[1]))
		}
	}
	want := []string{"k3s", "k3s-airgap-images-amd64.tar.zst", "operator.tar", "credentials"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests (- want, + got):\n%s", diff)
	}

	asked := len(j.requests)
	if output, err := j.run(); err != nil || len(j.requests) != asked {
		t.Errorf("run again: %v, %d more requests\n%s", err, len(j.requests)-asked, output)
	}
	j.hasJoined()
}

// The machine loses its power at every request in turn, before and after the
// answer, and starts again.
func TestAJoinThatIsKilledAnywhereGoesOn(t *testing.T) {
	j := newJoining(t)
	if output, err := j.run(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	for n := range len(j.requests) {
		for _, answered := range []bool{false, true} {
			t.Run(fmt.Sprintf("request %d, answered %v", n+1, answered), func(t *testing.T) {
				t.Parallel()
				j := newJoining(t)
				var what string
				j.meddle = func(i int, w http.ResponseWriter, r *http.Request) bool {
					if i != n+1 {
						return false
					}
					what = r.Method + " " + r.URL.Path
					if answered {
						// The machine has the answer, all but the end of it, when it dies.
						go func() { time.Sleep(20 * time.Millisecond); j.kill() }()
						return false
					}
					j.kill()
					return false
				}
				output, err := j.run()
				if err == nil {
					// It was faster than the kill, which is its good right.
					t.Logf("finished before it was killed")
				}
				j.mu.Lock()
				j.meddle = nil
				j.mu.Unlock()
				if output2, err := j.run(); err != nil {
					t.Fatalf("killed at %s, and did not go on: %v\n%s\n%s", what, err, output, output2)
				}
				j.hasJoined()
			})
		}
	}
}

func TestADownloadGoesOnWhereItWasCut(t *testing.T) {
	j := newJoining(t)
	const cut = 100_000
	binary := j.files[k3s.BinaryPath]
	j.meddle = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if filepath.Base(r.URL.Path) != "k3s" {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(binary)))
		_, _ = w.Write(binary[:cut])
		_ = http.NewResponseController(w).Flush()
		part := filepath.Join(j.root, filepath.Dir(k3s.BinaryPath), ".k3s.part")
		for { // until the machine has some of it on its disk; the test's own deadline ends it
			if info, err := os.Stat(part); err == nil && info.Size() > 0 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		j.kill()
		return true
	}
	if _, err := j.run(); err == nil {
		t.Fatal("it was not killed")
	}
	j.hasNotJoined()
	j.meddle = nil
	if output, err := j.run(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	j.hasJoined()
	resumed := false
	for _, r := range j.requests {
		resumed = resumed || strings.Contains(r, "/k3s bytes=") && !strings.Contains(r, "bytes=0-")
	}
	if !resumed {
		t.Errorf("nobody asked for the rest: %q", j.requests)
	}
}

func TestAFileWithTheWrongChecksumIsThrownAway(t *testing.T) {
	j := newJoining(t)
	j.meddle = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if filepath.Base(r.URL.Path) != "k3s" {
			return false
		}
		_, _ = w.Write(bytes.Repeat([]byte("x"), len(j.files[k3s.BinaryPath])))
		return true
	}
	output, err := j.run()
	if err == nil || !strings.Contains(output, "k3s has the wrong checksum and was thrown away; trying again") {
		t.Errorf("%v\n%s", err, output)
	}
	j.hasNotJoined()
	if entries, _ := os.ReadDir(filepath.Join(j.root, filepath.Dir(k3s.BinaryPath))); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
	if c, _ := j.ledger.Get(alphaMAC); c.State(t0) == StateExchanged {
		t.Error("the claim was exchanged although a file is missing")
	}
	j.meddle = nil
	if output, err := j.run(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	j.hasJoined()
}

func TestAPartThatIsNotTheFilesBeginningHeals(t *testing.T) {
	j := newJoining(t)
	for name, part := range map[string][]byte{
		"too long":           bytes.Repeat([]byte("x"), len(j.files[k3s.BinaryPath])+1),
		"complete and wrong": bytes.Repeat([]byte("x"), len(j.files[k3s.BinaryPath])),
		"another beginning":  []byte("xxxxx"),
	} {
		j.write(filepath.Dir(k3s.BinaryPath)+"/.k3s.part", part, 0)
		runs := 0
		for _, err := os.Stat(filepath.Join(j.root, k3s.BinaryPath)); err != nil && runs < 3; _, err = os.Stat(filepath.Join(j.root, k3s.BinaryPath)) {
			_, _ = j.run()
			runs++
		}
		got, err := os.ReadFile(filepath.Join(j.root, k3s.BinaryPath))
		if err != nil || !bytes.Equal(got, j.files[k3s.BinaryPath]) {
			t.Errorf("%s: after %d runs: %v, %d bytes", name, runs, err, len(got))
		}
		for _, path := range []string{k3s.BinaryPath, joinedPath} {
			_ = os.Remove(filepath.Join(j.root, path))
		}
	}
}

func TestARefusedClaimNamesItsRuleAndLeavesTheMachineAlone(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*joining)
		rule   string
	}{
		"expired":   {func(j *joining) { j.now = t0.Add(DefaultFinish) }, RuleClaimExpired},
		"replaced":  {func(j *joining) { c := j.claim; c.ID = "newer"; _ = j.ledger.Put(t.Context(), c) }, RuleClaimUnknown},
		"elsewhere": {func(j *joining) { c := j.claim; c.Address = stranger; _ = j.ledger.Put(t.Context(), c) }, RuleWrongAddress},
	} {
		j := newJoining(t)
		c.change(j)
		output, err := j.run()
		if err == nil || !strings.Contains(output, c.rule) || !strings.Contains(output, "HTTP status 403") {
			t.Errorf("%s: %v, want %s\n%s", name, err, c.rule, output)
		}
		j.hasNotJoined()
	}
}

func TestCredentialsComeOnlyFromTheRightServer(t *testing.T) {
	j := newJoining(t)
	other, err := k3s.NewAuthority("other", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	j.write(joinCAPath, other.Certificate, 0)
	output, err := j.run()
	if err == nil || !strings.Contains(output, "cannot ask for the credentials (curl error 60)") {
		t.Errorf("%v\n%s", err, output)
	}
	j.hasNotJoined()
	for _, r := range j.requests {
		if strings.Contains(r, "/v1/") {
			t.Errorf("the claim was sent to a server that is not the right one: %s", r)
		}
	}
}

func TestAnAnswerThatIsNoArchiveIsAskedForAgain(t *testing.T) {
	j := newJoining(t)
	j.meddle = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v1/credentials" {
			return false
		}
		_, _ = io.WriteString(w, "<html>welcome</html>")
		return true
	}
	output, err := j.run()
	if err == nil || !strings.Contains(output, "the credentials are no archive") {
		t.Errorf("%v\n%s", err, output)
	}
	j.hasNotJoined()
	// What a power cut can leave of a file that was not yet on the disk.
	j.write("/var/lib/rhizome/credentials.tar", nil, 0o600)
	j.write("/var/lib/rhizome/.credentials.part", []byte("half"), 0o600)
	j.meddle = nil
	if output, err := j.run(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	j.hasJoined()
}

func TestTheUnitRunsTheScriptUntilItHasJoined(t *testing.T) {
	for _, want := range []string{
		"ConditionPathExists=!" + joinedPath, "ExecStart=" + joinScriptPath, "Restart=on-failure", "StartLimitIntervalSec=0",
	} {
		if !strings.Contains(joinUnit, want) {
			t.Errorf("the unit lacks %s", want)
		}
	}
	// The script and the program name the same files.
	for _, path := range []string{joinConfigPath, joinCAPath} {
		if !strings.Contains(string(joinScript), "$root"+path) {
			t.Errorf("the script does not name %s", path)
		}
	}
}

func TestAJoinConfigThatAShellWouldMisreadIsRefused(t *testing.T) {
	service := Service{BaseURL: "http://x", SecureURL: "https://x"}
	m := Medium{Kind: KindBinary, Source: media.Source{Name: "k3s", SHA256: strings.Repeat("a", 64)}}
	for name, c := range map[string]func() ([]byte, error){
		"a blank in a URL": func() ([]byte, error) {
			return joinConfig(Service{BaseURL: "http://x y", SecureURL: "https://x"}, "k3s.service", []Medium{m})
		},
		"a line break": func() ([]byte, error) { return joinConfig(service, "k3s.service\nfile x", []Medium{m}) },
		"a backslash":  func() ([]byte, error) { return joinConfig(service, `k3s\.service`, []Medium{m}) },
		"nothing":      func() ([]byte, error) { return joinConfig(service, "", []Medium{m}) },
		"an archive that k3s would ignore": func() ([]byte, error) {
			return joinConfig(service, "k3s.service", []Medium{{Kind: KindArchive, Source: media.Source{Name: "operator.zip", SHA256: "x"}}})
		},
	} {
		if config, err := c(); err == nil {
			t.Errorf("%s was taken:\n%s", name, config)
		}
	}
}

// The archive of credentials is what tar on the machine unpacks.
func TestCredentialsArchiveHoldsFilesOnly(t *testing.T) {
	archive, err := k3s.Tar([]k3s.File{{Path: "/b/c", Content: []byte("x"), Mode: 0o600}, {Path: "/a"}})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(archive)
	again, err := k3s.Tar([]k3s.File{{Path: "/a"}, {Path: "/b/c", Content: []byte("x"), Mode: 0o600}})
	if err != nil || sha256.Sum256(again) != sum {
		t.Errorf("the same files in another order: %v, other bytes than %s", err, hex.EncodeToString(sum[:4]))
	}
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg || strings.HasPrefix(h.Name, "/") || h.Uid != 0 || h.Gid != 0 {
			t.Errorf("%+v", h)
		}
	}
}
