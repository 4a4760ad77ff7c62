package boot

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/pxe"
)

// The bounds of the list of undeclared machines.
const (
	maxDiscovered     = 64
	keepDiscovered    = 30 * 24 * time.Hour
	discoveredMinutes = 5 * time.Minute // what LastSeen is exact to
	betweenLists      = 10 * time.Second
)

// stranger is an undeclared machine that asked for a boot.
type stranger struct {
	machine     pxe.Machine
	first, last time.Time
}

// list is the list of undeclared machines with those added that were seen: at most
// 64, those that asked last, in the order of their MACs. Machines that are declared
// by now, or did not ask for a month, are not in it. It says whether anything has
// changed; that one asked again does not count for five minutes. current is not
// changed.
func list(current []v1alpha1.DiscoveredMachine, seen map[pxe.MAC]stranger, declared func(pxe.MAC) bool, now time.Time) ([]v1alpha1.DiscoveredMachine, bool) {
	all := map[pxe.MAC]v1alpha1.DiscoveredMachine{}
	for _, d := range current {
		all[pxe.MAC(d.MAC)] = d
	}
	for mac, s := range seen {
		if declared(mac) {
			continue
		}
		d, known := all[mac]
		last := metav1.NewTime(s.last).Rfc3339Copy()
		if !known {
			d = v1alpha1.DiscoveredMachine{MAC: v1alpha1.MAC(mac), FirstSeen: metav1.NewTime(s.first).Rfc3339Copy(), LastSeen: last}
		}
		set := func(field *string, value string) {
			if value != "" {
				*field = value
			}
		}
		set(&d.Architecture, clip(string(s.machine.Arch), maxWord))
		set(&d.Firmware, clip(string(s.machine.Firmware), maxWord))
		if len(s.machine.UUID) <= maxUUID {
			set(&d.UUID, s.machine.UUID)
		}
		if last.Sub(d.LastSeen.Time) >= discoveredMinutes {
			d.LastSeen = last
		}
		all[mac] = d
	}
	next := slices.Collect(maps.Values(all))
	next = slices.DeleteFunc(next, func(d v1alpha1.DiscoveredMachine) bool {
		return declared(pxe.MAC(d.MAC)) || now.Sub(d.LastSeen.Time) > keepDiscovered
	})
	slices.SortFunc(next, func(a, b v1alpha1.DiscoveredMachine) int {
		return cmp.Or(b.LastSeen.Compare(a.LastSeen.Time), cmp.Compare(a.MAC, b.MAC))
	})
	next = next[:min(len(next), maxDiscovered)]
	slices.SortFunc(next, func(a, b v1alpha1.DiscoveredMachine) int { return cmp.Compare(a.MAC, b.MAC) })
	same := len(next) == len(current) && !slices.ContainsFunc(next, func(d v1alpha1.DiscoveredMachine) bool {
		return !slices.Contains(current, d)
	})
	return next, !same
}

// discoverer keeps the undeclared machines that asked here, and lists them in
// Cluster.status.discovered.
type discoverer struct {
	declared *declared
	reader   client.Reader
	live     client.Client
	logger   *slog.Logger
	metrics  *metrics
	now      func() time.Time

	mu   sync.Mutex
	seen map[pxe.MAC]stranger
	news bell
}

// observe takes a machine that asked for a boot. It does not block, and keeps the 64
// that asked last.
func (d *discoverer) observe(m pxe.Machine, at time.Time) {
	if !listable(m.MAC) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s, known := d.seen[m.MAC]
	if !known {
		s.first = at
		for len(d.seen) >= maxDiscovered {
			oldest := slices.MinFunc(slices.Collect(maps.Keys(d.seen)), func(a, b pxe.MAC) int {
				return cmp.Or(d.seen[a].last.Compare(d.seen[b].last), cmp.Compare(a, b))
			})
			delete(d.seen, oldest)
		}
	}
	if s.machine.UUID != "" && m.UUID == "" {
		m.UUID = s.machine.UUID
	}
	if m.Firmware == pxe.FirmwareUnknown {
		m.Firmware, m.Arch = s.machine.Firmware, s.machine.Arch
	}
	s.machine, s.last = m, at
	d.seen[m.MAC] = s
	d.news.ring()
}

// listable says whether the API takes the MAC: that of one machine.
func listable(mac pxe.MAC) bool {
	if len(mac) != 17 || mac == "00:00:00:00:00:00" {
		return false
	}
	switch mac[1] { // the lowest bit of the first byte marks a group (IEEE 802)
	case '1', '3', '5', '7', '9', 'b', 'd', 'f':
		return false
	}
	return true
}

// run writes the list until ctx ends: when there is news, and every hour, since
// machines are declared and grow old.
func (d *discoverer) run(ctx context.Context) error {
	for {
		news, changed := d.news.rung(), d.declared.changed.rung()
		wait := time.Hour
		if err := d.write(ctx); err != nil && ctx.Err() == nil {
			d.metrics.writes.WithLabelValues("discovered", "failed").Inc()
			d.logger.Warn("cannot list undeclared machines", "error", err)
			wait = betweenSigns
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-news:
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(betweenLists):
		}
	}
}

func (d *discoverer) write(ctx context.Context) error {
	s := d.declared.current.Load()
	if s == nil || s.cluster == nil {
		return nil
	}
	isDeclared := func(mac pxe.MAC) bool { return s.nodeByMAC(mac) != nil }
	d.mu.Lock()
	for mac, x := range d.seen {
		if isDeclared(mac) || d.now().Sub(x.last) > keepDiscovered {
			delete(d.seen, mac)
		}
	}
	seen := maps.Clone(d.seen)
	d.mu.Unlock()
	if _, changed := list(s.cluster.Status.Discovered, seen, isDeclared, d.now()); !changed {
		return nil
	}
	return merged(ctx, d.reader, d.live, client.ObjectKeyFromObject(s.cluster), func(c *v1alpha1.Cluster) bool {
		next, changed := list(c.Status.Discovered, seen, isDeclared, d.now())
		if changed {
			d.metrics.writes.WithLabelValues("discovered", "written").Inc()
		}
		c.Status.Discovered = next
		return changed
	})
}
