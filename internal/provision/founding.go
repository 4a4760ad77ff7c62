package provision

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/k3s"
)

// Founding is what makes a cluster before its first machine runs. Whoever keeps
// it can make the credentials of the first server, and the kubeconfig, again and
// again. All of it is secret.
type Founding struct {
	Authorities k3s.Authorities `json:"authorities"`
	// ServerPassword and AgentPassword are in the tokens of servers and agents.
	ServerPassword string `json:"serverPassword"`
	AgentPassword  string `json:"agentPassword"`
	// NodeKey derives the password by which k3s knows a machine again.
	NodeKey []byte `json:"nodeKey"`
}

// NewFounding makes everything anew.
func NewFounding(now Clock) (Founding, error) {
	authorities, err := k3s.NewAuthorities(now())
	if err != nil {
		return Founding{}, fmt.Errorf("cannot make the cluster's authorities: %w", err)
	}
	return Founding{
		Authorities:    authorities,
		ServerPassword: k3s.NewPassword(),
		AgentPassword:  k3s.NewPassword(),
		NodeKey:        []byte(k3s.NewPassword()),
	}, nil
}

// FirstServer are the credentials of the cluster's first server, which founds it:
// its config with the tokens, the authorities, its node password and, if the
// cluster has a virtual IP, kube-vip. The same founding and declarations give the
// same files.
func (f Founding) FirstServer(inv inventory.Inventory, node *v1alpha1.Node) ([]k3s.File, error) {
	if node.Spec.Role != v1alpha1.ControlPlane {
		return nil, fmt.Errorf("Node/%s: spec.role: only a node with the role %s founds a cluster", node.Name, v1alpha1.ControlPlane)
	}
	secrets, err := f.JoinSecrets()
	if err != nil {
		return nil, err
	}
	files, err := secrets.server(inv, node, func(c *k3s.ServerConfig) { c.ClusterInit = true })
	if err != nil {
		return nil, err
	}
	return append(files, f.Authorities.Files()...), nil
}

// ServerToken joins servers.
func (f Founding) ServerToken() (string, error) {
	return k3s.ServerToken(f.Authorities.Server.Certificate, f.ServerPassword)
}

// JoinSecrets are what joins further members.
func (f Founding) JoinSecrets() (JoinSecrets, error) {
	server, err := f.ServerToken()
	if err != nil {
		return JoinSecrets{}, err
	}
	agent, err := k3s.AgentToken(f.Authorities.Server.Certificate, f.AgentPassword)
	if err != nil {
		return JoinSecrets{}, err
	}
	return JoinSecrets{ServerToken: server, AgentToken: agent, NodeKey: f.NodeKey, ServerCA: f.Authorities.Server.Certificate}, nil
}

// SharedConfig is the declared part of what is the same on every server: all but
// the agent token.
func SharedConfig(inv inventory.Inventory) (k3s.Shared, error) {
	c, err := inv.Cluster()
	if err != nil {
		return k3s.Shared{}, err
	}
	pods, err := prefixOr(c.Spec.Kubernetes.PodCIDR, "10.42.0.0/16")
	if err != nil {
		return k3s.Shared{}, fmt.Errorf("Cluster/%s: spec.kubernetes.podCIDR: %w", c.Name, err)
	}
	services, err := prefixOr(c.Spec.Kubernetes.ServiceCIDR, "10.43.0.0/16")
	if err != nil {
		return k3s.Shared{}, fmt.Errorf("Cluster/%s: spec.kubernetes.serviceCIDR: %w", c.Name, err)
	}
	disable := c.Spec.Kubernetes.Disable
	if len(disable) == 0 {
		disable = []string{"servicelb", "traefik"}
	}
	names := slices.Clone(c.Spec.ControlPlane.ExtraNames)
	if ip := c.Spec.ControlPlane.VirtualIP; ip != nil {
		names = append(names, string(*ip))
	}
	for _, n := range inv.Nodes {
		if n.Spec.Role == v1alpha1.ControlPlane {
			names = append(names, string(n.Spec.Address))
		}
	}
	return k3s.Shared{PodCIDR: pods, ServiceCIDR: services, Disable: disable, TLSSANs: names}, nil
}

// MemberOf is the part of a k3s config that is a node's own. The API has refused
// labels that a kubelet may not give itself.
func MemberOf(inv inventory.Inventory, node *v1alpha1.Node) (k3s.Member, error) {
	c, err := inv.Cluster()
	if err != nil {
		return k3s.Member{}, err
	}
	net, err := networkOf(c, node)
	if err != nil {
		return k3s.Member{}, err
	}
	m := k3s.Member{Name: node.Name, IP: net.address.Addr(), Labels: map[string]string{}}
	for key, value := range node.Spec.Labels {
		m.Labels[key] = string(value)
	}
	for _, t := range node.Spec.Taints {
		m.Taints = append(m.Taints, k3s.Taint{Key: t.Key, Value: t.Value, Effect: t.Effect})
	}
	return m, nil
}

// Endpoint is the URL of the API server: at the virtual IP if there is one, else
// at the first node's address.
func Endpoint(c *v1alpha1.Cluster, first *v1alpha1.Node) string {
	host := string(first.Spec.Address)
	if ip := c.Spec.ControlPlane.VirtualIP; ip != nil {
		host = string(*ip)
	}
	return "https://" + host + ":6443"
}

// defaultVirtualIPImage is the schema's default.
const defaultVirtualIPImage = "ghcr.io/kube-vip/kube-vip:v0.9.2"

func virtualIPFiles(inv inventory.Inventory) ([]k3s.File, error) {
	c, err := inv.Cluster()
	if err != nil || c.Spec.ControlPlane.VirtualIP == nil {
		return nil, err
	}
	address, err := netip.ParseAddr(string(*c.Spec.ControlPlane.VirtualIP))
	if err != nil {
		return nil, fmt.Errorf("Cluster/%s: spec.controlPlane.virtualIP: %w", c.Name, err)
	}
	image := c.Spec.ControlPlane.VirtualIPImage
	if image == "" {
		image = defaultVirtualIPImage
	}
	pod, err := k3s.VirtualIPPod(address, image)
	if err != nil {
		return nil, fmt.Errorf("Cluster/%s: spec.controlPlane.virtualIP: %w", c.Name, err)
	}
	return []k3s.File{pod}, nil
}

func prefixOr(declared v1alpha1.CIDR, fallback string) (netip.Prefix, error) {
	if declared == "" {
		return netip.MustParsePrefix(fallback), nil
	}
	return netip.ParsePrefix(string(declared))
}
