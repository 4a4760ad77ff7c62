//go:build linux

// Package pxeserver runs the whole PXE server for tests, in a process of its own
// within a network namespace, with a backend that holds fixed decisions.
package pxeserver

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
	"fmt"
	"log/slog"
	"math/big"
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
const variable = "RHIZOME_TEST_PXE_SERVER"

// Config is what the server is told, as JSON.
type Config struct {
	Interface string
	Address   netip.Addr
	Mode      dhcp.Mode
	BootFiles string
	Machines  map[pxe.MAC]pxe.Decision
	// Pool of undeclared machines of the network Network; zero: none.
	Pool, Network netip.Prefix
}

// Main is for the first line of a test program's TestMain: in the process that is to
// be a server it is that, and does not return.
func Main() {
	config := os.Getenv(variable)
	if config == "" {
		return
	}
	if err := serve(config); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// serve runs a server until it is told to end. It writes "listening", then what the
// backend observes, as lines of JSON.
func serve(text string) error {
	var config Config
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		return err
	}
	certificate, err := selfSigned()
	if err != nil {
		return err
	}
	var pool *dhcp.Pool
	if config.Pool.IsValid() {
		if pool, err = dhcp.NewPool(dhcp.PoolConfig{Range: config.Pool, Network: config.Network}); err != nil {
			return err
		}
	}
	s, err := server.New(server.Config{
		Backend:   &backend{machines: config.Machines, out: json.NewEncoder(os.Stdout)},
		Interface: config.Interface, Address: config.Address, DHCP: config.Mode, Pool: pool,
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

// InitConfig is refused, which is where these tests end.
func (b *backend) InitConfig(_ context.Context, mac pxe.MAC, from netip.Addr) (pxe.Document, error) {
	b.Observe(pxe.Observation{Time: time.Now(), Machine: pxe.Machine{MAC: mac}, From: from, Stage: pxe.StageInitConfig, Message: "the init config was asked for"})
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

// Server is a server in a process of its own.
type Server struct {
	// Process of the server.
	Process *exec.Cmd
	// Ended is closed when it is gone.
	Ended chan struct{}

	log bytes.Buffer

	mu       sync.Mutex
	observed []pxe.Observation
	news     chan struct{} // closed, and replaced, at each observation
}

// Start starts a server in the namespace and waits until it listens.
func Start(t testing.TB, in *lab.Namespace, config Config) *Server {
	t.Helper()
	s, err := Run(t, in, config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Run starts a server; one that does not listen is an error of its words.
func Run(t testing.TB, in *lab.Namespace, config Config) (*Server, error) {
	t.Helper()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{news: make(chan struct{}), Ended: make(chan struct{})}
	s.Process = in.Command(context.WithoutCancel(t.Context()), "/proc/self/exe")
	// nsenter would run itself: name the program.
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s.Process.Args[len(s.Process.Args)-1] = program
	s.Process.Env = append(os.Environ(), variable+"="+string(text))
	s.Process.Stderr = &s.log
	out, err := s.Process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("the server's log:\n%s", s.log.String())
		}
	})
	lines := bufio.NewScanner(out)
	listening := lines.Scan() && lines.Text() == "listening"
	go func() {
		defer close(s.Ended)
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
		_ = s.Process.Wait() // it is killed
	}()
	if !listening {
		<-s.Ended
		return nil, fmt.Errorf("the server does not start: %s", s.log.String())
	}
	return s, nil
}

// Kill ends the server as a power cut would.
func (s *Server) Kill() {
	_ = s.Process.Process.Signal(syscall.SIGKILL)
	<-s.Ended
}

// Observations so far.
func (s *Server) Observations() []pxe.Observation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]pxe.Observation(nil), s.observed...)
}

// WaitFor waits until an observation fits.
func (s *Server) WaitFor(ctx context.Context, fits func(pxe.Observation) bool) (pxe.Observation, error) {
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
		case <-s.Ended:
			return pxe.Observation{}, errors.New("the server has ended")
		case <-ctx.Done():
			return pxe.Observation{}, fmt.Errorf("%w; seen so far:\n%s", ctx.Err(), s.Story())
		}
	}
}

// Story tells the observations, one a line.
func (s *Server) Story() string {
	var b strings.Builder
	var start time.Time
	for _, o := range s.Observations() {
		if start.IsZero() {
			start = o.Time
		}
		fmt.Fprintf(&b, "%7.2fs %-8s %s %s %d/%d %+v\n", o.Time.Sub(start).Seconds(), o.Stage, o.From, o.Message, o.Done, o.Total, o.Machine)
	}
	return b.String()
}
