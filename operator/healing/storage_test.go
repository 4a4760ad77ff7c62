package healing

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// pinned is a volume that only members with a label's values reach.
func pinned(key string, values ...string) corev1.PersistentVolume {
	return corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "data"}, Spec: corev1.PersistentVolumeSpec{
		NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: corev1.NodeSelectorOpIn, Values: values}},
		}}}},
	}}
}

func onHost(change func(*corev1.Pod)) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "db", Name: "db-0"}, Spec: corev1.PodSpec{
		Volumes:    []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/srv"}}}},
		Containers: []corev1.Container{{Name: "db", VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}}}},
	}}
	if change != nil {
		change(&p)
	}
	return p
}

func TestWhatAReinstallationWouldDestroy(t *testing.T) {
	available := pinned("host", "w1")
	available.Status.Phase = corev1.VolumeAvailable
	elsewhere := corev1.PersistentVolume{Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{NFS: &corev1.NFSVolumeSource{}}}}
	nowhere := corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "old"}, Spec: corev1.PersistentVolumeSpec{
		PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/data"}}}}
	yes := true
	tests := []struct {
		reason string
		policy v1alpha1.StoragePolicy
		stored stored
		want   storageVerdict
		says   string
	}{
		{"nothing", v1alpha1.StorageAuto, stored{}, storageClear, ""},
		{"a volume that only it reaches", v1alpha1.StorageAuto, stored{volumes: []corev1.PersistentVolume{pinned("host", "w1")}}, storageHolds, "data"},
		{"that, and a person says it is nothing", v1alpha1.StorageDisposable, stored{volumes: []corev1.PersistentVolume{pinned("host", "w1")}}, storageClear, ""},
		{"nothing, and a person says it is to be kept", v1alpha1.StorageKeep, stored{}, storageKept, ""},
		{"a volume that two members reach", v1alpha1.StorageAuto, stored{volumes: []corev1.PersistentVolume{pinned("host", "w1", "w2")}}, storageClear, ""},
		{"a volume of another member", v1alpha1.StorageAuto, stored{volumes: []corev1.PersistentVolume{pinned("host", "w2")}}, storageClear, ""},
		{"a volume of a zone", v1alpha1.StorageAuto, stored{volumes: []corev1.PersistentVolume{pinned("zone", "cellar")}}, storageClear, ""},
		{"a volume that nobody has written to", v1alpha1.StorageAuto, stored{volumes: []corev1.PersistentVolume{available}}, storageClear, ""},
		{"a volume on the network", v1alpha1.StorageAuto, stored{volumes: []corev1.PersistentVolume{elsewhere}}, storageClear, ""},
		{"a volume on some host", v1alpha1.StorageAuto, stored{volumes: []corev1.PersistentVolume{nowhere}}, storageUnknown, "old"},
		{"a storage driver", v1alpha1.StorageAuto, stored{driver: &storagev1.CSINode{Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{Name: "driver.longhorn.io"}}}}}, storageUnknown, "longhorn"},
		{"no storage driver", v1alpha1.StorageAuto, stored{driver: &storagev1.CSINode{}}, storageClear, ""},
		{"a pod that writes to the host", v1alpha1.StorageAuto, stored{pods: []corev1.Pod{onHost(nil)}}, storageUnknown, "db/db-0"},
		{"one that only reads", v1alpha1.StorageAuto, stored{pods: []corev1.Pod{onHost(func(p *corev1.Pod) { p.Spec.Containers[0].VolumeMounts[0].ReadOnly = true })}}, storageClear, ""},
		{"one that has ended", v1alpha1.StorageAuto, stored{pods: []corev1.Pod{onHost(func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })}}, storageClear, ""},
		{"one of a DaemonSet", v1alpha1.StorageAuto, stored{pods: []corev1.Pod{onHost(func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{{Kind: "DaemonSet", Controller: &yes}}
		})}}, storageClear, ""},
		{"the volumes cannot be listed", v1alpha1.StorageAuto, stored{missing: "cannot list volumes"}, storageUnknown, "cannot list"},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			for _, name := range []string{"w1", "w2"} {
				tc.stored.nodes = append(tc.stored.nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"host": name, "zone": "cellar"}}})
			}
			got := storageOf(tc.policy, "w1", tc.stored)
			if got.verdict != tc.want || !strings.Contains(got.what, tc.says) {
				t.Errorf("%q (%s), want %q", got.verdict, got.what, tc.want)
			}
		})
	}
}

// Without its core Node nothing says what is on a machine's disk, and what nobody else
// reaches may be there.
func TestWhatAReinstallationWouldDestroyWhereTheCoreNodeIsGone(t *testing.T) {
	for _, tc := range []struct {
		reason  string
		policy  v1alpha1.StoragePolicy
		volumes []corev1.PersistentVolume
		want    storageVerdict
	}{
		{"nothing is known", v1alpha1.StorageAuto, nil, storageUnknown},
		{"a volume that nobody reaches", v1alpha1.StorageAuto, []corev1.PersistentVolume{pinned("host", "w1")}, storageHolds},
		{"a volume of another member", v1alpha1.StorageAuto, []corev1.PersistentVolume{pinned("host", "w2")}, storageUnknown},
		{"a person says that it is nothing", v1alpha1.StorageDisposable, []corev1.PersistentVolume{pinned("host", "w1")}, storageClear},
	} {
		others := []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "w2", Labels: map[string]string{"host": "w2"}}}}
		if got := storageOf(tc.policy, "w1", stored{volumes: tc.volumes, nodes: others}); got.verdict != tc.want {
			t.Errorf("%s: %q (%s), want %q", tc.reason, got.verdict, got.what, tc.want)
		}
	}
}
