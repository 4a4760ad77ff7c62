//go:build linux

package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/test/chaos"
	"github.com/rhizome-dev/rhizome/test/machine"
)

// play is a schedule that goes on. It is led by one goroutine.
type play struct {
	*chaosWorld
	schedule chaos.Schedule
	begin    time.Time
	faults   int // that have befallen
	crashes  int
	// visited: the person has come.
	visited bool
	whole   time.Time // since when everything is in order; zero: it is not
	said    map[string]bool
	words   string
	cleared time.Time
}

// How long a schedule may take, and how long all must be in order at its end.
const (
	playPatience = 8 * time.Minute
	wholeFor     = 2 * time.Second
)

// step does what is due, and says whether the play goes on.
func (p *play) step() bool {
	now := time.Since(p.begin)
	for ; p.faults < len(p.schedule.Faults) && now >= p.schedule.Faults[p.faults].At; p.faults++ {
		p.befall(p.schedule.Faults[p.faults])
	}
	for ; p.crashes < len(p.schedule.Interruptions) && now >= p.schedule.Interruptions[p.crashes].At; p.crashes++ {
		p.crash(p.schedule.Interruptions[p.crashes].Whom)
	}
	p.goOn()
	if now >= p.schedule.Person && p.faults == len(p.schedule.Faults) {
		p.visit()
	}
	if p.faults < len(p.schedule.Faults) || p.crashes < len(p.schedule.Interruptions) {
		return true
	}
	lack := p.lacking()
	switch {
	case len(lack) > 0:
		p.whole = time.Time{}
		if said := strings.Join(lack, "; "); said != p.words {
			p.words = said
			p.logf("test: it lacks: %s", said)
		}
	case p.whole.IsZero():
		p.whole = time.Now()
	case time.Since(p.whole) > wholeFor:
		return false
	}
	if now > playPatience {
		p.t.Errorf("after %s there is still something wrong:\n  %s", playPatience, strings.Join(lack, "\n  "))
		return false
	}
	return true
}

// befall has a fault befall its victim, unless another one has.
func (p *play) befall(f chaos.Fault) {
	name := p.resolve(f.Victim)
	p.mu.Lock()
	if name == "" || p.harms[name] != nil {
		p.mu.Unlock()
		p.logf("test: %s befalls nobody", f)
		return
	}
	m := p.machines[name]
	h := &harm{Fault: f, at: time.Now(), boots: m.Boots(), blank: f.Kind == chaos.Wipe}
	if _, core := p.observer.seen(name); core != nil {
		h.boot = core.Status.NodeInfo.BootID
	}
	p.harms[name] = h
	p.mu.Unlock()
	p.logf("test: %s (%s)", f, name)
	if f.Kind != chaos.Skew {
		p.checker.Befell(h.at, name)
	}
	address := m.Address.Addr()
	switch f.Kind {
	case chaos.Kill, chaos.Wipe:
		p.ways.close(address)
		m.Cut()
	case chaos.Hang:
		p.ways.close(address)
		if err := m.Hang(); err != nil {
			p.t.Error(err)
		}
	case chaos.Stall:
		m.Stall()
	case chaos.Ail:
		m.Ail("the test has the kubelet say so")
	case chaos.Cut:
		p.ways.close(address)
		p.cut(name, true)
	case chaos.Skew:
		m.Skew(f.By)
	case chaos.Forget:
		p.insist("delete the core Node of "+name, func(ctx context.Context) error {
			return client.IgnoreNotFound(p.kube.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{}))
		})
	}
}

// resolve is the machine that has a part, or the machine of that name; empty: it
// cannot be told now.
func (p *play) resolve(victim string) string {
	ctx, cancel := context.WithTimeout(p.t.Context(), 10*time.Second)
	defer cancel()
	switch victim {
	case chaos.TheOperators:
		_, node, err := p.leader(ctx)
		if err != nil {
			p.logf("test: who leads: %v", err)
		}
		return node
	case chaos.TheEtcdLeader:
		_, leader := p.observer.etcd()
		return leader
	case chaos.TheServingPXE:
		pods, err := p.kube.CoreV1().Pods(names.DefaultPXENamespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=pxe"})
		if err != nil || len(pods.Items) == 0 {
			return ""
		}
		return pods.Items[0].Spec.NodeName
	}
	return victim
}

// leader is the operator's pod that has the lease, and the member that it runs on.
func (w *chaosWorld) leader(ctx context.Context) (pod, node string, err error) {
	lease, err := w.kube.CoordinationV1().Leases(names.SystemNamespace).Get(ctx, names.LeaseName, metav1.GetOptions{})
	if err != nil {
		return "", "", err
	}
	if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
		return "", "", errors.New("nobody leads")
	}
	pods, err := w.kube.CoreV1().Pods(names.SystemNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", "", err
	}
	for _, one := range pods.Items {
		if strings.HasPrefix(*lease.Spec.HolderIdentity, one.Name+"_") {
			return one.Name, one.Spec.NodeName, nil
		}
	}
	return "", "", fmt.Errorf("the leader is %s, which is no pod", *lease.Spec.HolderIdentity)
}

func (p *play) crash(whom string) {
	namespace := names.SystemNamespace
	if whom == chaos.ThePXEPods {
		namespace = names.DefaultPXENamespace
	}
	p.logf("test: %s crashes: %d", whom, p.kill(namespace))
}

// goOn ends faults that end by themselves, does what waited until a machine was off,
// and sees who is in order again.
func (p *play) goOn() {
	for name, h := range p.harms {
		m := p.machines[name]
		switch {
		case h.blank:
			if err := m.Blank(); err == nil {
				h.blank = false
			} else if !errors.Is(err, machine.ErrOn) {
				p.t.Error(err)
			}
		case h.press && !m.On():
			h.press = false
			m.PressPower()
		case h.press && m.Boots() != h.boots:
			h.press = false // somebody else turned it on before
		}
		if h.lease {
			ctx, cancel := context.WithTimeout(p.t.Context(), 5*time.Second)
			err := p.kube.CoordinationV1().Leases(corev1.NamespaceNodeLease).Delete(ctx, name, metav1.DeleteOptions{})
			cancel()
			h.lease = client.IgnoreNotFound(err) != nil
		}
		if h.Lasts > 0 && h.ended.IsZero() && time.Since(h.at) > h.Lasts {
			p.end(name, h)
		}
		if !h.over && p.isInOrder(name, h) {
			p.mu.Lock()
			h.over = true
			p.mu.Unlock()
			p.logf("test: %s is in order again, after %s", name, time.Since(h.at).Round(time.Second))
			p.checker.Recovered(name)
			p.ways.reopen(m.Address.Addr())
		}
	}
}

// end is the end of a fault that nothing of ours can end: the cable is put back, the
// clock is set. A Lease from the future would keep the kubelet's further ones from
// counting: whoever sets a clock deletes it.
func (p *play) end(name string, h *harm) {
	h.ended = time.Now()
	switch h.Kind {
	case chaos.Cut:
		p.cut(name, false)
	case chaos.Skew:
		p.machines[name].Skew(0)
		h.lease = true
	}
}

// isInOrder says whether a machine that was harmed is a member as before.
func (p *play) isInOrder(name string, h *harm) bool {
	m := p.machines[name]
	if !m.On() || m.Hangs() || h.blank || h.press || h.lease {
		return false
	}
	n, core := p.observer.seen(name)
	// What is shown may be of before the fault: the API server may have been away.
	switch h.Kind {
	case chaos.Cut, chaos.Skew:
		if h.ended.IsZero() || time.Since(h.ended) < notReadyAfter {
			return false
		}
	default:
		if m.Boots() == h.boots || core != nil && core.Status.NodeInfo.BootID == h.boot {
			return false
		}
	}
	return n != nil && core != nil && isReady(core) && (!p.isServer(name) || condition(core, "EtcdIsVoter")) &&
		time.Since(h.at) > notReadyAfter+unhealthyAfter
}

// repairable are the machines that the cluster is to mend without a person: of all
// that were harmed those whose fault permits it or, where there are too many, as many
// as may be sick at once when the person is gone.
func (p *play) repairable() []string {
	var all, can []string
	for name, h := range p.harms {
		all = append(all, name)
		if chaos.Repairable(h.Fault, p.boards[name]) {
			can = append(can, name)
		}
	}
	slices.Sort(all)
	slices.Sort(can)
	if !p.fleet.Stops(all) {
		return can
	}
	can = slices.DeleteFunc(can, p.isServer)
	return can[:min(len(can), 2)]
}

// visit is a person, who mends what the cluster is not to mend, once, and afterwards
// clears what was given up.
func (p *play) visit() {
	can := p.repairable()
	for name, h := range p.harms {
		m := p.machines[name]
		if slices.Contains(can, name) || p.visited || h.over {
			continue
		}
		p.logf("test: a person mends %s", name)
		switch h.Kind {
		case chaos.Cut, chaos.Skew:
			if h.ended.IsZero() {
				p.end(name, h)
			}
		case chaos.Hang, chaos.Stall, chaos.Ail, chaos.Forget:
			// It may have been restarted meanwhile, with its core Node not Ready yet.
			if m.Hangs() || m.Boots() == h.boots {
				m.Cut()
			}
			h.press = true
		default:
			h.press = true
		}
	}
	p.visited = true
	if time.Since(p.cleared) < 5*time.Second {
		return
	}
	for _, name := range p.names("") {
		n, _ := p.observer.seen(name)
		if n == nil || !isGivenUp(n) && (!rests(n) || slices.Contains(can, name)) {
			continue
		}
		if slices.Contains(can, name) {
			if !p.said[name] {
				p.said[name] = true
				p.t.Errorf("%s was given up, and can be repaired: %s", name, phase(n))
			}
			continue
		}
		p.cleared = time.Now()
		p.logf("test: a person clears %s", name)
		p.annotate(name, v1alpha1.AnnotationRetry, time.Now().Format("150405.000"))
	}
}

func isGivenUp(n *v1alpha1.Node) bool {
	r := n.Status.Repair
	return r != nil && r.Quarantined != nil || n.Status.Phase == v1alpha1.PhaseFailed
}

// rests says whether the next attempt of an installation waits, because the machine
// did not come to the last one. A person who has mended it asks for it at once.
func rests(n *v1alpha1.Node) bool {
	c := meta.FindStatusCondition(n.Status.Conditions, v1alpha1.ConditionAdmitted)
	return c != nil && c.Status == metav1.ConditionFalse && c.Reason == v1alpha1.ReasonBackOff
}

// lacking says what is not as it was before the schedule began.
func (p *play) lacking() (lack []string) {
	ctx, cancel := context.WithTimeout(p.t.Context(), 10*time.Second)
	defer cancel()
	nodes, err := p.nodes(ctx)
	if err != nil {
		return []string{err.Error()}
	}
	cores, err := p.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return []string{err.Error()}
	}
	for name, h := range p.harms {
		if !h.over {
			lack = append(lack, fmt.Sprintf("%s (%s) is not in order", name, h.Kind))
		}
	}
	have := map[string]*corev1.Node{}
	for i := range cores.Items {
		have[cores.Items[i].Name] = &cores.Items[i]
	}
	for _, name := range p.names("") {
		n, core := nodes[name], have[name]
		switch {
		case n == nil || core == nil:
			lack = append(lack, fmt.Sprintf("%s is no member (%s)", name, phase(n)))
		case !isReady(core) || p.isServer(name) && !condition(core, "EtcdIsVoter"):
			lack = append(lack, name+" is not Ready, or does not vote")
		case n.Status.Phase != v1alpha1.PhaseReady || n.Status.Claim != nil && n.Status.Claim.State != "Exchanged" && n.Status.Claim.State != "Expired" && n.Status.Claim.State != "Failed":
			lack = append(lack, fmt.Sprintf("%s says %s", name, phase(n)))
		case n.Status.Repair != nil && (n.Status.Repair.Action != "" || n.Status.Repair.Quarantined != nil):
			lack = append(lack, name+" is being repaired, or given up")
		case core.Spec.Unschedulable || len(core.Spec.Taints) > 0:
			lack = append(lack, fmt.Sprintf("%s is cordoned or tainted: %v", name, core.Spec.Taints))
		}
	}
	if voters, _ := p.observer.etcd(); len(voters) != len(p.fleet.Servers) {
		lack = append(lack, fmt.Sprintf("the voters of etcd are %v", voters))
	}
	if _, err := p.kube.CoordinationV1().Leases(names.SystemNamespace).Get(ctx, names.LeaseName, metav1.GetOptions{}); apierrors.IsNotFound(err) {
		lack = append(lack, "nobody has the operator's lease")
	}
	slices.Sort(lack)
	return lack
}
