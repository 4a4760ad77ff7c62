package healing

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/internal/hostpod"
)

// The pods by which healing works on a machine for a moment.
//
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;create;delete,namespace=pxe

// labelHealing is on them; its value is the Node that is healed.
const labelHealing = "rhizome.dev/healing"

// The commands of the cluster's binary that they run.
const (
	RebootCommand   = hostpod.RebootCommand
	SnapshotCommand = "etcd-snapshot"
)

// Where a server keeps etcd's files.
const (
	etcdTLS       = "/var/lib/rancher/k3s/server/tls/etcd"
	etcdSnapshots = "/var/lib/rancher/k3s/server/db/snapshots"
)

// rebootPod restarts a machine.
func rebootPod(namespace, image, node string, intended time.Time) *corev1.Pod {
	return hostpod.Reboot(namespace, podName("heal-reboot", node, intended), node, image, labelHealing)
}

// snapshotPod saves etcd on a server that is well, before another one is taken out
// of it. It talks to the member on its own host, and writes beside k3s' snapshots.
func snapshotPod(namespace, image, node, about string, intended time.Time) *corev1.Pod {
	p := hostpod.New(namespace, podName("heal-snapshot", about, intended), node, image, labelHealing, about)
	p.Spec.HostNetwork = true
	directory, created := corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate
	path := func(name, path string, kind *corev1.HostPathType) corev1.Volume {
		return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: kind}}}
	}
	p.Spec.Volumes = []corev1.Volume{path("tls", etcdTLS, &directory), path("snapshots", etcdSnapshots, &created)}
	c := &p.Spec.Containers[0]
	c.Args = []string{SnapshotCommand, "--tls=" + etcdTLS, "--dir=" + etcdSnapshots, "--name=before-" + about}
	c.VolumeMounts = []corev1.VolumeMount{{Name: "tls", MountPath: etcdTLS, ReadOnly: true}, {Name: "snapshots", MountPath: etcdSnapshots}}
	return p
}

// podName has the intent's time in it: one pod for each.
func podName(what, node string, intended time.Time) string {
	return what + "-" + node + "-" + strings.ToLower(intended.UTC().Format("20060102t150405"))
}

func (r *reconciler) podMade(ctx context.Context, p *corev1.Pod) (*corev1.Pod, error) {
	return hostpod.Made(ctx, r.Live, p)
}

// tidy deletes the pods that worked for a member, so that none of them starts when
// nobody expects it any more.
func (r *reconciler) tidy(ctx context.Context, node string) error {
	var pods corev1.PodList
	if err := r.Live.List(ctx, &pods, client.InNamespace(r.PXENamespace), client.MatchingLabels{labelHealing: node}); err != nil {
		return fmt.Errorf("cannot list the pods that worked for %s: %w", node, err)
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		if err := r.Live.Delete(ctx, p, client.GracePeriodSeconds(0), client.Preconditions{UID: &p.UID}); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("cannot delete the pod %s: %w", p.Name, err)
		}
	}
	return nil
}

// lastWords are what the pod's container said as it ended.
func lastWords(p *corev1.Pod) string {
	for _, c := range p.Status.ContainerStatuses {
		if t := c.State.Terminated; t != nil {
			if said := strings.TrimSpace(t.Message); said != "" {
				return clip(said, 500)
			}
			return fmt.Sprintf("%s, exit code %d", t.Reason, t.ExitCode)
		}
	}
	return p.Status.Message
}
