package server

import (
	"context"
	"crypto/tls"
	"net/netip"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rhizome-dev/rhizome/pxe"
)

type backend struct{}

func (backend) Decide(pxe.Machine) pxe.Decision { return pxe.Decision{} }
func (backend) Observe(pxe.Observation)         {}
func (backend) InitConfig(context.Context, pxe.MAC, netip.Addr) (pxe.Document, error) {
	return pxe.Document{}, pxe.ErrNotFound
}
func (backend) Report(context.Context, string, pxe.Report, netip.Addr) error { return pxe.ErrNotFound }
func (backend) Credentials(context.Context, string, netip.Addr) ([]byte, error) {
	return nil, pxe.ErrNotFound
}

func good() Config {
	return Config{
		Backend: backend{}, Interface: "eth0", Address: netip.MustParseAddr("192.168.1.2"),
		Certificate: tls.Certificate{Certificate: [][]byte{{1}}},
		BootFiles:   fstest.MapFS{"loader/snponly.efi": {Data: []byte("ipxe")}},
	}
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"backend":       {func(c *Config) { c.Backend = nil }, "needs a backend"},
		"interface":     {func(c *Config) { c.Interface = "" }, "network interface"},
		"address":       {func(c *Config) { c.Address = netip.Addr{} }, "IPv4 address on eth0"},
		"IPv6 address":  {func(c *Config) { c.Address = netip.MustParseAddr("::1") }, "IPv4 address on eth0"},
		"every address": {func(c *Config) { c.Address = netip.IPv4Unspecified() }, "IPv4 address on eth0"},
		"certificate":   {func(c *Config) { c.Certificate = tls.Certificate{} }, "needs a certificate"},
		"boot files":    {func(c *Config) { c.BootFiles = nil }, "needs boot files"},
		"loaders":       {func(c *Config) { c.BootFiles = fstest.MapFS{} }, "no boot loader"},
		"broken loader": {func(c *Config) { c.BootFiles = fstest.MapFS{"loader/grubx64.efi": {}} }, "lacks the placeholder"},
	} {
		cfg := good()
		c.change(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("without a good %s: error %v, want %q", name, err, c.want)
		}
	}
}

func TestURLsNameAddressAndPorts(t *testing.T) {
	s, err := New(good())
	if err != nil {
		t.Fatal(err)
	}
	if s.BaseURL() != "http://192.168.1.2:7480" || s.SecureURL() != "https://192.168.1.2:7443" {
		t.Errorf("by default %s, %s", s.BaseURL(), s.SecureURL())
	}
	cfg := good()
	cfg.HTTPPort, cfg.HTTPSPort = 8080, 8443
	if s, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	if s.BaseURL() != "http://192.168.1.2:8080" || s.SecureURL() != "https://192.168.1.2:8443" {
		t.Errorf("as configured %s, %s", s.BaseURL(), s.SecureURL())
	}
}

func TestAnInterfaceThatIsNotThereIsNamed(t *testing.T) {
	cfg := good()
	cfg.Interface = "nosuch0"
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err == nil || !strings.Contains(err.Error(), "nosuch0") {
		t.Errorf("error %v, want one that names nosuch0", err)
	}
}
