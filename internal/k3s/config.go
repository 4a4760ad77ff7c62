package k3s

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"sigs.k8s.io/yaml"
)

// Shared is the part of a server's config that must be the same on every server:
// a server whose values differ is refused by k3s when it joins
// (https://docs.k3s.io/cli/server#critical-configuration-values).
type Shared struct {
	// PodCIDR and ServiceCIDR are the networks of pods and services.
	PodCIDR, ServiceCIDR netip.Prefix
	// ClusterDNS is the address of the DNS service. Zero: the tenth address of
	// ServiceCIDR, which is k3s' own choice.
	ClusterDNS netip.Addr
	// ClusterDomain is the DNS domain of the cluster. Empty: cluster.local.
	ClusterDomain string
	// FlannelBackend is the pod network. Empty: vxlan.
	FlannelBackend string
	// EgressSelectorMode is how the API server reaches pods. Empty: agent.
	EgressSelectorMode string
	// Disable lists the packaged components that are not deployed.
	Disable []string
	// SecretsEncryption encrypts Secrets in etcd.
	SecretsEncryption bool
	// TLSSANs are further names and addresses of the API server's certificate.
	// Order does not matter.
	TLSSANs []string
	// AgentToken is the token that agents may join with. Empty: the server token
	// serves for agents too. A secret.
	AgentToken string
}

// Taint of a core Node.
type Taint struct{ Key, Value, Effect string }

// Member is the part of a config that is a machine's own.
type Member struct {
	Name   string
	IP     netip.Addr
	Labels map[string]string
	Taints []Taint
}

// ServerConfig is the config of one server.
type ServerConfig struct {
	Shared Shared
	Member Member
	// Token is the server token. A secret.
	Token string
	// ClusterInit founds a new cluster. Only the first server of a cluster that
	// does not exist yet has it set: a rebuilt first server with it would found a
	// second cluster.
	ClusterInit bool
	// Server is the URL of a server to join: a real address of a healthy server,
	// never the virtual IP, which the joining machine may come to answer itself.
	Server string
}

// AgentConfig is the config of one agent.
type AgentConfig struct {
	Member Member
	// Token is an agent token or a bootstrap token. A secret.
	Token string
	// Server is the URL of a server to join.
	Server string
}

// agentKeys are the keys of config.yaml that servers have too. Keys are the
// names of k3s' flags. (https://docs.k3s.io/installation/configuration)
type agentKeys struct {
	NodeName  string   `json:"node-name"`
	NodeIP    string   `json:"node-ip"`
	NodeLabel []string `json:"node-label,omitempty"`
	NodeTaint []string `json:"node-taint,omitempty"`
	Token     string   `json:"token"`
	Server    string   `json:"server,omitempty"`
}

type serverKeys struct {
	agentKeys           `json:",inline"`
	ClusterInit         bool     `json:"cluster-init,omitempty"`
	ClusterCIDR         string   `json:"cluster-cidr"`
	ServiceCIDR         string   `json:"service-cidr"`
	ClusterDNS          string   `json:"cluster-dns"`
	ClusterDomain       string   `json:"cluster-domain"`
	FlannelBackend      string   `json:"flannel-backend"`
	EgressSelectorMode  string   `json:"egress-selector-mode"`
	Disable             []string `json:"disable,omitempty"`
	SecretsEncryption   bool     `json:"secrets-encryption,omitempty"`
	TLSSAN              []string `json:"tls-san,omitempty"`
	AgentToken          string   `json:"agent-token,omitempty"`
	WriteKubeconfigMode string   `json:"write-kubeconfig-mode"`
}

// File renders the config. The same config gives the same bytes.
func (c ServerConfig) File() (File, error) {
	switch {
	case c.ClusterInit && c.Server != "":
		return File{}, errors.New("cannot render the k3s config: a server either founds a cluster or joins one, not both")
	case !c.ClusterInit && c.Server == "":
		return File{}, errors.New("cannot render the k3s config: neither to found a cluster nor a server to join")
	}
	s := c.Shared
	if !s.PodCIDR.IsValid() || !s.ServiceCIDR.IsValid() {
		return File{}, errors.New("cannot render the k3s config: pod and service networks are not set")
	}
	keys, err := c.Member.keys(c.Token, c.Server)
	if err != nil {
		return File{}, err
	}
	dns := s.ClusterDNS
	if !dns.IsValid() {
		if dns, err = tenth(s.ServiceCIDR); err != nil {
			return File{}, err
		}
	}
	return render(serverKeys{
		agentKeys:           keys,
		ClusterInit:         c.ClusterInit,
		ClusterCIDR:         s.PodCIDR.Masked().String(),
		ServiceCIDR:         s.ServiceCIDR.Masked().String(),
		ClusterDNS:          dns.String(),
		ClusterDomain:       or(s.ClusterDomain, "cluster.local"),
		FlannelBackend:      or(s.FlannelBackend, "vxlan"),
		EgressSelectorMode:  or(s.EgressSelectorMode, "agent"),
		Disable:             set(s.Disable),
		SecretsEncryption:   s.SecretsEncryption,
		TLSSAN:              set(s.TLSSANs),
		AgentToken:          s.AgentToken,
		WriteKubeconfigMode: "0600",
	})
}

// File renders the config. The same config gives the same bytes.
func (c AgentConfig) File() (File, error) {
	if c.Server == "" {
		return File{}, errors.New("cannot render the k3s config: an agent needs a server to join")
	}
	keys, err := c.Member.keys(c.Token, c.Server)
	if err != nil {
		return File{}, err
	}
	return render(keys)
}

func (m Member) keys(token, server string) (agentKeys, error) {
	switch {
	case m.Name == "":
		return agentKeys{}, errors.New("cannot render the k3s config: the node has no name")
	case !m.IP.IsValid():
		return agentKeys{}, fmt.Errorf("cannot render the k3s config of %s: the node has no address", m.Name)
	case token == "":
		return agentKeys{}, fmt.Errorf("cannot render the k3s config of %s: no token", m.Name)
	}
	keys := agentKeys{NodeName: m.Name, NodeIP: m.IP.String(), Token: token, Server: server}
	for _, key := range slices.Sorted(maps.Keys(m.Labels)) {
		keys.NodeLabel = append(keys.NodeLabel, key+"="+m.Labels[key])
	}
	for _, t := range m.Taints {
		key := t.Key
		if t.Value != "" {
			key += "=" + t.Value
		}
		keys.NodeTaint = append(keys.NodeTaint, key+":"+t.Effect)
	}
	return keys, nil
}

func render(keys any) (File, error) {
	content, err := yaml.Marshal(keys)
	if err != nil {
		return File{}, fmt.Errorf("cannot render the k3s config: %w", err)
	}
	return File{Path: ConfigPath, Content: content, Mode: 0o600}, nil
}

func or(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

// set sorts and removes duplicates, so that two servers that were told the same
// in another order have the same config.
func set(values []string) []string {
	sorted := slices.Sorted(slices.Values(values))
	return slices.Compact(sorted)
}

// tenth is the address that k3s gives the DNS service: the tenth of the service
// network.
func tenth(p netip.Prefix) (netip.Addr, error) {
	addr := p.Masked().Addr()
	for range 10 {
		addr = addr.Next()
	}
	if !p.Contains(addr) {
		return netip.Addr{}, fmt.Errorf("cannot render the k3s config: the service network %s has no tenth address for DNS", p)
	}
	return addr, nil
}
