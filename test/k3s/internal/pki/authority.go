// Package pki keeps k3s' certificate authorities on disk, where k3s documents
// that custom ones may be placed, and issues certificates from them
// (https://docs.k3s.io/cli/certificate#using-custom-ca-certificates).
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"time"

	certutil "k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

// The authorities, named as their files in <data-dir>/server/tls.
const (
	ServerCA        = "server-ca"
	ClientCA        = "client-ca"
	RequestHeaderCA = "request-header-ca"
	EtcdServerCA    = "etcd/server-ca"
	EtcdPeerCA      = "etcd/peer-ca"
)

// ServiceKey is the file of the key that signs service-account tokens.
const ServiceKey = "service.key"

// Authorities lists all of them in the order in which they are made.
var Authorities = []string{ServerCA, ClientCA, RequestHeaderCA, EtcdServerCA, EtcdPeerCA}

// Files is every file that servers of one cluster must share.
func Files() []string {
	out := []string{ServiceKey}
	for _, name := range Authorities {
		out = append(out, name+".crt", name+".key")
	}
	return out
}

// Authority signs certificates. Chain[0] is its own certificate.
type Authority struct {
	Chain  []*x509.Certificate
	Bundle []byte // the file, byte for byte
	key    crypto.Signer
}

// Ensure makes in dir whatever of the authorities and the service key is not
// there. An authority of which only one half is there is an error: half a
// pair is a mistake, and a new pair would hide it.
func Ensure(dir string) error {
	if err := os.MkdirAll(filepath.Join(dir, "etcd"), 0o700); err != nil {
		return err
	}
	for _, name := range Authorities {
		crt, key := filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
		hasCrt, hasKey := exists(crt), exists(key)
		if hasCrt != hasKey {
			return fmt.Errorf("%s: of %s.crt and %s.key only one is there", dir, name, name)
		}
		if hasCrt {
			continue
		}
		if err := create(crt, key, filepath.Base(name)); err != nil {
			return fmt.Errorf("cannot make the authority %s: %w", name, err)
		}
	}
	path := filepath.Join(dir, ServiceKey)
	if exists(path) {
		if _, err := keyutil.PrivateKeyFromFile(path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	return writeKey(path, key)
}

func create(crt, keyFile, name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	cert, err := certutil.NewSelfSignedCACert(certutil.Config{CommonName: "k3s-" + name + "@" + fmt.Sprint(time.Now().Unix())}, key)
	if err != nil {
		return err
	}
	if err := writeKey(keyFile, key); err != nil {
		return err
	}
	b, err := certutil.EncodeCertificates(cert)
	if err != nil {
		return err
	}
	return os.WriteFile(crt, b, 0o600)
}

// Open reads one authority and checks that it can sign: the key belongs to
// the first certificate, which is an authority's.
func Open(dir, name string) (*Authority, error) {
	crt := filepath.Join(dir, name+".crt")
	b, err := os.ReadFile(crt)
	if err != nil {
		return nil, err
	}
	chain, err := certutil.ParseCertsPEM(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", crt, err)
	}
	keyFile := filepath.Join(dir, name+".key")
	k, err := keyutil.PrivateKeyFromFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyFile, err)
	}
	key, ok := k.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s: this kind of key cannot sign", keyFile)
	}
	if !reflect.DeepEqual(key.Public(), chain[0].PublicKey) {
		return nil, fmt.Errorf("%s is not the key of the first certificate in %s", keyFile, crt)
	}
	if !chain[0].IsCA || !chain[0].BasicConstraintsValid {
		return nil, fmt.Errorf("%s: its first certificate is not an authority's", crt)
	}
	return &Authority{Chain: chain, Bundle: b, key: key}, nil
}

// Subject says for whom a certificate is and for what.
type Subject struct {
	Name   string   // common name, the user
	Groups []string // organisations
	Server bool     // may serve
	Client bool     // may identify a client
	DNS    []string
	IPs    []net.IP
}

// Sign issues a certificate for a year, valid from when the authority is:
// the clocks of freshly booted machines differ. It returns PEM, with the
// authority's own chain appended.
func (a *Authority) Sign(s Subject, public crypto.PublicKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: s.Name, Organization: s.Groups},
		NotBefore:    a.Chain[0].NotBefore,
		NotAfter:     time.Now().AddDate(1, 0, 0).UTC(),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		DNSNames:     s.DNS, IPAddresses: s.IPs,
		BasicConstraintsValid: true,
	}
	if s.Server {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if s.Client {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.Chain[0], public, a.key)
	if err != nil {
		return nil, fmt.Errorf("cannot sign a certificate for %s: %w", s.Name, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return certutil.EncodeCertificates(append([]*x509.Certificate{leaf}, a.Chain...)...)
}

// Issue makes a new key and a certificate for it and writes both:
// path+".crt" and path+".key".
func (a *Authority) Issue(path string, s Subject) error {
	key, err := NewKey(path + ".key")
	if err != nil {
		return err
	}
	b, err := a.Sign(s, key.Public())
	if err != nil {
		return err
	}
	return os.WriteFile(path+".crt", b, 0o600)
}

// NewKey makes a key and writes it to path.
func NewKey(path string) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return key, writeKey(path, key)
}

func writeKey(path string, key crypto.PrivateKey) error {
	b, err := keyutil.MarshalPrivateKeyToPEM(key)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// Single is the authority's own certificate without its chain.
func (a *Authority) Single() []byte {
	b, err := certutil.EncodeCertificates(a.Chain[0])
	if err != nil {
		return nil
	}
	return b
}
