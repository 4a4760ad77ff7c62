// Package token reads and writes k3s' join tokens and computes the hash of
// the certificate authority that they carry
// (https://docs.k3s.io/cli/token#token-format).
package token

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"

	certutil "k8s.io/client-go/util/cert"
)

// Kind says what a token lets its holder do.
type Kind string

const (
	// Server tokens join servers and agents.
	Server Kind = "server"
	// Node tokens (k3s calls them agent tokens) join agents.
	Node Kind = "node"
	// Bootstrap tokens join agents, while their Secret lives.
	Bootstrap Kind = "bootstrap"
)

const prefix = "K10"

var (
	bootstrapForm = regexp.MustCompile(`^[a-z0-9]{6}\.[a-z0-9]{16}$`)
	hashForm      = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// Token is a parsed token. Its password never goes into errors or logs.
type Token struct {
	// CAHash is empty in the short forms, which trust any server.
	CAHash string
	// Kind is empty when only a password was given: then the context says
	// whether it is a server's or a node's.
	Kind Kind
	// Password is the password, or the whole of a bootstrap token.
	Password string
}

// Parse reads K10<hash>::<user>:<password>, K10<hash>::<id>.<secret>,
// <id>.<secret>, <user>:<password> and <password>.
func Parse(s string) (Token, error) {
	var t Token
	rest := strings.TrimSpace(s)
	if full, ok := strings.CutPrefix(rest, prefix); ok {
		hash, credentials, found := strings.Cut(full, "::")
		if !found || !hashForm.MatchString(hash) {
			return Token{}, errors.New("token: starts with K10 but is not K10<64 hex digits>::<credentials>")
		}
		t.CAHash, rest = hash, credentials
	}
	if bootstrapForm.MatchString(rest) {
		t.Kind, t.Password = Bootstrap, rest
		return t, nil
	}
	user, password, found := strings.Cut(rest, ":")
	if !found {
		if t.CAHash != "" {
			return Token{}, errors.New("token: no user name before the password, and not a bootstrap token")
		}
		user, password = "", rest
	}
	switch Kind(user) {
	case "", Server, Node:
		t.Kind = Kind(user)
	default:
		return Token{}, fmt.Errorf("token: user %q is neither server nor node", user)
	}
	if password == "" {
		return Token{}, errors.New("token: empty password")
	}
	t.Password = password
	return t, nil
}

// Format writes the full form of a server's or node's token.
func Format(caHash string, kind Kind, password string) string {
	return prefix + caHash + "::" + string(kind) + ":" + password
}

// CheckCA returns an error unless the token's hash, if it has one, is that of
// the bundle.
func (t Token) CheckCA(bundle []byte) error {
	if t.CAHash == "" {
		return nil
	}
	hash, err := HashCA(bundle)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(hash), []byte(t.CAHash)) != 1 {
		return fmt.Errorf("token: its CA hash does not match the server's CA, whose hash is %s", hash)
	}
	return nil
}

// HashCA is the hash of a server CA bundle: of the PEM bytes as served when
// the bundle holds one certificate, of the root's DER bytes when it holds a
// chain.
func HashCA(bundle []byte) (string, error) {
	certs, err := certutil.ParseCertsPEM(bundle)
	if err != nil {
		return "", fmt.Errorf("server CA bundle: %w", err)
	}
	hashed := bundle
	if len(certs) > 1 {
		root, err := rootOf(certs)
		if err != nil {
			return "", err
		}
		hashed = root.Raw
	}
	sum := sha256.Sum256(hashed)
	return hex.EncodeToString(sum[:]), nil
}

// rootOf follows the chain from the first certificate, which signs, to the
// one that signed itself.
func rootOf(certs []*x509.Certificate) (*x509.Certificate, error) {
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range certs {
		if c.CheckSignatureFrom(c) == nil {
			roots.AddCert(c)
		} else {
			intermediates.AddCert(c)
		}
	}
	chains, err := certs[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, fmt.Errorf("server CA bundle: the first certificate does not lead to a root: %w", err)
	}
	return chains[0][len(chains[0])-1], nil
}
