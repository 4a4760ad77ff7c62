package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var someHash = strings.Repeat("0a", 32)

func TestParseReadsEveryDocumentedForm(t *testing.T) {
	for in, want := range map[string]Token{
		"K10" + someHash + "::server:pass":             {CAHash: someHash, Kind: Server, Password: "pass"},
		"K10" + someHash + "::node:pa:ss\n":            {CAHash: someHash, Kind: Node, Password: "pa:ss"},
		"K10" + someHash + "::abc123.0123456789abcdef": {CAHash: someHash, Kind: Bootstrap, Password: "abc123.0123456789abcdef"},
		"abc123.0123456789abcdef":                      {Kind: Bootstrap, Password: "abc123.0123456789abcdef"},
		"server:pass":                                  {Kind: Server, Password: "pass"},
		"just-a-password":                              {Password: "just-a-password"},
	} {
		got, err := Parse(in)
		if err != nil {
			t.Errorf("%q: %v", in, err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q: %s", in, d)
		}
	}
}

func TestParseRefusesWhatIsNoToken(t *testing.T) {
	for _, in := range []string{
		"", " ", "K10", "K10abc::server:pass", "K10" + someHash + "server:pass", "K10" + someHash + "::password",
		"K10" + someHash + "::server:", "K10" + strings.ToUpper(someHash) + "::server:x", "root:pass", ":",
	} {
		if got, err := Parse(in); err == nil {
			t.Errorf("%q: got %+v", in, got)
		}
	}
}

func TestErrorsDoNotShowThePassword(t *testing.T) {
	_, err := Parse("K10deadbeef::server:hunter2")
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestHashOfASingleAuthorityIsOfTheServedBytes(t *testing.T) {
	root, _ := authority(t, "root", nil, nil)
	served := append([]byte("a comment, served too\n"), pemOf(root)...)
	sum := sha256.Sum256(served)
	got, err := HashCA(served)
	if err != nil {
		t.Fatal(err)
	}
	if want := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestHashOfAChainIsOfTheRoot(t *testing.T) {
	root, key := authority(t, "root", nil, nil)
	middle, _ := authority(t, "middle", root, key)
	sum := sha256.Sum256(root.Raw)
	got, err := HashCA(append(pemOf(middle), pemOf(root)...))
	if err != nil {
		t.Fatal(err)
	}
	if want := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, err := HashCA(append(pemOf(middle), pemOf(middle)...)); err == nil {
		t.Error("a chain without a root has a hash")
	}
}

func TestCheckCARefusesAnotherAuthority(t *testing.T) {
	one, _ := authority(t, "one", nil, nil)
	two, _ := authority(t, "two", nil, nil)
	hash, err := HashCA(pemOf(one))
	if err != nil {
		t.Fatal(err)
	}
	tok, err := Parse(Format(hash, Server, "x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := tok.CheckCA(pemOf(one)); err != nil {
		t.Error(err)
	}
	if err := tok.CheckCA(pemOf(two)); err == nil {
		t.Error("the other authority was accepted")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("K10" + someHash + "::server:pass")
	f.Add("abc123.0123456789abcdef")
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := Parse(s)
		if err == nil && tok.Password == "" {
			t.Errorf("%q: a token without a password", s)
		}
	})
}

func authority(t *testing.T, name string, parent *x509.Certificate, parentKey crypto.Signer) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}
