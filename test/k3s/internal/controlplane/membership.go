package controlplane

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// The labels, annotations and the condition by which k3s shows and changes
// etcd's membership on Node objects.
const (
	labelControlPlane = "node-role.kubernetes.io/control-plane"
	labelMaster       = "node-role.kubernetes.io/master"
	labelEtcd         = "node-role.kubernetes.io/etcd"

	annotationMember  = "etcd.k3s.cattle.io/node-name"
	annotationAddress = "etcd.k3s.cattle.io/node-address"
	annotationRemove  = "etcd.k3s.cattle.io/remove"
	annotationRemoved = "etcd.k3s.cattle.io/removed-node-name"

	conditionVoter corev1.NodeConditionType = "EtcdIsVoter"
)

// heartbeat is how often k3s refreshes the condition.
const heartbeat = 5 * time.Minute

// watchMembership keeps this server's Node marked as a server and as the
// member that it is, and removes members whose Node asks for it.
func (s *Server) watchMembership(ctx context.Context) {
	for {
		if err := s.membership(ctx); err != nil && ctx.Err() == nil {
			log.Printf("etcd membership: %v", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(5 * time.Second):
		}
	}
}

func (s *Server) membership(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, err := s.etcd.client()
	if err != nil {
		return err
	}
	defer c.Close()
	list, err := c.MemberList(ctx)
	if err != nil {
		return fmt.Errorf("cannot list the members: %w", err)
	}
	own, err := s.etcd.name()
	if err != nil {
		return err
	}
	for _, m := range list.Members {
		if m.Name == own {
			if err := s.markOwnNode(ctx, own, !m.IsLearner); err != nil {
				return err
			}
		}
	}
	nodes, err := s.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: labelEtcd + "=true"})
	if err != nil {
		return err
	}
	for i := range nodes.Items {
		n := &nodes.Items[i]
		member := n.Annotations[annotationMember]
		if n.Annotations[annotationRemove] != "true" || member == "" || n.Annotations[annotationRemoved] == member {
			continue
		}
		for _, m := range list.Members {
			if m.Name != member {
				continue
			}
			log.Printf("removing the etcd member %s, as its Node asks", member)
			if member == own {
				// Written first: etcd ends as soon as it is removed.
				if err := os.WriteFile(filepath.Join(s.etcd.dir, tombstone), nil, 0o600); err != nil {
					return err
				}
			}
			if _, err := c.MemberRemove(ctx, m.ID); err != nil {
				return fmt.Errorf("cannot remove the member %s: %w", member, err)
			}
		}
		if err := s.patchNode(ctx, n.Name, map[string]any{"metadata": map[string]any{"annotations": map[string]string{annotationRemoved: member}}}, ""); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) markOwnNode(ctx context.Context, member string, voter bool) error {
	n, err := s.kube.CoreV1().Nodes().Get(ctx, s.NodeName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	labels := map[string]string{labelControlPlane: "true", labelMaster: "true", labelEtcd: "true"}
	annotations := map[string]string{annotationMember: member, annotationAddress: s.NodeIP}
	if !contains(n.Labels, labels) || !contains(n.Annotations, annotations) {
		patch := map[string]any{"metadata": map[string]any{"labels": labels, "annotations": annotations}}
		if err := s.patchNode(ctx, n.Name, patch, ""); err != nil {
			return err
		}
	}
	want := corev1.NodeCondition{Type: conditionVoter, Status: corev1.ConditionTrue, Reason: "MemberNotLearner", Message: "Node is a voting member of the etcd cluster"}
	if !voter {
		want.Status, want.Reason, want.Message = corev1.ConditionFalse, "MemberIsLearner", "Node has not been promoted to voting member of the etcd cluster"
	}
	now := metav1.Now()
	want.LastHeartbeatTime, want.LastTransitionTime = now, now
	for _, have := range n.Status.Conditions {
		if have.Type != conditionVoter || have.Status != want.Status {
			continue
		}
		if now.Sub(have.LastHeartbeatTime.Time) < heartbeat {
			return nil
		}
		want.LastTransitionTime = have.LastTransitionTime
	}
	return s.patchNode(ctx, n.Name, map[string]any{"status": map[string]any{"conditions": []corev1.NodeCondition{want}}}, "status")
}

func (s *Server) patchNode(ctx context.Context, name string, patch any, subresource string) error {
	b, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	var sub []string
	if subresource != "" {
		sub = append(sub, subresource)
	}
	_, err = s.kube.CoreV1().Nodes().Patch(ctx, name, types.StrategicMergePatchType, b, metav1.PatchOptions{}, sub...)
	return err
}

func contains(have, want map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}
