package plan

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"
)

// testCA makes a certificate that certifies nothing.
func testCA(t testing.TB) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func good(t testing.TB) Plan {
	return Plan{
		Node: "node-1", Claim: "secret-claim", CA: testCA(t), ReportURL: "https://10.0.0.1:7443/v1/report",
		Image: Image{URL: "http://10.0.0.1:7480/media/x/os.zst", SHA256: strings.Repeat("0a", 32), Compression: Zstd, Size: 1},
		Seed:  map[string]string{"user-data": "", "meta-data": "", "network-config": ""},
	}
}

func encode(t testing.TB, p Plan) []byte {
	t.Helper()
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecodeNamesTheFieldThatIsWrong(t *testing.T) {
	if _, err := Decode(encode(t, good(t))); err != nil {
		t.Fatalf("a good plan is refused: %v", err)
	}
	for _, tt := range []struct {
		want   string
		change func(*Plan)
	}{
		{"node", func(p *Plan) { p.Node = "" }},
		{"claim is empty", func(p *Plan) { p.Claim = "" }},
		{"claim has white space", func(p *Plan) { p.Claim = "secret-claim\r\nHost: x" }},
		{"ca", func(p *Plan) { p.CA = "-----BEGIN CERTIFICATE-----\n" }},
		{"reportURL", func(p *Plan) { p.ReportURL = "http://10.0.0.1/v1/report" }},
		{"reportURL", func(p *Plan) { p.ReportURL = "/v1/report" }},
		{"otherReportURLs[0]", func(p *Plan) { p.OtherReportURLs = []string{"http://10.0.0.2/v1/report"} }},
		{"image.mirrors[1]", func(p *Plan) { p.Image.Mirrors = []string{"http://10.0.0.2/x", "/x"} }},
		{"image.url", func(p *Plan) { p.Image.URL = "file:///etc/passwd" }},
		{"image.url", func(p *Plan) { p.Image.URL = "http://[" }},
		{"image.sha256", func(p *Plan) { p.Image.SHA256 = "abc" }},
		{"image.sha256", func(p *Plan) { p.Image.SHA256 = strings.Repeat("zz", 32) }},
		{"image.compression", func(p *Plan) { p.Image.Compression = "Bzip2" }},
		{"image.size", func(p *Plan) { p.Image.Size = -1 }},
		{"disk.minBytes", func(p *Plan) { p.Disk.MinBytes = -1 }},
		{"greater than disk.maxBytes", func(p *Plan) { p.Disk.MinBytes, p.Disk.MaxBytes = 2, 1 }},
		{"seed has no user-data", func(p *Plan) { delete(p.Seed, "user-data") }},
		{"seed has no meta-data", func(p *Plan) { delete(p.Seed, "meta-data") }},
		{"plain file name", func(p *Plan) { p.Seed["../x"] = "" }},
		{"plain file name", func(p *Plan) { p.Seed[".hidden"] = "" }},
	} {
		p := good(t)
		tt.change(&p)
		_, err := Decode(encode(t, p))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Decode = %v, want an error with %q", err, tt.want)
			continue
		}
		if strings.Contains(err.Error(), "secret-claim") {
			t.Errorf("the error holds the claim: %v", err)
		}
	}
}

func TestDecodeTakesAPlanOfANewerServer(t *testing.T) {
	b := []byte(strings.Replace(string(encode(t, good(t))), "{", `{"newer":{"a":1},`, 1))
	if _, err := Decode(b); err != nil {
		t.Error(err)
	}
}

func TestDecodeRefusesWhatIsNoPlan(t *testing.T) {
	for _, b := range []string{"", "[]", "null", "<html>", strings.Repeat(" ", MaxBytes+1)} {
		if _, err := Decode([]byte(b)); err == nil {
			t.Errorf("Decode(%.10q) is no error", b)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(f, good(f)))
	f.Add([]byte(`{"seed":{"":null}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Decode(b)
		if err == nil && (p.Claim == "" || len(p.Image.SHA256) != 64) {
			t.Errorf("Decode let %+v pass", p.Image)
		}
	})
}
