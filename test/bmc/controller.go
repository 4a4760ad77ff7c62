// Package bmc is a virtual board management controller: a stand-in for the one on a
// server's board, for tests. It speaks Redfish (DMTF DSP0266) over HTTPS with a
// certificate that it signs itself, and drives machines that are only simulated.
//
// Controllers differ, and fail: its Habits are what some are known to do, and a test
// may answer requests in its place.
package bmc

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"sync"
	"time"
)

// Machine is what a controller drives. The machines of test/lab are such.
type Machine interface {
	// Running says whether the machine is on.
	Running() bool
	// PowerOn turns it on, PowerOff cuts its power. Either does nothing to a machine
	// that is so already.
	PowerOn(ctx context.Context) error
	PowerOff()
	// Reset restarts it, Shutdown asks its operating system to turn it off.
	Reset(ctx context.Context) error
	Shutdown(ctx context.Context) error
}

// NetworkBooter is a Machine whose firmware can be told to boot from the network the
// next time that it starts. Of others the controller only remembers it.
type NetworkBooter interface {
	BootFromNetworkOnce()
}

// Habits are what some controllers do differently. They are set before Serve.
type Habits struct {
	// Manufacturer that the systems name.
	Manufacturer string
	// NoSessions: the user name and password come with every request.
	NoSessions bool
	// MaxSessions that may be open at once; zero: 4.
	MaxSessions int
	// ResetTypes that are offered; nil: the usual ones.
	ResetTypes []string
	// ListsElsewhere puts them into a resource of their own.
	ListsElsewhere bool
	// WeakTags shows weak ETags, and takes only strong ones.
	WeakTags bool
	// TagRequired refuses changes without If-Match.
	TagRequired bool
	// NeedsMode forgets a boot override that comes without a mode.
	NeedsMode bool
	// RefusesMode refuses a boot override that comes with one.
	RefusesMode bool
	// Pending takes boot overrides at a resource of their own only.
	Pending bool
	// Targets that may be booted from; nil: the usual ones.
	Targets []string
}

// Controller is one virtual controller. It may be used by several goroutines.
type Controller struct {
	Username, Password string
	Habits             Habits

	mu        sync.Mutex
	systems   map[string]*system
	order     []string
	sessions  map[string]string // token by identifier
	opened    int               // sessions, ever
	serial    int
	cert      *tls.Certificate
	interrupt func(http.ResponseWriter, *http.Request) bool
	resets    []string
	log       []string
}

// system is a machine behind the controller.
type system struct {
	id      string
	machine Machine
	boot    override
	tag     int
	deaf    bool
}

// override is where a system boots from.
type override struct {
	Target, Enabled, Mode string
}

// New makes a controller of the machines by the Id of their systems.
func New(username, password string) *Controller {
	return &Controller{Username: username, Password: password, systems: map[string]*system{}, sessions: map[string]string{}}
}

// Add puts a machine behind the controller.
func (c *Controller) Add(id string, m Machine) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.systems[id] = &system{id: id, machine: m, boot: override{Target: "None", Enabled: "Disabled", Mode: "UEFI"}}
	c.order = append(c.order, id)
}

// Serve answers on the listener until ctx ends.
func (c *Controller) Serve(ctx context.Context, listener net.Listener) error {
	if _, err := c.certificate(); err != nil {
		return err
	}
	server := &http.Server{
		Handler: c, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.certificate() }},
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// certificate is the one that is shown: self-signed, as that of a board.
func (c *Controller) certificate() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cert != nil {
		return c.cert, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	c.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(c.serial)), Subject: pkix.Name{CommonName: "virtual board management controller"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Now().AddDate(20, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	c.cert = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return c.cert, nil
}

// Certificate is the certificate that is shown, in DER.
func (c *Controller) Certificate() ([]byte, error) {
	cert, err := c.certificate()
	if err != nil {
		return nil, err
	}
	return cert.Certificate[0], nil
}

// Fingerprint is the SHA-256 of the certificate, hexadecimal.
func (c *Controller) Fingerprint() (string, error) {
	der, err := c.Certificate()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:]), nil
}

// ReplaceCertificate makes another certificate, as a factory reset does.
func (c *Controller) ReplaceCertificate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cert = nil
}

// Restart makes the controller forget its sessions, as a restart does. The machines
// do not notice.
func (c *Controller) Restart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.sessions)
}

// Interrupt lets f see every request first. When f returns true, it has answered.
func (c *Controller) Interrupt(f func(http.ResponseWriter, *http.Request) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.interrupt = f
}

// Deafen has the controller accept what it is told to do to a system, and do
// nothing.
func (c *Controller) Deafen(id string, deaf bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.systems[id].deaf = deaf
}

// Touch changes a system's ETag, as another client's change does.
func (c *Controller) Touch(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.systems[id].tag++
}

// Sessions are how many sessions are open, and how many ever were.
func (c *Controller) Sessions() (open, ever int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.sessions), c.opened
}

// Resets are the reset types that were accepted, in their order, each as
// "Id ResetType".
func (c *Controller) Resets() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.resets...)
}

// BootOverride is where a system was told to boot from, as "Target Enabled Mode".
func (c *Controller) BootOverride(id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.systems[id].boot
	return fmt.Sprintf("%s %s %s", b.Target, b.Enabled, b.Mode)
}

// Requests are the requests that came, as "METHOD /path".
func (c *Controller) Requests() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.log...)
}
