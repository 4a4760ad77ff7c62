package chaos

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var fleet = Fleet{
	Servers: []string{"s1", "s2", "s3"},
	Workers: []string{"w01", "w02", "w03", "w04", "w05", "w06", "w07", "w08", "w09", "w10"},
}

func TestASeedGivesTheSameScheduleEachTime(t *testing.T) {
	for seed := range uint64(200) {
		if diff := cmp.Diff(Generate(seed, fleet), Generate(seed, fleet)); diff != "" {
			t.Fatalf("seed %d gives two schedules:\n%s", seed, diff)
		}
	}
	if cmp.Equal(Generate(1, fleet).Faults, Generate(2, fleet).Faults) {
		t.Error("two seeds give the same schedule")
	}
}

// TestSchedulesHaveEverythingInThem over the seeds that one run may have.
func TestSchedulesHaveEverythingInThem(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(200) {
		s := Generate(seed, fleet)
		var victims []string
		servers := 0
		for _, f := range s.Faults {
			seen[string(f.Kind)]++
			seen["a fault of "+f.Victim]++
			if slices.Contains(victims, f.Victim) {
				t.Errorf("%s: %s is befallen twice", s, f.Victim)
			}
			victims = append(victims, f.Victim)
			if slices.Contains(fleet.Servers, f.Victim) {
				servers++
			}
			if (f.Kind == Skew) != (f.By != 0) || f.Lasts != 0 && f.Kind != Skew && f.Kind != Cut {
				t.Errorf("%s: of %s", s, f)
			}
		}
		switch {
		case len(victims) == 0:
			t.Errorf("%s: nothing happens", s)
		case len(victims) > fleet.Tolerated():
			seen["a storm"]++
		case len(victims) > 1:
			seen["several"]++
		default:
			seen["one"]++
		}
		if servers > 2 {
			t.Errorf("%s: all servers at once", s)
		}
		if servers == 2 {
			seen["two servers"]++
		}
		for _, i := range s.Interruptions {
			seen["a crash of "+i.Whom]++
		}
	}
	want := []string{"a storm", "several", "one", "two servers", "a crash of " + TheOperatorsPod, "a crash of " + ThePXEPods}
	for _, k := range Kinds {
		want = append(want, string(k))
	}
	for _, v := range slices.Concat(fleet.Servers, fleet.Workers, []string{TheOperators, TheEtcdLeader, TheServingPXE}) {
		want = append(want, "a fault of "+v)
	}
	for _, w := range want {
		if seen[w] == 0 {
			t.Errorf("two hundred schedules have no %s", w)
		}
	}
	t.Log(seen)
}

func TestWhatIsRepairable(t *testing.T) {
	for _, board := range []bool{false, true} {
		want := map[Kind]bool{Kill: true, Wipe: true, Ail: true, Hang: board, Stall: board, Forget: board, Cut: false, Skew: false}
		for _, k := range Kinds {
			if got := Repairable(Fault{Kind: k}, board); got != want[k] {
				t.Errorf("%s, with a board %t: repairable %t", k, board, got)
			}
		}
	}
	if !Repairable(Fault{Kind: Cut, Lasts: 1}, false) || !Repairable(Fault{Kind: Skew, Lasts: 1}, false) {
		t.Error("what ends by itself needs no person")
	}
}

func TestWhatStopsAllRepairs(t *testing.T) {
	for _, tc := range []struct {
		victims []string
		want    bool
	}{
		{[]string{"s1", "w01", "w02"}, false},
		{[]string{"w01", "w02", "w03", "w04"}, true},
		{[]string{"s1", "s2"}, true},
		{nil, false},
	} {
		if got := fleet.Stops(tc.victims); got != tc.want {
			t.Errorf("%v: %t, want %t", tc.victims, got, tc.want)
		}
	}
}
