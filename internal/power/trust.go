package power

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// The keys of Secrets with credentials.
const (
	KeyUsername  = "username"
	KeyPassword  = "password"
	KeyToken     = "token"
	KeyAuthority = "ca.crt" // PEM
)

// pinMismatch: the peer showed another certificate than the pinned one.
type pinMismatch struct{ pinned, shown string }

func (p *pinMismatch) Error() string {
	return fmt.Sprintf("its certificate has the SHA-256 fingerprint %s, and %s is pinned", p.shown, p.pinned)
}

const trustFix = "if you know that the certificate was replaced, set fingerprint to the new one's, or put the authority that signed it under ca.crt in the Secret; " +
	"if you do not, find out who answers at this address before anything else"

// trust is how a peer's certificate is verified: by its fingerprint, which is all
// that counts then (controllers sign their own, with no name and for any time), or
// by the authorities in PEM, or by the system's.
func trust(pin *v1alpha1.SHA256, authority []byte) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	switch {
	case pin != nil:
		pinned := string(*pin)
		// The usual verification is replaced, not left out: VerifyConnection is called
		// in every handshake, resumed ones included.
		config.InsecureSkipVerify = true
		config.VerifyConnection = func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return errors.New("it shows no certificate")
			}
			sum := sha256.Sum256(s.PeerCertificates[0].Raw)
			if shown := hex.EncodeToString(sum[:]); shown != pinned {
				return &pinMismatch{pinned: pinned, shown: shown}
			}
			return nil
		}
	case len(authority) > 0:
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(authority) {
			return nil, fmt.Errorf("the key %s of its Secret holds no certificate in PEM", KeyAuthority)
		}
	}
	return config, nil
}
