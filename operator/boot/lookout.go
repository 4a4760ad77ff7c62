package boot

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/pxe/dhcp"
)

const (
	betweenLooks   = time.Hour
	lookAgainAfter = 5 * time.Minute // a look that failed
)

// lookout looks for DHCP and boot servers on the machines' network that are not ours.
type lookout struct {
	iface  string
	logger *slog.Logger
	probe  func(ctx context.Context, iface string) ([]dhcp.Foreign, error)
	// changed rings when something else was found than before.
	changed *bell

	found atomic.Pointer[sighted]
}

// sighted is what a look has found, in words.
type sighted struct{ dhcp, boot string }

// run looks at once and then every hour, until ctx ends.
func (l *lookout) run(ctx context.Context) error {
	for {
		wait := betweenLooks
		if err := l.look(ctx); err != nil && ctx.Err() == nil {
			l.logger.Warn("cannot look for foreign boot servers", "error", err)
			wait = lookAgainAfter
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

func (l *lookout) look(ctx context.Context) error {
	others, err := l.probe(ctx, l.iface)
	if err != nil || ctx.Err() != nil {
		return err
	}
	next := inWords(others)
	if old := l.found.Swap(&next); old == nil || *old != next {
		l.logger.Info("looked for other servers on the machines' network", "dhcp", next.dhcp, "boot", next.boot)
		l.changed.ring()
	}
	return nil
}

func inWords(others []dhcp.Foreign) sighted {
	var addresses, files []string
	for _, o := range others {
		if o.OffersAddress {
			addresses = append(addresses, o.Server.String())
		}
		if o.BootFile != "" {
			files = append(files, fmt.Sprintf("%s (%s)", o.Server, printable(o.BootFile)))
		}
	}
	return sighted{clip(strings.Join(addresses, ", "), maxMessage), clip(strings.Join(files, ", "), maxMessage)}
}

// printable is a foreign server's text as it may stand in the API.
func printable(s string) string {
	return clip(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s), maxWord)
}

// tell adds what was found to a pod's entry.
func (l *lookout) tell(entry *v1alpha1.PXEPod) {
	if f := l.found.Load(); f != nil {
		entry.Looked, entry.DHCPServers, entry.BootServers = true, f.dhcp, f.boot
	}
}
