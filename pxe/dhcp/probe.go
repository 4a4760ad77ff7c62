package dhcp

import (
	"context"
	"net/netip"
)

// Foreign is a DHCP or boot server that answered a probe.
type Foreign struct {
	// Server is its address.
	Server netip.Addr
	// OffersAddress: it hands out addresses to anybody.
	OffersAddress bool
	// BootFile it offers to network boot clients; empty: it offers none.
	BootFile string
}

// Probe asks the network of the interface, as a PXE client with a random locally
// administered address would, and lists who answers, in the order of their
// addresses. Our own PXE service answers no undeclared machine and so is never in
// the list. It takes until ctx ends or five seconds, and needs root or CAP_NET_RAW.
func Probe(ctx context.Context, iface string) ([]Foreign, error) {
	return nil, nil
}
