package state

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/internal/provision"
)

// Secrets are the roots of all trust in one cluster. They are made once, before
// anything is started, and never change.
type Secrets struct {
	// Founding is the cluster's own.
	Founding provision.Founding `json:"founding"`
	// PXE is the authority of the PXE service.
	PXE k3s.Authority `json:"pxe"`
}

// Secrets reads the cluster's secrets; on the first call they are made, and kept
// before they are returned. made says that this was so.
func (d *Directory) Secrets(now time.Time) (secrets Secrets, made bool, err error) {
	found, err := d.read(secretsFile, &secrets)
	if err != nil {
		return Secrets{}, false, err
	}
	if found {
		if err := secrets.Founding.Authorities.Check(now); err != nil {
			return Secrets{}, false, fmt.Errorf("the secrets in %s cannot be used: %w", d.path, err)
		}
		return secrets, false, nil
	}
	if secrets, err = newSecrets(now); err != nil {
		return Secrets{}, false, err
	}
	return secrets, true, d.write(secretsFile, secrets)
}

func newSecrets(now time.Time) (Secrets, error) {
	founding, err := provision.NewFounding(func() time.Time { return now })
	if err != nil {
		return Secrets{}, err
	}
	pxe, err := k3s.NewAuthority("rhizome-pxe-ca", now)
	if err != nil {
		return Secrets{}, err
	}
	return Secrets{Founding: founding, PXE: pxe}, nil
}

// pxeCertificateLife is longer than any seed: the certificate is made anew by
// every run and its key never leaves the process.
const pxeCertificateLife = 30 * 24 * time.Hour

// PXECertificate makes the PXE service's certificate for its address.
func (s Secrets) PXECertificate(address netip.Addr, now time.Time) (tls.Certificate, error) {
	certificate, key, err := s.PXE.Sign(x509.Certificate{
		Subject:     pkix.Name{CommonName: "rhizome-pxe"},
		IPAddresses: []net.IP{address.AsSlice()},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, now.Add(pxeCertificateLife))
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("cannot use the PXE service's certificate: %w", err)
	}
	return pair, nil
}

// Kubeconfig makes an administrator's kubeconfig for the API server at a URL. ttl
// is how long its certificate lasts: it cannot be revoked.
func (s Secrets) Kubeconfig(cluster, server, user string, now time.Time, ttl time.Duration) ([]byte, error) {
	certificate, key, err := s.Founding.Authorities.AdminCertificate(user, now, ttl)
	if err != nil {
		return nil, err
	}
	return k3s.Kubeconfig(cluster, server, s.Founding.Authorities.Server.Certificate, certificate, key)
}
