// Package hostpod makes pods that work on one machine for a moment.
package hostpod

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// RebootCommand is the command of the cluster's binary that restarts the machine.
const RebootCommand = "reboot"

// New is a pod on a given node, whatever its taints, that runs the image to its end
// once, as root without any capability, and gets nothing of the cluster. The caller
// adds what it is to see of the host. The label key says for whom it works: its
// value is the node that it is about.
func New(namespace, name, node, image, key, about string) *corev1.Pod {
	no, yes := false, true
	root := int64(0)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{
			"app.kubernetes.io/name": "rhizome", "app.kubernetes.io/component": "host", key: about,
		}},
		Spec: corev1.PodSpec{
			NodeName:                      node,
			RestartPolicy:                 corev1.RestartPolicyNever,
			AutomountServiceAccountToken:  &no,
			EnableServiceLinks:            &no,
			PriorityClassName:             "system-node-critical",
			Tolerations:                   []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			TerminationGracePeriodSeconds: new(int64),
			SecurityContext:               &corev1.PodSecurityContext{SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			Containers: []corev1.Container{{
				Name: "host", Image: image, ImagePullPolicy: corev1.PullIfNotPresent,
				TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
				SecurityContext: &corev1.SecurityContext{
					RunAsUser: &root, RunAsGroup: &root, RunAsNonRoot: &no,
					AllowPrivilegeEscalation: &no, ReadOnlyRootFilesystem: &yes,
					Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}
}

// Reboot is a pod that restarts its machine by a signal to its init, which needs the
// host's process IDs and the capability to send it. AppArmor's profile for containers
// forbids signals to what is outside of them.
func Reboot(namespace, name, node, image, key string) *corev1.Pod {
	p := New(namespace, name, node, image, key, node)
	p.Spec.HostPID = true
	c := &p.Spec.Containers[0]
	c.Args = []string{RebootCommand}
	c.SecurityContext.Capabilities.Add = []corev1.Capability{"KILL"}
	c.SecurityContext.AppArmorProfile = &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}
	return p
}

// Made is the pod as it is, after making it if it was not there. live must read past
// a cache.
func Made(ctx context.Context, live client.Client, p *corev1.Pod) (*corev1.Pod, error) {
	var have corev1.Pod
	err := live.Get(ctx, client.ObjectKeyFromObject(p), &have)
	if err == nil {
		return &have, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("cannot read the pod %s: %w", p.Name, err)
	}
	if err := live.Create(ctx, p); err != nil {
		return nil, fmt.Errorf("cannot make the pod %s: %w", p.Name, err)
	}
	return p, nil
}
