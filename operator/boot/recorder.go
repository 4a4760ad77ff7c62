package boot

import (
	"context"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/pxe"
)

// How often what is seen of one machine is written.
const (
	betweenWrites = time.Second      // a new stage or a refusal: at once, but not more often
	betweenBytes  = 10 * time.Second // how far the image is
	betweenSigns  = 30 * time.Second // that the machine is still there
)

// recorder writes what machines did into Node.status.boot. Observations are merged
// in memory, one sighting a declared machine, so that neither a flood of packets
// nor an API server that is away makes it grow or wait.
type recorder struct {
	declared *declared
	reader   client.Reader // the cache
	live     client.Client
	logger   *slog.Logger
	metrics  *metrics
	now      func() time.Time

	mu       sync.Mutex
	machines map[pxe.MAC]*record
	news     bell
}

// record is what is known of one machine here.
type record struct {
	seen    sighting
	due     time.Time // when it is to be written; zero: nothing is new
	written time.Time
	last    pxe.Stage
	boot    map[pxe.Stage]bool // the stages of this boot
	failed  int                // writes in a row
	writing bool
}

func newRecorder(d *declared, reader client.Reader, live client.Client, logger *slog.Logger, m *metrics, now func() time.Time) *recorder {
	return &recorder{declared: d, reader: reader, live: live, logger: logger, metrics: m, now: now, machines: map[pxe.MAC]*record{}}
}

// observe takes what a declared machine did. It does not block.
func (r *recorder) observe(o pxe.Observation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.machines[o.Machine.MAC]
	if m == nil {
		m = &record{boot: map[pxe.Stage]bool{}}
		r.machines[o.Machine.MAC] = m
	}
	old := m.seen
	if o.Stage == pxe.StageDHCP && m.last != pxe.StageDHCP && m.last != pxe.StageRefused {
		clear(m.boot) // the firmware begins anew
	}
	wait := betweenSigns
	switch {
	case !m.boot[o.Stage]:
		wait = betweenWrites
		r.metrics.boots.WithLabelValues(string(o.Stage)).Inc()
	case o.Stage == pxe.StageRefused && old.stages[o.Stage].message != clip(o.Message, maxMessage):
		wait = betweenWrites
	case o.Stage == pxe.StageInstalling:
		wait = betweenBytes
	}
	m.boot[o.Stage], m.last = true, o.Stage
	m.seen = m.seen.with(o)
	if m.failed > 0 && !m.due.IsZero() {
		return // with the next try
	}
	due := m.written.Add(wait)
	if m.due.IsZero() || due.Before(m.due) {
		m.due = due
		r.news.ring()
	}
}

// writers is how many Nodes are written at once.
const writers = 4

// run writes what is due until ctx ends.
func (r *recorder) run(ctx context.Context) error {
	slots := make(chan struct{}, writers)
	var running sync.WaitGroup
	defer running.Wait()
	for {
		news := r.news.rung()
		due, next := r.due()
		for _, mac := range due {
			select {
			case <-ctx.Done():
				return nil
			case slots <- struct{}{}:
			}
			running.Go(func() {
				defer func() { <-slots }()
				r.write(ctx, mac)
			})
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-news:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// due are the machines to be written now, and how long until the next is.
func (r *recorder) due() (due []pxe.MAC, next time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	next = time.Minute
	s := r.declared.current.Load()
	for mac, m := range r.machines {
		switch {
		case s != nil && s.nodeByMAC(mac) == nil:
			delete(r.machines, mac) // declared no more
		case m.due.IsZero() || m.writing:
		case !m.due.After(now):
			m.writing = true
			due = append(due, mac)
		default:
			next = min(next, m.due.Sub(now))
		}
	}
	return due, max(next, time.Millisecond)
}

// write merges a machine's sighting into its Node.
func (r *recorder) write(ctx context.Context, mac pxe.MAC) {
	r.mu.Lock()
	m := r.machines[mac]
	if m == nil {
		r.mu.Unlock()
		return
	}
	seen := m.seen
	seen.stages = make(map[pxe.Stage]stageSeen, len(m.seen.stages))
	for stage, s := range m.seen.stages {
		seen.stages[stage] = s
	}
	m.due = time.Time{}
	r.mu.Unlock()

	err := r.patch(ctx, mac, seen)
	r.mu.Lock()
	defer r.mu.Unlock()
	m.writing, m.written = false, r.now()
	if err == nil {
		m.failed = 0
		r.metrics.writes.WithLabelValues("node", "written").Inc()
	} else if ctx.Err() == nil {
		m.failed++
		m.due = m.written.Add(min(time.Second<<min(m.failed-1, 5), betweenSigns))
		r.metrics.writes.WithLabelValues("node", "failed").Inc()
		r.logger.Warn("cannot write what was seen of a machine", "mac", mac, "error", err, "again in", m.due.Sub(m.written).String())
	}
	if !m.due.IsZero() {
		r.news.ring()
	}
}

// patch writes a sighting, against the version of the Node that it was merged with.
func (r *recorder) patch(ctx context.Context, mac pxe.MAC, seen sighting) error {
	node := r.declared.current.Load().nodeByMAC(mac)
	if node == nil {
		return nil
	}
	key := client.ObjectKeyFromObject(node)
	return merged(ctx, r.reader, r.live, key, func(n *v1alpha1.Node) bool {
		next, changed := merge(n.Status.Boot, seen)
		n.Status.Boot = next
		return changed
	})
}

// object is a pointer to a T that the API keeps.
type object[T any] interface {
	*T
	client.Object
}

// fieldOwner is who writes, for the API server.
const fieldOwner = "rhizome-pxe"

// merged changes the status of an object by read, merge and patch with its version:
// first against the cache, and after a conflict against the API server. An object
// that is gone is no error.
func merged[T any, O object[T]](ctx context.Context, cached client.Reader, live client.Client, key client.ObjectKey, change func(O) bool) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var err error
	from := cached
	for range 8 {
		current := O(new(T))
		if err = from.Get(ctx, key, current); err != nil {
			return client.IgnoreNotFound(err)
		}
		next := current.DeepCopyObject().(O)
		if !change(next) {
			return nil
		}
		err = live.Status().Patch(ctx, next, client.MergeFromWithOptions(current, client.MergeFromWithOptimisticLock{}), client.FieldOwner(fieldOwner))
		if !apierrors.IsConflict(err) {
			return client.IgnoreNotFound(err)
		}
		from = live
	}
	return err
}
