package seed

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/bootstrapper/progress"
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

func TestOtherMachinesThatAskAreNamedOnce(t *testing.T) {
	var out bytes.Buffer
	display := progress.New(&out, progress.Plain, func() time.Time { return at })
	f := &flow{Options: Options{Display: display}, watch: newWatch("52:54:00:00:00:01", netip.MustParseAddr("10.77.0.10"))}
	for name, mac := range map[string]v1alpha1.MAC{"alpha": "52:54:00:00:00:01", "beta": "52:54:00:00:00:02"} {
		n := v1alpha1.Node{Spec: v1alpha1.NodeSpec{MAC: mac}}
		n.Name = name
		f.inv.Nodes = append(f.inv.Nodes, n)
	}
	p := display.Phase("wake")
	for range 3 {
		for mac, decision := range map[pxe.MAC]pxe.Action{"52:54:00:00:00:02": pxe.BootLocal, "52:54:00:00:00:99": pxe.Ignore} {
			f.watch.observe(pxe.Observation{Stage: pxe.StageDHCP, Decision: decision, Machine: pxe.Machine{MAC: mac, Firmware: "UEFI"}})
		}
		f.show(p, phaseWake)
	}
	display.Close()
	for _, line := range []string{
		"beta (52:54:00:00:00:02) is declared and not the first node: the operator will install it; it boots its own disk",
		"52:54:00:00:00:99 (UEFI) asks to boot from the network; no Node declares it",
	} {
		if n := strings.Count(out.String(), line); n != 1 {
			t.Errorf("%q was said %d times:\n%s", line, n, out.String())
		}
	}
}
