package k3s

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NewPassword makes a password of 256 random bits for a server or agent token.
func NewPassword() string {
	var b [32]byte
	rand.Read(b[:]) // never fails (crypto/rand, Go 1.24)
	return hex.EncodeToString(b[:])
}

// ServerToken is the token that joins servers and agents. serverCA is the bundle
// as it is served at /cacerts. (https://docs.k3s.io/cli/token#token-format)
func ServerToken(serverCA []byte, password string) (string, error) {
	return secureToken(serverCA, "server:"+password)
}

// AgentToken is the token that joins agents only.
func AgentToken(serverCA []byte, password string) (string, error) {
	return secureToken(serverCA, "node:"+password)
}

func secureToken(serverCA []byte, credentials string) (string, error) {
	hash, err := CAHash(serverCA)
	if err != nil {
		return "", err
	}
	return "K10" + hash + "::" + credentials, nil
}

// CAHash is the hash of the server's CA bundle in a token: of one certificate the
// SHA-256 of the PEM bytes exactly as served at /cacerts; of several the SHA-256
// of the root's DER form.
func CAHash(bundle []byte) (string, error) {
	certs, err := parseCertificates(bundle)
	if err != nil {
		return "", fmt.Errorf("cannot hash the server CA: %w", err)
	}
	hashed := bundle
	if len(certs) > 1 {
		root, err := rootOf(certs)
		if err != nil {
			return "", fmt.Errorf("cannot hash the server CA: %w", err)
		}
		hashed = root.Raw
	}
	sum := sha256.Sum256(hashed)
	return hex.EncodeToString(sum[:]), nil
}

func parseCertificates(bundle []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for rest := bundle; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the bundle: %w", len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("no PEM certificate in the bundle")
	}
	return certs, nil
}

// rootOf walks from the first certificate, which signs for the cluster, up to
// the one that signed itself.
func rootOf(certs []*x509.Certificate) (*x509.Certificate, error) {
	current := certs[0]
	for range certs {
		if bytes.Equal(current.RawIssuer, current.RawSubject) && current.CheckSignatureFrom(current) == nil {
			return current, nil
		}
		var issuer *x509.Certificate
		for _, c := range certs {
			if c != current && current.CheckSignatureFrom(c) == nil {
				issuer = c
				break
			}
		}
		if issuer == nil {
			return nil, fmt.Errorf("the issuer %q is not in the bundle", current.Issuer)
		}
		current = issuer
	}
	return nil, errors.New("the bundle has no root")
}

// BootstrapToken joins agents, never servers, for as long as its Secret lives
// and Expires has not come.
// (https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/)
type BootstrapToken struct {
	ID     string // 6 of [a-z0-9]
	Secret string // 16 of [a-z0-9]. A secret.
	// Expires is when it ends. k3s and Kubernetes honour whole seconds.
	Expires     time.Time
	Description string
}

// agentBootstrapGroup may join agents to k3s (https://docs.k3s.io/cli/token).
const agentBootstrapGroup = "system:bootstrappers:k3s:default-node-token"

// NewBootstrapToken makes a random token.
func NewBootstrapToken(expires time.Time, description string) BootstrapToken {
	return BootstrapToken{ID: letters(6), Secret: letters(16), Expires: expires, Description: description}
}

func letters(n int) string {
	const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
	out := make([]byte, 0, n)
	var b [32]byte
	for len(out) < n {
		rand.Read(b[:])
		for _, v := range b {
			// 252 is the greatest multiple of 36 in a byte: beyond it the first
			// letters would be likelier than the others.
			if v < 252 && len(out) < n {
				out = append(out, alphabet[int(v)%len(alphabet)])
			}
		}
	}
	return string(out)
}

// Token is what an agent's config names. serverCA as for ServerToken.
func (t BootstrapToken) Token(serverCA []byte) (string, error) {
	return secureToken(serverCA, t.ID+"."+t.Secret)
}

// SecretObject is the Secret that makes the token valid while it exists.
func (t BootstrapToken) SecretObject() *corev1.Secret {
	return &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "bootstrap-token-" + t.ID},
		Type:       corev1.SecretTypeBootstrapToken,
		Data: map[string][]byte{
			"token-id":                       []byte(t.ID),
			"token-secret":                   []byte(t.Secret),
			"expiration":                     []byte(t.Expires.UTC().Format(time.RFC3339)),
			"usage-bootstrap-authentication": []byte("true"),
			"usage-bootstrap-signing":        []byte("true"),
			"auth-extra-groups":              []byte(agentBootstrapGroup),
			"description":                    []byte(t.Description),
		},
	}
}

// NodePassword is the password by which k3s knows a machine again. It is derived
// from a secret key of the cluster and the machine's identity, so that a
// reinstalled machine has the same and is not refused while the Secret
// <node>.node-password.k3s of its former life still exists.
// (https://docs.k3s.io/architecture#how-agent-node-registration-works)
func NodePassword(key []byte, nodeName, mac string) (File, error) {
	if len(key) < 16 {
		return File{}, fmt.Errorf("cannot derive the node password of %s: the key has %d bytes, want at least 16", nodeName, len(key))
	}
	h := hmac.New(sha256.New, key)
	fmt.Fprintf(h, "rhizome node password\x00%s\x00%s", nodeName, mac)
	// k3s' own passwords are 16 bytes in hexadecimal and a newline.
	password := hex.EncodeToString(h.Sum(nil)[:16])
	return File{Path: NodePasswordPath, Content: []byte(password + "\n"), Mode: 0o600}, nil
}
