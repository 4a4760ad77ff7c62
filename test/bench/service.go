//go:build linux

package main

import (
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
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe/dhcp"
	"github.com/rhizome-dev/rhizome/pxe/media"
	"github.com/rhizome-dev/rhizome/pxe/server"
	"github.com/rhizome-dev/rhizome/test/lab"
)

// serviceCommand makes this program the PXE service that is measured. A server has
// to be a process of its own: all its threads are in the network namespace, and its
// memory and processor time are nobody else's.
const serviceCommand = "pxe-service"

// serviceConfig is what the service is told on its standard input, as JSON.
type serviceConfig struct {
	Interface string
	Address   netip.Addr
	LAN       netip.Prefix
	Machines  int // declared, as macOf and addressOf number them
	BootFiles string
	Media     string // directory of the media cache
	Profile   string // where a CPU profile goes; empty: none is made
	Text      []byte // if set, all that is served, by Library
	Library   string // fastHTTP or netHTTP
}

// runService serves until it is told to end.
func runService(ctx context.Context) (err error) {
	var config serviceConfig
	if err := json.NewDecoder(os.Stdin).Decode(&config); err != nil {
		return fmt.Errorf("cannot read the service's config: %w", err)
	}
	if config.Text != nil {
		return serveText(ctx, config)
	}
	if config.Profile != "" {
		file, err := os.Create(config.Profile)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(file); err != nil {
			return errors.Join(err, file.Close())
		}
		defer func() {
			pprof.StopCPUProfile()
			err = errors.Join(err, file.Close())
		}()
	}
	certificate, err := selfSigned()
	if err != nil {
		return err
	}
	cache, err := media.Open(config.Media)
	if err != nil {
		return err
	}
	backend, err := declared(config)
	if err != nil {
		return err
	}
	s, err := server.New(server.Config{
		Backend: backend, Interface: config.Interface, Address: config.Address,
		DHCP: dhcp.Server, Certificate: certificate, BootFiles: os.DirFS(config.BootFiles), Media: cache,
		// As the operator's PXE pods log: what is of note, not each packet.
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo})),
	})
	if err != nil {
		return err
	}
	if err := s.Listen(); err != nil {
		return err
	}
	return s.Serve(ctx)
}

// The libraries that are measured alone: the one that our service stands on, and the
// one of Go.
const fastHTTP, netHTTP = "fasthttp alone", "net/http alone"

// serveText answers every request with the text, as few lines of Go as that takes.
func serveText(ctx context.Context, config serviceConfig) error {
	l, err := (&net.ListenConfig{KeepAlive: -1}).Listen(ctx, "tcp4", netip.AddrPortFrom(config.Address, server.DefaultHTTPPort).String())
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	const contentType, patience = "text/plain; charset=utf-8", time.Minute
	if config.Library == fastHTTP {
		s := &fasthttp.Server{ReadTimeout: patience, WriteTimeout: patience, Handler: func(ctx *fasthttp.RequestCtx) {
			ctx.SetContentType(contentType)
			ctx.SetBody(config.Text)
		}}
		return s.Serve(l)
	}
	s := &http.Server{ReadHeaderTimeout: patience, WriteTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(config.Text)
	})}
	if err := s.Serve(l); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// declared is the backend that both front ends use, with every machine under an open
// claim.
func declared(config serviceConfig) (*provision.Backend, error) {
	const system = "debian"
	digest := v1alpha1.SHA256(strings.Repeat("a", 64))
	cluster := v1alpha1.Cluster{Spec: v1alpha1.ClusterSpec{
		OperatingSystem: system,
		Network: v1alpha1.NetworkSpec{
			CIDR: v1alpha1.CIDR(config.LAN.String()), Gateway: v1alpha1.Address(gateway.String()), DHCP: v1alpha1.DHCPServer,
		},
	}}
	all := inventory.Inventory{Clusters: []v1alpha1.Cluster{cluster}, OperatingSystems: []v1alpha1.OperatingSystem{{
		ObjectMeta: metav1.ObjectMeta{Name: system},
		Spec: v1alpha1.OperatingSystemSpec{
			Format:          v1alpha1.FormatImage,
			Media:           []v1alpha1.Medium{{Architecture: v1alpha1.AMD64, File: v1alpha1.File{URL: "https://example.org/image.raw", SHA256: digest}}},
			KernelArguments: []string{"console=ttyS0"},
		},
	}}}
	var claims []provision.Claim
	for i := range config.Machines {
		node := v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("machine%d", i)}, Spec: v1alpha1.NodeSpec{
			Role: v1alpha1.Worker, Architecture: v1alpha1.AMD64,
			MAC: v1alpha1.MAC(macOf(i).String()), Address: v1alpha1.Address(addressOf(i).String()),
		}}
		claim, err := provision.OpenClaim(&cluster, &node, provision.Join, 1, "", time.Now)
		if err != nil {
			return nil, err
		}
		all.Nodes, claims = append(all.Nodes, node), append(claims, claim)
	}
	all = all.Indexed()
	plain := netip.AddrPortFrom(config.Address, server.DefaultHTTPPort)
	secure := netip.AddrPortFrom(config.Address, server.DefaultHTTPSPort)
	return provision.NewBackend(provision.Config{
		Inventory: func() inventory.Inventory { return all },
		Claims:    provision.NewLedger(claims, nil),
		Credentials: func(context.Context, *v1alpha1.Node, provision.Claim) ([]k3s.File, error) {
			return nil, errors.New("no machine joins anything here")
		},
		Service: provision.Service{BaseURL: "http://" + plain.String(), SecureURL: "https://" + secure.String(), CA: []byte("none")},
		Now:     time.Now,
	})
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// startService starts the PXE service on the host.
func startService(ctx context.Context, host *lab.Namespace, config serviceConfig) (*daemon, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	cmd := host.Command(ctx, program, serviceCommand)
	cmd.Stdin = bytes.NewReader(text)
	return startDaemon("rhizome", cmd)
}
