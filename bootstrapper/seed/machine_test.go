package seed

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe"
)

func TestAClaimIsOpenedOnlyWhenTheMachineNeedsOne(t *testing.T) {
	const mac = "52:54:00:00:00:01"
	was := provision.Claim{ID: "was", Node: "alpha", MAC: mac, Attempt: 1, Opened: at.Add(-time.Hour), Expires: at.Add(time.Hour)}
	with := func(change func(*provision.Claim)) []provision.Claim {
		c := was
		change(&c)
		return []provision.Claim{c}
	}
	long := at.Add(-59 * time.Minute)
	for _, c := range []struct {
		name    string
		claims  []provision.Claim
		since   time.Time // when the service began to run
		retry   bool
		attempt int  // of the claim afterwards
		opened  bool // whether it is a new one
		wrong   bool
	}{
		{name: "never tried", since: at, attempt: 1, opened: true},
		{name: "open", claims: with(func(*provision.Claim) {}), since: at, attempt: 1},
		{name: "open, retry asked for", claims: with(func(*provision.Claim) {}), since: at, retry: true, attempt: 1},
		{name: "expired unused", claims: with(func(c *provision.Claim) { c.Expires = at }), since: at, attempt: 1, opened: true},
		{name: "installing while nobody listened", claims: with(func(c *provision.Claim) { c.ConsumedAt = long }), since: at.Add(-time.Minute), attempt: 1},
		{name: "installing, silent for long", claims: with(func(c *provision.Claim) { c.ConsumedAt = long }), since: at.Add(-20 * time.Minute), attempt: 2, opened: true},
		{name: "installed while nobody listened", claims: with(func(c *provision.Claim) { c.ConsumedAt, c.InstalledAt = long, long }), since: at, attempt: 1},
		{name: "has its credentials", claims: with(func(c *provision.Claim) { c.ConsumedAt, c.ExchangedAt = long, long }), since: at, attempt: 1},
		{name: "has its credentials, retry asked for", claims: with(func(c *provision.Claim) { c.ConsumedAt, c.ExchangedAt = long, long }), since: at, retry: true, attempt: 1},
		{name: "failed", claims: with(func(c *provision.Claim) { c.ConsumedAt, c.FailedAt = long, at }), since: at, attempt: 2, opened: true},
		{name: "failed too often", claims: with(func(c *provision.Claim) { c.ConsumedAt, c.FailedAt, c.Attempt = long, at, 3 }), since: at, attempt: 3, wrong: true},
		{name: "failed too often, retry asked for", claims: with(func(c *provision.Claim) { c.ConsumedAt, c.FailedAt, c.Attempt = long, at, 3 }), since: at, retry: true, attempt: 1, opened: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &flow{
				Options: Options{Retry: c.retry, Now: func() time.Time { return at }},
				cluster: &v1alpha1.Cluster{Spec: v1alpha1.ClusterSpec{Network: v1alpha1.NetworkSpec{CIDR: "10.77.0.0/24", Gateway: "10.77.0.1"}}},
				first:   &v1alpha1.Node{Spec: v1alpha1.NodeSpec{Role: v1alpha1.ControlPlane, MAC: mac, Address: "10.77.0.10"}},
				claims:  provision.NewLedger(c.claims, nil),
				watch:   newWatch(mac, netip.MustParseAddr("10.77.0.10")),
				service: &service{since: c.since},
			}
			f.first.Name = "alpha"
			_, err := f.openIfNeeded(t.Context())
			var fix fixable
			if c.wrong != (err != nil) || c.wrong && (!errors.As(err, &fix) || !strings.Contains(fix.fix, "--retry")) {
				t.Fatalf("error = %v", err)
			}
			got, ok := f.claims.Get(pxe.MAC(mac))
			if !ok || got.Attempt != c.attempt || (got.ID != was.ID) != c.opened {
				t.Errorf("claim = attempt %d, new %v; want attempt %d, new %v", got.Attempt, got.ID != was.ID, c.attempt, c.opened)
			}
			if c.opened && (got.Purpose != provision.Seed || got.State(at) != provision.StateOpen) {
				t.Errorf("the new claim is %+v", got)
			}
		})
	}
}
