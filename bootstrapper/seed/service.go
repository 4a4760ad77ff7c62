package seed

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/rhizome-dev/rhizome/bootstrapper/progress"
	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/dhcp"
	"github.com/rhizome-dev/rhizome/pxe/media"
	"github.com/rhizome-dev/rhizome/pxe/server"
)

// service is the PXE service while it runs.
type service struct {
	since  time.Time
	cancel context.CancelFunc
	ended  chan error // its one value is kept there
}

// stop ends the service and waits until its ports are closed.
func (s *service) stop() {
	s.cancel()
	err := <-s.ended
	s.ended <- err
}

// failure is why the service ended by itself; nil while it runs.
func (s *service) failure() error {
	select {
	case err := <-s.ended:
		s.ended <- err
		return fmt.Errorf("the PXE service ended: %w", err)
	default:
		return nil
	}
}

// pxe starts the PXE service on the interface.
func (f *flow) pxe(_ context.Context, p *progress.Phase) (string, error) {
	if f.plan == goOnLiving {
		p.Skip("%s", f.noMachineWork())
		return "", nil
	}
	address, err := netip.ParseAddr(string(f.first.Spec.Address))
	if err != nil {
		return "", fmt.Errorf("cannot read spec.address of Node/%s: %w", f.first.Name, err)
	}
	f.watch = newWatch(pxe.MAC(f.first.Spec.MAC), address)
	certificate, err := f.secrets.PXECertificate(f.link.Address, f.Now())
	if err != nil {
		return "", err
	}
	backend, err := f.backend()
	if err != nil {
		return "", err
	}
	mode := dhcp.Proxy
	if f.cluster.Spec.Network.DHCP == v1alpha1.DHCPServer {
		mode = dhcp.Server
	}
	guests, err := provision.Guests(f.cluster, func() inventory.Inventory { return f.inv })
	if err != nil {
		return "", err
	}
	pxeServer, err := server.New(server.Config{
		Backend: backend, Interface: f.link.Interface.Name, Address: f.link.Address, DHCP: mode, Pool: guests,
		HTTPPort: f.HTTPPort, HTTPSPort: f.HTTPSPort, Certificate: certificate,
		BootFiles: f.bootFiles, Media: f.cache, Logger: f.Logger, Now: f.Now,
	})
	if err != nil {
		return "", err
	}
	if err := pxeServer.Listen(); err != nil {
		return "", err
	}
	// It outlives the phase; the flow ends it.
	running, cancel := context.WithCancel(context.Background())
	f.service = &service{since: f.Now(), cancel: cancel, ended: make(chan error, 1)}
	go func() { f.service.ended <- pxeServer.Serve(running) }()
	return fmt.Sprintf("DHCP (%s), TFTP and %s on %s", mode, pxeServer.BaseURL(), f.link.Interface.Name), nil
}

// backend answers the PXE service. Only the first node is known to it: the others
// are the operator's to install, and until then they boot their own disks without
// an answer.
func (f *flow) backend() (*provision.Backend, error) {
	inv := f.seeding()
	archives := f.operator.sources()
	return provision.NewBackend(provision.Config{
		Inventory: func() inventory.Inventory { return inv },
		Claims:    f.claims,
		Credentials: func(_ context.Context, node *v1alpha1.Node, claim provision.Claim) ([]k3s.File, error) {
			if node.Name != f.first.Name || claim.Purpose != provision.Seed {
				return nil, fmt.Errorf("%s is not the first node: the operator makes its credentials", node.Name)
			}
			return f.secrets.Founding.FirstServer(inv, node)
		},
		Service: provision.Service{
			BaseURL:   fmt.Sprintf("http://%s", netip.AddrPortFrom(f.link.Address, f.HTTPPort)),
			SecureURL: fmt.Sprintf("https://%s", netip.AddrPortFrom(f.link.Address, f.HTTPSPort)),
			CA:        f.secrets.PXE.Certificate,
		},
		Archives:  func(v1alpha1.Architecture) []media.Source { return archives },
		MediaSize: func(sha256 string) int64 { return f.sizes[sha256] },
		Observer:  f.watch.observe,
		Now:       f.Now,
	})
}

// seeding is the inventory as provisioning sees it: with the files of the k3s
// release added, which are not applied to the cluster.
func (f *flow) seeding() inventory.Inventory {
	inv := f.inv
	if f.released != nil {
		inv.Clusters = slices.Clone(inv.Clusters)
		inv.Clusters[0] = *f.released
	}
	return inv
}
