package report

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
)

func server(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	s := httptest.NewTLSServer(h)
	t.Cleanup(s.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	c, err := New(plan.Plan{Claim: "secret-claim", CA: string(ca), ReportURL: s.URL + "/v1/report"})
	if err != nil {
		t.Fatal(err)
	}
	c.UUID = "uuid-1"
	return c
}

// otherCA is an authority that vouches for nobody.
func otherCA(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestReportCarriesTheClaimAndTheMachine(t *testing.T) {
	var got pxe.Report
	c := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret-claim" || r.Header.Get("Content-Type") != "application/json" || r.Method != http.MethodPost {
			t.Errorf("%s with %v", r.Method, r.Header)
		}
		b, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(b, &got); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusNoContent)
	})
	sent := pxe.Report{Stage: pxe.StageFailed, Step: "disk", Message: "two disks\xff" + strings.Repeat("x", 20<<10), Done: 1, Total: 2, Disk: "/dev/sda"}
	if err := c.Once(t.Context(), sent); err != nil {
		t.Fatal(err)
	}
	if len(got.Message) > 16<<10 || !strings.HasPrefix(got.Message, "two disksx") {
		t.Errorf("the message has %d bytes: %.20q", len(got.Message), got.Message)
	}
	sent.UUID, sent.Message, got.Message = "uuid-1", "", ""
	if diff := cmp.Diff(sent, got); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}

func TestReportIsTriedAgainUntilItIsTaken(t *testing.T) {
	n := 0
	c := server(t, func(w http.ResponseWriter, r *http.Request) {
		if n++; n < 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	said := ""
	c.Log = func(format string, _ ...any) { said = format }
	if err := c.Until(t.Context(), time.Minute, pxe.Report{}); err != nil || n != 3 || said == "" {
		t.Errorf("Until = %v after %d attempts, said %q", err, n, said)
	}
}

func TestARefusalIsFinal(t *testing.T) {
	n := 0
	c := server(t, func(w http.ResponseWriter, r *http.Request) {
		n++
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, `{"rule":"ClaimExpired","message":"open a new one"}`)
	})
	var refusal *pxe.Refusal
	if err := c.Until(t.Context(), time.Minute, pxe.Report{}); !errors.As(err, &refusal) || refusal.Rule != "ClaimExpired" || n != 1 {
		t.Errorf("Until = %v after %d attempts, want the refusal after one", err, n)
	}
}

func TestTheNextReportGoesToTheNextServer(t *testing.T) {
	var said []string
	c := server(t, func(w http.ResponseWriter, r *http.Request) {
		said = append(said, r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
	})
	c.urls = []string{"https://127.0.0.1:9/v1/report", c.urls[0], "https://127.0.0.1:9/v1/report"}
	if err := c.Once(t.Context(), pxe.Report{}); err == nil {
		t.Fatal("a server that is not there took a report")
	}
	for range 2 {
		if err := c.Once(t.Context(), pxe.Report{}); err != nil {
			t.Errorf("the second server: %v", err)
		}
	}
	if len(said) != 2 {
		t.Errorf("the second server got %d reports, want 2", len(said))
	}
}

func TestTheClaimGoesToNoOtherServer(t *testing.T) {
	c := server(t, func(w http.ResponseWriter, r *http.Request) {
		t.Error("a server with a certificate by another authority was told the claim")
	})
	other, err := New(plan.Plan{Claim: "secret-claim", CA: otherCA(t), ReportURL: c.urls[0]})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Once(t.Context(), pxe.Report{}); err == nil || strings.Contains(err.Error(), "secret-claim") {
		t.Errorf("Once = %v, want an error without the claim", err)
	}

	away := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/report" {
			t.Error("a redirection was followed")
		}
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
	})
	if err := away.Once(t.Context(), pxe.Report{}); err == nil {
		t.Error("a redirection is no error")
	}
}

func TestARefusalThatCannotBeReadIsStillOne(t *testing.T) {
	for _, body := range []string{"", "<html>", "{}", `{"rule":1}`} {
		if r := ParseRefusal([]byte(body)); r.Rule != "Forbidden" || r.Message == "" {
			t.Errorf("ParseRefusal(%q) = %+v", body, r)
		}
	}
}
