package boot

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// Members that are not Ready are tried to be reached from here: whoever heals them
// acts only when a peer cannot reach them either, and this pod stands in their
// network on another member.

// kubeletPort is where kubelets listen.
const kubeletPort = 10250

// DefaultReachInterval is how often is tried. An answer that stays the same is
// written with every fourth try.
const (
	DefaultReachInterval = 15 * time.Second
	triesBetweenAnswers  = 4
)

// How long an answer may take, and how many members are tried at once and in all:
// where more are not Ready, it is not the members that are sick.
const (
	tryPatience = 3 * time.Second
	triesAtOnce = 16
	mostTried   = 64
)

// silentMembers are the members that are to be tried from a node: those that were
// Ready, and are not.
func silentMembers(s *snapshot, from string) []*v1alpha1.Node {
	var all []*v1alpha1.Node
	if s == nil {
		return nil
	}
	for i := range s.inventory.Nodes {
		n := &s.inventory.Nodes[i]
		if n.Name != from && n.Status.NodeRef != nil && !isReadyMember(n) && len(all) < mostTried {
			all = append(all, n)
		}
	}
	return all
}

// prober tries to reach members and writes down what it finds.
type prober struct {
	declared *declared
	reader   client.Reader
	live     client.Client
	logger   *slog.Logger
	metrics  *metrics
	now      func() time.Time
	node     string // that this pod runs on
	every    time.Duration
	try      func(context.Context, netip.AddrPort) (v1alpha1.ReachAnswer, string)
}

// run tries until ctx ends.
func (p *prober) run(ctx context.Context) error {
	for {
		p.round(ctx)
		timer := time.NewTimer(p.every)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// round tries each of them once, and takes the answers on those that are Ready
// again away.
func (p *prober) round(ctx context.Context) {
	s := p.declared.current.Load()
	slots := make(chan struct{}, triesAtOnce)
	var running sync.WaitGroup
	tried := map[string]bool{}
	for _, n := range silentMembers(s, p.node) {
		tried[n.Name] = true
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			address, err := netip.ParseAddr(string(n.Spec.Address))
			if err != nil {
				return
			}
			answer, message := p.try(ctx, netip.AddrPortFrom(address, kubeletPort))
			p.write(ctx, n.Name, &v1alpha1.Reach{
				From: p.node, At: metav1.NewTime(p.now()).Rfc3339Copy(), Answer: answer, Message: clip(message, 200),
			})
		})
	}
	running.Wait()
	if s == nil {
		return
	}
	for i := range s.inventory.Nodes {
		n := &s.inventory.Nodes[i]
		if !tried[n.Name] && slices.ContainsFunc(n.Status.Reach, func(r v1alpha1.Reach) bool { return r.From == p.node }) {
			p.write(ctx, n.Name, nil)
		}
	}
}

// write puts this pod's answer in the place of its last one; nil takes that away.
func (p *prober) write(ctx context.Context, node string, answer *v1alpha1.Reach) {
	err := merged(ctx, p.reader, p.live, client.ObjectKey{Name: node}, func(n *v1alpha1.Node) bool {
		next, changed := reached(n.Status.Reach, p.node, answer, triesBetweenAnswers*p.every)
		if n.Status.Reach = next; changed {
			p.metrics.writes.WithLabelValues("reach", "written").Inc()
		}
		return changed
	})
	if err != nil && ctx.Err() == nil {
		p.metrics.writes.WithLabelValues("reach", "failed").Inc()
		p.logger.Warn("cannot write whether a member is reached", "node", node, "error", err)
	}
}

// maxReach is the bound of Node.status.reach.
const maxReach = 16

// reached are the answers with ours in its place; one that stays the same is
// written anew only after a while. The oldest goes when there is no room.
func reached(current []v1alpha1.Reach, from string, mine *v1alpha1.Reach, again time.Duration) (next []v1alpha1.Reach, changed bool) {
	at := slices.IndexFunc(current, func(r v1alpha1.Reach) bool { return r.From == from })
	if mine == nil {
		if at < 0 {
			return current, false
		}
		return slices.Delete(slices.Clone(current), at, at+1), true
	}
	next = slices.Clone(current)
	switch {
	case at >= 0:
		if current[at].Answer == mine.Answer && mine.At.Sub(current[at].At.Time) < again {
			return current, false
		}
		next[at] = *mine
	case len(current) >= maxReach:
		oldest := 0
		for i := range next {
			if next[i].At.Before(&next[oldest].At) {
				oldest = i
			}
		}
		next[oldest] = *mine
	default:
		next = append(next, *mine)
	}
	return next, true
}

// tryKubelet asks a kubelet for a TLS handshake: a stopped process still accepts
// connections, by its kernel's grace, and says nothing. Nothing is sent to whoever
// answers, so that it does not matter who it is.
func tryKubelet(ctx context.Context, address netip.AddrPort) (v1alpha1.ReachAnswer, string) {
	ctx, cancel := context.WithTimeout(ctx, tryPatience)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "tcp", address.String())
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return v1alpha1.AnswerMachine, "the machine answers, and no kubelet listens on port " + strconv.Itoa(int(address.Port()))
	case err != nil:
		return v1alpha1.AnswerNothing, err.Error()
	}
	defer c.Close()
	t := tls.Client(c, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // see above: no identity is relied on
	err = t.HandshakeContext(ctx)
	// A refusal, or something that is no TLS, is an answer too: a process is at work.
	var refusal *net.OpError
	var babble tls.RecordHeaderError
	if err == nil || errors.As(err, &refusal) && refusal.Op == "remote error" || errors.As(err, &babble) {
		return v1alpha1.AnswerKubelet, "a kubelet answers"
	}
	return v1alpha1.AnswerMachine, "the machine answers, and its kubelet does not: " + err.Error()
}
