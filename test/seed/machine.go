//go:build linux

package seed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
	"github.com/rhizome-dev/rhizome/test/firmware"
	"github.com/rhizome-dev/rhizome/test/lab"
)

// machine is a fake: a computer without a processor. It is turned on by a magic
// packet, boots as strict firmware does (package firmware), and does in this
// process what the installer and cloud-init would do in it: it fetches the init
// config, verifies the image, reports, writes the files of the seed below a
// directory in the place of its disk, and runs the real join script there. Its
// k3s is the stand-in, without an agent; kubelet.go is its kubelet. It lives on
// while the bootstrapper is killed, and retries as a machine does.
type machine struct {
	name     string
	mac      net.HardwareAddr
	address  netip.Prefix
	host     *lab.Namespace
	dir      string // the disk
	image    []byte // what the installer must have received
	log      func(format string, args ...any)
	operator string // the operator's program, for kubelet.go

	mu       sync.Mutex
	installs int      // how often the disk was wiped
	wipedFor []string // digests of the claims under which that happened
	broken   string   // a fault of the disk that the installer reports; empty: none
}

const ifname = "eth0"

// run is the machine's life, from plugging it in to pulling the plug.
func (m *machine) run(ctx context.Context) error {
	if err := m.awaitMagicPacket(ctx); err != nil {
		return err
	}
	m.log("%s: woken", m.name)
	for ctx.Err() == nil {
		outcome, err := firmware.Machine{MAC: m.mac, Kind: firmware.UEFI, UUID: [16]byte{1, 2, 3, 4, 5},
			Waits: []time.Duration{time.Second, 2 * time.Second}}.Boot(ctx, m.host, ifname)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			m.log("%s: hangs in its firmware and is restarted: %v", m.name, err)
		case outcome.Local == "":
			if err := m.install(ctx, outcome); err != nil {
				m.log("%s: the installer gave up: %v", m.name, err)
			}
		case m.seeded():
			m.log("%s: boots its own disk (%s)", m.name, outcome.Local)
			if err := m.system(ctx); err != nil && ctx.Err() == nil {
				return err
			}
		}
		sleep(ctx, time.Second)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// awaitMagicPacket is the network card in standby.
func (m *machine) awaitMagicPacket(ctx context.Context) error {
	var conn *packet.Conn
	err := m.host.Do(func() error {
		card, err := net.InterfaceByName(ifname)
		if err != nil {
			return err
		}
		conn, err = packet.Listen(card, packet.Raw, unix.ETH_P_ALL, nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot listen for magic packets: %w", err)
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	frame := make([]byte, 65536)
	for {
		n, _, err := conn.ReadFrom(frame)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if target, ok := lab.MagicPacket(frame[:n]); ok && bytes.Equal(target, m.mac) {
			return nil
		}
	}
}

// withAddress runs fn while the machine has an address.
func (m *machine) withAddress(address netip.Prefix, fn func() error) error {
	change := func(do func(netlink.Link, *netlink.Addr) error) error {
		return m.host.Do(func() error {
			link, err := netlink.LinkByName(ifname)
			if err != nil {
				return err
			}
			return do(link, &netlink.Addr{IPNet: &net.IPNet{IP: address.Addr().AsSlice(), Mask: net.CIDRMask(address.Bits(), 32)}})
		})
	}
	if err := change(netlink.AddrAdd); err != nil {
		return err
	}
	return errors.Join(fn(), change(netlink.AddrDel))
}

// client speaks from the machine; ca is what it trusts.
func (m *machine) client(ca string) *http.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ca))
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DialContext: m.host.DialContext, TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true,
	}}
}

// insist tries for as long as a patient installer does.
func insist(ctx context.Context, try func() error) error {
	until := time.Now().Add(3 * time.Minute)
	for {
		err := try()
		var refused *refusal
		if err == nil || errors.As(err, &refused) || ctx.Err() != nil || time.Now().After(until) {
			return err
		}
		sleep(ctx, 200*time.Millisecond)
	}
}

// refusal is an answer that says no: trying again does not help.
type refusal struct{ status, body string }

func (r *refusal) Error() string { return r.status + ": " + r.body }

func (m *machine) call(ctx context.Context, client *http.Client, method, url, claim string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if claim != "" {
		request.Header.Set("Authorization", "Bearer "+claim)
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode >= 400 && answer.StatusCode < 500 {
		return nil, &refusal{answer.Status, string(content)}
	}
	if answer.StatusCode >= 300 {
		return nil, errors.New(answer.Status)
	}
	return content, nil
}

// install is the in-memory installer.
func (m *machine) install(ctx context.Context, outcome firmware.Outcome) error {
	var from string
	for _, arg := range outcome.Args {
		if value, ok := strings.CutPrefix(arg, "rhizome.init="); ok {
			from = value
		}
	}
	if from == "" {
		return fmt.Errorf("the kernel was told no init config: %q", outcome.Args)
	}
	return m.withAddress(outcome.Address, func() error {
		var p plan.Plan
		err := insist(ctx, func() error {
			document, err := m.call(ctx, m.client(""), http.MethodGet, from, "", nil)
			if err != nil {
				return err
			}
			return json.Unmarshal(document, &p)
		})
		if err != nil {
			return fmt.Errorf("init config: %w", err)
		}
		report := func(r pxe.Report) error {
			body, err := json.Marshal(r)
			if err != nil {
				return err
			}
			return insist(ctx, func() error {
				_, err := m.call(ctx, m.client(p.CA), http.MethodPost, p.ReportURL, p.Claim, body)
				return err
			})
		}
		if m.broken != "" {
			return report(pxe.Report{Stage: pxe.StageFailed, Step: "disk", Message: m.broken})
		}
		if err := report(pxe.Report{Stage: pxe.StageInstalling, Step: "disk", Message: "the disk is chosen", Disk: "/dev/fake"}); err != nil {
			return err
		}
		if err := m.wipe(p); err != nil {
			return err
		}
		if err := insist(ctx, func() error { return m.fetchImage(ctx, p, report) }); err != nil {
			return err
		}
		if err := m.writeSeed(p); err != nil {
			return err
		}
		return report(pxe.Report{Stage: pxe.StageInstalled, Message: "installed"})
	})
}

// wipe is the point of no return: whatever was on the disk is gone.
func (m *machine) wipe(p plan.Plan) error {
	digest := sha256.Sum256([]byte(p.Claim))
	m.mu.Lock()
	m.installs++
	m.wipedFor = append(m.wipedFor, hex.EncodeToString(digest[:]))
	m.mu.Unlock()
	m.log("%s: the disk is wiped", m.name)
	if err := os.RemoveAll(m.dir); err != nil {
		return err
	}
	return os.MkdirAll(m.dir, 0o755)
}

func (m *machine) wiped() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.installs
}

func (m *machine) fetchImage(ctx context.Context, p plan.Plan, report func(pxe.Report) error) error {
	content, err := m.call(ctx, m.client(""), http.MethodGet, p.Image.URL, "", nil)
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	digest := sha256.Sum256(content)
	if hex.EncodeToString(digest[:]) != p.Image.SHA256 || !bytes.Equal(content, m.image) {
		return fmt.Errorf("image: %d bytes that are not the declared ones", len(content))
	}
	size := int64(len(content))
	if p.Image.Size != size {
		return fmt.Errorf("image: the init config says %d bytes, it has %d", p.Image.Size, size)
	}
	for done := size / 4; done <= size; done += size / 4 {
		if err := report(pxe.Report{Stage: pxe.StageInstalling, Step: "image", Done: done, Total: size}); err != nil {
			return err
		}
	}
	return nil
}

// writeSeed stores the NoCloud seed, last: a disk without it boots nothing.
func (m *machine) writeSeed(p plan.Plan) error {
	for _, name := range []string{"meta-data", "network-config", "user-data"} {
		if err := os.WriteFile(filepath.Join(m.dir, name), []byte(p.Seed[name]), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (m *machine) seeded() bool {
	_, err := os.Stat(filepath.Join(m.dir, "user-data"))
	return err == nil
}

// cloudConfig is what cloud-init would read of the user data.
type cloudConfig struct {
	WriteFiles []struct {
		Path, Permissions, Encoding, Content string
	} `json:"write_files"`
}

// system is the installed system: cloud-init, the join and k3s.
func (m *machine) system(ctx context.Context) error {
	root := filepath.Join(m.dir, "root")
	if err := m.cloudInit(root); err != nil {
		return fmt.Errorf("cloud-init: %w", err)
	}
	return m.withAddress(m.address, func() error {
		for ctx.Err() == nil {
			join := m.host.Command(ctx, "sh", filepath.Join(root, "usr/local/sbin/rhizome-join"))
			join.Env = append(os.Environ(), "RHIZOME_ROOT="+root)
			out, err := join.CombinedOutput()
			m.log("%s: rhizome-join: %s(%v)", m.name, out, err)
			if err == nil {
				break
			}
			sleep(ctx, time.Second)
		}
		return m.k3s(ctx, root)
	})
}

func (m *machine) cloudInit(root string) error {
	if _, err := os.Stat(filepath.Join(root, "booted")); err == nil {
		return nil // once an instance
	}
	data, err := os.ReadFile(filepath.Join(m.dir, "user-data"))
	if err != nil {
		return err
	}
	var config cloudConfig
	if err := yaml.Unmarshal(data, &config); err != nil {
		return err
	}
	if len(config.WriteFiles) == 0 {
		return errors.New("the user data writes no files")
	}
	for _, f := range config.WriteFiles {
		content := []byte(f.Content)
		switch f.Encoding {
		case "":
		case "b64", "base64":
			if content, err = base64.StdEncoding.DecodeString(f.Content); err != nil {
				return fmt.Errorf("%s: %w", f.Path, err)
			}
		default:
			return fmt.Errorf("%s: encoding %q", f.Path, f.Encoding)
		}
		mode, err := strconv.ParseUint(f.Permissions, 8, 32)
		if err != nil {
			return fmt.Errorf("%s: permissions %q", f.Path, f.Permissions)
		}
		path := filepath.Join(root, f.Path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, os.FileMode(mode)); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(root, "booted"), nil, 0o600)
}

// k3s runs what the unit would run, until the machine is turned off.
func (m *machine) k3s(ctx context.Context, root string) error {
	log, err := os.OpenFile(filepath.Join(m.dir, "k3s.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	kubeconfig := filepath.Join(root, "etc/rancher/k3s/k3s.yaml")
	server := m.host.Command(ctx, filepath.Join(root, "usr/local/bin/k3s"), "server", "--disable-agent",
		"--config", filepath.Join(root, "etc/rancher/k3s/config.yaml"),
		"--data-dir", filepath.Join(root, "var/lib/rancher/k3s"), "--write-kubeconfig", kubeconfig)
	server.Stdout, server.Stderr = log, log
	server.Cancel = func() error { return server.Process.Signal(unix.SIGTERM) }
	server.WaitDelay = 30 * time.Second
	if err := server.Start(); err != nil {
		return err
	}
	running, cancel := context.WithCancel(ctx)
	kubelet := make(chan struct{})
	go func() { defer close(kubelet); m.kubelet(running, kubeconfig) }()
	err = server.Wait()
	cancel()
	<-kubelet
	if ctx.Err() == nil {
		return fmt.Errorf("k3s ended: %w", err)
	}
	return nil
}
