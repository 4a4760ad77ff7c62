package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/names"
)

// annotationIdleSince on the Deployment is from when on no machine waited (RFC
// 3339). Absent while one does.
const annotationIdleSince = "rhizome.dev/idle-since"

// selector are the labels of the PXE pods.
var selector = map[string]string{
	"app.kubernetes.io/name":      "rhizome",
	"app.kubernetes.io/component": "pxe",
}

// tolerations: machines are booted from where nothing else may run (the only
// node, a control plane's), and from members whose pod network is not up yet. On a
// member that answers nobody a pod is soon given up.
var tolerations = []corev1.Toleration{
	{Key: "node-role.kubernetes.io/control-plane", Operator: corev1.TolerationOpExists},
	{Key: "node-role.kubernetes.io/etcd", Operator: corev1.TolerationOpExists},
	{Key: "CriticalAddonsOnly", Operator: corev1.TolerationOpExists},
	{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists},
	{Key: corev1.TaintNodeNetworkUnavailable, Operator: corev1.TolerationOpExists},
	{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](30)},
}

func nodeSelector(c *v1alpha1.Cluster) map[string]string {
	all := map[string]string{corev1.LabelOSStable: "linux"}
	maps.Copy(all, c.Spec.PXE.NodeSelector)
	return all
}

// deployment is the Deployment of the PXE pods.
func deployment(c *v1alpha1.Cluster, o Options, p pxePlan) *appsv1.Deployment {
	d := &appsv1.Deployment{
		TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: o.PXENamespace, Name: names.PXEDeployment, Labels: selector,
			// Without a Cluster there is nothing to serve.
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: v1alpha1.GroupVersion.String(), Kind: "Cluster", Name: c.Name, UID: c.UID,
			}},
		},
		Spec: appsv1.DeploymentSpec{
			Replicas: &p.replicas,
			Selector: &metav1.LabelSelector{MatchLabels: selector},
			// The pods stand on their hosts' ports: a new one has no room beside the old.
			Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
				MaxUnavailable: ptr.To(intstr.FromInt32(1)), MaxSurge: ptr.To(intstr.FromInt32(0)),
			}},
			RevisionHistoryLimit: ptr.To[int32](2),
			// A first pod may have gigabytes to fetch.
			ProgressDeadlineSeconds: ptr.To[int32](6 * 3600),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: selector, Annotations: map[string]string{
					"kubectl.kubernetes.io/default-container": "pxe",
				}},
				Spec: pod(c, o),
			},
		},
	}
	if !p.idleSince.IsZero() {
		d.Annotations = map[string]string{annotationIdleSince: p.idleSince.UTC().Format(time.RFC3339)}
	}
	return d
}

// pod stands on its host's network, where the machines' broadcasts arrive. It is
// root, to listen below port 1024 and to keep media on the host, and has two
// capabilities of it: to bind those ports and to see and answer machines that have
// no address yet.
func pod(c *v1alpha1.Cluster, o Options) corev1.PodSpec {
	return corev1.PodSpec{
		ServiceAccountName:            names.PXEDeployment,
		HostNetwork:                   true,
		DNSPolicy:                     corev1.DNSClusterFirstWithHostNet,
		PriorityClassName:             "system-cluster-critical",
		TerminationGracePeriodSeconds: ptr.To[int64](30),
		NodeSelector:                  nodeSelector(c),
		Tolerations:                   tolerations,
		Affinity: &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
				TopologyKey: corev1.LabelHostname, LabelSelector: &metav1.LabelSelector{MatchLabels: selector},
			}},
		}},
		SecurityContext: &corev1.PodSecurityContext{
			RunAsUser: ptr.To[int64](0), RunAsGroup: ptr.To[int64](0),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Containers: []corev1.Container{container(o)},
		Volumes: []corev1.Volume{
			hostPath("media", names.MediaDir),
			hostPath("images", names.ImageDir),
			{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		},
	}
}

func container(o Options) corev1.Container {
	args := []string{
		names.PXECommand,
		"--pxe-namespace=" + o.PXENamespace,
		"--image-dir=" + names.ImageDir,
	}
	args = append(args, o.PXEArgs...)
	for _, a := range o.Archives {
		args = append(args, "--image-archive="+a)
	}
	field := func(name, path string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}}
	}
	probe := func(path string, period, failures int32) *corev1.Probe {
		return &corev1.Probe{
			// The kubelet asks from the same host: nobody else need hear what is missing.
			ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Host: "127.0.0.1", Path: path, Port: intstr.FromString("health")}},
			PeriodSeconds: period, TimeoutSeconds: 5, FailureThreshold: failures,
		}
	}
	port := func(name string, number int32) corev1.ContainerPort {
		return corev1.ContainerPort{Name: name, ContainerPort: number, HostPort: number, Protocol: corev1.ProtocolTCP}
	}
	return corev1.Container{
		Name:            "pxe",
		Image:           o.PXEImage,
		ImagePullPolicy: corev1.PullIfNotPresent, // an imported image may be in no registry
		Args:            args,
		Env: []corev1.EnvVar{
			field("NODE_NAME", "spec.nodeName"), field("POD_NAME", "metadata.name"),
			{Name: "TMPDIR", Value: "/tmp"},
		},
		// The TCP ports, so that the scheduler knows of them. DHCP and TFTP are UDP,
		// on ports that nothing else in a cluster wants.
		Ports: []corev1.ContainerPort{
			port("http", names.HTTPPort), port("https", names.HTTPSPort),
			port("health", names.HealthPort), port("metrics", names.MetricsPort),
		},
		LivenessProbe:  probe("/healthz", 20, 5),
		ReadinessProbe: probe("/readyz", 5, 3),
		Resources:      o.PXEResources,
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false),
			ReadOnlyRootFilesystem:   ptr.To(true),
			Capabilities: &corev1.Capabilities{
				Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_BIND_SERVICE", "NET_RAW"},
			},
		},
		VolumeMounts: []corev1.VolumeMount{
			{Name: "media", MountPath: names.MediaDir},
			{Name: "images", MountPath: names.ImageDir, ReadOnly: true},
			{Name: "tmp", MountPath: "/tmp"},
		},
	}
}

func hostPath(name, path string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		HostPath: &corev1.HostPathVolumeSource{Path: path, Type: ptr.To(corev1.HostPathDirectoryOrCreate)},
	}}
}

// applied is a Deployment as it is applied: without the fields that a typed object
// has and nobody set. digest is the same for the same content.
func applied(d *appsv1.Deployment) (object *unstructured.Unstructured, digest string, err error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(d)
	if err != nil {
		return nil, "", fmt.Errorf("cannot encode the Deployment %s/%s: %w", d.Namespace, d.Name, err)
	}
	object = &unstructured.Unstructured{Object: content}
	unstructured.RemoveNestedField(content, "status")
	unstructured.RemoveNestedField(content, "metadata", "creationTimestamp")
	unstructured.RemoveNestedField(content, "spec", "template", "metadata", "creationTimestamp")
	text, err := json.Marshal(content)
	if err != nil {
		return nil, "", fmt.Errorf("cannot encode the Deployment %s/%s: %w", d.Namespace, d.Name, err)
	}
	sum := sha256.Sum256(text)
	return object, hex.EncodeToString(sum[:]), nil
}

// idleSince is what was written down on the Deployment; zero: nothing that could
// be read.
func idleSince(d *appsv1.Deployment) time.Time {
	t, err := time.Parse(time.RFC3339, d.Annotations[annotationIdleSince])
	if err != nil {
		return time.Time{}
	}
	return t
}
