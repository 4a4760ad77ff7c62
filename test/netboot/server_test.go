//go:build linux

// Package netboot boots machines, real firmware and simulated, from the whole
// PXE server beside a foreign DHCP server.
package netboot

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/dhcp"
	"github.com/rhizome-dev/rhizome/pxe/server"
	"github.com/rhizome-dev/rhizome/test/lab"
)

// A server has to live in a process whose every thread is in the network
// namespace. So the test program runs itself there, told by this variable.
const serverVariable = "RHIZOME_TEST_NETBOOT_SERVER"

// serverConfig is what the parent tells the child, as JSON.
type serverConfig struct {
	Interface string
	Address   netip.Addr
	Mode      dhcp.Mode
	BootFiles string
	Machines  map[pxe.MAC]pxe.Decision
}

func TestMain(m *testing.M) {
	if config := os.Getenv(serverVariable); config != "" {
		if err := serve(config); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	// Simulated machines spend their time waiting.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// serve runs a server until it is told to end. It writes "listening", then what the
// backend observes, as lines of JSON.
func serve(text string) error {
	var config serverConfig
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		return err
	}
	certificate, err := selfSigned()
	if err != nil {
		return err
	}
	s, err := server.New(server.Config{
		Backend:   &backend{machines: config.Machines, out: json.NewEncoder(os.Stdout)},
		Interface: config.Interface, Address: config.Address, DHCP: config.Mode,
		Certificate: certificate, BootFiles: os.DirFS(config.BootFiles),
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		return err
	}
	if err := s.Listen(); err != nil {
		return err
	}
	fmt.Println("listening")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return s.Serve(ctx)
}

// backend holds fixed decisions.
type backend struct {
	machines map[pxe.MAC]pxe.Decision
	mu       sync.Mutex
	out      *json.Encoder
}

func (b *backend) Decide(m pxe.Machine) pxe.Decision { return b.machines[m.MAC] }

func (b *backend) Observe(o pxe.Observation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.out.Encode(o) // the parent is gone: nobody is left to be told
}

func (b *backend) InitConfig(context.Context, pxe.MAC, netip.Addr) (pxe.Document, error) {
	return pxe.Document{}, &pxe.Refusal{Rule: "Test", Message: "this backend has no init configs"}
}

func (b *backend) Report(context.Context, string, pxe.Report, netip.Addr) error {
	return pxe.ErrNotFound
}

func (b *backend) Credentials(context.Context, string, netip.Addr) ([]byte, error) {
	return nil, pxe.ErrNotFound
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// running is a server in a process of its own.
type running struct {
	cmd *exec.Cmd
	log bytes.Buffer

	mu       sync.Mutex
	observed []pxe.Observation
	news     chan struct{} // closed, and replaced, at each observation
	ended    chan struct{}
}

// startServer starts a server in the namespace and waits until it listens.
func startServer(t *testing.T, in *lab.Namespace, config serverConfig) *running {
	t.Helper()
	s, err := runServer(t, in, config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// runServer starts a server; one that does not listen is an error of its words.
func runServer(t *testing.T, in *lab.Namespace, config serverConfig) (*running, error) {
	t.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	s := &running{news: make(chan struct{}), ended: make(chan struct{})}
	s.cmd = in.Command(context.WithoutCancel(t.Context()), "/proc/self/exe")
	// nsenter would run itself: name the program.
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Args[len(s.cmd.Args)-1] = program
	s.cmd.Env = append(os.Environ(), serverVariable+"="+string(text))
	s.cmd.Stderr = &s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("the server's log:\n%s", s.log.String())
		}
	})
	lines := bufio.NewScanner(out)
	listening := lines.Scan() && lines.Text() == "listening"
	go func() {
		defer close(s.ended)
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
		_ = s.cmd.Wait() // it is killed
	}()
	if !listening {
		<-s.ended
		return nil, fmt.Errorf("the server does not start: %s", s.log.String())
	}
	return s, nil
}

// kill ends the server as a power cut would.
func (s *running) kill() {
	_ = s.cmd.Process.Signal(syscall.SIGKILL)
	<-s.ended
}

// observations so far.
func (s *running) observations() []pxe.Observation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]pxe.Observation(nil), s.observed...)
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
		case <-s.ended:
			return pxe.Observation{}, errors.New("the server has ended")
		case <-ctx.Done():
			return pxe.Observation{}, fmt.Errorf("%w; seen so far:\n%s", ctx.Err(), s.story())
		}
	}
}

// story tells the observations, one a line.
func (s *running) story() string {
	var b strings.Builder
	var start time.Time
	for _, o := range s.observations() {
		if start.IsZero() {
			start = o.Time
		}
		fmt.Fprintf(&b, "%7.2fs %-8s %s %s %d/%d %+v\n", o.Time.Sub(start).Seconds(), o.Stage, o.From, o.Message, o.Done, o.Total, o.Machine)
	}
	return b.String()
}

func mustMAC(a net.HardwareAddr) pxe.MAC {
	mac, err := pxe.ParseMAC(a.String())
	if err != nil {
		panic(err)
	}
	return mac
}
