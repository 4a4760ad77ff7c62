//go:build linux

package fleet

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/test/lab"
)

// await waits until missing returns nothing. On a time-out it prints what is
// missing and everything that says why.
func (w *world) await(what string, patience time.Duration, missing func(context.Context) []string) {
	w.t.Helper()
	begin, said := time.Now(), ""
	for {
		ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
		lack := missing(ctx)
		cancel()
		if len(lack) == 0 {
			w.t.Logf("%s: after %s", what, time.Since(begin).Round(time.Second))
			return
		}
		if w.t.Failed() {
			w.dump()
			w.t.Fatalf("given up to wait for %q: the test has failed already", what)
		}
		if now := strings.Join(lack, "; "); now != said {
			said = now
			w.logf("test: waiting for %q: %s", what, now)
		}
		if time.Since(begin) > patience {
			w.dump()
			w.t.Fatalf("waited %s for %q, and there is missing:\n  %s", patience, what, strings.Join(lack, "\n  "))
		}
		time.Sleep(time.Second)
	}
}

// awaitMembers waits until the core Nodes are exactly these machines, all Ready,
// the servers voting in etcd, and their Nodes in the phase Ready.
func (w *world) awaitMembers(patience time.Duration, machines ...string) {
	w.t.Helper()
	w.await(fmt.Sprintf("%d members", len(machines)), patience, func(ctx context.Context) []string {
		var lack []string
		core, err := w.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return []string{err.Error()}
		}
		have := map[string]*corev1.Node{}
		for i := range core.Items {
			have[core.Items[i].Name] = &core.Items[i]
			if !slices.Contains(machines, core.Items[i].Name) {
				lack = append(lack, "the core Node "+core.Items[i].Name+" is one too many")
			}
		}
		declared, err := w.nodes(ctx)
		if err != nil {
			return []string{err.Error()}
		}
		for _, name := range machines {
			switch node, server := have[name], w.declared[name].Spec.Role == v1alpha1.ControlPlane; {
			case node == nil:
				lack = append(lack, fmt.Sprintf("%s is no member (%s)", name, phase(declared[name])))
			case !isReady(node):
				lack = append(lack, "the core Node "+name+" is not Ready")
			case server && !condition(node, "EtcdIsVoter"):
				lack = append(lack, name+" does not vote")
			case declared[name] != nil && declared[name].Status.Phase != v1alpha1.PhaseReady:
				lack = append(lack, fmt.Sprintf("%s is a member, its Node says %s", name, phase(declared[name])))
			}
		}
		return lack
	})
}

// awaitWipes waits until a machine's disk was wiped so many times.
func (w *world) awaitWipes(name string, times int, patience time.Duration) {
	w.t.Helper()
	w.await(fmt.Sprintf("wipe %d of %s", times, name), patience, func(ctx context.Context) []string {
		if got := w.wipesOf(name); got < times {
			nodes, err := w.nodes(ctx)
			if err != nil {
				return []string{err.Error()}
			}
			return []string{fmt.Sprintf("%d wipes; %s", got, phase(nodes[name]))}
		}
		return nil
	})
}

func (w *world) nodes(ctx context.Context) (map[string]*v1alpha1.Node, error) {
	var list v1alpha1.NodeList
	if err := w.api.List(ctx, &list); err != nil {
		return nil, err
	}
	out := map[string]*v1alpha1.Node{}
	for i := range list.Items {
		out[list.Items[i].Name] = &list.Items[i]
	}
	return out, nil
}

func phase(n *v1alpha1.Node) string {
	if n == nil {
		return "not declared"
	}
	return fmt.Sprintf("%s%s", n.Status.Phase, untrue(n.Status.Conditions))
}

func untrue(conditions []metav1.Condition) string {
	var out []string
	for _, c := range conditions {
		if c.Status != metav1.ConditionTrue {
			out = append(out, fmt.Sprintf("%s=%s (%s: %s)", c.Type, c.Status, c.Reason, c.Message))
		}
	}
	if len(out) == 0 {
		return ""
	}
	return ": " + strings.Join(out, ", ")
}

// condition waits until a Node's condition has the status and reason.
func (w *world) awaitCondition(name, kind string, status metav1.ConditionStatus, reason string, patience time.Duration) (message string) {
	w.t.Helper()
	w.await(fmt.Sprintf("%s: %s=%s (%s)", name, kind, status, reason), patience, func(ctx context.Context) []string {
		nodes, err := w.nodes(ctx)
		if err != nil {
			return []string{err.Error()}
		}
		if nodes[name] == nil {
			return []string{"the Node is gone"}
		}
		for _, c := range nodes[name].Status.Conditions {
			if c.Type == kind && c.Status == status && c.Reason == reason {
				message = c.Message
				return nil
			}
		}
		return []string{fmt.Sprintf("%s: %+v", nodes[name].Status.Phase, nodes[name].Status.Conditions)}
	})
	return message
}

// dump prints what the API says of the world, and where the rest is.
func (w *world) dump() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var clusters v1alpha1.ClusterList
	if err := w.api.List(ctx, &clusters); err != nil {
		w.t.Logf("no Clusters to be had: %v", err)
	}
	for _, c := range clusters.Items {
		w.t.Logf("Cluster %s: PXE pods %+v%s", c.Name, c.Status.PXE, untrue(c.Status.Conditions))
	}
	nodes, err := w.nodes(ctx)
	if err != nil {
		w.t.Logf("no Nodes to be had: %v", err)
	}
	for _, name := range w.names("") {
		n := nodes[name]
		if n == nil {
			continue
		}
		w.t.Logf("Node %s: %s; attempts %d, claim %+v, boot %+v", name, phase(n), n.Status.Attempts, n.Status.Claim, n.Status.Boot)
	}
	if pods, err := w.kube.CoreV1().Pods("").List(ctx, metav1.ListOptions{}); err == nil {
		for _, p := range pods.Items {
			w.t.Logf("Pod %s/%s on %q: %s %+v", p.Namespace, p.Name, p.Spec.NodeName, p.Status.Phase, p.Status.ContainerStatuses)
		}
	}
	if events, err := w.kube.CoreV1().Events("").List(ctx, metav1.ListOptions{}); err == nil {
		sort.Slice(events.Items, func(i, j int) bool {
			return events.Items[i].CreationTimestamp.Before(&events.Items[j].CreationTimestamp)
		})
		for _, e := range events.Items[max(0, len(events.Items)-40):] {
			w.t.Logf("Event %s %s/%s: %s: %s", e.CreationTimestamp.Format(time.TimeOnly), e.InvolvedObject.Kind, e.InvolvedObject.Name, e.Reason, e.Message)
		}
	}
	w.t.Logf("the end of %s:\n%s", w.log.Name(), lab.Tail(w.log.Name(), 40))
	logs, _ := filepath.Glob(filepath.Join(w.dir, "*", "log", "rhizome-*.log"))
	for _, path := range logs {
		w.t.Logf("the end of %s:\n%s", path, lab.Tail(path, 12))
	}
}
