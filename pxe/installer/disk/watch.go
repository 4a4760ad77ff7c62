package disk

import (
	"slices"
	"sync"
	"time"
)

// Watch remembers when the disks of the machine last changed, because they turn
// up one by one: whether there is only one is known when no more come. It is safe
// for concurrent use.
type Watch struct {
	mu      sync.Mutex
	names   []string
	disks   []Disk
	changed time.Time
}

// See takes the disks as they are now.
func (w *Watch) See(disks []Disk, now time.Time) {
	names := make([]string, 0, len(disks))
	for _, d := range disks {
		if !d.Virtual {
			names = append(names, d.Path+" "+d.Serial+" "+Bytes(d.Size))
		}
	}
	slices.Sort(names)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed.IsZero() || !slices.Equal(names, w.names) {
		w.changed = now
	}
	w.names, w.disks = names, disks
}

// Settled returns the disks and whether they have been the same for this long.
func (w *Watch) Settled(quiet time.Duration, now time.Time) ([]Disk, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.disks), !w.changed.IsZero() && now.Sub(w.changed) >= quiet
}
