//go:build linux

package machine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/rhizome-dev/rhizome/internal/k3s"
)

// node is the machine as a node: a fake of k3s' agent and of the kubelet. It
// registers the core Node and keeps it Ready with the rights of a kubelet, and
// runs pods (pods.go).
type node struct {
	*Machine
	services *services
	isServer bool
	system   context.Context         // ends with the system
	end      context.CancelCauseFunc // ends the system
	bootID   string

	config agentConfig
	kube   kubernetes.Interface // as system:node:<name>
	agent  kubernetes.Interface // as system:k3s-controller
}

// The periods of a kubelet.
const (
	oftenEnough  = 10 * time.Second // of the Lease
	fullStatus   = 5 * time.Minute
	learnServers = 10 * time.Second
)

// run joins and is a node until ctx, the life of k3s, ends. Pods live on.
func (n *node) run(ctx context.Context) {
	joined := false
	for said := (time.Time{}); ctx.Err() == nil && !joined; sleep(ctx, time.Second) {
		n.whileFrozen(ctx)
		err := n.join(ctx)
		joined = err == nil
		if err != nil && ctx.Err() == nil && time.Since(said) > 10*time.Second {
			said = time.Now()
			n.Log("%s: waiting to join: %v", n.Name, err)
		}
	}
	if !joined {
		return
	}
	n.Log("%s: is a node", n.Name)
	if err := n.listen(ctx); err != nil && ctx.Err() == nil {
		n.Log("%s: the kubelet's port: %v", n.Name, err)
	}
	n.mu.Lock()
	if n.pods == nil {
		n.pods = newPods(n)
		go n.pods.run(n.system)
	}
	n.mu.Unlock()
	n.keep(ctx)
}

// stopped waits until nothing of the node runs any more. The system has ended.
func (n *node) stopped() {
	n.mu.Lock()
	p := n.pods
	n.pods = nil
	n.mu.Unlock()
	if p != nil {
		<-p.done
	}
}

func (n *node) join(ctx context.Context) error {
	config, err := n.readConfig()
	if err != nil {
		return err
	}
	server, token := config.Server, config.Token
	if n.isServer {
		// A server's own agent joins by the server itself.
		server = "https://127.0.0.1:6443"
		own, err := os.ReadFile(n.path(k3s.DataDir + "/server/token"))
		if err != nil {
			return err
		}
		token = string(own)
	}
	known, err := n.enrol(ctx, server, token, config)
	if err != nil {
		return err
	}
	if n.kube == nil { // else k3s was started again, and its pods live on
		n.config = config
		n.services.begin(strings.TrimPrefix(server, "https://"), n.isServer)
		if n.agent, err = kubernetes.NewForConfig(n.restConfig(known, known.controller)); err != nil {
			return err
		}
		if n.kube, err = kubernetes.NewForConfig(n.restConfig(known, known.kubelet)); err != nil {
			return err
		}
	}
	return n.register(ctx, config)
}

// register makes the core Node, as a kubelet does when it starts, and only then.
func (n *node) register(ctx context.Context, config agentConfig) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	_, err := n.kube.CoreV1().Nodes().Get(ctx, n.config.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = n.kube.CoreV1().Nodes().Create(ctx, coreNode(config), metav1.CreateOptions{})
	}
	if err != nil {
		return err
	}
	return n.sayReady(ctx)
}

func coreNode(config agentConfig) *corev1.Node {
	labels := map[string]string{
		"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": config.Name,
		"node.kubernetes.io/instance-type": "k3s",
	}
	for _, label := range config.Labels {
		key, value, _ := strings.Cut(label, "=")
		labels[key] = value
	}
	out := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: config.Name, Labels: labels}}
	out.Spec.ProviderID = "k3s://" + config.Name
	for _, taint := range config.Taints {
		key, effect, _ := strings.Cut(taint, ":")
		key, value, _ := strings.Cut(key, "=")
		out.Spec.Taints = append(out.Spec.Taints, corev1.Taint{Key: key, Value: value, Effect: corev1.TaintEffect(effect)})
	}
	return out
}

// sayReady patches the status as a kubelet does: conditions that others wrote stay.
func (n *node) sayReady(ctx context.Context) error {
	now := metav1.NewTime(n.now())
	why := n.ails()
	readiness := corev1.ConditionTrue
	if why != "" {
		readiness = corev1.ConditionFalse
	}
	amount := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("110")}
	status := corev1.NodeStatus{
		Capacity: amount, Allocatable: amount,
		Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: n.config.IP}, {Type: corev1.NodeHostName, Address: n.config.Name}},
		NodeInfo: corev1.NodeSystemInfo{KubeletVersion: "v1.33.13+fake", Architecture: "amd64", OperatingSystem: "linux",
			BootID: n.bootID, MachineID: strings.ReplaceAll(n.uuid(), "-", ""), SystemUUID: n.uuid(), OSImage: "a fake", ContainerRuntimeVersion: "fake://1"},
	}
	had, err := n.kube.CoreV1().Nodes().Get(ctx, n.config.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, c := range []struct {
		kind   corev1.NodeConditionType
		status corev1.ConditionStatus
	}{{corev1.NodeMemoryPressure, corev1.ConditionFalse}, {corev1.NodeDiskPressure, corev1.ConditionFalse},
		{corev1.NodePIDPressure, corev1.ConditionFalse}, {corev1.NodeReady, readiness}} {
		condition := corev1.NodeCondition{Type: c.kind, Status: c.status, Reason: "Fake", Message: "a fake kubelet",
			LastHeartbeatTime: now, LastTransitionTime: now}
		if c.kind == corev1.NodeReady && why != "" {
			condition.Message = why
		}
		for _, old := range had.Status.Conditions {
			if old.Type == c.kind && old.Status == c.status {
				condition.LastTransitionTime = old.LastTransitionTime
			}
		}
		status.Conditions = append(status.Conditions, condition)
	}
	patch, err := json.Marshal(map[string]any{"status": status})
	if err != nil {
		return err
	}
	_, err = n.kube.CoreV1().Nodes().Patch(ctx, n.config.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return err
}

// keep is the life of a node: its Lease, its status and the servers it knows.
func (n *node) keep(ctx context.Context) {
	var lease, status, learnt time.Time
	var said time.Time
	note := func(what string, err error) {
		if err != nil && ctx.Err() == nil && time.Since(said) > 10*time.Second {
			said = time.Now()
			n.Log("%s: kubelet: %s: %v", n.Name, what, err)
		}
	}
	own := strings.TrimPrefix(n.config.Server, "https://")
	if n.isServer {
		own = "127.0.0.1:6443"
	}
	heartbeat, ailed := n.Heartbeat, ""
	if heartbeat == 0 {
		heartbeat = oftenEnough
	}
	for ; ctx.Err() == nil; sleep(ctx, time.Second) {
		n.whileFrozen(ctx)
		trying, cancel := context.WithTimeout(ctx, 10*time.Second)
		now := time.Now()
		if now.Sub(lease) >= heartbeat {
			err := n.renew(trying)
			note("lease", err)
			if err == nil {
				lease = now
			}
		}
		// After a silence others said that the node is not Ready.
		why := n.ails()
		if now.Sub(status) >= fullStatus || why != ailed || n.wasDoubted(trying, now.Sub(status), heartbeat) {
			err := n.sayReady(trying)
			note("status", err)
			if err == nil {
				status, ailed = now, why
			}
		}
		if now.Sub(learnt) >= learnServers {
			err := n.services.learn(trying, n.agent, own)
			note("servers", err)
			learnt = now
		}
		cancel()
	}
}

// wasDoubted tells, every heartbeat, whether the Node's Ready condition is no
// longer what the kubelet said.
func (n *node) wasDoubted(ctx context.Context, since, heartbeat time.Duration) bool {
	if since.Truncate(time.Second)%heartbeat != 0 {
		return false
	}
	had, err := n.kube.CoreV1().Nodes().Get(ctx, n.config.Name, metav1.GetOptions{})
	if err != nil {
		return false
	}
	for _, c := range had.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status != corev1.ConditionTrue && (c.Status != corev1.ConditionFalse || n.ails() == "")
		}
	}
	return true
}

func (n *node) renew(ctx context.Context) error {
	leases := n.kube.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	now, seconds := metav1.NewMicroTime(n.now()), int32(40)
	lease, err := leases.Get(ctx, n.config.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		_, err = leases.Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: n.config.Name},
			Spec: coordinationv1.LeaseSpec{HolderIdentity: &n.config.Name, LeaseDurationSeconds: &seconds, RenewTime: &now}}, metav1.CreateOptions{})
		return err
	}
	if err != nil {
		return err
	}
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds, lease.Spec.RenewTime = &n.config.Name, &seconds, &now
	if _, err = leases.Update(ctx, lease, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("cannot renew the Lease: %w", err)
	}
	return nil
}

func randomID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	s := hex.EncodeToString(b)
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}
