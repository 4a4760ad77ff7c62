//go:build linux

package seed

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// kubelet is a fake: it registers the core Node and keeps it Ready, and runs the
// operator's pods as plain processes of the machine: the real program, with the
// pod's arguments and its service account's token. Other pods stay pending. The
// rest (scheduler, controllers) is real.
func (m *machine) kubelet(ctx context.Context, kubeconfig string) {
	pods := map[string]*exec.Cmd{}
	defer func() {
		for _, p := range pods {
			_ = p.Process.Signal(unix.SIGTERM)
			_ = p.Wait()
		}
	}()
	for ctx.Err() == nil {
		if err := m.kubeletRound(ctx, kubeconfig, pods); err != nil && ctx.Err() == nil {
			m.log("%s: kubelet: %v", m.name, err)
		}
		sleep(ctx, time.Second)
	}
}

func (m *machine) kubeletRound(ctx context.Context, kubeconfig string, pods map[string]*exec.Cmd) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil //nolint:nilerr // k3s has not written it yet
	}
	config.Dial, config.Timeout = m.host.DialContext, 10*time.Second
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	if err := m.keepReady(ctx, client); err != nil {
		return err
	}
	mine, err := client.CoreV1().Pods("rhizome-system").List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + m.name})
	if err != nil {
		return err
	}
	for i := range mine.Items {
		pod := &mine.Items[i]
		if pod.DeletionTimestamp != nil {
			if p := pods[string(pod.UID)]; p != nil {
				_ = p.Process.Signal(unix.SIGTERM)
				_ = p.Wait()
				delete(pods, string(pod.UID))
			}
			zero := int64(0)
			_ = client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &zero})
			continue
		}
		if pods[string(pod.UID)] == nil {
			if pods[string(pod.UID)], err = m.start(ctx, client, pod, config.Host, config.CAData); err != nil {
				delete(pods, string(pod.UID))
				return err
			}
		}
		if err := m.podStatus(ctx, client, pod); err != nil {
			return err
		}
	}
	return nil
}

func (m *machine) keepReady(ctx context.Context, client kubernetes.Interface) error {
	nodes := client.CoreV1().Nodes()
	node, err := nodes.Get(ctx, m.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		node, err = nodes.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.name, Labels: map[string]string{
			"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": m.name,
			"node-role.kubernetes.io/control-plane": "true"}}}, metav1.CreateOptions{})
	}
	if err != nil {
		return err
	}
	amount := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("4Gi"), corev1.ResourcePods: resource.MustParse("110")}
	node.Status.Capacity, node.Status.Allocatable = amount, amount
	node.Status.NodeInfo.KubeletVersion, node.Status.NodeInfo.Architecture = "v1.33.13-fake", "amd64"
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: m.address.Addr().String()}, {Type: corev1.NodeHostName, Address: m.name}}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "Fake",
		Message: "a fake kubelet", LastHeartbeatTime: metav1.Now(), LastTransitionTime: node.CreationTimestamp}}
	_, err = nodes.UpdateStatus(ctx, node, metav1.UpdateOptions{})
	return err
}

// start runs a pod's first container as a process of the machine.
func (m *machine) start(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, host string, ca []byte) (*exec.Cmd, error) {
	token, err := client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, pod.Spec.ServiceAccountName,
		&authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		return nil, fmt.Errorf("token of %s: %w", pod.Spec.ServiceAccountName, err)
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: host, CertificateAuthorityData: ca}
	config.AuthInfos["c"] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	config.Contexts["c"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "c"}
	config.CurrentContext = "c"
	path := filepath.Join(m.dir, pod.Name+".kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(m.dir, pod.Name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	process := m.host.Command(ctx, m.operator, append(pod.Spec.Containers[0].Args, "--kubeconfig", path, "--namespace", pod.Namespace)...)
	process.Stdout, process.Stderr = log, log
	process.Cancel = func() error { return process.Process.Signal(unix.SIGTERM) }
	process.WaitDelay = 10 * time.Second
	m.log("%s: starts pod %s (%s)", m.name, pod.Name, pod.Spec.Containers[0].Image)
	return process, process.Start()
}

// podStatus asks the pod's readiness probe and says what it said.
func (m *machine) podStatus(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod) error {
	ready := corev1.ConditionFalse
	probe := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return m.host.DialContext(ctx, network, "127.0.0.1:8081")
	}, DisableKeepAlives: true}}
	if answer, err := probe.Get("http://pod/readyz"); err == nil {
		answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			ready = corev1.ConditionTrue
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady && c.Status == ready {
			return nil
		}
	}
	now := metav1.Now()
	condition := func(kind corev1.PodConditionType, status corev1.ConditionStatus) corev1.PodCondition {
		return corev1.PodCondition{Type: kind, Status: status, LastTransitionTime: now}
	}
	pod.Status.Phase, pod.Status.StartTime = corev1.PodRunning, &now
	pod.Status.PodIP, pod.Status.HostIP = m.address.Addr().String(), m.address.Addr().String()
	pod.Status.Conditions = []corev1.PodCondition{condition(corev1.PodScheduled, corev1.ConditionTrue), condition(corev1.PodInitialized, corev1.ConditionTrue),
		condition(corev1.ContainersReady, ready), condition(corev1.PodReady, ready)}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: pod.Spec.Containers[0].Name, Image: pod.Spec.Containers[0].Image,
		Ready: ready == corev1.ConditionTrue, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}}}
	_, err := client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
	return err
}
