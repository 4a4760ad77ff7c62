package k3s

import (
	"errors"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// VirtualIPPod is kube-vip as a static pod of a control-plane node: the holder of
// a lease answers ARP for the address. It is the manifest that kube-vip
// generates for static pods (https://kube-vip.io/docs/installation/static/), with
// the kubeconfig that k3s writes in the place of kubeadm's. The interface is the
// one of the default route, kube-vip's own choice when none is named. Load
// balancing of Services is left to others.
func VirtualIPPod(address netip.Addr, image string) (File, error) {
	if !address.Is4() || image == "" {
		return File{}, errors.New("cannot render the kube-vip pod: want an IPv4 address and an image")
	}
	pod := corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: metav1.NamespaceSystem, Name: "kube-vip",
			Labels: map[string]string{"app.kubernetes.io/name": "kube-vip"},
		},
		Spec: corev1.PodSpec{
			HostNetwork:       true,
			PriorityClassName: "system-node-critical",
			Tolerations:       []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			// k3s' kubeconfig names 127.0.0.1; kube-vip calls the API server by the
			// name kubernetes, which the certificate covers.
			HostAliases: []corev1.HostAlias{{IP: "127.0.0.1", Hostnames: []string{"kubernetes"}}},
			Containers: []corev1.Container{{
				Name:            "kube-vip",
				Image:           image,
				ImagePullPolicy: corev1.PullIfNotPresent,
				Args:            []string{"manager"},
				Env: []corev1.EnvVar{
					{Name: "address", Value: address.String()},
					{Name: "port", Value: "6443"},
					{Name: "vip_arp", Value: "true"},
					{Name: "vip_subnet", Value: "32"},
					{Name: "vip_nodename", ValueFrom: &corev1.EnvVarSource{
						FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.nodeName"}}},
					{Name: "cp_enable", Value: "true"},
					{Name: "cp_namespace", Value: metav1.NamespaceSystem},
					{Name: "svc_enable", Value: "false"},
					{Name: "vip_leaderelection", Value: "true"},
					{Name: "vip_leasename", Value: "plndr-cp-lock"},
					{Name: "vip_leaseduration", Value: "15"},
					{Name: "vip_renewdeadline", Value: "10"},
					{Name: "vip_retryperiod", Value: "2"},
				},
				SecurityContext: &corev1.SecurityContext{Capabilities: &corev1.Capabilities{
					Add: []corev1.Capability{"NET_ADMIN", "NET_RAW"}, Drop: []corev1.Capability{"ALL"},
				}},
				VolumeMounts: []corev1.VolumeMount{{
					Name: "kubeconfig", MountPath: "/etc/kubernetes/admin.conf", ReadOnly: true,
				}},
			}},
			Volumes: []corev1.Volume{{Name: "kubeconfig", VolumeSource: corev1.VolumeSource{
				HostPath: &corev1.HostPathVolumeSource{Path: KubeconfigPath, Type: new(corev1.HostPathFile)},
			}}},
		},
	}
	content, err := yaml.Marshal(pod)
	if err != nil {
		return File{}, fmt.Errorf("cannot render the kube-vip pod: %w", err)
	}
	return File{Path: PodManifestsDir + "/kube-vip.yaml", Content: content, Mode: 0o600}, nil
}
