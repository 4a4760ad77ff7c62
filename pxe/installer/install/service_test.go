package install_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
)

const claim = "claim-of-this-test"

// service serves one machine its plan, its image and takes its reports, over
// real HTTP and HTTPS on loopback.
type service struct {
	t *testing.T
	// refuse is how often the plan is refused first; less than zero: always.
	refuse int
	// refuseReports refuses reports of this stage.
	refuseReports pxe.Stage
	// cuts is how often the image's connection is cut in the middle.
	cuts int
	// gone: after the last cut nobody serves the image any more.
	gone bool
	// arguments are further ones of the kernel.
	arguments string

	mu      sync.Mutex
	asked   int
	firstAt time.Time // the plan was first asked for
	ranges  []string
	reports []pxe.Report
	done    chan struct{} // closed at the last report: Installed or Failed

	base  string // of the plain service
	plan  plan.Plan
	image []byte // as downloaded
}

// serve starts the service, to be reached at host from where the machine is.
func serve(t *testing.T, host string, image []byte, change func(*service)) *service {
	t.Helper()
	s := &service{t: t, done: make(chan struct{})}
	var packed bytes.Buffer
	w, err := zstd.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(image); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	certificate, ca := authority(t, host)
	plainPort := s.listen(http.HandlerFunc(s.plain), nil)
	securePort := s.listen(http.HandlerFunc(s.secure), &tls.Config{Certificates: []tls.Certificate{certificate}})
	s.base = fmt.Sprintf("http://%s:%d", host, plainPort)
	s.plan = plan.Plan{
		Node: "node-1", Claim: claim, CA: ca,
		ReportURL: fmt.Sprintf("https://%s:%d/v1/report", host, securePort),
		Image:     plan.Image{URL: s.base + "/image"},
		Seed: map[string]string{
			"user-data":      "#cloud-config\nhostname: node-1\n",
			"meta-data":      "instance-id: node-1-1\n",
			"network-config": "version: 2\n",
		},
	}
	s.pack(packed.Bytes(), plan.Zstd)
	if change != nil {
		change(s)
	}
	return s
}

// pack makes this the image, and the plan's.
func (s *service) pack(image []byte, compression string) {
	s.image = image
	sum := sha256.Sum256(image)
	s.plan.Image.SHA256, s.plan.Image.Compression, s.plan.Image.Size = hex.EncodeToString(sum[:]), compression, int64(len(image))
}

func (s *service) initURL() string { return s.base + "/init/52:54:00:00:00:01" }

func (s *service) listen(h http.Handler, secure *tls.Config) (port int) {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	port = l.Addr().(*net.TCPAddr).Port
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	s.t.Cleanup(func() { _ = server.Close() })
	return port
}

func (s *service) plain(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/image" {
		s.serveImage(w, r)
		return
	}
	if !strings.HasPrefix(r.URL.Path, "/init/") {
		http.NotFound(w, r)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked++; s.asked == 1 {
		s.firstAt = time.Now()
	}
	if s.refuse < 0 || s.asked <= s.refuse {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"rule":"ClaimExpired","message":"the claim expired: open a new one"}`)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(s.plan); err != nil {
		s.t.Errorf("cannot send the plan: %v", err)
	}
}

func (s *service) serveImage(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.ranges = append(s.ranges, r.Header.Get("Range"))
	cut, gone := len(s.ranges) <= s.cuts, s.gone && len(s.ranges) > s.cuts
	s.mu.Unlock()
	if gone {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("ETag", `"`+s.plan.Image.SHA256+`"`)
	if cut {
		w = &cutter{w, s.piece()}
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.image))
}

// piece is what a connection carries before it is cut.
func (s *service) piece() int { return len(s.image) / (s.cuts + 1) }

// cutter breaks the connection after so many bytes.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	if len(p) >= c.left {
		_, _ = c.ResponseWriter.Write(p[:c.left])
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

func (s *service) secure(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var report pxe.Report
	if err == nil {
		err = json.Unmarshal(body, &report)
	}
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/v1/report" {
		s.t.Errorf("bad report %s %s %q: %v", r.Method, r.URL.Path, body, err)
	}
	if got := r.Header.Get("Authorization"); got != "Bearer "+claim {
		s.t.Errorf("a report came with the Authorization %q", got)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if report.Stage == s.refuseReports {
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `{"rule":"ClaimWithdrawn","message":"the claim was withdrawn"}`)
		return
	}
	s.reports = append(s.reports, report)
	if report.Stage != pxe.StageInstalling {
		select {
		case <-s.done:
			s.t.Errorf("a report %s came after the last one", report.Stage)
		default:
			close(s.done)
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// last is the last report, or the zero value.
func (s *service) last() pxe.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.reports) == 0 {
		return pxe.Report{}
	}
	return s.reports[len(s.reports)-1]
}

// authority makes a certificate authority and a certificate for a host by it.
func authority(t *testing.T, host string) (tls.Certificate, string) {
	t.Helper()
	now := time.Now()
	issue := func(template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) []byte {
		template.SerialNumber = big.NewInt(now.UnixNano())
		template.NotBefore, template.NotAfter = now.Add(-time.Hour), now.Add(24*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	newKey := func() *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	caKey, key := newKey(), newKey()
	ca := &x509.Certificate{Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER := issue(ca, ca, caKey, caKey)
	leaf := &x509.Certificate{Subject: pkix.Name{CommonName: host}, IPAddresses: []net.IP{net.ParseIP(host)}}
	der := issue(leaf, ca, key, caKey)
	caPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, string(caPEM)
}
