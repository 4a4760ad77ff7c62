package boot

import (
	"net/netip"
	"testing"

	"github.com/rhizome-dev/rhizome/internal/names"
)

// Whether a pod is ready, and which files it lacks, is its own kubelet's business:
// the pod stands on the machines' network.
func TestHealthIsServedOnTheLoopbackOnly(t *testing.T) {
	at, err := netip.ParseAddrPort(Command().Flag("health-address").DefValue)
	if err != nil || !at.Addr().IsLoopback() || at.Port() != names.HealthPort {
		t.Errorf("it is served on %s (%v)", at, err)
	}
}
