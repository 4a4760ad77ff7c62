package seed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rhizome-dev/rhizome/bootstrapper/install"
	"github.com/rhizome-dev/rhizome/bootstrapper/progress"
	"github.com/rhizome-dev/rhizome/internal/provision"
)

// sessionLife is how long the credentials that a run itself uses last.
const sessionLife = 24 * time.Hour

// connect makes the client that this run speaks to the cluster with.
func (f *flow) connect() error {
	server := fmt.Sprintf("https://%s:%d", f.speaker(), apiPort)
	kubeconfig, err := f.secrets.Kubeconfig(f.cluster.Name, server, "rhizome-bootstrapper", f.Now(), sessionLife)
	if err != nil {
		return err
	}
	f.client, err = install.NewClient(kubeconfig)
	return err
}

// speaker is the address at which the cluster is spoken to: the first node's own,
// since the virtual IP may come later, or, when only others of a living cluster
// answer, one of theirs.
func (f *flow) speaker() string {
	own := string(f.first.Spec.Address)
	other := ""
	for _, s := range f.sighted {
		switch {
		case s.answer != ours:
		case s.address.String() == own:
			return own
		case other == "":
			other = s.address.String()
		}
	}
	if other != "" {
		return other
	}
	return own
}

// join waits until the API answers with our authority and the first node is
// Ready. Of a cluster that was finished before, the first node is a member like the
// others: its health is the operator's to see to.
func (f *flow) join(ctx context.Context, p *progress.Phase) (string, error) {
	if err := f.connect(); err != nil {
		return "", err
	}
	finished := f.plan == goOnLiving && !f.finished.IsZero()
	began := f.Now()
	var asked time.Time
	var said string
	ready := func() (bool, error) {
		if f.Now().Sub(asked) < time.Second {
			return false, nil
		}
		asked = f.Now()
		call, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		why, err := f.client.NodeReady(call, f.first.Name)
		if err != nil {
			// Nobody answers yet, or the API server is starting: that is no news
			// before the machine has its credentials.
			f.Logger.Debug("join", "error", err)
			if f.plan != goOnLiving && f.machineState() != provision.StateExchanged {
				return false, nil
			}
			why = "the API server does not answer yet"
		}
		if why != "" && why != said {
			said = why
			p.Note("%s", why)
		}
		return err == nil && (why == "" || finished), nil
	}
	if f.service != nil {
		err := f.await(ctx, p, phaseJoin, ready)
		return f.joined(), lastSaid(err, said)
	}
	for {
		ok, err := ready()
		if err != nil || ok {
			if finished && said != "" {
				return "the cluster answers", err
			}
			return f.joined(), err
		}
		if message := said; message != "" && f.Now().Sub(began) > stallAfter {
			began = f.Now()
			p.Stalled("%s; look at the machine's console (journalctl -u k3s)", message)
		}
		select {
		case <-ctx.Done():
			return "", lastSaid(ctx.Err(), said)
		case <-time.After(awaitEvery):
		}
	}
}

func (f *flow) joined() string {
	return fmt.Sprintf("%s is Ready", f.first.Name)
}

// lastSaid adds what was last known to the end of a wait.
func lastSaid(err error, said string) error {
	if err == nil || said == "" {
		return err
	}
	var fix fixable
	if errors.As(err, &fix) {
		return fixable{fmt.Errorf("%w; %s", fix.error, said), fix.fix}
	}
	return withFix(fmt.Errorf("%w; %s", err, said), "look at the machine's console (journalctl -u k3s), then %s", goOn)
}

// again says that something is tried again, and why.
func again(p *progress.Phase) func(string) {
	return func(why string) { p.Note("trying again: %s", why) }
}

// chart puts the definitions and the operator into the cluster.
func (f *flow) chart(ctx context.Context, p *progress.Phase) (string, error) {
	var handed install.Applied
	err := patiently(ctx, again(p), func() (err error) {
		handed, err = f.client.Founding(ctx, f.secrets.Founding)
		return err
	})
	var other *install.OtherFoundingError
	switch {
	case errors.As(err, &other):
		return "", withFix(err, "if the cluster was founded from this state directory (%s), delete the Secret and %s: it is made anew", f.state.Path(), goOn)
	case err != nil:
		return "", err
	case handed.Created > 0:
		p.Note("handed the cluster's tokens over to the operator, which adds members from now on")
	}
	if err := patiently(ctx, again(p), func() error { return f.release(ctx, p) }); err != nil {
		return "", err
	}
	if err := f.client.Available(ctx, func(why string) { p.Note("%s", why) }); err != nil {
		return "", withFix(err, "kubectl --kubeconfig %s -n %s get pods, describe and logs say more; then %s", f.kubeconfigPath(), install.Namespace, goOn)
	}
	return "the operator runs", nil
}

// release brings the definitions and the chart's release up to date, unless the cluster
// has newer ones.
func (f *flow) release(ctx context.Context, p *progress.Phase) error {
	theirs, err := f.client.NewerChart(f.operatorChart, f.Logger)
	if err != nil {
		return err
	}
	if theirs != "" {
		p.Note("the cluster has the newer chart %s: it is left alone", theirs)
		return nil
	}
	definitions, err := f.client.Definitions(ctx)
	if err != nil {
		return conflictFix(err)
	}
	p.Note("definitions: %s", definitions)
	release, err := f.client.Chart(ctx, f.operatorChart, f.chartValues(), f.Logger)
	if err != nil {
		return err
	}
	p.Note("release %s: %s (chart %s, revision %d)", install.Release, release.Outcome, release.Version, release.Revision)
	return nil
}

// manifests applies what was declared and waits until the operator is content.
func (f *flow) manifests(ctx context.Context, p *progress.Phase) (string, error) {
	var applied install.Applied
	err := patiently(ctx, again(p), func() (err error) {
		applied, err = f.client.Manifests(ctx, f.inv)
		return err
	})
	if err != nil {
		return "", conflictFix(err)
	}
	p.Note("%s", applied)
	waiting, err := f.client.ClusterReady(ctx, f.cluster.Name, func(why string) { p.Note("%s", why) })
	if err != nil {
		return "", withFix(err, "kubectl --kubeconfig %s describe cluster.rhizome.dev %s says more; then %s", f.kubeconfigPath(), f.cluster.Name, goOn)
	}
	if waiting != "" {
		return fmt.Sprintf("%s; Cluster %s goes on by itself: %s", applied, f.cluster.Name, waiting), nil
	}
	return fmt.Sprintf("%s; Cluster %s is Ready", applied, f.cluster.Name), nil
}

func conflictFix(err error) error {
	var conflict *install.ConflictError
	if errors.As(err, &conflict) {
		return withFix(err, "the cluster has another source by now: change it there, or bring the manifests in line with it")
	}
	return err
}

// done ends the PXE service and says what there is.
func (f *flow) done(ctx context.Context, p *progress.Phase) (string, error) {
	if f.service != nil {
		f.service.stop()
		p.Note("the PXE service is closed")
	}
	intent, _, err := f.state.Intent()
	if err != nil {
		return "", err
	}
	if intent.Finished.IsZero() {
		intent.Finished = f.Now()
		if err := f.state.SetIntent(intent); err != nil {
			return "", err
		}
	}
	var members []install.Member
	err = patiently(ctx, again(p), func() (err error) {
		members, err = f.client.Members(ctx)
		return err
	})
	if err != nil {
		return "", err
	}
	f.summary = nil
	for _, m := range members {
		ready := "Ready"
		if !m.Ready {
			ready = "not Ready"
		}
		f.summary = append(f.summary, fmt.Sprintf("node %s %s %s %s", m.Name, m.Address, ready, m.Version))
	}
	f.summary = append(f.summary,
		"kubeconfig: "+f.kubeconfigPath(),
		"endpoint: "+provision.Endpoint(f.cluster, f.first),
		"next: kubectl --kubeconfig "+f.kubeconfigPath()+" get clusters.rhizome.dev,rnodes")
	return fmt.Sprintf("cluster %s has %s", f.cluster.Name, counted(len(members), "node")), nil
}
