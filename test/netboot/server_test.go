//go:build linux

// Package netboot boots machines, real firmware and simulated, from the whole
// PXE server beside a foreign DHCP server.
package netboot

import (
	"flag"
	"net"
	"os"
	"testing"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/test/pxeserver"
)

func TestMain(m *testing.M) {
	pxeserver.Main()
	flag.Parse()
	// Simulated machines spend their time waiting.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func mustMAC(a net.HardwareAddr) pxe.MAC {
	mac, err := pxe.ParseMAC(a.String())
	if err != nil {
		panic(err)
	}
	return mac
}
