package k3s

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// NotBefore is where every certificate made here begins. Machines boot with
// clocks that are years behind (an empty CMOS battery), and k3s gives its own
// leaf certificates the beginning of the authority that signs them.
var NotBefore = time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC)

// authorityLife is how long an authority made now lasts. A cluster has no way to
// replace its authorities without a person, so it outlives the hardware.
const authorityLife = 30 * 365 * 24 * time.Hour

// Authority is a self-signed certificate authority in PEM. Key is a secret.
type Authority struct {
	Certificate []byte `json:"certificate"`
	Key         []byte `json:"key"`
}

// Authorities are all that k3s would otherwise make at its first start. Whoever
// makes them beforehand knows the token and an administrator's certificate
// before the machine boots. The JSON form is for keeping them.
// (https://docs.k3s.io/cli/certificate#using-custom-ca-certificates)
type Authorities struct {
	Server        Authority `json:"server"`
	Client        Authority `json:"client"`
	RequestHeader Authority `json:"requestHeader"`
	EtcdServer    Authority `json:"etcdServer"`
	EtcdPeer      Authority `json:"etcdPeer"`
	// ServiceKey signs the tokens of service accounts, in PEM. A secret.
	ServiceKey []byte `json:"serviceKey"`
}

// NewAuthorities makes all authorities: ECDSA P-256, from NotBefore to thirty
// years after now.
func NewAuthorities(now time.Time) (Authorities, error) {
	var a Authorities
	for _, one := range a.named() {
		made, err := NewAuthority("k3s-"+one.name+"-ca", now)
		if err != nil {
			return Authorities{}, err
		}
		*one.authority = made
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Authorities{}, fmt.Errorf("cannot make the service account key: %w", err)
	}
	if a.ServiceKey, err = encodeKey(key); err != nil {
		return Authorities{}, err
	}
	return a, nil
}

type namedAuthority struct {
	name, file string // file below ServerTLSDir, without ending
	authority  *Authority
}

func (a *Authorities) named() []namedAuthority {
	return []namedAuthority{
		{"server", "server-ca", &a.Server},
		{"client", "client-ca", &a.Client},
		{"request-header", "request-header-ca", &a.RequestHeader},
		{"etcd-server", "etcd/server-ca", &a.EtcdServer},
		{"etcd-peer", "etcd/peer-ca", &a.EtcdPeer},
	}
}

// Files are the files that the first server needs before its first start. Other
// servers fetch them from the first.
func (a Authorities) Files() []File {
	var files []File
	for _, one := range a.named() {
		files = append(files,
			File{Path: ServerTLSDir + "/" + one.file + ".crt", Content: one.authority.Certificate, Mode: 0o644},
			File{Path: ServerTLSDir + "/" + one.file + ".key", Content: one.authority.Key, Mode: 0o600})
	}
	return append(files, File{Path: ServerTLSDir + "/service.key", Content: a.ServiceKey, Mode: 0o600})
}

// Check says what is wrong with authorities that were kept: something missing,
// a key that is not the certificate's, a certificate that has ended.
func (a Authorities) Check(now time.Time) error {
	for _, one := range a.named() {
		cert, _, err := one.authority.parse()
		if err != nil {
			return fmt.Errorf("%s authority: %w", one.name, err)
		}
		if now.After(cert.NotAfter) {
			return fmt.Errorf("%s authority ended at %s", one.name, cert.NotAfter.Format(time.RFC3339))
		}
	}
	if _, err := decodeKey(a.ServiceKey); err != nil {
		return fmt.Errorf("service account key: %w", err)
	}
	return nil
}

// NewAuthority makes one self-signed authority with the given common name.
func NewAuthority(commonName string, now time.Time) (Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Authority{}, fmt.Errorf("cannot make the key of %s: %w", commonName, err)
	}
	serial, err := serialNumber()
	if err != nil {
		return Authority{}, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: fmt.Sprintf("%s@%d", commonName, now.Unix())},
		NotBefore:             NotBefore,
		NotAfter:              now.Add(authorityLife).UTC(),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return Authority{}, fmt.Errorf("cannot make the certificate of %s: %w", commonName, err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return Authority{}, err
	}
	return Authority{Certificate: encodeCertificate(der), Key: keyPEM}, nil
}

// Sign makes a key and a certificate from the template, of which Subject,
// DNSNames, IPAddresses, KeyUsage and ExtKeyUsage are used. It begins at
// NotBefore and ends at notAfter.
func (a Authority) Sign(template x509.Certificate, notAfter time.Time) (certificate, key []byte, err error) {
	ca, caKey, err := a.parse()
	if err != nil {
		return nil, nil, fmt.Errorf("cannot sign a certificate for %q: %w", template.Subject.CommonName, err)
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot make a key for %q: %w", template.Subject.CommonName, err)
	}
	serial, err := serialNumber()
	if err != nil {
		return nil, nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               template.Subject,
		NotBefore:             NotBefore,
		NotAfter:              notAfter.UTC(),
		DNSNames:              template.DNSNames,
		IPAddresses:           template.IPAddresses,
		KeyUsage:              template.KeyUsage,
		ExtKeyUsage:           template.ExtKeyUsage,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, leafKey.Public(), caKey)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot sign a certificate for %q: %w", template.Subject.CommonName, err)
	}
	if key, err = encodeKey(leafKey); err != nil {
		return nil, nil, err
	}
	return encodeCertificate(der), key, nil
}

// AdminCertificate makes a certificate of the group system:masters, which may do
// everything. Keep ttl short: it cannot be revoked.
func (a Authorities) AdminCertificate(commonName string, now time.Time, ttl time.Duration) (certificate, key []byte, err error) {
	return a.Client.Sign(x509.Certificate{
		Subject:     pkix.Name{CommonName: commonName, Organization: []string{"system:masters"}},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, now.Add(ttl))
}

func (a Authority) parse() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	certs, err := parseCertificates(a.Certificate)
	if err != nil {
		return nil, nil, err
	}
	key, err := decodeKey(a.Key)
	if err != nil {
		return nil, nil, err
	}
	if !key.PublicKey.Equal(certs[0].PublicKey) {
		return nil, nil, errors.New("the key is not the certificate's")
	}
	return certs[0], key, nil
}

func serialNumber() (*big.Int, error) {
	// RFC 5280 section 4.1.2.2: positive, at most 20 octets.
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("cannot make a serial number: %w", err)
	}
	return n.Add(n, big.NewInt(1)), nil
}

func encodeCertificate(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// encodeKey writes the form that k3s writes itself (SEC 1).
func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("cannot encode a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

func decodeKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "EC PRIVATE KEY" {
		return nil, errors.New("no PEM block EC PRIVATE KEY")
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("cannot read the key: %w", err)
	}
	return key, nil
}
