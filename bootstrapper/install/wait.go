package install

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// until asks check every interval until it says that all is well. What it says
// meanwhile, the reason why not, goes to said whenever it changes. The end of ctx
// is an error that holds the last reason.
func until(ctx context.Context, interval time.Duration, said func(string), check func(context.Context) (why string, err error)) error {
	var last string
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		why, err := check(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			// The API server of a young cluster comes and goes.
			why = err.Error()
		case err == nil && why == "":
			return nil
		}
		if why != "" && why != last && ctx.Err() == nil {
			last = why
			said(why)
		}
		select {
		case <-ctx.Done():
			if last == "" {
				return ctx.Err()
			}
			return fmt.Errorf("%w: %s", ctx.Err(), last)
		case <-ticker.C:
		}
	}
}

// Available waits until every Deployment of the release is available. said is
// told why it is not, for people.
func (c *Client) Available(ctx context.Context, said func(string)) error {
	return until(ctx, time.Second, said, func(ctx context.Context) (string, error) {
		selector := metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=" + Release}
		deployments, err := c.core.AppsV1().Deployments(Namespace).List(ctx, selector)
		if err != nil {
			return "", err
		}
		if len(deployments.Items) == 0 {
			return "", errors.New("the release has no Deployment")
		}
		for i := range deployments.Items {
			why := unavailable(&deployments.Items[i])
			if why == "" {
				continue
			}
			pods, err := c.core.CoreV1().Pods(Namespace).List(ctx, selector)
			if err == nil {
				if trouble := podTrouble(pods.Items); trouble != "" {
					why += "; " + trouble
				}
			}
			return why, nil
		}
		return "", nil
	})
}

// unavailable says what a Deployment's rollout waits for; empty when nothing.
func unavailable(d *appsv1.Deployment) string {
	want := int32(1)
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	s := d.Status
	switch {
	case s.ObservedGeneration < d.Generation:
		return fmt.Sprintf("Deployment %s: its controller has not seen it yet", d.Name)
	case s.UpdatedReplicas < want:
		return fmt.Sprintf("Deployment %s: %d of %d pods are up to date", d.Name, s.UpdatedReplicas, want)
	case s.Replicas > s.UpdatedReplicas:
		return fmt.Sprintf("Deployment %s: %d old pods are still there", d.Name, s.Replicas-s.UpdatedReplicas)
	case s.AvailableReplicas < want:
		return fmt.Sprintf("Deployment %s: %d of %d pods are available", d.Name, s.AvailableReplicas, want)
	}
	return ""
}

// podTrouble says why pods do not run, as far as they say so themselves.
func podTrouble(pods []corev1.Pod) string {
	var out []string
	for _, pod := range pods {
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodScheduled && condition.Status == corev1.ConditionFalse {
				out = append(out, fmt.Sprintf("pod %s: %s: %s", pod.Name, condition.Reason, condition.Message))
			}
		}
		for _, container := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			switch state := container.State; {
			case state.Waiting != nil && state.Waiting.Reason != "" && state.Waiting.Reason != "ContainerCreating" && state.Waiting.Reason != "PodInitializing":
				out = append(out, strings.TrimRight(fmt.Sprintf("pod %s: %s: %s", pod.Name, state.Waiting.Reason, state.Waiting.Message), ": "))
			case state.Terminated != nil && state.Terminated.ExitCode != 0:
				out = append(out, fmt.Sprintf("pod %s ended with exit code %d", pod.Name, state.Terminated.ExitCode))
			}
		}
	}
	return strings.Join(out, "; ")
}

// ClusterReady waits until the operator says that the Cluster, as it is now, is
// Ready, or that only the PXE pods are not: they are for machines that are to come,
// and may have gigabytes to fetch. waiting is then what the operator says of them.
func (c *Client) ClusterReady(ctx context.Context, name string, said func(string)) (waiting string, err error) {
	err = until(ctx, time.Second, said, func(ctx context.Context) (string, error) {
		cluster, err := c.dynamic.Resource(resourceOf("Cluster")).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		var why string
		why, waiting = clusterState(cluster)
		return why, nil
	})
	return waiting, err
}

// clusterState says why a Cluster is not Ready, or else what it waits for that a
// seed does not.
func clusterState(cluster *unstructured.Unstructured) (why, waiting string) {
	ready, pxe := conditionOf(cluster, v1alpha1.ConditionReady), conditionOf(cluster, v1alpha1.ConditionPXEReady)
	switch {
	case ready.Type == "":
		return "the operator has not looked at the Cluster yet", ""
	case ready.ObservedGeneration < cluster.GetGeneration():
		return "the operator has not seen the change yet", ""
	case ready.Status == metav1.ConditionTrue:
		return "", ""
	case pxe.Status == metav1.ConditionFalse && pxe.Reason == v1alpha1.ReasonPXEPodsStarting && ready.Reason == pxe.Reason:
		return "", pxe.Message
	}
	return fmt.Sprintf("%s: %s", ready.Reason, ready.Message), ""
}

// NodeReady says why a core Node is not Ready; empty when it is.
func (c *Client) NodeReady(ctx context.Context, name string) (why string, err error) {
	node, err := c.core.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "the API server answers; no Node has registered yet", nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot read the core Node %s: %w", name, err)
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type != corev1.NodeReady {
			continue
		}
		if condition.Status == corev1.ConditionTrue {
			return "", nil
		}
		return fmt.Sprintf("Node %s is not Ready: %s", name, condition.Message), nil
	}
	return fmt.Sprintf("Node %s has not said yet whether it is Ready", name), nil
}

// Member is a core Node for people.
type Member struct {
	Name, Address, Version string
	Ready                  bool
}

// Members are the core Nodes, by name.
func (c *Client) Members(ctx context.Context) ([]Member, error) {
	nodes, err := c.core.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("cannot list the nodes: %w", err)
	}
	var out []Member
	for _, node := range nodes.Items {
		m := Member{Name: node.Name, Version: node.Status.NodeInfo.KubeletVersion}
		for _, address := range node.Status.Addresses {
			if address.Type == corev1.NodeInternalIP {
				m.Address = address.Address
			}
		}
		for _, condition := range node.Status.Conditions {
			m.Ready = m.Ready || condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
