package cluster

import (
	"crypto/x509"
	"encoding/pem"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rhizome-dev/rhizome/internal/k3s"
)

func authority(t *testing.T) k3s.Authority {
	t.Helper()
	ca, err := k3s.NewAuthority("rhizome-pxe-ca", noon)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestTheCertificateIsRenewedWhenItMustBe(t *testing.T) {
	ca, other := authority(t), authority(t)
	addresses := []netip.Addr{netip.MustParseAddr("192.168.1.10"), netip.MustParseAddr("192.168.1.11")}
	data, err := servingData(ca, addresses, noon)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := servingData(other, addresses, noon)
	if err != nil {
		t.Fatal(err)
	}
	good := func() *corev1.Secret {
		s := &corev1.Secret{Data: map[string][]byte{}}
		for k, v := range data {
			s.Data[k] = v
		}
		return s
	}
	tests := []struct {
		reason string
		secret *corev1.Secret
		change func(*corev1.Secret)
		want   []netip.Addr
		after  time.Duration
		says   string // empty: it stays
	}{
		{"a new one stays", good(), nil, addresses, 0, ""},
		{"one of less than two thirds of its life stays", good(), nil, addresses, 59 * 24 * time.Hour, ""},
		{"one of more is renewed", good(), nil, addresses, 61 * 24 * time.Hour, "ends at"},
		{"one that ended is renewed", good(), nil, addresses, 91 * 24 * time.Hour, "cannot be trusted"},
		{"there is none", nil, nil, addresses, 0, "none yet"},
		{"a member came", good(), nil, append(slices.Clone(addresses), netip.MustParseAddr("192.168.1.12")), 0, "addresses"},
		{"a member left", good(), nil, addresses[:1], 0, "addresses"},
		{"another authority", good(), func(s *corev1.Secret) { s.Data["ca.crt"] = other.Certificate }, addresses, 0, "authority"},
		{"a certificate of another authority", good(), func(s *corev1.Secret) {
			s.Data["tls.crt"], s.Data["tls.key"] = foreign["tls.crt"], foreign["tls.key"]
		}, addresses, 0, "cannot be trusted"},
		{"another's key", good(), func(s *corev1.Secret) { s.Data["tls.key"] = foreign["tls.key"] }, addresses, 0, "cannot be used"},
		{"rubbish", good(), func(s *corev1.Secret) { s.Data["tls.crt"] = []byte("rubbish") }, addresses, 0, "cannot be used"},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			if tc.change != nil {
				tc.change(tc.secret)
			}
			why := renewal(tc.secret, ca, tc.want, noon.Add(tc.after))
			if (tc.says == "") != (why == "") || !strings.Contains(why, tc.says) {
				t.Errorf("renewal says %q, want %q", why, tc.says)
			}
		})
	}
}

func TestTheCertificateIsForItsAddressesAndForOldClocks(t *testing.T) {
	ca := authority(t)
	data, err := servingData(ca, []netip.Addr{netip.MustParseAddr("192.168.1.10")}, noon)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data["tls.crt"])
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(data["ca.crt"])
	for _, at := range []time.Time{noon, k3s.NotBefore.Add(time.Hour)} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: at, DNSName: "192.168.1.10"}); err != nil {
			t.Errorf("at %s: %v", at, err)
		}
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: noon, DNSName: "192.168.1.11"}); err == nil {
		t.Error("it is good for another address")
	}
}

func TestAnAuthorityThatCannotBeUsedIsSaidAndNotReplaced(t *testing.T) {
	ca, other := authority(t), authority(t)
	leaf, err := servingData(ca, nil, noon)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		reason           string
		certificate, key []byte
		at               time.Time
		says             string // empty: it can be used
	}{
		{"a good one", ca.Certificate, ca.Key, noon, ""},
		{"one that ended", ca.Certificate, ca.Key, noon.AddDate(40, 0, 0), "ended at"},
		{"no certificate", nil, ca.Key, noon, "holds no certificate"},
		{"no key", ca.Certificate, nil, noon, "holds no key"},
		{"a key that is none", ca.Certificate, ca.Certificate, noon, "EC PRIVATE KEY"},
		{"another's key", ca.Certificate, other.Key, noon, "not the certificate's"},
		{"no authority", leaf["tls.crt"], leaf["tls.key"], noon, "no certificate authority"},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			secret := &corev1.Secret{Data: map[string][]byte{"tls.crt": tc.certificate, "tls.key": tc.key}}
			_, err := authorityOf(secret, tc.at)
			if (tc.says == "") != (err == nil) || err != nil && (!strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), "delete it")) {
				t.Errorf("error is %v, want %q and what to do", err, tc.says)
			}
		})
	}
}
