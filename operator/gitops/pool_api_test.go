//go:build linux

package gitops

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/test/kube"
)

// metalLB is the release whose definitions the pool is tried against. Nothing of it
// is linked.
const metalLB = "go.universe.tf/metallb@v0.15.2"

func TestMetalLBsOwnDefinitionsTakeThePool(t *testing.T) {
	config := kube.Start(t)
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	r := &reconciler{Options: Options{Now: time.Now, Live: c}}
	w := &world{g: &v1alpha1.GitOps{}, cluster: &v1alpha1.Cluster{Spec: v1alpha1.ClusterSpec{Network: v1alpha1.NetworkSpec{CIDR: "192.168.1.0/24", Gateway: "192.168.1.1"}}}}
	says := func(what, reason, pool string) {
		t.Helper()
		if w.poolOK, err = r.defined(t.Context(), "ipaddresspools.metallb.io", "l2advertisements.metallb.io"); err != nil {
			t.Fatal(err)
		}
		got, condition := r.pool(t.Context(), w)
		if condition.Reason != reason || got != pool {
			t.Errorf("%s: %q, %+v; want %q, %s", what, got, condition, pool, reason)
		}
	}
	says("MetalLB is not there", v1alpha1.ReasonNoMetalLB, "")

	cmd := exec.Command("go", "mod", "download", "-json", metalLB)
	cmd.Dir = t.TempDir()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cannot fetch %s: %v", metalLB, err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		t.Fatal(err)
	}
	bases := filepath.Join(module.Dir, "config", "crd", "bases")
	if _, err := envtest.InstallCRDs(config, envtest.CRDInstallOptions{ErrorIfPathMissing: true, Paths: []string{
		filepath.Join(bases, "metallb.io_ipaddresspools.yaml"), filepath.Join(bases, "metallb.io_l2advertisements.yaml"),
	}}); err != nil {
		t.Fatal(err)
	}
	says("its namespace is not there", v1alpha1.ReasonNoMetalLB, "")
	if err := c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "metallb"}}); err != nil {
		t.Fatal(err)
	}
	says("it is there", v1alpha1.ReasonPoolApplied, "192.168.1.224-192.168.1.254")
	w.g.Status.LoadBalancerPool = "192.168.1.224-192.168.1.254"
	w.nodes = []v1alpha1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "alpha"}, Spec: v1alpha1.NodeSpec{Address: "192.168.1.240"}}}
	says("a machine is declared in the midst of it: what MetalLB has stays", v1alpha1.ReasonPoolOverlaps, "192.168.1.224-192.168.1.254")

	for kind, want := range map[string]map[string]any{
		"IPAddressPool":   {"addresses": []any{"192.168.1.224-192.168.1.254"}, "autoAssign": true, "avoidBuggyIPs": false},
		"L2Advertisement": {"ipAddressPools": []any{poolName}},
	} {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(addressPools.GroupVersion().WithKind(kind))
		if err := c.Get(t.Context(), client.ObjectKey{Namespace: "metallb", Name: poolName}, u); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, u.Object["spec"]); diff != "" {
			t.Errorf("the %s (-want +got):\n%s", kind, diff)
		}
	}
}
