package boot

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/pxe/dhcp"
)

func TestAPodTellsWhatAnswersOnTheNetwork(t *testing.T) {
	var found []dhcp.Foreign
	var failure error
	l := &lookout{iface: "eth0", logger: slog.New(slog.DiscardHandler), changed: &bell{},
		probe: func(_ context.Context, iface string) ([]dhcp.Foreign, error) {
			if iface != "eth0" {
				t.Errorf("looked on %s", iface)
			}
			return found, failure
		}}
	told := func() v1alpha1.PXEPod {
		var entry v1alpha1.PXEPod
		l.tell(&entry)
		return entry
	}
	if diff := cmp.Diff(v1alpha1.PXEPod{}, told()); diff != "" {
		t.Errorf("before a look (-want +got):\n%s", diff)
	}

	router := dhcp.Foreign{Server: netip.MustParseAddr("192.168.1.1"), OffersAddress: true}
	for _, c := range []struct {
		reason string
		found  []dhcp.Foreign
		want   v1alpha1.PXEPod
		rings  bool
	}{
		{"nobody answers", nil, v1alpha1.PXEPod{Looked: true}, true},
		{"the router", []dhcp.Foreign{router}, v1alpha1.PXEPod{Looked: true, DHCPServers: "192.168.1.1"}, true},
		{"the router still", []dhcp.Foreign{router}, v1alpha1.PXEPod{Looked: true, DHCPServers: "192.168.1.1"}, false},
		{"and a boot server, whose words are not trusted",
			[]dhcp.Foreign{router, {Server: netip.MustParseAddr("192.168.1.9"), BootFile: "pxe\x1b[2J\n.0"}},
			v1alpha1.PXEPod{Looked: true, DHCPServers: "192.168.1.1", BootServers: "192.168.1.9 (pxe?[2J?.0)"}, true},
	} {
		found = c.found
		rung := l.changed.rung()
		if err := l.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, told()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.reason, diff)
		}
		rang := false
		select {
		case <-rung:
			rang = true
		default:
		}
		if rang != c.rings {
			t.Errorf("%s: told of it: %v, want %v", c.reason, rang, c.rings)
		}
	}
	failure = errors.New("no raw sockets")
	if err := l.look(t.Context()); err == nil || told().BootServers == "" {
		t.Errorf("a look that fails: %v, and what was found is forgotten: %+v", err, told())
	}
}
