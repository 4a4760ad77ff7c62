package healing

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// A router that refuses a connection answers as well as one that takes it.
func TestAnyAnswerOfTheGatewayCounts(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := knock(t.Context(), loopback, port); err != nil {
		t.Errorf("a port that is open: %v", err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := knock(t.Context(), loopback, port); err != nil {
		t.Errorf("a port that is closed: %v", err)
	}
	if err := reachGateway(t.Context(), loopback); err != nil {
		t.Errorf("a host that answers: %v", err)
	}
}

func TestSilenceOfTheGatewayIsAnError(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := knock(over, loopback, 9); err == nil {
		t.Error("nobody answered a knock, and that counts as an answer")
	}
	// No echo is sent on IPv4 to such an address, nor a connection made.
	nobody := netip.MustParseAddr("::")
	if err := reachGateway(over, nobody); err == nil || !strings.Contains(err.Error(), "neither an echo nor on the TCP ports") {
		t.Errorf("a gateway that does not answer: %v", err)
	}
}
