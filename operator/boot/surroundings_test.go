package boot

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
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// internet has the files of the manifests.
type internet struct {
	*httptest.Server
	files map[string][]byte
	open  chan struct{} // closed: it answers
	asked atomic.Int32
}

func newInternet(t *testing.T) *internet {
	i := &internet{files: map[string][]byte{}, open: make(chan struct{})}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		select {
		case <-i.open:
		case <-r.Context().Done():
			return
		}
		content, ok := i.files[strings.TrimPrefix(r.URL.Path, "/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		http.ServeContent(w, r, "", time.Unix(1, 0), bytes.NewReader(content))
	}))
	t.Cleanup(func() {
		select {
		case <-i.open:
		default:
			close(i.open)
		}
		i.Close()
	})
	return i
}

// file adds a file of so many bytes.
func (i *internet) file(name string, size int) v1alpha1.File {
	content := bytes.Repeat([]byte(name+"\n"), size/(len(name)+1)+1)[:size]
	i.files[name] = content
	sum := sha256.Sum256(content)
	return v1alpha1.File{URL: v1alpha1.URL(i.URL + "/" + name), SHA256: v1alpha1.SHA256(hex.EncodeToString(sum[:]))}
}

// authority signs serving certificates.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pxe"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, key, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

func (a *authority) issue(serial int64, addresses ...string) (certificate, key []byte) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	for _, s := range addresses {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(s))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	encoded, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded})
}

// client trusts the authority alone, and comes from an address of loopback.
func (a *authority) client(from string) *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.pem)
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool}, DialContext: dialer.DialContext, DisableKeepAlives: true,
	}}
}

// way is the way to the API server, which can be cut.
type way struct {
	config *rest.Config
	to     string

	mu    sync.Mutex
	open  bool
	conns map[net.Conn]bool
}

func newWay(t *testing.T, config *rest.Config) *way {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	y := &way{config: rest.CopyConfig(config), open: true, conns: map[net.Conn]bool{}}
	y.to = strings.Trim(strings.TrimPrefix(config.Host, "https://"), "/")
	y.config.Host = "https://" + l.Addr().String()
	t.Cleanup(func() {
		y.cut()
		l.Close()
	})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go y.carry(conn)
		}
	}()
	return y
}

func (y *way) carry(from net.Conn) {
	defer from.Close()
	to, err := net.Dial("tcp", y.to)
	if err != nil {
		return
	}
	defer to.Close()
	y.mu.Lock()
	if !y.open {
		y.mu.Unlock()
		return
	}
	y.conns[from], y.conns[to] = true, true
	y.mu.Unlock()
	go func() {
		_, _ = io.Copy(to, from)
		to.Close()
	}()
	_, _ = io.Copy(from, to)
	y.mu.Lock()
	delete(y.conns, from)
	delete(y.conns, to)
	y.mu.Unlock()
}

func (y *way) cut() {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.open = false
	for c := range y.conns {
		c.Close()
	}
}

func (y *way) mend() {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.open = true
}
