package healing

import "time"

// watch is our own clock over the members: since when each was seen sick without
// interruption. What a status says of the past counts for nothing, so that it
// begins anew with every operator and every leader.
//
// It is not safe for concurrent use.
type watch struct {
	// gap is how long may pass between two looks until nothing is known any more of
	// what was in between.
	gap  time.Duration
	last time.Time
	sick map[string]sighting
}

// sighting is since when a core Node is seen sick, and which one: one that was
// deleted and came back is another.
type sighting struct {
	uid   string
	since time.Time
}

// seen is what is seen of one member now.
type seen struct {
	name, uid string
	sick      bool
}

// look takes what is seen of all members at a time. since tells afterwards.
func (w *watch) look(now time.Time, members []seen) {
	if w.sick == nil || now.Sub(w.last) > w.gap || now.Before(w.last) {
		w.sick = map[string]sighting{}
	}
	w.last = now
	next := map[string]sighting{}
	for _, m := range members {
		if !m.sick {
			continue
		}
		old, ok := w.sick[m.name]
		if !ok || old.uid != m.uid {
			old = sighting{m.uid, now}
		}
		next[m.name] = old
	}
	w.sick = next
}

// since is from when on a member was seen sick; zero: it was not.
func (w *watch) since(name string) time.Time { return w.sick[name].since }
