// Package front is what answers on a server's port 6443: a few paths of k3s'
// own, and the API server for everything else.
//
// It ends TLS and speaks to the API server as a front proxy: a client
// certificate becomes request headers, vouched for by a certificate that only
// the front holds; a bearer token is passed on untouched.
package front

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Config says what the front serves and for whom.
type Config struct {
	Address     string // host:port
	Certificate tls.Certificate
	ClientCAs   *x509.CertPool

	Bundle []byte // served at /cacerts, byte for byte
	// Private answers the paths below /v1-k3s/.
	Private http.Handler

	Upstream   string          // https URL of the API server
	UpstreamCA *x509.CertPool  // who signs the API server's certificate
	Proxy      tls.Certificate // the front-proxy certificate
}

// Serve answers until ctx ends. It returns once it listens or cannot; the
// channel delivers why it ended.
func Serve(ctx context.Context, c Config) (<-chan error, error) {
	handler, err := newHandler(c)
	if err != nil {
		return nil, err
	}
	// The API server listens on a loopback address of its own on the same
	// port, so that the endpoints of the Service `kubernetes` carry the port
	// on which the front is reached. Both sockets must allow that.
	lc := net.ListenConfig{Control: sharePort}
	network := "tcp"
	if strings.HasPrefix(c.Address, "0.0.0.0:") {
		network = "tcp4"
	}
	l, err := lc.Listen(ctx, network, c.Address)
	if err != nil {
		return nil, err
	}
	upstream, err := url.Parse(c.Upstream)
	if err != nil {
		return nil, err
	}
	l = elsewhere{Listener: l, not: upstream.Hostname()}
	srv := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{
			MinVersion:   tls.VersionTLS12,
			Certificates: []tls.Certificate{c.Certificate},
			// Requested, not verified: the API server, too, lets a client with
			// a foreign certificate go on to its token.
			ClientAuth: tls.RequestClientCert,
			ClientCAs:  c.ClientCAs,
		},
	}
	done := make(chan error, 1)
	go func() {
		err := srv.ServeTLS(l, "", "")
		if ctx.Err() != nil {
			err = nil
		}
		done <- err
	}()
	go func() {
		<-ctx.Done()
		srv.Close()
	}()
	return done, nil
}

// elsewhere closes connections to the API server's own address: while that
// does not listen yet, the kernel gives them to the wildcard socket, and the
// front would proxy to itself.
type elsewhere struct {
	net.Listener
	not string
}

func (e elsewhere) Accept() (net.Conn, error) {
	for {
		c, err := e.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if a, ok := c.LocalAddr().(*net.TCPAddr); ok && a.IP.String() == e.not {
			c.Close()
			continue
		}
		return c, nil
	}
}

func sharePort(_, _ string, raw syscall.RawConn) error {
	var set error
	err := raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	})
	return errors.Join(err, set)
}

func newHandler(c Config) (http.Handler, error) {
	upstream, err := url.Parse(c.Upstream)
	if err != nil {
		return nil, err
	}
	// Two transports, so that a request without a verified client can never
	// travel on a connection whose headers the API server believes.
	vouched := proxyTo(upstream, transport(c.UpstreamCA, &c.Proxy))
	plain := proxyTo(upstream, transport(c.UpstreamCA, nil))

	mux := http.NewServeMux()
	mux.HandleFunc("GET /cacerts", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write(c.Bundle)
	})
	mux.HandleFunc("GET /ping", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "pong")
	})
	if c.Private != nil {
		mux.Handle("/v1-k3s/", c.Private)
	}
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user := c.client(r); user != nil {
			vouched.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), clientKey{}, user)))
			return
		}
		plain.ServeHTTP(w, r)
	})
	// Not through the mux, which would clean API paths such as the proxy
	// subresource's and redirect.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := r.URL.Path
		if p == "/cacerts" || p == "/ping" || strings.HasPrefix(p, "/v1-k3s/") {
			mux.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	}), nil
}

// client returns the certificate of a client that client-ca vouches for.
func (c Config) client(r *http.Request) *x509.Certificate {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil
	}
	shown := r.TLS.PeerCertificates
	intermediates := x509.NewCertPool()
	for _, cert := range shown[1:] {
		intermediates.AddCert(cert)
	}
	if _, err := shown[0].Verify(x509.VerifyOptions{
		Roots: c.ClientCAs, Intermediates: intermediates,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}); err != nil || shown[0].Subject.CommonName == "" {
		return nil
	}
	return shown[0]
}

// clientKey is where a request's context holds its verified certificate.
type clientKey struct{}

// setIdentity drops every header by which a client could claim to be
// someone, and then says who it is, if it showed a certificate.
func setIdentity(r *httputil.ProxyRequest) {
	out := r.Out.Header
	for k := range out {
		// Underscores too: some servers fold them into dashes.
		name := strings.ToLower(strings.ReplaceAll(k, "_", "-"))
		if strings.HasPrefix(name, "x-remote-") {
			delete(out, k)
		}
	}
	if user, ok := r.In.Context().Value(clientKey{}).(*x509.Certificate); ok {
		out["X-Remote-User"] = []string{user.Subject.CommonName}
		if len(user.Subject.Organization) > 0 {
			out["X-Remote-Group"] = user.Subject.Organization
		}
	}
}

func transport(ca *x509.CertPool, cert *tls.Certificate) http.RoundTripper {
	conf := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: ca}
	if cert != nil {
		conf.Certificates = []tls.Certificate{*cert}
	}
	// HTTP/1.1 only: upgraded connections (exec, port-forward) need it, and
	// on loopback a connection for each watch costs nothing.
	return &http.Transport{
		TLSClientConfig:     conf,
		TLSNextProto:        map[string]func(string, *tls.Conn) http.RoundTripper{},
		MaxIdleConnsPerHost: 100,
		IdleConnTimeout:     90 * time.Second,
	}
}

func proxyTo(to *url.URL, via http.RoundTripper) http.Handler {
	return &httputil.ReverseProxy{
		Transport:     via,
		FlushInterval: -1, // watches
		ErrorLog:      log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host
			setIdentity(r)
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			http.Error(w, "apiserver not ready", http.StatusServiceUnavailable)
		},
	}
}
