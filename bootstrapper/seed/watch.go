package seed

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe"
)

// watch remembers what machines were seen to do. observe is called by the PXE
// service for every packet and never blocks; the flow reads.
type watch struct {
	mac      pxe.MAC    // of the first node
	declared netip.Addr // its static address

	mu        sync.Mutex
	addresses map[netip.Addr]bool // from which the first node was seen to speak
	last      pxe.Observation     // of the first node
	sightings provision.Sightings
	others    map[string]bool // what was said of others, so that it is said once
	queue     []pxe.Observation
	changed   chan struct{}
}

// queueLimit bounds what waits to be shown: a flood on the network costs lines,
// not memory.
const queueLimit = 256

func newWatch(mac pxe.MAC, declared netip.Addr) *watch {
	return &watch{mac: mac, declared: declared, addresses: map[netip.Addr]bool{declared: true},
		others: map[string]bool{}, changed: make(chan struct{}, 1)}
}

// observe is the backend's observer.
func (w *watch) observe(o pxe.Observation) {
	w.mu.Lock()
	if w.isFirst(o) {
		w.record(o)
	}
	if len(w.queue) < queueLimit {
		w.queue = append(w.queue, o)
	}
	w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// isFirst says whether an observation is of the first node. A request over HTTP
// may tell no MAC; then the address tells.
func (w *watch) isFirst(o pxe.Observation) bool {
	if o.Machine.MAC != "" {
		return o.Machine.MAC == w.mac
	}
	return o.From.IsValid() && w.addresses[o.From.Unmap()]
}

// isFirstLocked is isFirst for those who do not hold the lock.
func (w *watch) isFirstLocked(o pxe.Observation) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.isFirst(o)
}

func (w *watch) record(o pxe.Observation) {
	if o.From.IsValid() && !o.From.IsUnspecified() {
		w.addresses[o.From.Unmap()] = true
	}
	w.sightings = w.sightings.With(o)
	w.last = o
}

// seen is what is known of the first node.
func (w *watch) seen() (provision.Sightings, pxe.Observation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sightings, w.last
}

// take empties the queue of what has not been shown.
func (w *watch) take() []pxe.Observation {
	w.mu.Lock()
	defer w.mu.Unlock()
	queue := w.queue
	w.queue = nil
	return queue
}

// once says whether something is said for the first time.
func (w *watch) once(what string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.others[what] || len(w.others) > queueLimit {
		return false
	}
	w.others[what] = true
	return true
}

// stallAfter is how long a machine may say nothing before a person is told what
// was last seen of it and what to look at. Firmware alone may take a minute.
const stallAfter = 90 * time.Second

// stalled is what to tell a person while a phase waits: empty when the machine
// was heard of lately, or the person was told lately. since is when the phase
// began, told when the person was last told (zero: never).
func stalled(phase string, now, since, told time.Time, last pxe.Observation) string {
	quiet := since
	if last.Time.After(quiet) {
		quiet = last.Time
	}
	if now.Sub(quiet) < stallAfter || !told.IsZero() && now.Sub(told) < 2*stallAfter {
		return ""
	}
	return lastSeen(now, last) + "; " + advice(phase, last.Stage)
}

// lastSeen says what a machine was last seen to do.
func lastSeen(now time.Time, last pxe.Observation) string {
	if last.Stage == "" {
		return "the machine was not seen yet"
	}
	text := fmt.Sprintf("last seen: %s %s ago", happened(last), now.Sub(last.Time).Round(time.Second))
	if last.From.IsValid() && !last.From.IsUnspecified() {
		text += " by " + last.From.String()
	}
	return text
}

// happened says what was observed, in a few words.
func happened(o pxe.Observation) string {
	words := map[pxe.Stage]string{
		pxe.StageDHCP:        "asked for a boot server",
		pxe.StageLoader:      "boot loader fetched",
		pxe.StageConfig:      "boot loader's config fetched",
		pxe.StageKernel:      "kernel fetched",
		pxe.StageInitrd:      "initial ramdisk fetched",
		pxe.StageInitConfig:  "init config fetched",
		pxe.StageInstalling:  "installing",
		pxe.StageInstalled:   "installed",
		pxe.StageFailed:      "the installer gave up",
		pxe.StageMedia:       "files fetched",
		pxe.StageCredentials: "claim exchanged for the credentials",
		pxe.StageRefused:     "refused",
	}[o.Stage]
	if words == "" {
		words = string(o.Stage)
	}
	if o.Message != "" {
		words += " (" + o.Message + ")"
	}
	return words
}
