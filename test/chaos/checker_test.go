package chaos

import (
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func after(d time.Duration) time.Time { return noon.Add(d) }

// checked runs a story and returns what the checker said.
func checked(story func(*Checker)) []string {
	var said []string
	c := NewChecker(fleet, Times{UnhealthyAfter: 10 * time.Second, CoolDown: 30 * time.Second, Slack: 3 * time.Second, Unseen: 15 * time.Second},
		func(s string) { said = append(said, s) })
	c.Ready(noon, allReady())
	story(c)
	c.Settle()
	return said
}

func allReady(except ...string) map[string]bool {
	ready := map[string]bool{}
	for _, name := range append(append([]string{}, fleet.Servers...), fleet.Workers...) {
		ready[name] = true
	}
	for _, name := range except {
		ready[name] = false
	}
	return ready
}

func repairing(name, step string, intended time.Time) Machine {
	return Machine{Name: name, Repair: step, Intended: intended}
}

func done(m Machine) Machine {
	m.Acted = m.Intended
	return m
}

// TestEachInvariantCanFail has a story that breaks each, beside one that just does
// not.
func TestEachInvariantCanFail(t *testing.T) {
	sick := func(c *Checker, names ...string) { c.Ready(after(time.Second), allReady(names...)) }
	tests := []struct {
		reason string
		says   string // empty: nothing
		story  func(*Checker)
	}{
		{"one is repaired", "", func(c *Checker) {
			sick(c, "w01")
			c.Shown(after(12*time.Second), []Machine{repairing("w01", "Wake", after(12*time.Second)), {Name: "w02"}})
		}},
		{"two are repaired at once", "one at a time", func(c *Checker) {
			sick(c, "w01", "w02")
			c.Shown(after(12*time.Second), []Machine{repairing("w01", "Wake", after(12*time.Second)), repairing("w02", "Wake", after(12*time.Second))})
		}},
		{"one is repaired while another is taken out", "one at a time", func(c *Checker) {
			sick(c, "w01")
			c.Shown(after(12*time.Second), []Machine{done(repairing("w01", "Wake", after(12*time.Second))), {Name: "w02", Removing: true}})
		}},
		{"one is repaired while another is installed", "one at a time", func(c *Checker) {
			sick(c, "w01")
			c.Shown(after(12*time.Second), []Machine{done(repairing("w01", "Wake", after(12*time.Second))), {Name: "w02", Installing: true}})
		}},
		{"a repair is only written down while another is installed", "", func(c *Checker) {
			sick(c, "w01")
			c.Shown(after(12*time.Second), []Machine{repairing("w01", "Wake", after(12*time.Second)), {Name: "w02", Installing: true}})
		}},
		{"one is turned off while another is installed", "one at a time", func(c *Checker) {
			sick(c, "w01")
			c.Shown(after(12*time.Second), []Machine{repairing("w01", "PowerCycle", after(12*time.Second)), {Name: "w02", Installing: true}})
			c.Ordered(after(15*time.Second), "w01")
		}},
		{"a repair is begun for a member that is Ready", "rule 3", func(c *Checker) {
			c.Shown(after(12*time.Second), []Machine{repairing("w01", "Wake", after(12*time.Second))})
		}},
		{"a repair is begun too early", "rule 3", func(c *Checker) {
			sick(c, "w01")
			c.Shown(after(5*time.Second), []Machine{repairing("w01", "Wake", after(5*time.Second))})
		}},
		{"a repair is begun in a storm", "rule 4", func(c *Checker) {
			sick(c, "w01", "w02", "w03", "w04")
			c.Shown(after(12*time.Second), []Machine{repairing("w01", "Wake", after(12*time.Second))})
		}},
		{"as many are sick as may be", "", func(c *Checker) {
			sick(c, "w01", "w02", "w03")
			c.Shown(after(12*time.Second), []Machine{repairing("w01", "Wake", after(12*time.Second))})
		}},
		{"a repair that was begun is done in a storm", "rule 4", func(c *Checker) {
			sick(c, "w01")
			m := repairing("w01", "Wake", after(12*time.Second))
			c.Shown(after(12*time.Second), []Machine{m})
			c.Ready(after(13*time.Second), allReady("w01", "w02", "w03", "w04"))
			m.Acted = after(20 * time.Second)
			c.Shown(after(20*time.Second), []Machine{m})
		}},
		{"a machine that was turned off before the storm is turned on", "", func(c *Checker) {
			sick(c, "w01")
			m := repairing("w01", "PowerCycle", after(12*time.Second))
			c.Shown(after(12*time.Second), []Machine{m})
			c.Ready(after(13*time.Second), allReady("w01", "w02", "w03", "w04"))
			m.Off, m.Acted = true, after(20*time.Second)
			c.Shown(after(20*time.Second), []Machine{m})
		}},
		{"a repair is begun in the cool-down", "rule 4", func(c *Checker) {
			sick(c, "w01", "w02", "w03", "w04")
			c.Ready(after(20*time.Second), allReady("w01"))
			c.Shown(after(40*time.Second), []Machine{repairing("w01", "Wake", after(40*time.Second))})
		}},
		{"a repair is begun after the cool-down", "", func(c *Checker) {
			sick(c, "w01", "w02", "w03", "w04")
			c.Ready(after(20*time.Second), allReady("w01"))
			c.Shown(after(51*time.Second), []Machine{repairing("w01", "Wake", after(51*time.Second))})
		}},
		{"a server is turned off while another one is down", "quorum", func(c *Checker) {
			c.Befell(noon, "s1")
			c.Harmed(after(20*time.Second), "s2", "is turned off", fleet.Servers)
		}},
		{"a server is turned off while another one went down just now", "", func(c *Checker) {
			c.Befell(after(10*time.Second), "s1")
			c.Harmed(after(20*time.Second), "s2", "is turned off", fleet.Servers)
		}},
		{"a server is turned off when the other one is back", "", func(c *Checker) {
			c.Befell(noon, "s1")
			c.Recovered("s1")
			c.Harmed(after(20*time.Second), "s2", "is turned off", fleet.Servers)
		}},
		{"one of two voters is taken out", "quorum", func(c *Checker) {
			c.Harmed(after(20*time.Second), "s2", "is taken out of etcd", []string{"s1", "s2"})
		}},
		{"who does not vote any more is wiped", "", func(c *Checker) {
			c.Harmed(after(20*time.Second), "s3", "is wiped", []string{"s1", "s2"})
		}},
		{"a machine is turned off in no step", "neither such a step", func(c *Checker) {
			c.Ordered(after(20*time.Second), "w01")
		}},
		{"a machine is turned off when its step is over", "neither such a step", func(c *Checker) {
			sick(c, "w01")
			c.Shown(after(12*time.Second), []Machine{repairing("w01", "PowerCycle", after(12*time.Second))})
			c.Shown(after(20*time.Second), []Machine{{Name: "w01"}})
			c.Ordered(after(24*time.Second), "w01")
		}},
		{"a machine is turned off in its step", "", func(c *Checker) {
			sick(c, "w01")
			c.Shown(after(12*time.Second), []Machine{repairing("w01", "PowerCycle", after(12*time.Second))})
			c.Ordered(after(15*time.Second), "w01")
			c.Shown(after(20*time.Second), []Machine{{Name: "w01"}})
		}},
		{"a machine is turned off under its claim", "", func(c *Checker) {
			c.Shown(after(20*time.Second), []Machine{{Name: "w01", Installing: true}})
			c.Ordered(after(21*time.Second), "w01")
			c.Shown(after(30*time.Second), []Machine{{Name: "w01"}})
		}},
		{"a machine is turned off when its claim is closed", "neither such a step", func(c *Checker) {
			c.Shown(after(20*time.Second), []Machine{{Name: "w01", Installing: true}})
			c.Shown(after(30*time.Second), []Machine{{Name: "w01"}})
			c.Ordered(after(34*time.Second), "w01")
		}},
		{"a machine is turned off under another's claim", "neither such a step", func(c *Checker) {
			c.Shown(after(20*time.Second), []Machine{{Name: "w02", Installing: true}})
			c.Shown(after(25*time.Second), []Machine{{Name: "w02"}})
			c.Ordered(after(26*time.Second), "w01")
		}},
		{"another machine is turned off", "neither such a step", func(c *Checker) {
			sick(c, "w01")
			c.Shown(after(12*time.Second), []Machine{repairing("w01", "PowerCycle", after(12*time.Second))})
			c.Ordered(after(15*time.Second), "w02")
		}},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			said := checked(tc.story)
			switch {
			case tc.says == "" && len(said) > 0:
				t.Errorf("it says %q", said)
			case tc.says != "" && (len(said) != 1 || !strings.Contains(said[0], tc.says)):
				t.Errorf("it says %q, want one violation of %s", said, tc.says)
			}
		})
	}
}

func TestEtcdMustAnswerWhileMostServersAreInOrder(t *testing.T) {
	a := Availability{Patience: 20 * time.Second}
	if said := a.Asked(noon, false, true); said != "" {
		t.Error("at once: " + said)
	}
	if said := a.Asked(after(20*time.Second), false, true); said != "" {
		t.Error("within its patience: " + said)
	}
	if said := a.Asked(after(21*time.Second), false, true); said == "" {
		t.Error("nothing after its patience")
	}
	for _, answered := range []bool{true, false} {
		a = Availability{Patience: 20 * time.Second}
		a.Asked(noon, false, true)
		a.Asked(after(10*time.Second), answered, answered)
		if said := a.Asked(after(25*time.Second), false, true); said != "" {
			t.Errorf("after it answered (%t), or did not have to: %s", answered, said)
		}
	}
}
