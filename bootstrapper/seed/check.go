package seed

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/rhizome-dev/rhizome/bootstrapper/host"
	"github.com/rhizome-dev/rhizome/bootstrapper/progress"
	"github.com/rhizome-dev/rhizome/chart"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/manifests"
	"github.com/rhizome-dev/rhizome/pxe/server"
)

// check reads the manifests, takes the state and looks at the machine that this
// runs on. Nothing is started before everything that can be known is right.
func (f *flow) check(ctx context.Context, p *progress.Phase) (string, error) {
	inv, findings, err := manifests.ReadDir(f.Dir)
	if err != nil {
		return "", err
	}
	if err := f.report(p, findings, fmt.Sprintf("mend the manifests; bootstrapper check %s shows the same list", f.Dir)); err != nil {
		return "", err
	}
	f.inv = inv
	if f.cluster, err = f.inv.Cluster(); err != nil {
		return "", withFix(err, "bootstrapper init DIR writes an example to start from")
	}
	if f.operatorChart, err = chart.Load(); err != nil {
		return "", err
	}
	if f.values, err = readValues(f.Values, f.operatorChart); err != nil {
		return "", err
	}
	if err := f.openState(p); err != nil {
		return "", err
	}
	if err := f.checkKubeconfig(); err != nil {
		return "", err
	}
	// Both take seconds, so they are done side by side.
	observing, cancel := context.WithCancel(ctx)
	defer cancel()
	observed := f.observeHost(observing)
	// A cluster that lives needs nothing of this machine but a way to its API.
	if plan, err := judge(f.look(ctx), f.machineClaim(), f.finished); err == nil && plan == goOnLiving {
		f.plan = goOnLiving
		return fmt.Sprintf("%s; the cluster answers", f.counts()), nil
	}
	if err := f.judgeHost(p, <-observed); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, first node %s, by %s (%s)", f.counts(), f.first.Name, f.link.Interface.Name, f.link.Address), nil
}

// report shows findings and fails if one is an error.
func (f *flow) report(p *progress.Phase, findings []inventory.Finding, fix string) error {
	errors := 0
	for _, finding := range findings {
		if finding.Severity == inventory.Error {
			errors++
			p.Warn("error: %s", finding)
			continue
		}
		p.Warn("%s", finding)
	}
	if errors > 0 {
		return withFix(fmt.Errorf("%d of %d findings are errors", errors, len(findings)), "%s", fix)
	}
	return nil
}

func (f *flow) counts() string {
	return fmt.Sprintf("Cluster %s, %s, %s", f.cluster.Name, counted(len(f.inv.Nodes), "node"), counted(len(f.inv.OperatingSystems), "operating system"))
}

// counted is a number of things: "1 node", "2 nodes".
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// observation is what was found out about this machine.
type observation struct {
	question host.Question
	facts    host.Facts
	err      error
}

// observeHost begins to look at this machine.
func (f *flow) observeHost(ctx context.Context) <-chan observation {
	if f.HTTPPort == 0 {
		f.HTTPPort = server.DefaultHTTPPort
	}
	if f.HTTPSPort == 0 {
		f.HTTPSPort = server.DefaultHTTPSPort
	}
	o := observation{question: host.Question{Inventory: f.inv, Interface: f.Interface, HTTPPort: f.HTTPPort, HTTPSPort: f.HTTPSPort}}
	observed := make(chan observation, 1)
	go func() {
		o.facts, o.err = host.Observe(ctx, o.question)
		observed <- o
	}()
	return observed
}

// judgeHost judges this machine and chooses the interface.
func (f *flow) judgeHost(p *progress.Phase, o observation) error {
	if o.err != nil {
		return o.err
	}
	if err := f.report(p, host.Judge(o.question, o.facts), "do what the findings say, then "+goOn); err != nil {
		return err
	}
	cidr, err := netip.ParsePrefix(string(f.cluster.Spec.Network.CIDR))
	if err != nil {
		return fmt.Errorf("cannot read spec.network.cidr of Cluster/%s: %w", f.cluster.Name, err)
	}
	f.link, err = host.Choose(o.facts.Interfaces, cidr, f.Interface)
	return err
}

// look finds out what answers where the cluster would.
func (f *flow) look(ctx context.Context) []sighting {
	return look(ctx, endpoints(f.inv), f.secrets.Founding.Authorities.Server.Certificate)
}

// found decides whether a cluster is founded, or ours is gone on with.
func (f *flow) found(ctx context.Context, p *progress.Phase) (string, error) {
	var sightings []sighting
	var verdict plan
	// A server of ours that starts may drop a connection: what is unclear is looked
	// at again before it counts.
	err := retry(ctx, 5, func() (err error) {
		sightings = f.look(ctx)
		verdict, err = judge(sightings, f.machineClaim(), f.finished)
		if err != nil && !anyUnclear(sightings) {
			return final{err}
		}
		return err
	})
	if err != nil {
		return "", err
	}
	f.plan, f.sighted = verdict, sightings
	switch verdict {
	case goOnLiving:
		return "our own cluster answers: " + describe(sightings), nil
	case finish:
		return fmt.Sprintf("%s was being installed (its claim is %s): going on", f.first.Name, f.machineState()), nil
	}
	return describe(sightings) + ": a new cluster is founded", nil
}

func anyUnclear(sightings []sighting) bool {
	for _, s := range sightings {
		if s.answer == unclear {
			return true
		}
	}
	return false
}
