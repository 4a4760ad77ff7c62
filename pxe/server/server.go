// Package server composes the network boot protocols, DHCP, TFTP and HTTP, into
// one service for one network interface.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/sync/errgroup"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/bootfs"
	"github.com/rhizome-dev/rhizome/pxe/dhcp"
	"github.com/rhizome-dev/rhizome/pxe/loader"
	"github.com/rhizome-dev/rhizome/pxe/radv"
	"github.com/rhizome-dev/rhizome/pxe/tftp"
	"github.com/rhizome-dev/rhizome/pxe/web"
)

// The default ports. 80 and 443 are left to the cluster's ingress.
const (
	DefaultHTTPPort  = 7480
	DefaultHTTPSPort = 7443
)

const (
	// maxConnections of each side of HTTP at once.
	maxConnections = 1024
	// grace is how long requests may go on when the server is told to end.
	grace = 3 * time.Second
)

// Media opens a file of the media cache by the SHA-256 of its content, 64
// lower-case hexadecimal digits. An unknown one is fs.ErrNotExist.
type Media = web.Media

// Config says what a Server serves and where.
type Config struct {
	Backend pxe.Backend
	// Interface that DHCP is answered on, and no other.
	Interface string
	// Address of ours on it, IPv4: put in every answer, and bound to by TFTP and HTTP.
	Address netip.Addr
	// DHCP is dhcp.Proxy, the zero value, or dhcp.Server.
	DHCP dhcp.Mode
	// Pool hands out addresses to undeclared machines if DHCP is dhcp.Server; nil: they
	// get none. They are told nothing to boot.
	Pool *dhcp.Pool
	// HTTPPort and HTTPSPort; zero: the defaults.
	HTTPPort, HTTPSPort uint16
	// Certificate of the HTTPS side.
	Certificate tls.Certificate
	// GetCertificate, if set, is asked for the certificate of every connection in the
	// place of Certificate, as tls.Config's: so that it is changed while we serve.
	GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// BootFiles holds loader/<file> and installer/<arch>/{vmlinuz,initrd.img}.
	BootFiles fs.FS
	// Media is what /media/ serves; nil: nothing.
	Media Media
	// Logger; nil: slog.Default().
	Logger *slog.Logger
	// Now; nil: time.Now.
	Now func() time.Time
	// Meter counts the traffic; nil: nobody does.
	Meter pxe.Meter
}

// Server boots machines from the network. It keeps no state: any number of
// servers with the same backend give the same answers.
type Server struct {
	dhcp        dhcp.Responder
	radv        radv.Responder
	tftp        tftp.Server
	plain       *fasthttp.Server
	secure      *http.Server
	certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	address     netip.Addr
	iface       string
	logger      *slog.Logger
	ports       struct{ http, https uint16 }

	plainListener, secureListener *limitListener
}

// New checks the config. It opens no port.
func New(cfg Config) (*Server, error) {
	if cfg.HTTPPort == 0 {
		cfg.HTTPPort = DefaultHTTPPort
	}
	if cfg.HTTPSPort == 0 {
		cfg.HTTPSPort = DefaultHTTPSPort
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	switch {
	case cfg.Backend == nil:
		return nil, errors.New("the PXE server needs a backend")
	case cfg.Interface == "":
		return nil, errors.New("the PXE server needs the name of a network interface")
	case !cfg.Address.Is4() || cfg.Address.IsUnspecified():
		return nil, fmt.Errorf("the PXE server needs its IPv4 address on %s, not %q", cfg.Interface, cfg.Address)
	case len(cfg.Certificate.Certificate) == 0 && cfg.GetCertificate == nil:
		return nil, errors.New("the PXE server needs a certificate: credentials are served over TLS only")
	case cfg.BootFiles == nil:
		return nil, errors.New("the PXE server needs boot files")
	}
	if cfg.GetCertificate == nil {
		cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cfg.Certificate, nil }
	}
	table := &bootfs.Table{
		Files: cfg.BootFiles, Backend: cfg.Backend,
		Server: netip.AddrPortFrom(cfg.Address, cfg.HTTPPort),
	}
	if err := table.Check(); err != nil {
		return nil, err
	}
	handlers := &web.Handlers{Table: table, Backend: cfg.Backend, Media: cfg.Media, Logger: cfg.Logger, Now: cfg.Now, Meter: cfg.Meter}
	s := &Server{
		dhcp: dhcp.Responder{
			Interface: cfg.Interface, Address: cfg.Address, Mode: cfg.DHCP, Pool: cfg.Pool, Backend: cfg.Backend,
			BootFile: func(m pxe.Machine, d pxe.Decision) (string, error) {
				return loader.BootFile(m, d, table.Server, table.Has)
			},
			Logger: cfg.Logger, Now: cfg.Now, Meter: cfg.Meter,
		},
		radv:        radv.Responder{Interface: cfg.Interface, Backend: cfg.Backend, Logger: cfg.Logger},
		tftp:        tftp.Server{Table: table, Backend: cfg.Backend, Logger: cfg.Logger, Now: cfg.Now, Meter: cfg.Meter},
		plain:       handlers.PlainServer(),
		secure:      newHTTPS(handlers.Secure(), cfg.Logger),
		certificate: cfg.GetCertificate,
		address:     cfg.Address,
		iface:       cfg.Interface,
		logger:      cfg.Logger,
	}
	s.ports.http, s.ports.https = cfg.HTTPPort, cfg.HTTPSPort
	return s, nil
}

// newHTTPS limits the side over TLS: what is read and what is sent is small.
func newHTTPS(h http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      time.Minute,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
}

// Listen binds all ports, or none. A port that is in use is an error that names
// it and says what to do.
func (s *Server) Listen() (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := s.dhcp.Listen(); err != nil {
		return err
	}
	if s.tftp.Conn, err = dhcp.ListenUDP(context.Background(), s.iface, netip.AddrPortFrom(s.address, tftp.Port)); err != nil {
		return err
	}
	if s.plainListener, err = s.listenTCP(s.ports.http, "HTTP"); err != nil {
		return err
	}
	if s.secureListener, err = s.listenTCP(s.ports.https, "HTTPS"); err != nil {
		return err
	}
	if err := s.radv.Listen(); err != nil {
		s.logger.Info("iPXE will wait for an IPv6 router", "error", err)
	}
	return nil
}

func (s *Server) listenTCP(port uint16, protocol string) (*limitListener, error) {
	address := netip.AddrPortFrom(s.address, port)
	// The kernel need not look after the connections: for whatever we wait, there is a
	// limit. It saves four system calls each.
	l, err := (&net.ListenConfig{KeepAlive: -1, Control: acceptWithRequest}).Listen(context.Background(), "tcp4", address.String())
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("TCP port %d (%s) is in use on %s: stop the program that has it (ss -ltnp 'sport = :%d' shows it) or choose another port: %w",
			port, protocol, s.address, port, err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("the address %s is not on this machine: give %s that address or choose another: %w", s.address, s.iface, err)
	case err != nil:
		return nil, fmt.Errorf("cannot open TCP port %d (%s) on %s: %w", port, protocol, s.address, err)
	}
	return newLimitListener(l.(*net.TCPListener), maxConnections), nil
}

// Serve answers until ctx ends, then closes everything that Listen opened and
// returns nil. Requests that are being answered get a few seconds to end.
func (s *Server) Serve(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.dhcp.Serve(ctx) })
	group.Go(func() error { return s.tftp.Serve(ctx) })
	group.Go(func() error { return s.radv.Serve(ctx) })
	group.Go(func() error {
		return serveHTTP(ctx, s.plainListener, s.plain.Serve, s.plain.ShutdownWithContext)
	})
	group.Go(func() error {
		serve := func(l net.Listener) error {
			return s.secure.Serve(tls.NewListener(l, &tls.Config{
				GetCertificate: s.certificate,
				MinVersion:     tls.VersionTLS12,
				NextProtos:     []string{"http/1.1"},
			}))
		}
		return serveHTTP(ctx, s.secureListener, serve, s.secure.Shutdown)
	})
	return group.Wait()
}

// serveHTTP serves until ctx ends. What is not answered within the grace is cut off. The
// listener is closed here: a server that is told to end before it has begun may not
// know it yet.
func serveHTTP(ctx context.Context, l *limitListener, serve func(net.Listener) error, shutdown func(context.Context) error) error {
	ended := make(chan error, 1)
	go func() { ended <- serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("the HTTP server on %s ended: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	_ = l.Close() // there is nothing to be done about it
	rest, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	if shutdown(rest) != nil {
		l.cutOff()
	}
	return nil
}

// close closes what a Listen that failed has opened.
func (s *Server) close() error {
	errs := []error{s.dhcp.Close()}
	if s.tftp.Conn != nil {
		errs = append(errs, s.tftp.Conn.Close())
	}
	for _, l := range []*limitListener{s.plainListener, s.secureListener} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

// BaseURL of the HTTP side, such as http://192.168.1.2:7480.
func (s *Server) BaseURL() string {
	return loader.BaseURL(netip.AddrPortFrom(s.address, s.ports.http))
}

// SecureURL of the HTTPS side, such as https://192.168.1.2:7443.
func (s *Server) SecureURL() string {
	return "https://" + netip.AddrPortFrom(s.address, s.ports.https).String()
}
