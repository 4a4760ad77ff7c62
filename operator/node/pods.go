package node

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/hostpod"
)

// The pods that work on a machine for a moment.
//
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;create;delete,namespace=pxe

// The commands of the cluster's binary that they run.
const (
	AdoptCommand  = "adopt"
	RebootCommand = hostpod.RebootCommand
)

// podAgain is how often such a pod is looked at, and podRetry how long one that
// failed is left for people to read before it is made anew.
const (
	podAgain = 5 * time.Second
	podRetry = 10 * time.Minute
)

// hostConfig is the directory that holds k3s' config, on the host and in the pod.
const hostConfig = "/etc/rancher/k3s"

// adoption decides about the config of a server that the cluster did not install:
// the one that founded it. It is rewritten once.
func (o *outcome) adoption(m *machine, f *fleet) {
	if !m.isControlPlane() || meta.IsStatusConditionTrue(m.node.Status.Conditions, v1alpha1.ConditionAdopted) {
		return
	}
	message := "its config is rewritten, so that it founds no second cluster"
	status := metav1.ConditionFalse
	if f.image == "" {
		message = "its config still founds a cluster: the operator does not know its own image, by which it would be rewritten"
	} else if why := f.paused(m); why != "" {
		message = "its config still founds a cluster: " + why
	} else {
		o.do(actAdopt)
	}
	c := condition(v1alpha1.ConditionAdopted, status, v1alpha1.ReasonAdopting, message)
	o.adopted = &c
}

// adoptPod rewrites the config of one server, and may do nothing else: root, since
// the files are root's, with no capability, on one directory.
func adoptPod(m *machine, f *fleet, namespace string) *corev1.Pod {
	server := string(m.node.Spec.Address)
	if via, ok := f.serverFor(m); ok {
		server = via.String()
	}
	p := hostpod.New(namespace, "adopt-"+m.node.Name, m.node.Name, f.image, labelHost, m.node.Name)
	p.Spec.Containers[0].Args = []string{AdoptCommand, "--dir=" + hostConfig, "--server=https://" + server + ":6443"}
	onHostConfig(p)
	return p
}

// onHostConfig gives a pod the directory of k3s' config, and nothing else of the
// machine.
func onHostConfig(p *corev1.Pod) {
	directory := corev1.HostPathDirectory
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "config", MountPath: hostConfig}}
	p.Spec.Volumes = []corev1.Volume{{Name: "config", VolumeSource: corev1.VolumeSource{
		HostPath: &corev1.HostPathVolumeSource{Path: hostConfig, Type: &directory}}}}
}

// rebootPod restarts one machine. Its name has the time of what it is for in it: one
// restart for each claim.
func rebootPod(m *machine, f *fleet, namespace string, of time.Time) *corev1.Pod {
	return hostpod.Reboot(namespace, "reboot-"+m.node.Name+"-"+stamp(of), m.node.Name, f.image, labelHost)
}

// labelHost is on the pods that work on a machine; its value is the Node.
const labelHost = "rhizome.dev/host"

func (d *deed) podMade(ctx context.Context, p *corev1.Pod) (*corev1.Pod, error) {
	return hostpod.Made(ctx, d.Live, p)
}

func (d *deed) deletePod(ctx context.Context, name string, uid types.UID) error {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: d.PXENamespace, Name: name}}
	options := []client.DeleteOption{client.GracePeriodSeconds(0)}
	if uid != "" {
		options = append(options, client.Preconditions{UID: &uid})
	}
	if err := d.Live.Delete(ctx, p, options...); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot delete the pod %s: %w", name, err)
	}
	return nil
}

// adopt runs the pod that rewrites the config, and says what came of it.
func (d *deed) adopt(ctx context.Context) error {
	p, err := d.podMade(ctx, adoptPod(d.m, d.f, d.PXENamespace))
	if err != nil {
		return err
	}
	said, ended := lastWords(p)
	switch p.Status.Phase {
	case corev1.PodSucceeded:
		c := condition(v1alpha1.ConditionAdopted, metav1.ConditionTrue, v1alpha1.ReasonConfigRewritten, or(said, "the config founds no cluster any more"))
		d.o.adopted = &c
		d.o.then = append(d.o.then, actTidy)
		return nil
	case corev1.PodFailed:
		c := condition(v1alpha1.ConditionAdopted, metav1.ConditionFalse, v1alpha1.ReasonAdoptionFailed, or(said, p.Status.Message))
		d.o.adopted = &c
		if due := ended.Add(podRetry); !d.f.now.Before(due) {
			d.look(podAgain)
			return d.deletePod(ctx, p.Name, p.UID)
		}
		d.o.lookAt(ended.Add(podRetry))
		return nil
	}
	d.look(podAgain)
	return nil
}

// reboot runs the pod that restarts the machine: the one for this claim.
func (d *deed) reboot(ctx context.Context) error {
	if d.f.image == "" {
		d.o.doing(string(d.o.phase), "the operator does not know its own image, by which it would restart the machine: restart it by hand, its claim is open")
		return nil
	}
	p, err := d.podMade(ctx, rebootPod(d.m, d.f, d.PXENamespace, d.m.claim.Opened))
	if err != nil {
		return err
	}
	if said, _ := lastWords(p); p.Status.Phase == corev1.PodFailed {
		d.o.doing(string(d.o.phase), "the machine could not be restarted ("+said+"): restart it by hand, its claim is open")
	}
	return nil
}

// tidy deletes the pods that worked on the machine.
func (d *deed) tidy(ctx context.Context) error {
	var pods corev1.PodList
	if err := d.cached.List(ctx, &pods, client.InNamespace(d.PXENamespace), client.MatchingLabels{labelHost: d.m.node.Name}); err != nil {
		return fmt.Errorf("cannot list the pods that worked on %s: %w", d.m.node.Name, err)
	}
	for i := range pods.Items {
		if err := d.deletePod(ctx, pods.Items[i].Name, pods.Items[i].UID); err != nil {
			return err
		}
	}
	return nil
}

// lastWords are what the pod's container said as it ended, and when.
func lastWords(p *corev1.Pod) (string, time.Time) {
	for _, c := range p.Status.ContainerStatuses {
		if t := c.State.Terminated; t != nil {
			said := strings.TrimSpace(t.Message)
			if said == "" {
				said = fmt.Sprintf("%s, exit code %d", t.Reason, t.ExitCode)
			}
			return clip(said, 1000), t.FinishedAt.Time
		}
	}
	return "", p.CreationTimestamp.Time
}

func or(said, fallback string) string {
	if said == "" {
		return fallback
	}
	return said
}
