package chaos

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Machine is what the API shows of one machine, at one moment.
type Machine struct {
	Name string
	// Repair is the step of a repair that is begun for it; empty: none. Intended and
	// Acted are when it was written down and done; zero: it was not. Off: it is proven
	// that it was turned off.
	Repair          string
	Intended, Acted time.Time
	Off             bool
	// Removing: it is being taken out of the cluster. Installing: a claim for it is
	// open, or leads to a member.
	Removing, Installing bool
}

// touched says whether something was done to the machine that is not over. A step
// that is only written down does not count: whoever writes looks again before acting.
func (m Machine) touched() bool {
	return m.Repair != "" && (!m.Acted.IsZero() || m.Off) || m.Removing || m.Installing
}

// Times are what the checker holds times against.
type Times struct {
	// UnhealthyAfter and CoolDown are the Cluster's.
	UnhealthyAfter, CoolDown time.Duration
	// Slack is how much later than the checker somebody else may see the same thing.
	Slack time.Duration
	// Unseen is how long after a fault nobody can know of it yet.
	Unseen time.Duration
}

// Checker holds what is seen of the cluster against what must be true all along. Its
// methods may be called by several goroutines. Each says at what time it was seen.
type Checker struct {
	fleet Fleet
	times Times
	say   func(violation string)

	mu    sync.Mutex
	shown map[string]Machine
	sick  map[string]time.Time // since when its core Node is not Ready, or gone
	well  map[string]time.Time // since when it is Ready
	storm time.Time            // since when too many are; zero: they are not
	// calm is when the last storm was over that lasted long enough for all to see it.
	calm time.Time
	// down are servers that a fault befell, and since when.
	down map[string]time.Time
	// cycles are when a machine might be turned off.
	cycles []cycle
	orders []order
	begun  int
	last   string // what was said of several at once, so that it is said once
}

// cycle is a step of a repair that turns a machine off, or an installation: under its
// claim a machine that is on may be restarted.
type cycle struct {
	machine  string
	claim    bool
	from, to time.Time // to is zero while it goes on
}

type order struct {
	machine string
	at      time.Time
}

// NewChecker makes one that tells violations to say.
func NewChecker(fleet Fleet, times Times, say func(violation string)) *Checker {
	return &Checker{fleet: fleet, times: times, say: say, shown: map[string]Machine{}, sick: map[string]time.Time{}, well: map[string]time.Time{}, down: map[string]time.Time{}}
}

// Begun counts the steps that were begun.
func (c *Checker) Begun() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.begun
}

// Shown takes what the API shows of all machines at one moment.
//
// One thing at a time: at most one of them is repaired, taken out or installed. And
// nothing is begun while too many are sick, for a while after that, or for a member
// that was not sick for long enough.
func (c *Checker) Shown(at time.Time, all []Machine) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alone(all, "one at a time: repaired are ", func(m Machine) bool { return m.Repair != "" })
	c.alone(all, "one at a time: touched are ", Machine.touched)
	for _, m := range all {
		before := c.shown[m.Name]
		begins := m.Repair != "" && (before.Repair == "" || !m.Intended.Equal(before.Intended))
		if before.Repair == "PowerCycle" && (m.Repair == "" || begins) {
			c.ends(at, m.Name, false)
		}
		if m.Repair == "PowerCycle" && begins {
			c.cycles = append(c.cycles, cycle{machine: m.Name, from: at})
		}
		switch {
		case m.Installing && !before.Installing:
			c.cycles = append(c.cycles, cycle{machine: m.Name, claim: true, from: at})
		case !m.Installing && before.Installing:
			c.ends(at, m.Name, true)
		}
		acts := m.Repair != "" && !m.Acted.IsZero() && !m.Acted.Equal(before.Acted) && !m.Off
		if begins {
			c.begun++
			c.mayBegin(at, m)
		}
		if begins || acts {
			c.noStorm(at, m, begins)
		}
		c.shown[m.Name] = m
	}
}

// ends ends the cycle of a machine that goes on.
func (c *Checker) ends(at time.Time, machine string, claim bool) {
	for i := range c.cycles {
		if o := &c.cycles[i]; o.machine == machine && o.claim == claim && o.to.IsZero() {
			o.to = at
		}
	}
}

// alone says so when more than one is.
func (c *Checker) alone(all []Machine, what string, is func(Machine) bool) {
	var those []string
	for _, m := range all {
		if is(m) {
			those = append(those, fmt.Sprintf("%s (repair %q, removing %t, installing %t)", m.Name, m.Repair, m.Removing, m.Installing))
		}
	}
	slices.Sort(those)
	if said := what + strings.Join(those, " and "); len(those) > 1 && said != c.last {
		c.last = said
		c.say(said)
	}
}

func (c *Checker) mayBegin(at time.Time, m Machine) {
	since, sick := c.sick[m.Name]
	if until, well := c.well[m.Name]; !sick && well && at.Sub(until) > c.times.Slack {
		c.say(fmt.Sprintf("rule 3: %s is begun for %s, which is Ready", m.Repair, m.Name))
		return
	}
	if sick && at.Sub(since) < c.times.UnhealthyAfter-c.times.Slack {
		c.say(fmt.Sprintf("rule 3: %s is begun for %s, which is sick since %s only", m.Repair, m.Name, at.Sub(since)))
	}
}

func (c *Checker) noStorm(at time.Time, m Machine, begins bool) {
	what := "done"
	if begins {
		what = "begun"
	}
	if !c.storm.IsZero() && at.Sub(c.storm) > c.times.Slack {
		c.say(fmt.Sprintf("rule 4: %s is %s for %s in a storm that lasts %s: %v", m.Repair, what, m.Name, at.Sub(c.storm), c.sickNames()))
	}
	if begins && c.storm.IsZero() && !c.calm.IsZero() && at.Sub(c.calm) < c.times.CoolDown-c.times.Slack {
		c.say(fmt.Sprintf("rule 4: %s is begun for %s %s after a storm", m.Repair, m.Name, at.Sub(c.calm)))
	}
}

// Ready takes which members are Ready, at one moment. Those that are being installed
// are neither well nor sick.
func (c *Checker) Ready(at time.Time, ready map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range slices.Concat(c.fleet.Servers, c.fleet.Workers) {
		if ready[name] {
			delete(c.sick, name)
			if c.well[name].IsZero() {
				c.well[name] = at
			}
			continue
		}
		delete(c.well, name)
		if c.sick[name].IsZero() {
			c.sick[name] = at
		}
	}
	switch storms := len(c.sickNames()) > c.fleet.Tolerated(); {
	case storms && c.storm.IsZero():
		c.storm = at
	case !storms && !c.storm.IsZero():
		if at.Sub(c.storm) > c.times.Slack {
			c.calm = at
		}
		c.storm = time.Time{}
	}
}

// sickNames are those that are sick and not being installed.
func (c *Checker) sickNames() []string {
	var all []string
	for name := range c.sick {
		if m := c.shown[name]; !m.Installing {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

// Befell takes that a server is harmed by a fault, and Recovered that it is no more.
func (c *Checker) Befell(at time.Time, server string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down[server].IsZero() && slices.Contains(c.fleet.Servers, server) {
		c.down[server] = at
	}
}

// Recovered takes that a server is in order again.
func (c *Checker) Recovered(server string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.down, server)
}

// Harmed takes that our own hand harms a machine: turns it off, takes it out of etcd,
// wipes it. voters are the members of etcd that vote, by their machines, before.
//
// Of those the others that no fault befell must be a quorum. A fault that nobody can
// have seen yet does not count.
func (c *Checker) Harmed(at time.Time, machine, how string, voters []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Contains(voters, machine) {
		return
	}
	var left []string
	for _, v := range voters {
		if since, down := c.down[v]; v != machine && (!down || at.Sub(since) < c.times.Unseen) {
			left = append(left, v)
		}
	}
	if need := len(voters)/2 + 1; len(left) < need {
		c.say(fmt.Sprintf("quorum: %s %s, of the voters %v only %v are in order, and %d are needed", machine, how, voters, left, need))
	}
}

// Ordered takes that a machine's board was told to turn it off.
func (c *Checker) Ordered(at time.Time, machine string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.orders = append(c.orders, order{machine, at})
	for _, m := range c.shown {
		if m.Name != machine && m.touched() {
			c.say(fmt.Sprintf("one at a time: %s is turned off while %s is touched", machine, m.Name))
		}
	}
}

// Settle holds what can be judged only afterwards against each other: whoever was
// turned off was so in a step that was written down, or under a claim.
func (c *Checker) Settle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range c.orders {
		if !slices.ContainsFunc(c.cycles, func(s cycle) bool {
			return s.machine == o.machine && !o.at.Before(s.from.Add(-c.times.Slack)) && (s.to.IsZero() || !o.at.After(s.to.Add(c.times.Slack)))
		}) {
			c.say(fmt.Sprintf("%s was turned off, and neither such a step nor a claim was written down for it", o.machine))
		}
	}
	c.orders = nil
}

// Availability judges whether etcd answers while it must: while no more servers are
// harmed than leave a quorum.
type Availability struct {
	// Patience is how long etcd may be silent, for the election of a leader above all.
	Patience time.Duration

	silent time.Time
}

// Asked takes whether etcd answered, and whether it had to. It returns what is wrong.
func (a *Availability) Asked(at time.Time, answered, due bool) string {
	if answered || !due {
		a.silent = time.Time{}
		return ""
	}
	if a.silent.IsZero() {
		a.silent = at
	}
	if lasts := at.Sub(a.silent); lasts > a.Patience {
		a.silent = at // say it again only after as long
		return fmt.Sprintf("quorum: etcd answers nobody since %s, though most of its servers are in order", lasts)
	}
	return ""
}
