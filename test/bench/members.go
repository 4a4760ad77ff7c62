//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/rhizome-dev/rhizome/chart"
	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe/media"
)

// The service accounts that our programs run as, with no more rights than the chart
// gives them.
var (
	operatorAccount = types.NamespacedName{Namespace: names.SystemNamespace, Name: "rhizome-operator"}
	podAccount      = types.NamespacedName{Namespace: names.DefaultPXENamespace, Name: names.PXEDeployment}
)

// podName is the PXE pod's.
const podName = "bench"

// members is an API server with a cluster of many members on it, all declared.
type members struct {
	client.Client
	scaleConfig
	admin *rest.Config
	raw   *kubernetes.Clientset

	bootFiles, cache string
	file             media.File // stands for all media
}

func newMembers(ctx context.Context, admin *rest.Config, config scaleConfig) (*members, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	m := &members{scaleConfig: config, admin: admin}
	var err error
	if m.Client, err = client.New(admin, client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	if m.raw, err = kubernetes.NewForConfig(admin); err != nil {
		return nil, err
	}
	m.bootFiles, m.cache = filepath.Join(config.Dir, "boot"), filepath.Join(config.Dir, "media")
	blob := filepath.Join(config.Dir, "image.raw")
	for _, path := range []string{
		blob, filepath.Join(m.bootFiles, "loader", "snponly.efi"),
		filepath.Join(m.bootFiles, "installer", "amd64", "vmlinuz"), filepath.Join(m.bootFiles, "installer", "amd64", "initrd.img"),
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, []byte(path), 0o644); err != nil {
			return nil, err
		}
	}
	cache, err := media.Open(m.cache)
	if err != nil {
		return nil, err
	}
	m.file, err = cache.Add(ctx, blob, "image.raw")
	return m, err
}

// name of the i-th machine; the first is the control plane.
func (m *members) name(i int) string { return fmt.Sprintf("node-%04d", i) }

// address of the i-th machine; the PXE pod runs on the first.
func (m *members) address(i int) string {
	if i == 0 {
		return serverAddress.String()
	}
	return addressOf(i).String()
}

// make makes what the seed and growth have left behind.
func (m *members) make(ctx context.Context) error {
	if err := m.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: names.SystemNamespace}}); err != nil {
		return err
	}
	if err := m.installChart(ctx); err != nil {
		return err
	}
	founding, err := provision.NewFounding(time.Now)
	if err != nil {
		return err
	}
	secrets, err := founding.JoinSecrets()
	if err != nil {
		return err
	}
	file := v1alpha1.File{URL: "https://example.org/image.raw", SHA256: v1alpha1.SHA256(m.file.SHA256)}
	for _, o := range []client.Object{
		&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: names.SystemNamespace, Name: names.FoundingSecret}, Type: names.FoundingType,
			Data: map[string][]byte{
				names.KeyServerToken: []byte(secrets.ServerToken), names.KeyAgentToken: []byte(secrets.AgentToken),
				names.KeyNodeKey: secrets.NodeKey, names.KeyServerAuthority: secrets.ServerCA,
			},
		},
		&v1alpha1.OperatingSystem{ObjectMeta: metav1.ObjectMeta{Name: "debian"}, Spec: v1alpha1.OperatingSystemSpec{
			Format: v1alpha1.FormatImage, Media: []v1alpha1.Medium{{Architecture: v1alpha1.AMD64, File: file}},
		}},
		&v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "bench"}, Spec: v1alpha1.ClusterSpec{
			Network:         v1alpha1.NetworkSpec{CIDR: v1alpha1.CIDR(benchLAN.String()), Gateway: v1alpha1.Address(gateway.String())},
			Kubernetes:      v1alpha1.KubernetesSpec{Version: "v1.33.5+k3s1", Files: []v1alpha1.KubernetesFiles{{Architecture: v1alpha1.AMD64, Binary: file, Images: []v1alpha1.File{file}}}},
			OperatingSystem: "debian",
		}},
		// The PXE pod that we run as a process: one that is in no list is taken for gone.
		&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: podAccount.Namespace, Name: podName, Labels: map[string]string{
				"app.kubernetes.io/name": "rhizome", "app.kubernetes.io/component": "pxe",
			}},
			Spec: corev1.PodSpec{
				NodeName: m.name(0), ServiceAccountName: podAccount.Name, AutomountServiceAccountToken: new(bool),
				Containers: []corev1.Container{{Name: "pxe", Image: "rhizome"}},
			},
		},
	} {
		if err := m.Create(ctx, o); err != nil {
			return fmt.Errorf("cannot make %T: %w", o, err)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(8)
	for i := range m.Machines {
		group.Go(func() error { return m.makeOne(ctx, i) })
	}
	return group.Wait()
}

// makeOne declares a machine, and makes the core Node that its kubelet would.
func (m *members) makeOne(ctx context.Context, i int) error {
	role, labels := v1alpha1.Worker, map[string]string{corev1.LabelHostname: m.name(i), corev1.LabelOSStable: "linux"}
	conditions := []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"}}
	if i == 0 {
		role, labels["node-role.kubernetes.io/control-plane"] = v1alpha1.ControlPlane, "true"
		conditions = append(conditions, corev1.NodeCondition{Type: "EtcdIsVoter", Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()})
	}
	core := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.name(i), Labels: labels}}
	if err := m.Create(ctx, core); err != nil {
		return err
	}
	core.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: m.address(i)}}
	core.Status.Conditions = conditions
	if err := m.Status().Update(ctx, core); err != nil {
		return err
	}
	return m.Create(ctx, &v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: m.name(i)}, Spec: v1alpha1.NodeSpec{
		Role: role, MAC: v1alpha1.MAC(macOf(i).String()), Address: v1alpha1.Address(m.address(i)),
	}})
}

func (m *members) installChart(ctx context.Context) error {
	text, err := chart.Render("rhizome", names.SystemNamespace, nil)
	if err != nil {
		return err
	}
	for document := range strings.SplitSeq("\n"+text, "\n---\n") {
		var u unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(document), &u.Object); err != nil {
			return err
		}
		if len(u.Object) == 0 {
			continue
		}
		if err := m.Patch(ctx, &u, client.Apply, client.FieldOwner("bench"), client.ForceOwnership); err != nil {
			return fmt.Errorf("cannot apply %s %s of the chart: %w", u.GetKind(), u.GetName(), err)
		}
	}
	return nil
}

// start starts a command of our binary as a service account.
func (m *members) start(ctx context.Context, command string, account types.NamespacedName, args ...string) (*daemon, error) {
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: account.Namespace, Name: account.Name}}
	token := &authenticationv1.TokenRequest{}
	if err := m.SubResource("token").Create(ctx, sa, token); err != nil {
		return nil, fmt.Errorf("cannot get a token of the service account %s: %w", account, err)
	}
	config := clientcmdapi.NewConfig()
	config.Clusters["bench"] = &clientcmdapi.Cluster{Server: m.admin.Host, CertificateAuthorityData: m.admin.CAData}
	config.AuthInfos["bench"] = &clientcmdapi.AuthInfo{Token: token.Status.Token}
	config.Contexts["bench"] = &clientcmdapi.Context{Cluster: "bench", AuthInfo: "bench"}
	config.CurrentContext = "bench"
	path := filepath.Join(m.Dir, command+".kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, m.Program, append([]string{command, "--kubeconfig=" + path}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return startDaemon("rhizome "+command, cmd)
}

// awaitReady waits until the operator has looked at all members and the PXE pod
// answers machines.
func (m *members) awaitReady(ctx context.Context, operator, pod *daemon) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	for told := time.Now(); ; {
		var nodes v1alpha1.NodeList
		if err := m.List(ctx, &nodes); err != nil {
			return err
		}
		ready := 0
		for i := range nodes.Items {
			if nodes.Items[i].Status.Phase == v1alpha1.PhaseReady {
				ready++
			}
		}
		if ready == m.Machines && strings.Contains(pod.log.String(), "booting machines") {
			return nil
		}
		if time.Since(told) > 10*time.Second {
			progress("%d of %d members are known as Ready", ready, m.Machines)
			told = time.Now()
		}
		why := ""
		select {
		case <-operator.ended:
			why = operator.name + " has ended"
		case <-pod.ended:
			why = pod.name + " has ended"
		case <-ctx.Done():
			why = ctx.Err().Error()
		case <-time.After(500 * time.Millisecond):
			continue
		}
		return fmt.Errorf("%d of %d members are known as Ready: %s; the operator said:\n%s\nthe PXE pod said:\n%s",
			ready, m.Machines, why, operator.log.String(), pod.log.String())
	}
}

// requests counts API requests by verb and resource.
type requests map[string]int64

// count counts the requests of the next window, as the API server does.
func (m *members) count(ctx context.Context, what string) (requests, error) {
	progress("counting API requests for %v: %s", m.Window, what)
	before, err := m.requests(ctx)
	if err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(m.Window):
	}
	after, err := m.requests(ctx)
	if err != nil {
		return nil, err
	}
	for key, n := range before {
		if after[key] -= n; after[key] == 0 {
			delete(after, key)
		}
	}
	return after, nil
}

func (m *members) requests(ctx context.Context) (requests, error) {
	text, err := m.raw.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return nil, err
	}
	return parseRequests(string(text))
}

// parseRequests reads apiserver_request_total, of resources only.
func parseRequests(metrics string) (requests, error) {
	all := requests{}
	for line := range strings.Lines(metrics) {
		labels, ok := strings.CutPrefix(line, "apiserver_request_total{")
		if !ok {
			continue
		}
		labels, value, ok := strings.Cut(strings.TrimSpace(labels), "} ")
		n, err := strconv.ParseFloat(value, 64)
		if !ok || err != nil {
			return nil, fmt.Errorf("cannot read the API server's metric %q", line)
		}
		label := map[string]string{}
		for _, pair := range strings.Split(labels, ",") {
			key, quoted, _ := strings.Cut(pair, "=")
			label[key] = strings.Trim(quoted, `"`)
		}
		if label["resource"] == "" {
			continue // such as our own reading of the metrics
		}
		resource := label["resource"]
		if label["subresource"] != "" {
			resource += "/" + label["subresource"]
		}
		all[label["verb"]+" "+resource] += int64(n)
	}
	if len(all) == 0 {
		return nil, errors.New("the API server's metrics have no apiserver_request_total")
	}
	return all, nil
}

func (r requests) total() int64 {
	var sum int64
	for _, n := range r {
		sum += n
	}
	return sum
}

// String has the most frequent first.
func (r requests) String() string {
	keys := slices.SortedFunc(maps.Keys(r), func(a, b string) int {
		if r[a] != r[b] {
			return int(r[b] - r[a])
		}
		return strings.Compare(a, b)
	})
	var words []string
	for _, key := range keys {
		words = append(words, fmt.Sprintf("%d %s", r[key], key))
	}
	return strings.Join(words, ", ")
}
