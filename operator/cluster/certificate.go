package cluster

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/internal/names"
)

// The certificate that PXE pods serve lasts for servingLife, and is renewed when
// two thirds of it are over.
const (
	servingLife  = 90 * 24 * time.Hour
	servingRenew = servingLife / 3 // before its end
)

// renewal says why the certificate in the Secret is to be made anew; empty: it is
// good. secret is nil when there is none. want is sorted.
func renewal(secret *corev1.Secret, ca k3s.Authority, want []netip.Addr, now time.Time) string {
	if secret == nil {
		return "there is none yet"
	}
	if !bytes.Equal(secret.Data[names.KeyAuthority], ca.Certificate) {
		return "the authority is another"
	}
	pair, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return "it cannot be used: " + err.Error()
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return "it cannot be used: " + err.Error()
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.Certificate)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now}); err != nil {
		return "it cannot be trusted: " + err.Error()
	}
	var have []netip.Addr
	for _, ip := range leaf.IPAddresses {
		if a, ok := netip.AddrFromSlice(ip); ok {
			have = append(have, a.Unmap())
		}
	}
	slices.SortFunc(have, netip.Addr.Compare)
	if !slices.Equal(have, want) {
		return "the members' addresses are others"
	}
	// Its beginning says nothing of its age: see k3s.NotBefore.
	if now.After(leaf.NotAfter.Add(-servingRenew)) {
		return fmt.Sprintf("it ends at %s", leaf.NotAfter.Format(time.RFC3339))
	}
	return ""
}

// servingData is the content of a new serving Secret.
func servingData(ca k3s.Authority, addresses []netip.Addr, now time.Time) (map[string][]byte, error) {
	template := x509.Certificate{
		Subject:     pkix.Name{CommonName: names.PXEDeployment},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, a := range addresses {
		template.IPAddresses = append(template.IPAddresses, net.IP(a.AsSlice()))
	}
	certificate, key, err := ca.Sign(template, now.Add(servingLife))
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		corev1.TLSCertKey: certificate, corev1.TLSPrivateKeyKey: key, names.KeyAuthority: ca.Certificate,
	}, nil
}

// authorityOf reads the PXE service's authority from its Secret. One that cannot
// be used is never replaced: machines that are being installed trust it, and a
// person may have put it there.
func authorityOf(secret *corev1.Secret, now time.Time) (k3s.Authority, error) {
	ca := k3s.Authority{Certificate: secret.Data[corev1.TLSCertKey], Key: secret.Data[corev1.TLSPrivateKeyKey]}
	err := usable(ca, now)
	if err != nil {
		return k3s.Authority{}, fmt.Errorf("the Secret %s/%s cannot be used: %w; delete it, and a new authority is made", secret.Namespace, secret.Name, err)
	}
	return ca, nil
}

func usable(ca k3s.Authority, now time.Time) error {
	block, _ := pem.Decode(ca.Certificate)
	if block == nil || block.Type != "CERTIFICATE" {
		return fmt.Errorf("%s holds no certificate in PEM", corev1.TLSCertKey)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return fmt.Errorf("%s: %w", corev1.TLSCertKey, err)
	}
	switch {
	case !certificate.IsCA:
		return fmt.Errorf("%s is no certificate authority", corev1.TLSCertKey)
	case now.After(certificate.NotAfter):
		return fmt.Errorf("it ended at %s", certificate.NotAfter.Format(time.RFC3339))
	}
	key, _ := pem.Decode(ca.Key)
	if key == nil {
		return fmt.Errorf("%s holds no key in PEM", corev1.TLSPrivateKeyKey)
	}
	private, err := x509.ParseECPrivateKey(key.Bytes)
	if err != nil {
		return fmt.Errorf("%s: want a key of the form EC PRIVATE KEY", corev1.TLSPrivateKeyKey)
	}
	if public, ok := certificate.PublicKey.(*ecdsa.PublicKey); !ok || !private.PublicKey.Equal(public) {
		return errors.New("the key is not the certificate's")
	}
	return nil
}
