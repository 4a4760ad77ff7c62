package inventory

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// sound is an inventory that breaks no rule.
func sound() Inventory {
	return Inventory{
		Clusters: []v1alpha1.Cluster{{
			ObjectMeta: metav1.ObjectMeta{Name: "home"},
			Spec: v1alpha1.ClusterSpec{
				Network:         v1alpha1.NetworkSpec{CIDR: "192.168.1.0/24", Gateway: "192.168.1.1", Nameservers: []v1alpha1.Address{"192.168.1.1", "9.9.9.9"}},
				ControlPlane:    v1alpha1.ControlPlaneSpec{VirtualIP: ptr(v1alpha1.Address("192.168.1.5"))},
				Kubernetes:      v1alpha1.KubernetesSpec{Version: "v1.33.5+k3s1", PodCIDR: "10.42.0.0/16", ServiceCIDR: "10.43.0.0/16"},
				OperatingSystem: "debian",
			},
		}},
		OperatingSystems: []v1alpha1.OperatingSystem{system("debian", v1alpha1.FormatImage, "https://example.org/debian.raw", v1alpha1.AMD64, v1alpha1.ARM64)},
		Nodes: []v1alpha1.Node{
			node("alpha", v1alpha1.ControlPlane, "52:54:00:00:00:01", "192.168.1.10"),
			node("beta", v1alpha1.Worker, "52:54:00:00:00:02", "192.168.1.11"),
		},
		GitOps: []v1alpha1.GitOps{{ObjectMeta: metav1.ObjectMeta{Name: "gitops"}}},
	}
}

func node(name string, role v1alpha1.Role, mac v1alpha1.MAC, address v1alpha1.Address) v1alpha1.Node {
	return v1alpha1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.NodeSpec{Role: role, MAC: mac, Address: address}}
}

func system(name string, format v1alpha1.Format, url v1alpha1.URL, archs ...v1alpha1.Architecture) v1alpha1.OperatingSystem {
	s := v1alpha1.OperatingSystem{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.OperatingSystemSpec{Format: format}}
	for _, a := range archs {
		s.Spec.Media = append(s.Spec.Media, v1alpha1.Medium{Architecture: a, File: v1alpha1.File{URL: url, SHA256: v1alpha1.SHA256(strings.Repeat("0", 64))}})
	}
	return s
}

func board(endpoint, system string) *v1alpha1.PowerSpec {
	return &v1alpha1.PowerSpec{Redfish: &v1alpha1.RedfishSpec{Endpoint: endpoint, SystemID: system}}
}

func ptr[T any](v T) *T { return &v }

func TestCheck(t *testing.T) {
	type want struct{ rule, object, field, says string }
	spec := func(inv *Inventory) *v1alpha1.ClusterSpec { return &inv.Clusters[0].Spec }
	cases := []struct {
		reason string
		change func(*Inventory)
		want   []want
	}{
		{"a sound inventory breaks no rule", func(*Inventory) {}, nil},
		{"one control-plane node and nothing else is sound", func(inv *Inventory) {
			inv.Nodes, inv.GitOps, spec(inv).ControlPlane.VirtualIP = inv.Nodes[:1], nil, nil
		}, nil},
		{"no Cluster", func(inv *Inventory) { inv.Clusters = nil },
			[]want{{"NoCluster", "", "", "no Cluster is declared; declare one: apiVersion rhizome.dev/v1alpha1, kind Cluster"}}},
		{"a second Cluster", func(inv *Inventory) {
			inv.Clusters = append(inv.Clusters, v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "away"}})
		}, []want{{"SecondCluster", "Cluster/away", "", "declared already: Cluster/home; remove one"}}},
		{"a second GitOps", func(inv *Inventory) {
			inv.GitOps = append(inv.GitOps, v1alpha1.GitOps{ObjectMeta: metav1.ObjectMeta{Name: "other"}})
		}, []want{{"SecondGitOps", "GitOps/other", "", "declared already: GitOps/gitops"}}},
		{"two Nodes of one name", func(inv *Inventory) { inv.Nodes[1].Name = "alpha" },
			[]want{{"DuplicateName", "Node/alpha", "metadata.name", "taken already"}}},
		{"two OperatingSystems of one name", func(inv *Inventory) {
			inv.OperatingSystems = append(inv.OperatingSystems, inv.OperatingSystems[0])
		}, []want{{"DuplicateName", "OperatingSystem/debian", "metadata.name", "taken already"}}},

		{"a worker in a segment is sound", func(inv *Inventory) {
			spec(inv).Network.Segments = []v1alpha1.NetworkSegment{{CIDR: "10.9.0.0/24", Gateway: "10.9.0.1"}}
			inv.Nodes[1].Spec.Address = "10.9.0.11"
		}, nil},
		{"a server in a segment, with a virtual IP", func(inv *Inventory) {
			spec(inv).Network.Segments = []v1alpha1.NetworkSegment{{CIDR: "10.9.0.0/24", Gateway: "10.9.0.1"}}
			inv.Nodes[0].Spec.Address = "10.9.0.11"
		}, []want{{"ServerInSegment", "Node/alpha", "spec.address", "10.9.0.11 stands in the segment 10.9.0.0/24"}}},
		{"a server in a segment, without one", func(inv *Inventory) {
			spec(inv).Network.Segments = []v1alpha1.NetworkSegment{{CIDR: "10.9.0.0/24", Gateway: "10.9.0.1"}}
			spec(inv).ControlPlane.VirtualIP = nil
			inv.Nodes[0].Spec.Address = "10.9.0.11"
		}, nil},
		{"addresses of a segment that no machine can have", func(inv *Inventory) {
			spec(inv).Network.Segments = []v1alpha1.NetworkSegment{{CIDR: "10.9.0.0/24", Gateway: "10.9.0.1"}, {CIDR: "10.8.0.0/24", Gateway: "10.8.0.1"}}
			inv.Nodes[1].Spec.Address = "10.9.0.255"
			inv.Nodes = append(inv.Nodes, node("gamma", v1alpha1.Worker, "52:54:00:00:00:03", "10.8.0.1"))
		}, []want{{"AddressOutside", "Node/beta", "spec.address", "10.9.0.255"}, {"AddressIsGateway", "Node/gamma", "spec.address", "gateway of the segment 10.8.0.0/24"}}},
		{"segments that overlap", func(inv *Inventory) {
			spec(inv).Network.Segments = []v1alpha1.NetworkSegment{{CIDR: "10.42.9.0/24", Gateway: "10.42.9.1"}}
		}, []want{{"NetworkOverlap", "Cluster/home", "spec.kubernetes.podCIDR", "spec.network.segments[0].cidr"}}},
		{"a pool of guests is sound", func(inv *Inventory) {
			spec(inv).Network.DHCP, spec(inv).Network.DHCPPool = v1alpha1.DHCPServer, ptr(v1alpha1.CIDR("192.168.1.128/26"))
		}, nil},
		{"a pool of guests that others use too", func(inv *Inventory) {
			spec(inv).Network.DHCP, spec(inv).Network.DHCPPool = v1alpha1.DHCPServer, ptr(v1alpha1.CIDR("192.168.1.0/24"))
			inv.Nodes = inv.Nodes[:1]
		}, []want{
			{"DHCPPoolTaken", "Cluster/home", "spec.network.dhcpPool", "holds the virtual IP 192.168.1.5"},
			{"DHCPPoolTaken", "Cluster/home", "spec.network.dhcpPool", "overlaps the load balancer pool"},
			{"DHCPPoolTaken", "Node/alpha", "spec.address", "lies in network.dhcpPool 192.168.1.0/24"},
		}},
		{"Secure Boot beside the router's DHCP server", func(inv *Inventory) {
			inv.Nodes[1].Spec.Boot = &v1alpha1.BootSpec{Loader: v1alpha1.LoaderSigned}
		}, []want{{"SignedByProxy", "Node/beta", "spec.boot.loader", "set the Cluster's spec.network.dhcp to Server"}}},
		{"Secure Boot with our DHCP server is sound", func(inv *Inventory) {
			spec(inv).Network.DHCP, spec(inv).PXE.Loader = v1alpha1.DHCPServer, v1alpha1.LoaderSigned
		}, nil},
		{"Secure Boot with a distribution's own installer", func(inv *Inventory) {
			spec(inv).Network.DHCP = v1alpha1.DHCPServer
			inv.Nodes[1].Spec.Boot = &v1alpha1.BootSpec{Loader: v1alpha1.LoaderSigned}
			inv.OperatingSystems[0].Spec.Format = v1alpha1.FormatKickstart
		}, []want{{"SignedImage", "Node/beta", "spec.boot.loader", "has the format Kickstart"}}},
		{"Secure Boot on arm64", func(inv *Inventory) {
			spec(inv).Network.DHCP = v1alpha1.DHCPServer
			inv.Nodes[1].Spec.Architecture, inv.Nodes[1].Spec.Boot = v1alpha1.ARM64, &v1alpha1.BootSpec{Loader: v1alpha1.LoaderSigned}
		}, []want{{"SignedOnARM", "Node/beta", "spec.boot.loader", "no signed loader for arm64"}}},

		{"the gateway is elsewhere", func(inv *Inventory) { spec(inv).Network.Gateway = "192.168.2.1" },
			[]want{{"GatewayOutside", "Cluster/home", "spec.network.gateway", "192.168.2.1 lies outside of network.cidr 192.168.1.0/24; write"}}},
		{"the gateway is the network's own address", func(inv *Inventory) { spec(inv).Network.Gateway = "192.168.1.0" },
			[]want{{"GatewayOutside", "Cluster/home", "spec.network.gateway", "address of the network"}}},
		{"the gateway is the broadcast address, which is in the pool too", func(inv *Inventory) { spec(inv).Network.Gateway = "192.168.1.255" },
			[]want{
				{"GatewayInPool", "Cluster/home", "spec.network.gateway", "the last /27 of network.cidr"},
				{"GatewayOutside", "Cluster/home", "spec.network.gateway", "broadcast address"},
			}},
		{"pods on the machines' network", func(inv *Inventory) { spec(inv).Kubernetes.PodCIDR = "192.168.0.0/16" },
			[]want{{"NetworkOverlap", "Cluster/home", "spec.kubernetes.podCIDR", "192.168.0.0/16 overlaps spec.network.cidr 192.168.1.0/24"}}},
		{"services on the machines' network", func(inv *Inventory) { spec(inv).Kubernetes.ServiceCIDR = "192.168.1.128/25" },
			[]want{{"NetworkOverlap", "Cluster/home", "spec.kubernetes.serviceCIDR", "overlaps spec.network.cidr"}}},
		{"pods on the services' network", func(inv *Inventory) { spec(inv).Kubernetes.ServiceCIDR = "10.42.8.0/24" },
			[]want{{"NetworkOverlap", "Cluster/home", "spec.kubernetes.serviceCIDR", "overlaps spec.kubernetes.podCIDR"}}},
		{"a node as nameserver", func(inv *Inventory) { spec(inv).Network.Nameservers[1] = "192.168.1.11" },
			[]want{{"NameserverIsNode", "Cluster/home", "spec.network.nameservers[1]", "address of Node/beta"}}},
		{"the virtual IP as nameserver", func(inv *Inventory) { spec(inv).Network.Nameservers[0] = "192.168.1.5" },
			[]want{{"NameserverIsNode", "Cluster/home", "spec.network.nameservers[0]", "virtual IP"}}},
		{"a nameserver in the pool", func(inv *Inventory) { spec(inv).Network.Nameservers[0] = "192.168.1.230" },
			[]want{{"NameserverIsNode", "Cluster/home", "spec.network.nameservers[0]", "192.168.1.224/27"}}},

		{"a network too small for the default pool", func(inv *Inventory) { spec(inv).Network.CIDR = "192.168.1.0/28" },
			[]want{{"NoPool", "Cluster/home", "spec.network.cidr", "no room for the default load balancer pool, the last /27; set spec.loadBalancerPool"}}},
		{"a network as large as the default pool", func(inv *Inventory) { spec(inv).Network.CIDR = "192.168.1.0/27" },
			[]want{{"NoPool", "Cluster/home", "spec.network.cidr", "set spec.loadBalancerPool"}}},
		{"a small network with a pool of its own is sound", func(inv *Inventory) {
			spec(inv).Network.CIDR, spec(inv).LoadBalancerPool = "192.168.1.0/28", ptr(v1alpha1.CIDR("192.168.1.12/30"))
		}, nil},
		{"the pool is elsewhere", func(inv *Inventory) { spec(inv).LoadBalancerPool = ptr(v1alpha1.CIDR("10.9.0.0/24")) },
			[]want{{"PoolOutside", "Cluster/home", "spec.loadBalancerPool", "outside"}}},
		{"the pool is all of the network", func(inv *Inventory) { spec(inv).LoadBalancerPool = ptr(v1alpha1.CIDR("192.168.1.0/24")) },
			[]want{
				{"VirtualIPInPool", "Cluster/home", "spec.controlPlane.virtualIP", ""},
				{"PoolOutside", "Cluster/home", "spec.loadBalancerPool", "is all of network.cidr"},
				{"GatewayInPool", "Cluster/home", "spec.network.gateway", ""},
				{"NameserverIsNode", "Cluster/home", "spec.network.nameservers[0]", ""},
				{"AddressInPool", "Node/alpha", "spec.address", ""},
				{"AddressInPool", "Node/beta", "spec.address", ""},
			}},
		{"the pool is larger than the network", func(inv *Inventory) {
			spec(inv).Network.CIDR, spec(inv).LoadBalancerPool = "192.168.1.0/28", ptr(v1alpha1.CIDR("192.168.1.0/27"))
			inv.Nodes, spec(inv).ControlPlane.VirtualIP, spec(inv).Network.Nameservers, spec(inv).Network.Gateway = nil, nil, nil, ""
		}, []want{{"NoControlPlane", "", "", ""}, {"PoolOutside", "Cluster/home", "spec.loadBalancerPool", "larger"}}},
		{"the gateway is in the declared pool", func(inv *Inventory) {
			spec(inv).LoadBalancerPool, spec(inv).Network.Nameservers = ptr(v1alpha1.CIDR("192.168.1.0/30")), nil
		}, []want{{"GatewayInPool", "Cluster/home", "spec.network.gateway", "the load balancer pool 192.168.1.0/30; set"}}},

		{"the virtual IP is elsewhere", func(inv *Inventory) { spec(inv).ControlPlane.VirtualIP = ptr(v1alpha1.Address("10.0.0.5")) },
			[]want{{"VirtualIPOutside", "Cluster/home", "spec.controlPlane.virtualIP", "outside"}}},
		{"the virtual IP is the gateway", func(inv *Inventory) { spec(inv).ControlPlane.VirtualIP = ptr(v1alpha1.Address("192.168.1.1")) },
			[]want{
				{"VirtualIPTaken", "Cluster/home", "spec.controlPlane.virtualIP", "is network.gateway"},
				{"NameserverIsNode", "Cluster/home", "spec.network.nameservers[0]", ""},
			}},
		{"the virtual IP is a node's", func(inv *Inventory) { spec(inv).ControlPlane.VirtualIP = ptr(v1alpha1.Address("192.168.1.11")) },
			[]want{{"VirtualIPTaken", "Cluster/home", "spec.controlPlane.virtualIP", "address of Node/beta"}}},
		{"the virtual IP is in the default pool", func(inv *Inventory) { spec(inv).ControlPlane.VirtualIP = ptr(v1alpha1.Address("192.168.1.224")) },
			[]want{{"VirtualIPInPool", "Cluster/home", "spec.controlPlane.virtualIP", "192.168.1.224/27 (the last /27 of network.cidr"}}},

		{"only workers", func(inv *Inventory) { inv.Nodes[0].Spec.Role = v1alpha1.Worker },
			[]want{{"NoControlPlane", "", "", "role ControlPlane"}}},
		{"two control-plane nodes", func(inv *Inventory) { inv.Nodes[1].Spec.Role = v1alpha1.ControlPlane },
			[]want{{"EvenControlPlane", "", "", "2 control-plane nodes are declared (alpha, beta)"}}},
		{"one MAC twice", func(inv *Inventory) { inv.Nodes[1].Spec.MAC = inv.Nodes[0].Spec.MAC },
			[]want{{"DuplicateMAC", "Node/beta", "spec.mac", "52:54:00:00:00:01 is the MAC of Node/alpha too"}}},
		{"one address twice", func(inv *Inventory) { inv.Nodes[1].Spec.Address = inv.Nodes[0].Spec.Address },
			[]want{{"DuplicateAddress", "Node/beta", "spec.address", "192.168.1.10 is the address of Node/alpha too"}}},
		{"a node elsewhere", func(inv *Inventory) { inv.Nodes[1].Spec.Address = "192.168.2.11" },
			[]want{{"AddressOutside", "Node/beta", "spec.address", "outside of network.cidr"}}},
		{"a node at the network's own address", func(inv *Inventory) { inv.Nodes[1].Spec.Address = "192.168.1.0" },
			[]want{{"AddressOutside", "Node/beta", "spec.address", "address of the network"}}},
		{"a node at the broadcast address, which is in the pool too", func(inv *Inventory) { inv.Nodes[1].Spec.Address = "192.168.1.255" },
			[]want{{"AddressInPool", "Node/beta", "spec.address", ""}, {"AddressOutside", "Node/beta", "spec.address", "broadcast"}}},
		{"a node at the gateway", func(inv *Inventory) {
			inv.Nodes[1].Spec.Address, spec(inv).Network.Nameservers = "192.168.1.1", nil
		}, []want{{"AddressIsGateway", "Node/beta", "spec.address", "network.gateway of Cluster/home"}}},
		{"a node in the default pool", func(inv *Inventory) { inv.Nodes[1].Spec.Address = "192.168.1.240" },
			[]want{{"AddressInPool", "Node/beta", "spec.address", "192.168.1.224/27"}}},
		{"a node in the declared pool", func(inv *Inventory) { spec(inv).LoadBalancerPool = ptr(v1alpha1.CIDR("192.168.1.8/29")) },
			[]want{{"AddressInPool", "Node/alpha", "spec.address", "192.168.1.8/29"}, {"AddressInPool", "Node/beta", "spec.address", ""}}},

		{"the Cluster names an unknown operating system", func(inv *Inventory) { spec(inv).OperatingSystem = "debain" },
			[]want{{"UnknownOperatingSystem", "Cluster/home", "spec.operatingSystem", `no OperatingSystem "debain" is declared; declare it, or name one that is declared: debian`}}},
		{"a Node names an unknown operating system", func(inv *Inventory) { inv.Nodes[0].Spec.OperatingSystem = "fedora" },
			[]want{{"UnknownOperatingSystem", "Node/alpha", "spec.operatingSystem", "fedora"}}},
		{"no medium for an architecture", func(inv *Inventory) {
			inv.OperatingSystems[0].Spec.Media, inv.Nodes[1].Spec.Architecture = inv.OperatingSystems[0].Spec.Media[:1], v1alpha1.ARM64
		}, []want{{"NoMedium", "Node/beta", "spec.architecture", "OperatingSystem/debian has no medium for arm64"}}},
		{"a medium without its digest", func(inv *Inventory) { inv.OperatingSystems[0].Spec.Media[0].SHA256 = "" },
			[]want{{"MediumNotLocked", "OperatingSystem/debian", "spec.media[0].sha256", "which Node/alpha needs, is not used while its digest is not known"}}},
		{"a file without its digest", func(inv *Inventory) {
			inv.OperatingSystems[0].Spec.Media[0].File = v1alpha1.File{}
			inv.OperatingSystems[0].Spec.Media[0].Files = []v1alpha1.TreeFile{{Path: "linux", File: v1alpha1.File{URL: "https://example.org/linux"}}}
		}, []want{{"MediumNotLocked", "OperatingSystem/debian", "spec.media[0].files[0].sha256", "https://example.org/linux, which Node/alpha needs"}}},
		{"a medium without its digest that no node uses is sound", func(inv *Inventory) {
			fedora := system("fedora", v1alpha1.FormatKickstart, "https://example.org/fedora.iso", v1alpha1.AMD64)
			fedora.Spec.Media[0].SHA256 = ""
			inv.OperatingSystems = append(inv.OperatingSystems, fedora)
		}, nil},
		{"files of one architecture of two", func(inv *Inventory) {
			inv.Nodes[1].Spec.Architecture = v1alpha1.ARM64
			spec(inv).Kubernetes.Files = []v1alpha1.KubernetesFiles{{Architecture: v1alpha1.AMD64}}
		}, []want{{"FilesIncomplete", "Cluster/home", "spec.kubernetes.files", "no entry for arm64, which Node/beta needs"}}},
		{"two machines with controllers of their own", func(inv *Inventory) {
			inv.Nodes[0].Spec.Power, inv.Nodes[1].Spec.Power = board("https://192.168.1.20", ""), board("https://192.168.1.21", "")
		}, nil},
		{"two systems of one controller", func(inv *Inventory) {
			inv.Nodes[0].Spec.Power, inv.Nodes[1].Spec.Power = board("https://192.168.1.20", "1"), board("https://192.168.1.20", "2")
		}, nil},
		{"one controller for two machines, in two spellings", func(inv *Inventory) {
			inv.Nodes[0].Spec.Power, inv.Nodes[1].Spec.Power = board("https://BMC.example.org:443/redfish/v1/", ""), board("https://bmc.example.org", "")
		}, []want{{"DuplicateBoard", "Node/beta", "spec.power.redfish.endpoint", "is the controller of Node/alpha"}}},
		{"a controller at the machine's own address", func(inv *Inventory) { inv.Nodes[1].Spec.Power = board("https://192.168.1.11:8443", "") },
			[]want{{"BoardIsMachine", "Node/beta", "spec.power.redfish.endpoint", "192.168.1.11 is the address of Node/beta"}}},
		{"a controller at the router's address", func(inv *Inventory) { inv.Nodes[1].Spec.Power = board("https://192.168.1.1", "") },
			[]want{{"BoardIsMachine", "Node/beta", "spec.power.redfish.endpoint", "192.168.1.1 is the address of the router"}}},
		{"a controller at the virtual IP", func(inv *Inventory) { inv.Nodes[1].Spec.Power = board("https://192.168.1.5", "") },
			[]want{{"BoardIsMachine", "Node/beta", "spec.power.redfish.endpoint", "192.168.1.5 is the address of the control plane"}}},
		{"a controller in the load balancer pool", func(inv *Inventory) { inv.Nodes[1].Spec.Power = board("https://192.168.1.230", "") },
			[]want{{"BoardIsMachine", "Node/beta", "spec.power.redfish.endpoint", "192.168.1.230 lies in"}}},

		{"what the schema refuses is passed over", func(inv *Inventory) {
			spec(inv).Network = v1alpha1.NetworkSpec{CIDR: "nonsense", Gateway: "nonsense", Nameservers: []v1alpha1.Address{"x"}}
			spec(inv).ControlPlane.VirtualIP, spec(inv).LoadBalancerPool = ptr(v1alpha1.Address("fe80::1")), ptr(v1alpha1.CIDR("::/0"))
			spec(inv).Kubernetes = v1alpha1.KubernetesSpec{PodCIDR: "x", ServiceCIDR: "y"}
			for i := range inv.Nodes {
				inv.Nodes[i].Spec.Address, inv.Nodes[i].Spec.MAC = "FILL-IN", "FILL-IN"
			}
		}, nil},
	}
	proven := map[string]bool{}
	for _, tc := range cases {
		t.Run(tc.reason, func(t *testing.T) {
			inv := sound()
			tc.change(&inv)
			var got []want
			for i, f := range Check(inv) {
				w := want{rule: f.Rule, object: f.Object, field: f.Field}
				if i < len(tc.want) && strings.Contains(f.String(), tc.want[i].says) {
					w.says = tc.want[i].says
				} else {
					w.says = f.String()
				}
				if f.Message == "" || f.Fix == "" {
					t.Errorf("%s lacks a message or what to do: %+v", f.Rule, f)
				}
				got = append(got, w)
				proven[f.Rule] = true
			}
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(want{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for _, r := range Rules() {
		if !proven[r.Name] {
			t.Errorf("no case breaks the rule %s", r.Name)
		}
	}
}

func TestFindingsNameFileAndLine(t *testing.T) {
	inv := sound()
	inv.Nodes[1].Spec.Address = inv.Nodes[0].Spec.Address
	inv.Origins = map[Key]Origin{
		{"Node", 0}: {File: "a.yaml", Line: 1, Fields: map[string]int{"spec": 5, "spec.address": 7}},
		{"Node", 1}: {File: "b.yaml", Line: 2, Fields: map[string]int{"spec": 6}},
	}
	got := Check(inv)
	if len(got) != 1 {
		t.Fatalf("%d findings, want 1", len(got))
	}
	want := "b.yaml:6: Node/beta: spec.address: 192.168.1.10 is the address of Node/alpha (a.yaml:7) too; give one of the two another address"
	if got[0].String() != want {
		t.Errorf("got  %s\nwant %s", got[0], want)
	}
}

func TestAFindingIsOneLineThatNoManifestCanBreak(t *testing.T) {
	f := Finding{Object: "Node/x\x1b[31m", Message: "a\nb\tc\u009bd", Fix: "e"}
	if got, want := f.String(), "Node/x[31m: a b cd; e"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPool(t *testing.T) {
	for cidr, want := range map[v1alpha1.CIDR]string{
		"192.168.1.0/24":  "192.168.1.224/27",
		"10.0.0.0/8":      "10.255.255.224/27",
		"192.168.1.64/26": "192.168.1.96/27",
		"192.168.1.0/27":  "invalid Prefix",
		"192.168.1.0/30":  "invalid Prefix",
		"0.0.0.0/0":       "255.255.255.224/27",
		"fd00::/64":       "invalid Prefix",
		"":                "invalid Prefix",
	} {
		c := v1alpha1.Cluster{Spec: v1alpha1.ClusterSpec{Network: v1alpha1.NetworkSpec{CIDR: cidr}}}
		if got := Pool(c).String(); got != want {
			t.Errorf("Pool(%q) = %s, want %s", cidr, got, want)
		}
		c.Spec.LoadBalancerPool = ptr(v1alpha1.CIDR("172.16.0.0/28"))
		if got := Pool(c); got != netip.MustParsePrefix("172.16.0.0/28") {
			t.Errorf("the declared pool of %q is %s", cidr, got)
		}
	}
}

func TestFirstNode(t *testing.T) {
	inv := sound()
	inv.Nodes = append(inv.Nodes, node("aaa", v1alpha1.Worker, "52:54:00:00:00:03", "192.168.1.12"), node("aleph", v1alpha1.ControlPlane, "52:54:00:00:00:04", "192.168.1.13"))
	for name, want := range map[string]string{
		"":      "aleph",
		"alpha": "alpha",
		"beta":  "Node/beta has the role Worker: the first node must have the role ControlPlane",
		"none":  `no Node "none" is declared: name one of those that are, or declare it`,
	} {
		n, err := inv.FirstNode(name)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = n.Name
		}
		if got != want {
			t.Errorf("FirstNode(%q) = %s, want %s", name, got, want)
		}
	}
	if _, err := (Inventory{}).FirstNode(""); err == nil {
		t.Error("the first node of nothing")
	}
}

func TestMediumOf(t *testing.T) {
	inv := sound()
	n := inv.Nodes[0]
	for _, tc := range []struct {
		change func()
		want   string
	}{
		{func() {}, "debian amd64"},
		{func() { n.Spec.Architecture = v1alpha1.ARM64 }, "debian arm64"},
		{func() { inv.OperatingSystems[0].Spec.Media = nil }, "OperatingSystem/debian has no medium for arm64, which Node/alpha needs: add one to spec.media"},
		{func() { n.Spec.OperatingSystem = "other" }, `Node/alpha: no OperatingSystem "other" is declared: declare it, or name one that is`},
	} {
		tc.change()
		s, m, err := inv.MediumOf(&n)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = s.Name + " " + string(m.Architecture)
		}
		if got != tc.want {
			t.Errorf("got %s, want %s", got, tc.want)
		}
	}
}
