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
	"net/netip"
	"os"
	"runtime/pprof"
	"sync/atomic"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
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
}

// runService serves until it is told to end.
func runService(ctx context.Context) (err error) {
	var config serviceConfig
	if err := json.NewDecoder(os.Stdin).Decode(&config); err != nil {
		return fmt.Errorf("cannot read the service's config: %w", err)
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
	s, err := server.New(server.Config{
		Backend: declared(config), Interface: config.Interface, Address: config.Address,
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

// backend answers from memory, as every backend must.
type backend struct {
	machines map[pxe.MAC]pxe.Decision
	observed atomic.Int64
}

func declared(config serviceConfig) *backend {
	b := &backend{machines: make(map[pxe.MAC]pxe.Decision, config.Machines)}
	for i := range config.Machines {
		b.machines[pxe.MAC(macOf(i).String())] = pxe.Decision{
			Action: pxe.Install, Reason: "there is an open claim", Arch: pxe.AMD64,
			Lease: &pxe.Lease{
				Address: netip.PrefixFrom(addressOf(i), config.LAN.Bits()),
				Gateway: gateway, Nameservers: []netip.Addr{gateway},
			},
			Kernel: pxe.Kernel{
				Path: "/installer/amd64/vmlinuz", Initrds: []string{"/installer/amd64/initrd.img"},
				Args: []string{"rhizome.init=${base}/init/${mac}", "rhizome.mac=${mac}", "console=ttyS0"},
			},
		}
	}
	return b
}

func (b *backend) Decide(m pxe.Machine) pxe.Decision { return b.machines[m.MAC] }
func (b *backend) Observe(pxe.Observation)           { b.observed.Add(1) }

func (b *backend) InitConfig(context.Context, pxe.MAC, netip.Addr) (pxe.Document, error) {
	return pxe.Document{}, pxe.ErrNotFound
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
