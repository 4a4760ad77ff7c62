// Package chaos says what befalls a fleet of machines, at random and yet the same
// for a seed, and holds what is seen of the cluster meanwhile against what must be
// true all along. It knows nothing of how machines are simulated or observed.
package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Kind is what befalls a machine.
type Kind string

// The kinds.
const (
	Kill  Kind = "Kill"  // its power is cut
	Wipe  Kind = "Wipe"  // its power is cut, and its disk is blank when it is on again
	Hang  Kind = "Hang"  // it stays on, and nothing in it runs any more
	Stall Kind = "Stall" // its kubelet alone hangs
	Ail   Kind = "Ail"   // its kubelet says that it is not Ready, until it boots again
	Cut   Kind = "Cut"   // its cable is out
	Skew  Kind = "Skew"  // its clock is wrong
	// Somebody deletes its core Node, while it runs: its kubelet makes no other one
	// before it starts anew.
	Forget Kind = "Forget"
)

// Kinds are all of them.
var Kinds = []Kind{Kill, Wipe, Hang, Stall, Ail, Cut, Skew, Forget}

// Victims that are a machine's part, which another machine may have each time.
const (
	TheOperators    = "the operator's"     // the member that the operator runs on
	TheEtcdLeader   = "etcd's leader"      // the server whose member of etcd leads
	TheServingPXE   = "a PXE pod's"        // a member that a PXE pod runs on
	TheOperatorsPod = "the operator's pod" // of an Interruption
	ThePXEPods      = "the PXE pods"       // of an Interruption
)

// Fault befalls one machine.
type Fault struct {
	Kind   Kind
	Victim string        // a machine's name, or the part that it has
	At     time.Duration // after the begin
	// Lasts is after how long it ends by itself, of Cut and Skew. Zero: it does not.
	Lasts time.Duration
	// By is how wrong the clock is, of Skew.
	By time.Duration
}

// String is one line.
func (f Fault) String() string {
	s := fmt.Sprintf("%s %s at %s", f.Kind, f.Victim, f.At)
	if f.By != 0 {
		s += fmt.Sprintf(" by %s", f.By)
	}
	if f.Lasts != 0 {
		s += fmt.Sprintf(" for %s", f.Lasts)
	}
	return s
}

// Interruption ends processes of ours, as a crash does.
type Interruption struct {
	Whom string // TheOperatorsPod or ThePXEPods
	At   time.Duration
}

// Schedule is what happens from its begin on. It is a pure function of its seed and
// of the fleet.
type Schedule struct {
	Seed          uint64
	Faults        []Fault
	Interruptions []Interruption
	// Person is when somebody comes who mends what the cluster cannot, unless that is
	// awaited.
	Person time.Duration
}

// String says all of it in a line.
func (s Schedule) String() string {
	var all []string
	for _, f := range s.Faults {
		all = append(all, f.String())
	}
	for _, i := range s.Interruptions {
		all = append(all, fmt.Sprintf("crash of %s at %s", i.Whom, i.At))
	}
	return fmt.Sprintf("seed %d: %s; a person after %s", s.Seed, strings.Join(all, ", "), s.Person)
}

// Fleet are the machines that there are.
type Fleet struct{ Servers, Workers []string }

// Tolerated is how many may be sick at once before it is a storm, by rule 4 with its
// default of 30 %.
func (f Fleet) Tolerated() int { return max(1, (len(f.Servers)+len(f.Workers))*30/100) }

// Generate is the schedule of a seed.
func Generate(seed uint64, fleet Fleet) Schedule {
	r := rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))
	s := Schedule{Seed: seed, Person: seconds(r, 20, 50)}
	if r.IntN(100) < 14 {
		s.storm(r, fleet)
	} else {
		s.few(r, fleet)
	}
	slices.SortStableFunc(s.Faults, func(a, b Fault) int { return int(a.At - b.At) })
	for _, whom := range []string{TheOperatorsPod, ThePXEPods} {
		if r.IntN(100) < 15 {
			s.Interruptions = append(s.Interruptions, Interruption{whom, seconds(r, 5, 35)})
		}
	}
	return s
}

// few befalls one to three machines, of which at most one is a server, but now and
// then: then those are two, and etcd is without its quorum.
func (s *Schedule) few(r *rand.Rand, fleet Fleet) {
	n := 1 + pick(r, 55, 28, 17)
	servers := 0
	switch {
	case n > 1 && r.IntN(100) < 8:
		servers = 2
	case r.IntN(100) < 35:
		servers = 1
	}
	workers := shuffled(r, fleet.Workers)
	for i := range n {
		victim := workers[i]
		if i < servers {
			victim = shuffled(r, fleet.Servers)[0]
			if i > 0 {
				victim = another(r, fleet.Servers, s.Faults[0].Victim)
			} else if servers == 1 {
				victim = or(r, 45, shuffled(r, []string{TheOperators, TheEtcdLeader})[0], victim)
			}
		} else if i == 0 {
			victim = or(r, 15, shuffled(r, []string{TheOperators, TheServingPXE})[0], victim)
		}
		s.Faults = append(s.Faults, fault(r, victim))
	}
}

// storm befalls more machines than may be sick at once, in one way and at once, as
// the failure of a switch or of a fuse does. One may be a server.
func (s *Schedule) storm(r *rand.Rand, fleet Fleet) {
	victims := shuffled(r, fleet.Workers)[:fleet.Tolerated()+1+r.IntN(3)]
	if r.IntN(100) < 30 {
		victims[0] = shuffled(r, fleet.Servers)[0]
	}
	how := fault(r, "")
	how.Kind, how.Lasts, how.By = or(r, 60, Kill, Cut), 0, 0
	for _, v := range victims {
		how.Victim, how.At = v, seconds(r, 0, 2)
		s.Faults = append(s.Faults, how)
	}
}

// fault is one of any kind.
func fault(r *rand.Rand, victim string) Fault {
	f := Fault{Victim: victim, At: seconds(r, 0, 12), Kind: Kinds[pick(r, 30, 12, 16, 10, 12, 10, 6, 4)]}
	switch f.Kind {
	case Cut:
		f.Lasts = or(r, 60, seconds(r, 3, 30), 0)
	case Skew:
		f.By = time.Duration(1+r.IntN(600)) * time.Minute * time.Duration(or(r, 50, 1, -1))
		f.Lasts = or(r, 50, seconds(r, 10, 30), 0)
	}
	return f
}

// pick is an index, by weights that add up to a hundred.
func pick(r *rand.Rand, weights ...int) int {
	at := r.IntN(100)
	for i, w := range weights {
		if at < w {
			return i
		}
		at -= w
	}
	return len(weights) - 1
}

// or is the first in so many of a hundred cases, else the second.
func or[T any](r *rand.Rand, percent int, first, second T) T {
	if r.IntN(100) < percent {
		return first
	}
	return second
}

func seconds(r *rand.Rand, from, to int) time.Duration {
	return time.Duration(from+r.IntN(to-from+1)) * time.Second
}

func shuffled(r *rand.Rand, all []string) []string {
	out := slices.Clone(all)
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

func another(r *rand.Rand, all []string, than string) string {
	return shuffled(r, slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == than }))[0]
}
