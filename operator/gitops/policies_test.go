package gitops

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

const (
	seed = v1alpha1.SourceSeed
	home = v1alpha1.SourceHome
)

// atSeed are the facts of a cluster that follows the seed, and whose home has
// everything: nothing holds the switch.
func atSeed() facts {
	return facts{
		active: seed, pin: v1alpha1.PinAuto, hasHome: true,
		seed:     reading{reachable: true, holds: contains, directories: true},
		home:     homeReading{state: homeReadable, holds: contains, directories: true, current: true, settled: true},
		platform: true, proven: true,
	}
}

// switchingHome are those of one that was just pointed at its home.
func switchingHome() facts {
	f := atSeed()
	f.switching = true
	return f
}

// atHome are those of one that follows its home.
func atHome() facts {
	f := atSeed()
	f.active = home
	return f
}

// fresh are those of a cluster that nothing was applied to yet.
func fresh() facts {
	f := atSeed()
	f.active, f.platform, f.proven = "", false, false
	f.home = homeReading{state: homeUnreachable}
	return f
}

// answer is what a case says of a verdict.
type answer struct {
	Follow           v1alpha1.SourceName
	Act              act
	Phase            v1alpha1.SourcePhase
	Source, Switched string
}

func said(v verdict) answer {
	of := func(c metav1.Condition) string { return string(c.Status) + " " + c.Reason }
	return answer{v.follow, v.act, v.phase, of(v.source), of(v.switched)}
}

func TestDecide(t *testing.T) {
	const (
		waiting   = v1alpha1.PhaseSourceWaiting
		atS       = v1alpha1.PhaseSourceSeed
		atH       = v1alpha1.PhaseSourceHome
		frozen    = v1alpha1.PhaseSourceFrozen
		switching = v1alpha1.PhaseSourceSwitching
		proving   = v1alpha1.PhaseSourceProving
		migrating = v1alpha1.PhaseSourceMigrating
	)
	home9 := func(s homeState) func(*facts) { return func(f *facts) { f.home = homeReading{state: s} } }
	tests := []struct {
		reason string
		from   func() facts
		change func(*facts)
		want   answer
	}{
		// First install and rebuild from nothing.
		{"first install, Gitea unreachable: the seed", fresh, nil,
			answer{seed, actBegin, atS, "True SeedActive", "False HomeUnreachable"}},
		{"no home at all: the seed", fresh, func(f *facts) { f.hasHome = false },
			answer{seed, actBegin, atS, "True SeedActive", "False NoHome"}},
		{"neither can be read: nothing begins", fresh, func(f *facts) { f.seed.reachable = false },
			answer{"", actNothing, waiting, "False SeedUnreachable", "False HomeUnreachable"}},
		{"a seed without any of the directories: nothing begins", fresh, func(f *facts) { f.seed.directories = false },
			answer{"", actNothing, waiting, "False SeedLacksDirectories", "False HomeUnreachable"}},
		{"a home that has everything is taken at once, when Argo CD has read it", fresh, func(f *facts) { f.home, f.proven = atSeed().home, true },
			answer{home, actBegin, atH, "True HomeActive", "True HomeActive"}},
		{"a home that has everything is shown to Argo CD first", fresh, func(f *facts) { f.home = atSeed().home },
			answer{"", actProve, proving, "False HomeUnproven", "False HomeUnproven"}},
		{"the seed cannot be read and the home can: the home", fresh, func(f *facts) { f.home, f.proven, f.seed.reachable = atSeed().home, true, false },
			answer{home, actBegin, atH, "True HomeActive", "True HomeActive"}},
		{"a home that lacks what the seed has: the seed", fresh, func(f *facts) { f.home, f.proven = atSeed().home, true; f.home.current = false },
			answer{seed, actBegin, atS, "True SeedActive", "False HomeBehind"}},
		{"a home that was seen once: the seed", fresh, func(f *facts) { f.home, f.proven = atSeed().home, true; f.home.settled = false },
			answer{seed, actBegin, atS, "True SeedActive", "False HomeUnsettled"}},
		{"pinned to the seed, with a sound home: the seed", fresh, func(f *facts) { f.home, f.pin = atSeed().home, v1alpha1.PinSeed },
			answer{seed, actBegin, atS, "True SeedActive", "False PinnedToSeed"}},
		{"pinned to a home that is not there: nothing begins", fresh, func(f *facts) { f.pin = v1alpha1.PinHome },
			answer{"", actNothing, waiting, "False HomeUnreachable", "False HomeUnreachable"}},

		// The rules that hold the switch, each alone.
		{"nothing holds the switch", atSeed, nil,
			answer{home, actSwitch, switching, "True SeedActive", "False Switching"}},
		{"the switch waits for the layers of Gitea", atSeed, func(f *facts) { f.platform = false },
			answer{seed, actNothing, atS, "True SeedActive", "False PlatformNotReady"}},
		{"the switch waits after one that was rolled back", atSeed, func(f *facts) { f.holdOff = true },
			answer{seed, actNothing, atS, "True SeedActive", "False RolledBack"}},
		{"Gitea is down", atSeed, home9(homeUnreachable),
			answer{seed, actNothing, atS, "True SeedActive", "False HomeUnreachable"}},
		{"Gitea is in install mode", atSeed, home9(homeInstallMode),
			answer{seed, actNothing, atS, "True SeedActive", "False HomeInstallMode"}},
		{"it is no Gitea", atSeed, home9(homeUnsupported),
			answer{seed, actNothing, atS, "True SeedActive", "False HomeUnsupported"}},
		{"Gitea refuses the credentials", atSeed, home9(homeRefused),
			answer{seed, actNothing, atS, "True SeedActive", "False HomeRefused"}},
		{"there is no repository: it is migrated", atSeed, home9(homeMissing),
			answer{seed, actMigrate, migrating, "True SeedActive", "False HomeMissing"}},
		{"there is no repository, and the seed cannot be read: nothing is migrated", atSeed, func(f *facts) { home9(homeMissing)(f); f.seed.reachable = false },
			answer{seed, actNothing, frozen, "False SeedUnreachable", "False HomeMissing"}},
		{"a migration is under way or was cut off: it is seen to", atSeed, home9(homeMigrating),
			answer{seed, actMigrate, migrating, "True SeedActive", "False HomeMigrating"}},
		{"a pull mirror", atSeed, home9(homeMirror),
			answer{seed, actNothing, atS, "True SeedActive", "False HomeMirror"}},
		{"an empty repository", atSeed, home9(homeEmpty),
			answer{seed, actNothing, atS, "True SeedActive", "False HomeEmpty"}},
		{"a repository with a README only", atSeed, home9(homeReadmeOnly),
			answer{seed, actNothing, atS, "True SeedActive", "False HomeReadmeOnly"}},
		{"a home that is behind", atSeed, func(f *facts) { f.home.holds = behind },
			answer{seed, actNothing, atS, "True SeedActive", "False HomeBehind"}},
		{"a home of which it is not known whether it has the commit", atSeed, func(f *facts) { f.home.holds = unknown },
			answer{seed, actNothing, atS, "True SeedActive", "False HomeBehind"}},
		{"a home that has other commits", atSeed, func(f *facts) { f.home.holds = diverged },
			answer{seed, actNothing, atS, "True SeedActive", "False HomeDiverged"}},
		{"a home that lacks what was pushed to the seed since", atSeed, func(f *facts) { f.home.current = false },
			answer{seed, actNothing, atS, "True SeedActive", "False HomeBehind"}},
		{"a home without a directory that Applications came from", atSeed, func(f *facts) { f.home.directories = false },
			answer{seed, actNothing, atS, "True SeedActive", "False HomeLacksDirectories"}},
		{"a home that was seen to be sound once", atSeed, func(f *facts) { f.home.settled = false },
			answer{seed, actNothing, atS, "True SeedActive", "False HomeUnsettled"}},
		{"Argo CD has not read the home", atSeed, func(f *facts) { f.proven = false },
			answer{seed, actProve, proving, "True SeedActive", "False HomeUnproven"}},
		{"GitHub is down: the home has everything all the same", atSeed, func(f *facts) { f.seed.reachable = false },
			answer{home, actSwitch, switching, "False SeedUnreachable", "False Switching"}},

		// The seed, while it is the source.
		{"GitHub is down, and so is Gitea: it stays so", atSeed, func(f *facts) { home9(homeUnreachable)(f); f.seed.reachable = false },
			answer{seed, actNothing, frozen, "False SeedUnreachable", "False HomeUnreachable"}},
		{"the seed was pushed back: the layers are left alone", atSeed, func(f *facts) { home9(homeUnreachable)(f); f.seed.holds = behind },
			answer{"", actNothing, frozen, "False SeedBehind", "False HomeUnreachable"}},
		{"the seed lost the directories: the layers are left alone", atSeed, func(f *facts) { home9(homeUnreachable)(f); f.seed.directories = false },
			answer{"", actNothing, frozen, "False SeedLacksDirectories", "False HomeUnreachable"}},
		{"another seed is declared that has everything", atSeed, func(f *facts) { home9(homeUnreachable)(f); f.moved = true },
			answer{seed, actNothing, atS, "True SeedActive", "False HomeUnreachable"}},
		{"another seed is declared that cannot be read", atSeed, func(f *facts) { home9(homeUnreachable)(f); f.moved, f.seed.reachable = true, false },
			answer{"", actNothing, frozen, "False SeedUnreachable", "False HomeUnreachable"}},
		{"no home is declared", atSeed, func(f *facts) { f.hasHome = false },
			answer{seed, actNothing, atS, "True SeedActive", "False NoHome"}},

		// The pin.
		{"pinned to the seed", atSeed, func(f *facts) { f.pin = v1alpha1.PinSeed },
			answer{seed, actNothing, atS, "True SeedActive", "False PinnedToSeed"}},
		{"pinned to the home, the platform need not be ready", atSeed, func(f *facts) { f.pin, f.platform, f.holdOff, f.home.settled = v1alpha1.PinHome, false, true, false },
			answer{home, actSwitch, switching, "True SeedActive", "False Switching"}},
		{"pinned to a home that lacks the synced commit: the pin is held", atSeed, func(f *facts) { f.pin, f.home.holds = v1alpha1.PinHome, behind },
			answer{seed, actNothing, atS, "True SeedActive", "False PinHeld"}},
		{"pinned to the seed while the home is the source", atHome, func(f *facts) { f.pin = v1alpha1.PinSeed },
			answer{seed, actFallBack, atS, "True SeedActive", "False PinnedToSeed"}},
		{"pinned to a seed that lacks the synced commit: the pin is held", atHome, func(f *facts) { f.pin, f.seed.holds = v1alpha1.PinSeed, behind },
			answer{home, actNothing, atH, "True HomeActive", "True PinHeld"}},
		{"pinned to a home that is down: it stays", atHome, func(f *facts) { f.pin = v1alpha1.PinHome; f.home = homeReading{state: homeUnreachable, lost: true} },
			answer{home, actNothing, frozen, "False HomeUnreachable", "True HomeActive"}},

		// The switch.
		{"the Applications are awaited from the home", switchingHome, nil,
			answer{home, actNothing, switching, "False Switching", "False Switching"}},
		{"they are all ready from there", switchingHome, func(f *facts) { f.arrived = true },
			answer{home, actFinish, atH, "True HomeActive", "True HomeActive"}},
		{"they are not ready in time", switchingHome, func(f *facts) { f.late = true },
			answer{seed, actRollBack, atS, "True SeedActive", "False RolledBack"}},
		{"they are ready at the last moment", switchingHome, func(f *facts) { f.late, f.arrived = true, true },
			answer{home, actFinish, atH, "True HomeActive", "True HomeActive"}},
		{"Gitea is killed during the switch", switchingHome, home9(homeUnreachable),
			answer{home, actNothing, switching, "False Switching", "False Switching"}},
		{"Gitea is killed during the switch and does not come back", switchingHome, func(f *facts) { home9(homeUnreachable)(f); f.late = true },
			answer{seed, actRollBack, atS, "True SeedActive", "False RolledBack"}},
		{"Gitea loses the commits during the switch", switchingHome, func(f *facts) { f.home.holds = behind },
			answer{seed, actRollBack, atS, "True SeedActive", "False RolledBack"}},
		{"GitHub is killed during the switch, which is late", switchingHome, func(f *facts) { f.late, f.seed.reachable = true, false },
			answer{home, actNothing, frozen, "False RollBackHeld", "False RollBackHeld"}},
		{"a commit was pushed to Gitea during the switch and synced: the seed lacks it, and there is no way back", switchingHome, func(f *facts) { f.late, f.seed.holds = true, behind },
			answer{home, actNothing, frozen, "False RollBackHeld", "False RollBackHeld"}},
		{"pinned to the seed during the switch", switchingHome, func(f *facts) { f.pin = v1alpha1.PinSeed },
			answer{seed, actRollBack, atS, "True SeedActive", "False RolledBack"}},
		{"the home is no more declared during the switch", switchingHome, func(f *facts) { f.hasHome = false },
			answer{seed, actRollBack, atS, "True SeedActive", "False RolledBack"}},

		// The home, while it is the source.
		{"all is well at home", atHome, nil,
			answer{home, actNothing, atH, "True HomeActive", "True HomeActive"}},
		{"a stray commit on the seed changes nothing", atHome, func(f *facts) { f.home.current = false },
			answer{home, actNothing, atH, "True HomeActive", "True HomeActive"}},
		{"the platform is not ready: the home stays", atHome, func(f *facts) { f.platform = false },
			answer{home, actNothing, atH, "True HomeActive", "True HomeActive"}},
		{"Gitea is down: frozen", atHome, home9(homeUnreachable),
			answer{home, actNothing, frozen, "False HomeUnreachable", "True HomeActive"}},
		{"Gitea is down for long, and the seed has everything: back to the seed", atHome, func(f *facts) { f.home = homeReading{state: homeUnreachable, lost: true} },
			answer{seed, actFallBack, atS, "True SeedActive", "False HomeUnreachable"}},
		{"Gitea is down for long, and the seed is behind: frozen", atHome, func(f *facts) {
			f.home = homeReading{state: homeUnreachable, lost: true}
			f.seed.holds = behind
		},
			answer{home, actNothing, frozen, "False HomeUnreachable", "True HomeActive"}},
		{"both are down: frozen", atHome, func(f *facts) {
			f.home = homeReading{state: homeUnreachable, lost: true}
			f.seed.reachable = false
		},
			answer{home, actNothing, frozen, "False HomeUnreachable", "True HomeActive"}},
		{"Gitea was made anew with a README: the layers are left alone", atHome, home9(homeReadmeOnly),
			answer{"", actNothing, frozen, "False HomeReadmeOnly", "True HomeActive"}},
		{"Gitea was made anew, for long, and the seed has everything", atHome, func(f *facts) { f.home = homeReading{state: homeReadmeOnly, lost: true} },
			answer{seed, actFallBack, atS, "True SeedActive", "False HomeReadmeOnly"}},
		{"Gitea came back from an old backup", atHome, func(f *facts) { f.home.holds = behind },
			answer{"", actNothing, frozen, "False HomeBehind", "True HomeActive"}},
		{"the home is no more declared, and the seed has everything", atHome, func(f *facts) { f.hasHome = false },
			answer{seed, actFallBack, atS, "True SeedActive", "False NoHome"}},
		{"the home is no more declared, and the seed is behind", atHome, func(f *facts) { f.hasHome, f.seed.holds = false, behind },
			answer{"", actNothing, frozen, "False HomeRemoved", "True PinHeld"}},
		{"another home is declared: Argo CD reads it first", atHome, func(f *facts) { f.moved, f.proven = true, false },
			answer{"", actProve, proving, "False HomeUnproven", "True HomeActive"}},
		{"another home is declared that has everything", atHome, func(f *facts) { f.moved = true },
			answer{home, actNothing, atH, "True HomeActive", "True HomeActive"}},
		{"another home is declared that does not answer", atHome, func(f *facts) { home9(homeUnreachable)(f); f.moved = true },
			answer{"", actNothing, frozen, "False HomeUnreachable", "True HomeActive"}},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			f := tc.from()
			if tc.change != nil {
				tc.change(&f)
			}
			if diff := cmp.Diff(tc.want, said(decide(&f))); diff != "" {
				t.Errorf("verdict (-want +got):\n%s", diff)
			}
		})
	}
}

// everyFacts visits every combination of the facts that decide.
func everyFacts(visit func(facts)) {
	both := []bool{false, true}
	relations := []relation{unknown, contains, behind, diverged}
	for _, active := range []v1alpha1.SourceName{"", seed, home} {
		for _, pin := range []v1alpha1.SourcePin{v1alpha1.PinAuto, v1alpha1.PinSeed, v1alpha1.PinHome} {
			for bits := range 1 << 11 {
				bit := func(n int) bool { return both[bits>>n&1] }
				f := facts{
					active: active, pin: pin, switching: bit(0), late: bit(1), holdOff: bit(2), moved: bit(3), hasHome: bit(4),
					platform: bit(5), proven: bit(6), arrived: bit(7),
					seed: reading{reachable: bit(8), directories: bit(9)},
				}
				f.home.settled = bit(10)
				if f.switching && active != seed || !f.hasHome && pin == v1alpha1.PinHome {
					continue // is not recorded, is refused
				}
				for _, f.seed.holds = range relations {
					for f.home.state = homeUnreachable; f.home.state <= homeReadable; f.home.state++ {
						if f.home.state != homeReadable {
							f.home.holds, f.home.directories, f.home.current = unknown, false, false
							for _, f.home.lost = range both {
								visit(f)
							}
							continue
						}
						for _, f.home.holds = range relations {
							for k := range 8 {
								f.home.directories, f.home.current, f.home.lost = both[k&1], both[k>>1&1], both[k>>2&1]
								visit(f)
							}
						}
					}
				}
			}
		}
	}
}

func (f facts) seedFit() bool {
	return f.seed.reachable && f.seed.holds == contains && f.seed.directories
}

func (f facts) homeFit() bool {
	return f.hasHome && f.home.state == homeReadable && f.home.holds == contains && f.home.directories
}

func TestInEveryStateTheRulesHold(t *testing.T) {
	rules := []struct {
		rule  string
		holds func(f facts, v verdict) bool
	}{
		{"the layers are pointed anew at a home only if it has every synced commit and every directory, and Argo CD has read it", func(f facts, v verdict) bool {
			there := f.switching || f.active == home && !f.moved
			return v.follow != home || there || f.homeFit() && f.proven
		}},
		{"the layers are pointed anew at a seed only if it has every synced commit and every directory", func(f facts, v verdict) bool {
			there := f.active == seed && !f.switching && !f.moved
			return v.follow != seed || there || f.seedFit()
		}},
		{"layers are pointed at nothing that is seen to lack a synced commit or a directory", func(f facts, v verdict) bool {
			return (v.follow != home || f.home.state == homeUnreachable || f.homeFit()) &&
				(v.follow != seed || !f.seed.reachable || f.seedFit())
		}},
		{"a home that is down is no reason to move, unless for long", func(f facts, v verdict) bool {
			return f.active != home || !f.hasHome || f.pin == v1alpha1.PinSeed || f.home.lost || v.follow != seed && v.act != actFallBack
		}},
		{"back to the seed only if it has everything", func(f facts, v verdict) bool {
			return v.act != actFallBack && v.act != actRollBack || f.seedFit() && v.follow == seed
		}},
		{"a pin to the home is not left for the seed by itself", func(f facts, v verdict) bool {
			return f.pin != v1alpha1.PinHome || v.act != actFallBack
		}},
		{"a pin to the seed never switches, migrates or finishes", func(f facts, v verdict) bool {
			return f.pin != v1alpha1.PinSeed || v.act != actSwitch && v.act != actMigrate && v.act != actFinish
		}},
		{"a pin wins wherever the source has everything", func(f facts, v verdict) bool {
			switch {
			case f.pin == v1alpha1.PinSeed && f.seedFit():
				return v.follow == seed
			case f.pin == v1alpha1.PinHome && f.homeFit() && f.proven && f.home.current && (!f.switching || !f.late || f.arrived):
				return v.follow == home
			}
			return true
		}},
		{"a pin that cannot be followed is said", func(f facts, v verdict) bool {
			held := f.active == seed && !f.switching && f.pin == v1alpha1.PinHome && v.follow != home ||
				f.active == home && f.pin == v1alpha1.PinSeed && v.follow != seed
			return !held || v.switched.Reason == v1alpha1.ReasonPinHeld || v.act == actProve || v.act == actMigrate
		}},
		{"without a pin the switch waits for the platform, for two looks and after a roll-back", func(f facts, v verdict) bool {
			return v.act != actSwitch || f.pin == v1alpha1.PinHome || f.platform && f.home.settled && !f.holdOff
		}},
		{"no switch to a home that lacks what the seed has", func(f facts, v verdict) bool {
			return v.act != actSwitch || f.home.current
		}},
		{"only a repository that is missing, or without a commit since its migration, is migrated, from a seed that has everything", func(f facts, v verdict) bool {
			return v.act != actMigrate || f.hasHome && (f.home.state == homeMissing || f.home.state == homeMigrating) && f.seedFit()
		}},
		{"a switch that runs is finished, rolled back or awaited", func(f facts, v verdict) bool {
			return !f.switching || v.act == actNothing || v.act == actFinish || v.act == actRollBack
		}},
		{"a switch is finished only where everything arrived at a sound home", func(f facts, v verdict) bool {
			return v.act != actFinish || f.switching && f.arrived && f.homeFit()
		}},
		{"what is missing in a source is taken for removed only where the source is settled and has everything", func(f facts, v verdict) bool {
			if !v.trusted {
				return true
			}
			return !f.switching && v.source.Status == metav1.ConditionTrue && v.act != actFallBack &&
				(v.follow == seed && f.active == seed && f.seedFit() || v.follow == home && f.active == home && f.homeFit())
		}},
		{"each condition has a type, a reason and a message", func(_ facts, v verdict) bool {
			return v.source.Type == v1alpha1.ConditionSourceReady && v.switched.Type == v1alpha1.ConditionSwitched &&
				v.source.Reason != "" && v.switched.Reason != "" && v.source.Message != "" && v.switched.Message != "" && v.phase != "" && v.act != ""
		}},
	}
	visited := 0
	reasons := map[string]map[act]bool{}
	broken := map[string]int{}
	everyFacts(func(f facts) {
		visited++
		v := decide(&f)
		for _, r := range rules {
			if !r.holds(f, v) {
				if broken[r.rule]++; broken[r.rule] == 1 {
					t.Errorf("%s:\n%+v\n%+v", r.rule, f, said(v))
				}
			}
		}
		for _, reason := range []string{v.source.Reason, v.switched.Reason} {
			if reasons[reason] == nil {
				reasons[reason] = map[act]bool{}
			}
			reasons[reason][v.act] = true
		}
	})
	t.Logf("%d states, %d reasons", visited, len(reasons))
	if visited < 500_000 {
		t.Errorf("visited only %d states: is the walk complete?", visited)
	}
	documented := documentedReasons(t)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(documented)), slices.Sorted(maps.Keys(reasons))); diff != "" {
		t.Errorf("the reasons in docs/concepts/source-of-truth.md and those of the code (-docs +code):\n%s", diff)
	}
	for reason, acts := range reasons {
		if diff := cmp.Diff(documented[reason], slices.Sorted(maps.Keys(acts))); diff != "" {
			t.Errorf("what the docs and the code do where %s is said (-docs +code):\n%s", reason, diff)
		}
	}
}

// documentedReasons are the reasons of the tables in the documentation, and the acts
// that stand in code in their column "done".
func documentedReasons(t *testing.T) map[string][]act {
	t.Helper()
	text, err := os.ReadFile("../../docs/concepts/source-of-truth.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]act{}
	for line := range strings.Lines(string(text)) {
		columns := strings.Split(line, "|")
		if len(columns) != 6 || !strings.HasPrefix(strings.TrimSpace(columns[1]), "`") {
			continue
		}
		reason := strings.Trim(strings.TrimSpace(columns[1]), "`")
		parts := strings.Split(columns[3], "`")
		var acts []act
		for i := 1; i < len(parts); i += 2 {
			acts = append(acts, act(parts[i]))
		}
		slices.Sort(acts)
		all[reason] = acts
	}
	return all
}
