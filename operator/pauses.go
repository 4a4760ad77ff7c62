package operator

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/rhizome-dev/rhizome/operator/boot"
	"github.com/rhizome-dev/rhizome/operator/healing"
	"github.com/rhizome-dev/rhizome/operator/node"
)

// Pauses are the times that the operator lets pass between what it does. They fit
// members of every kind; whoever has fast ones may shorten them. A zero value is
// completed by flags or, in Run, by the defaults.
type Pauses struct {
	// Lease is how long the leader may be silent until another replica leads.
	Lease time.Duration
	// HealingInterval is how often members are looked at while one is sick.
	HealingInterval time.Duration
	// HealingSettle lies between the writing of a repair's intent and its doing: longer
	// than a write takes to be seen by all.
	HealingSettle time.Duration
	// HealingBackOff is the pause after the first step of a member's repair; it doubles.
	HealingBackOff time.Duration
	// ReachInterval is how often PXE pods try to reach members that are not Ready. What
	// they found counts twelve times as long.
	ReachInterval time.Duration
	// SilentPatience is how long the kubelet of a member that is not Ready may take to
	// keep k3s from starting again, before the member is taken out without.
	SilentPatience time.Duration
	// EtcdSettle is how long a server's core Node stays after its member left etcd.
	EtcdSettle time.Duration
}

// defaultLease is twice the usual: the API server of one small machine may take
// many seconds to answer while it starts pods.
const defaultLease = 30 * time.Second

// reachLives is how many intervals a finding of a PXE pod counts.
const reachLives = 12

type pause struct {
	flag      string
	is        *time.Duration
	otherwise time.Duration
	usage     string
}

func (p *Pauses) all() []pause {
	return []pause{
		{"lease", &p.Lease, defaultLease, "how long the leader may be silent until another replica leads"},
		{"healing-interval", &p.HealingInterval, healing.DefaultInterval, "how often members are looked at while one is sick"},
		{"healing-settle", &p.HealingSettle, healing.DefaultSettle, "how long a repair is written down before it is done"},
		{"healing-back-off", &p.HealingBackOff, healing.DefaultBackOff, "pause after the first step of a member's repair within a day; it doubles with every further one"},
		{"reach-interval", &p.ReachInterval, boot.DefaultReachInterval, "how often PXE pods try to reach members that are not Ready; what they found counts twelve times as long"},
		{"silent-patience", &p.SilentPatience, node.DefaultSilentPatience, "how long the kubelet of a member that is not Ready may take to keep k3s from starting again, before it is taken out without"},
		{"etcd-settle", &p.EtcdSettle, node.DefaultEtcdSettle, "how long a server's core Node stays after its member has left etcd"},
	}
}

// add gives a command the flags.
func (p *Pauses) add(f *pflag.FlagSet) {
	for _, one := range p.all() {
		f.DurationVar(one.is, one.flag, one.otherwise, one.usage)
	}
}

// leastPause is what the record of times, which knows seconds, can tell apart.
const leastPause = time.Second

// complete fills the defaults in, and says what is wrong.
func (p *Pauses) complete() error {
	for _, one := range p.all() {
		if *one.is == 0 {
			*one.is = one.otherwise
		}
		if *one.is < leastPause {
			return fmt.Errorf("--%s is %s: set %s or more", one.flag, *one.is, leastPause)
		}
	}
	return nil
}
