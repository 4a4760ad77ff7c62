package healing

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// stored is what the API says of where data lies.
type stored struct {
	volumes []corev1.PersistentVolume
	nodes   []corev1.Node
	// pods are those on the member, and drivers what its kubelet has for volumes;
	// missing says what could not be read.
	pods    []corev1.Pod
	driver  *storagev1.CSINode
	missing string
}

// storageOf judges what the reinstallation of a member would destroy (rule 7). What
// cannot be seen counts as the only copy of something until a person says otherwise.
// An emptyDir is lost with every pod, and is nobody's only copy.
func storageOf(policy v1alpha1.StoragePolicy, name string, s stored) storage {
	switch policy {
	case v1alpha1.StorageDisposable:
		return storage{verdict: storageClear}
	case v1alpha1.StorageKeep:
		return storage{verdict: storageKept}
	}
	if s.missing != "" {
		return storage{what: s.missing}
	}
	var holds, doubts []string
	// Without its core Node nothing says what only it reaches, nor which pods wrote there.
	gone := !slices.ContainsFunc(s.nodes, func(n corev1.Node) bool { return n.Name == name })
	if gone {
		doubts = append(doubts, "its core Node is gone, and with it what says so")
	}
	for i := range s.volumes {
		v := &s.volumes[i]
		if v.Status.Phase == corev1.VolumeAvailable {
			continue // nobody has written to it
		}
		here, elsewhere, known := places(v, name, s.nodes)
		switch {
		case known && !elsewhere && (here || gone):
			holds = append(holds, volumeName(v))
		case !known && (v.Spec.HostPath != nil || v.Spec.Local != nil):
			doubts = append(doubts, "on whichever machine "+volumeName(v)+" lies")
		}
	}
	if len(holds) > 0 {
		slices.Sort(holds)
		return storage{storageHolds, "the volumes " + few(holds)}
	}
	for i := range s.pods {
		if p := &s.pods[i]; writesToHost(p) {
			doubts = append(doubts, fmt.Sprintf("the pod %s/%s writes to a path of the host", p.Namespace, p.Name))
		}
	}
	if s.driver != nil {
		for _, d := range s.driver.Spec.Drivers {
			doubts = append(doubts, fmt.Sprintf("the storage driver %s may keep data there", d.Name))
		}
	}
	if len(doubts) > 0 {
		slices.Sort(doubts)
		return storage{what: few(doubts)}
	}
	return storage{verdict: storageClear}
}

// places says where a volume can be reached: from the member, from another one; and
// whether that is known at all.
func places(v *corev1.PersistentVolume, name string, nodes []corev1.Node) (here, elsewhere, known bool) {
	if v.Spec.NodeAffinity == nil || v.Spec.NodeAffinity.Required == nil {
		return false, false, false
	}
	selector, err := nodeaffinity.NewNodeSelector(v.Spec.NodeAffinity.Required)
	if err != nil {
		return true, false, true // in doubt it is here
	}
	for i := range nodes {
		switch n := &nodes[i]; {
		case !selector.Match(n):
		case n.Name == name:
			here = true
		default:
			elsewhere = true
		}
	}
	return here, elsewhere, true
}

func volumeName(v *corev1.PersistentVolume) string {
	if c := v.Spec.ClaimRef; c != nil {
		return fmt.Sprintf("%s (of %s/%s)", v.Name, c.Namespace, c.Name)
	}
	return v.Name
}

// writesToHost says whether a pod may keep data on the host that goes nowhere else:
// it writes to a path there, and is neither a DaemonSet's nor static, which are
// everywhere and come back empty.
func writesToHost(p *corev1.Pod) bool {
	if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return false
	}
	if _, mirror := p.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return false
	}
	if owner := metav1.GetControllerOf(p); owner != nil && owner.Kind == "DaemonSet" {
		return false
	}
	if p.Labels["app.kubernetes.io/name"] == "rhizome" && strings.HasPrefix(p.Labels["app.kubernetes.io/component"], "pxe") {
		return false // media, which are fetched again
	}
	for _, volume := range p.Spec.Volumes {
		if volume.HostPath == nil {
			continue
		}
		for _, c := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
			if slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == volume.Name && !m.ReadOnly }) {
				return true
			}
		}
	}
	return false
}
