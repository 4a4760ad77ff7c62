package cluster

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// eventLife is how long the API server keeps events unless it is told otherwise.
// What was discovered longer ago is no news.
const eventLife = time.Hour

// announcer tells of discovered machines by events: once each. An event is known
// by its name, so that another replica of the operator, or the same after a
// restart, does not tell again.
type announcer struct {
	client client.Client
	mu     sync.Mutex
	told   map[types.NamespacedName]bool // names of events, as Cluster and MAC make them
}

// news are the discovered machines to tell of: none that is declared by now, and
// none that was first seen too long ago.
func news(c *v1alpha1.Cluster, nodes []v1alpha1.Node, now time.Time) []v1alpha1.DiscoveredMachine {
	declared := map[v1alpha1.MAC]bool{}
	for i := range nodes {
		declared[nodes[i].Spec.MAC] = true
	}
	var out []v1alpha1.DiscoveredMachine
	for _, m := range c.Status.Discovered {
		if !declared[m.MAC] && now.Sub(m.FirstSeen.Time) < eventLife {
			out = append(out, m)
		}
	}
	return out
}

func (a *announcer) tell(ctx context.Context, c *v1alpha1.Cluster, machines []v1alpha1.DiscoveredMachine, now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range machines {
		event := discoveredEvent(c, m, now)
		key := client.ObjectKeyFromObject(event)
		if a.told[key] {
			continue
		}
		if err := a.client.Create(ctx, event); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("cannot tell of the discovered machine %s: %w", m.MAC, err)
		}
		if len(a.told) > 4096 { // what a flood of strangers may cost
			clear(a.told)
		}
		a.told[key] = true
	}
	return nil
}

func discoveredEvent(c *v1alpha1.Cluster, m v1alpha1.DiscoveredMachine, now time.Time) *corev1.Event {
	seen := []string{}
	for _, s := range []string{m.Firmware, m.Architecture} {
		if s != "" {
			seen = append(seen, s)
		}
	}
	about := ""
	if len(seen) > 0 {
		about = " (" + strings.Join(seen, ", ") + ")"
	}
	at := metav1.NewTime(now)
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceDefault,
			Name:      fmt.Sprintf("%s.discovered.%s.%d", c.Name, strings.ReplaceAll(string(m.MAC), ":", ""), m.FirstSeen.Unix()),
		},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: v1alpha1.GroupVersion.String(), Kind: "Cluster", Name: c.Name, UID: c.UID,
		},
		Reason: "Discovered", Type: corev1.EventTypeNormal, Count: 1, FirstTimestamp: at, LastTimestamp: at,
		Source:              corev1.EventSource{Component: Manager},
		ReportingController: Manager, ReportingInstance: Manager,
		Message: fmt.Sprintf("%s%s asks to boot from the network and is not declared; `bootstrapper discovered` writes a Node for it", m.MAC, about),
	}
}
