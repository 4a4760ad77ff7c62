package provision

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/k3s"
)

func TestTheFirstServersCredentialsAreKnownBeforehand(t *testing.T) {
	founding, err := NewFounding(func() time.Time { return t0 })
	if err != nil {
		t.Fatal(err)
	}
	kept, err := json.Marshal(founding)
	if err != nil {
		t.Fatal(err)
	}
	var again Founding
	if err := json.Unmarshal(kept, &again); err != nil {
		t.Fatal(err)
	}
	inv := homelab()
	vip := v1alpha1.Address("192.168.1.5")
	inv.Clusters[0].Spec.ControlPlane = v1alpha1.ControlPlaneSpec{VirtualIP: &vip, ExtraNames: []string{"k8s.example.org"}}
	files, err := founding.FirstServer(inv, &inv.Nodes[0])
	if err != nil {
		t.Fatal(err)
	}
	fromKept, err := again.FirstServer(inv, &inv.Nodes[0])
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(files, fromKept); diff != "" {
		t.Errorf("from what was kept come other files:\n%s", diff)
	}
	contents := map[string]string{}
	for _, f := range files {
		contents[f.Path] = string(f.Content)
	}
	token, err := founding.ServerToken()
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"cluster-init: true", "node-name: alpha", "node-ip: 192.168.1.10", "token: " + token,
		"- 192.168.1.5", "- k8s.example.org", "- servicelb", "- traefik", "- rack=1", "- dedicated=control:NoSchedule",
	} {
		if !strings.Contains(contents[k3s.ConfigPath], line+"\n") {
			t.Errorf("the config lacks %q:\n%s", line, contents[k3s.ConfigPath])
		}
	}
	for _, path := range []string{
		k3s.NodePasswordPath, k3s.ServerTLSDir + "/server-ca.key", k3s.ServerTLSDir + "/service.key", k3s.PodManifestsDir + "/kube-vip.yaml",
	} {
		if contents[path] == "" {
			t.Errorf("no %s", path)
		}
	}

	if _, err := founding.FirstServer(inv, &inv.Nodes[1]); err == nil || !strings.Contains(err.Error(), "Node/beta: spec.role") {
		t.Errorf("a worker founds a cluster: %v", err)
	}
	inv.Clusters[0].Spec.ControlPlane.VirtualIP = nil
	files, err = founding.FirstServer(inv, &inv.Nodes[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.Contains(f.Path, "kube-vip") {
			t.Error("kube-vip without a virtual IP")
		}
	}
}

func TestEndpoint(t *testing.T) {
	inv := homelab()
	if got := Endpoint(&inv.Clusters[0], &inv.Nodes[0]); got != "https://192.168.1.10:6443" {
		t.Error(got)
	}
	vip := v1alpha1.Address("192.168.1.5")
	inv.Clusters[0].Spec.ControlPlane.VirtualIP = &vip
	if got := Endpoint(&inv.Clusters[0], &inv.Nodes[0]); got != "https://192.168.1.5:6443" {
		t.Error(got)
	}
}

func TestErrorsNameTheField(t *testing.T) {
	for field, change := range map[string]func(*inventory.Inventory){
		"Cluster/cluster: spec.network.cidr: ":    func(i *inventory.Inventory) { i.Clusters[0].Spec.Network.CIDR = "x" },
		"Cluster/cluster: spec.network.gateway: ": func(i *inventory.Inventory) { i.Clusters[0].Spec.Network.Gateway = "x" },
		"Cluster/cluster: spec.network.nameservers[1]: ": func(i *inventory.Inventory) {
			i.Clusters[0].Spec.Network.Nameservers = []v1alpha1.Address{"9.9.9.9", "x"}
		},
		"Cluster/cluster: spec.kubernetes.podCIDR: ":     func(i *inventory.Inventory) { i.Clusters[0].Spec.Kubernetes.PodCIDR = "x" },
		"Cluster/cluster: spec.kubernetes.serviceCIDR: ": func(i *inventory.Inventory) { i.Clusters[0].Spec.Kubernetes.ServiceCIDR = "x" },
		"Cluster/cluster: spec.controlPlane.virtualIP: ": func(i *inventory.Inventory) {
			x := v1alpha1.Address("x")
			i.Clusters[0].Spec.ControlPlane.VirtualIP = &x
		},
		"Node/alpha: spec.address: ": func(i *inventory.Inventory) { i.Nodes[0].Spec.Address = "x" },
		"Node/alpha: spec.mac: ":     func(i *inventory.Inventory) { i.Nodes[0].Spec.MAC = "x" },
	} {
		founding, err := NewFounding(func() time.Time { return t0 })
		if err != nil {
			t.Fatal(err)
		}
		inv := homelab()
		change(&inv)
		if _, err := founding.FirstServer(inv, &inv.Nodes[0]); err == nil || !strings.HasPrefix(err.Error(), field) {
			t.Errorf("%v, want %s...", err, field)
		}
	}
}
