// Package server composes the network boot protocols, DHCP, TFTP and HTTP, into
// one service for one network interface.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/dhcp"
)

// The default ports.
const (
	DefaultHTTPPort  = 7480
	DefaultHTTPSPort = 7443
)

// Media opens a file of the media cache by the SHA-256 of its content, 64
// lower-case hexadecimal digits. An unknown one is fs.ErrNotExist.
type Media interface {
	Open(sha256 string) (file io.ReadSeekCloser, size int64, err error)
}

// Config says what a Server serves and where.
type Config struct {
	Backend pxe.Backend
	// Interface that DHCP is answered on, and no other.
	Interface string
	// Address of ours on it: put in every answer, and bound to by TFTP and HTTP.
	Address netip.Addr
	// DHCP is dhcp.Proxy, the zero value, or dhcp.Server.
	DHCP dhcp.Mode
	// HTTPPort and HTTPSPort; zero: the defaults.
	HTTPPort, HTTPSPort uint16
	// Certificate of the HTTPS side.
	Certificate tls.Certificate
	// BootFiles holds loader/<file> and installer/<arch>/{vmlinuz,initrd.img}.
	BootFiles fs.FS
	// Media is what /media/ serves; nil: nothing.
	Media Media
	// Logger; nil: slog.Default().
	Logger *slog.Logger
	// Now; nil: time.Now.
	Now func() time.Time
}

// Server boots machines from the network. It keeps no state: any number of
// servers with the same backend give the same answers.
type Server struct{ cfg Config }

// New checks the config. It opens nothing.
func New(cfg Config) (*Server, error) { return nil, errors.New("not yet") }

// Listen binds all ports. A port that is in use is an error that names it.
func (s *Server) Listen() error { return nil }

// Serve answers until ctx ends, then closes everything that Listen opened and
// returns nil.
func (s *Server) Serve(ctx context.Context) error { return nil }

// BaseURL of the HTTP side, such as http://192.168.1.2:7480.
func (s *Server) BaseURL() string { return "" }

// SecureURL of the HTTPS side, such as https://192.168.1.2:7443.
func (s *Server) SecureURL() string { return "" }
