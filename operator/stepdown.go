package operator

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// stepDown ends a leader whose own member is not Ready while others are. Where a
// kubelet hangs, the operator's pod is given up and replaced elsewhere, but nobody
// ends its container: it would keep the lease, and by its own rules do nothing.
type stepDown struct {
	reader client.Reader
	node   string
	now    func() time.Time
	// after is how long its member must have been seen so.
	after time.Duration
}

// NeedLeaderElection lets only the leader run it.
func (s *stepDown) NeedLeaderElection() bool { return true }

// looks are how often it is looked within the time.
const looks = 8

// Start returns an error, which ends the operator, when it is time.
func (s *stepDown) Start(ctx context.Context) error {
	ticker := time.NewTicker(s.after / looks)
	defer ticker.Stop()
	var since time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		var nodes corev1.NodeList
		if err := s.reader.List(ctx, &nodes, client.UnsafeDisableDeepCopy); err != nil {
			continue // the lease says whether the API server is lost
		}
		switch now := s.now(); {
		case !outOfPlace(nodes.Items, s.node):
			since = time.Time{}
		case since.IsZero():
			since = now
		case now.Sub(since) >= s.after:
			return fmt.Errorf("the member %s that it runs on is not Ready since %s, and others are: another replica is to lead",
				s.node, since.UTC().Format(time.RFC3339))
		}
	}
}

// outOfPlace says whether a member is not Ready, or gone, and another one is Ready.
func outOfPlace(nodes []corev1.Node, own string) bool {
	others := false
	for i := range nodes {
		for _, c := range nodes[i].Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				if nodes[i].Name == own {
					return false
				}
				others = true
			}
		}
	}
	return others
}
