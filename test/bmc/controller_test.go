package bmc

import (
	"bytes"
	"context"
	"encoding/pem"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// toy is a machine that is on or off, and counts its starts and restarts.
type toy struct {
	mu              sync.Mutex
	on              bool
	starts, network int
}

func (m *toy) Running() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.on
}

func (m *toy) PowerOn(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.on, m.starts = true, m.starts+1
	return nil
}

func (m *toy) PowerOff() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.on = false
}

func (m *toy) Reset(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.starts++
	return nil
}

func (m *toy) Shutdown(context.Context) error { m.PowerOff(); return nil }

func (m *toy) BootFromNetworkOnce() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.network++
}

// serve runs a controller of a toy and another one, and returns its URL and the file
// with its certificate.
func serve(t *testing.T, habits Habits) (c *Controller, m *toy, url, certificate string) {
	t.Helper()
	c, m = New("admin", "secret"), &toy{}
	c.Habits = habits
	c.Add("1", m)
	c.Add("Blade.2", &toy{})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	der, err := c.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	certificate = filepath.Join(t.TempDir(), "bmc.pem")
	if err := os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return c, m, "https://" + listener.Addr().String(), certificate
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	// Not our environment: python's requests takes certificate bundles from it.
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "LC_ALL=C.UTF-8"}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %v: %v (Debian packages: test/setup/apt.sh test/bmc/packages.txt)\n%s", name, args, err, out.String())
	}
	t.Log(out.String())
	return out.String()
}

// A Redfish client that nobody here wrote, Debian's python3-sushy, finds a controller here.
func TestSushyDrivesTheController(t *testing.T) {
	for _, way := range []string{"session", "basic"} {
		for name, habits := range map[string]Habits{
			"by the book":        {NoSessions: way == "basic"},
			"ETags are required": {NoSessions: way == "basic", TagRequired: true},
			"weak ETags":         {NoSessions: way == "basic", WeakTags: true},
			"settings for later": {NoSessions: way == "basic", Pending: true},
		} {
			t.Run(way+", "+name, func(t *testing.T) {
				c, m, url, certificate := serve(t, habits)
				if out := run(t, "/usr/bin/python3", "testdata/visit.py", url, certificate, c.Username, c.Password, way); !strings.HasSuffix(out, "done\n") {
					t.Error("the script did not reach its end")
				}
				want := []string{"1 On", "1 ForceRestart", "1 GracefulShutdown", "1 On", "1 ForceOff"}
				if diff := cmp.Diff(want, c.Resets()); diff != "" {
					t.Errorf("resets (-want +got):\n%s", diff)
				}
				if m.network != 1 || m.starts != 3 || m.on {
					t.Errorf("%d starts, %d from the network", m.starts, m.network)
				}
				if open, ever := c.Sessions(); (ever == 0) != habits.NoSessions || open != 0 {
					t.Errorf("%d of %d sessions are open", open, ever)
				}
			})
		}
	}
}

// And so does DMTF's own tool.
func TestRedfishtoolDrivesTheController(t *testing.T) {
	c, m, url, _ := serve(t, Habits{})
	tool := func(args ...string) string {
		return run(t, "redfishtool", append([]string{"-r", strings.TrimPrefix(url, "https://"), "-S", "Always", "-u", c.Username, "-p", c.Password, "-A", "Basic"}, args...)...)
	}
	tool("Systems", "-I", "1", "setBootOverride", "Once", "Pxe")
	if got := c.BootOverride("1"); got != "Pxe Once UEFI" {
		t.Errorf("the boot override is %q", got)
	}
	tool("Systems", "-I", "1", "reset", "On")
	if !m.Running() || m.network != 1 {
		t.Error("the machine is not on, or did not boot from the network")
	}
	if out := tool("Systems", "-I", "1", "get"); !strings.Contains(out, `"PowerState": "On"`) {
		t.Error("it does not say that the machine is on")
	}
	tool("Systems", "-I", "1", "reset", "ForceOff")
	if m.Running() {
		t.Error("the machine is still on")
	}
}
