package provision

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/k3s"
)

// apiPort is where k3s serves the Kubernetes API and its own.
const apiPort = 6443

// JoinSecrets are what makes members of a cluster that exists. All but ServerCA
// are secret.
type JoinSecrets struct {
	// ServerToken joins servers and is given to no worker.
	ServerToken string
	// AgentToken is in every server's config.
	AgentToken string
	// NodeKey derives the passwords by which k3s knows machines again.
	NodeKey []byte
	// ServerCA is the bundle as the API server serves it at /cacerts, in PEM.
	ServerCA []byte
}

// Check says what is missing.
func (s JoinSecrets) Check() error {
	switch {
	case s.ServerToken == "":
		return errors.New("there is no server token")
	case s.AgentToken == "":
		return errors.New("there is no agent token")
	case len(s.NodeKey) < 16:
		return fmt.Errorf("the node key has %d bytes, want at least 16", len(s.NodeKey))
	}
	if _, err := k3s.CAHash(s.ServerCA); err != nil {
		return err
	}
	return nil
}

// JoinServer are the credentials of a further server, which joins by the server at
// the address via: a real one, never the virtual IP, which the joining machine may
// come to answer itself. Such a config never founds a cluster.
func JoinServer(inv inventory.Inventory, node *v1alpha1.Node, s JoinSecrets, via netip.Addr) ([]k3s.File, error) {
	if node.Spec.Role != v1alpha1.ControlPlane {
		return nil, fmt.Errorf("Node/%s: spec.role: only a node with the role %s gets the server token", node.Name, v1alpha1.ControlPlane)
	}
	url, err := serverURL(node, via)
	if err != nil {
		return nil, err
	}
	return s.server(inv, node, func(c *k3s.ServerConfig) { c.Server = url })
}

// JoinAgent are the credentials of a worker, which joins by the server at the
// address via and with a token that is its own.
func JoinAgent(inv inventory.Inventory, node *v1alpha1.Node, s JoinSecrets, token k3s.BootstrapToken, via netip.Addr) ([]k3s.File, error) {
	url, err := serverURL(node, via)
	if err != nil {
		return nil, err
	}
	member, err := MemberOf(inv, node)
	if err != nil {
		return nil, err
	}
	credentials, err := token.Token(s.ServerCA)
	if err != nil {
		return nil, err
	}
	config, err := k3s.AgentConfig{Member: member, Token: credentials, Server: url}.File()
	if err != nil {
		return nil, fmt.Errorf("Node/%s: %w", node.Name, err)
	}
	password, err := k3s.NodePassword(s.NodeKey, node.Name, string(node.Spec.MAC))
	if err != nil {
		return nil, err
	}
	return []k3s.File{config, password}, nil
}

// server are the files that every server has: its config, which begin completes,
// its node password and, if the cluster has a virtual IP, kube-vip.
func (s JoinSecrets) server(inv inventory.Inventory, node *v1alpha1.Node, begin func(*k3s.ServerConfig)) ([]k3s.File, error) {
	shared, err := SharedConfig(inv)
	if err != nil {
		return nil, err
	}
	shared.AgentToken = s.AgentToken
	member, err := MemberOf(inv, node)
	if err != nil {
		return nil, err
	}
	c := k3s.ServerConfig{Shared: shared, Member: member, Token: s.ServerToken}
	begin(&c)
	config, err := c.File()
	if err != nil {
		return nil, fmt.Errorf("Node/%s: %w", node.Name, err)
	}
	password, err := k3s.NodePassword(s.NodeKey, node.Name, string(node.Spec.MAC))
	if err != nil {
		return nil, err
	}
	vip, err := virtualIPFiles(inv)
	if err != nil {
		return nil, err
	}
	return append([]k3s.File{config, password}, vip...), nil
}

func serverURL(node *v1alpha1.Node, via netip.Addr) (string, error) {
	if !via.IsValid() {
		return "", fmt.Errorf("Node/%s: there is no server to join by", node.Name)
	}
	if via.String() == string(node.Spec.Address) {
		return "", fmt.Errorf("Node/%s: a machine cannot join by itself (%s)", node.Name, via)
	}
	return fmt.Sprintf("https://%s", netip.AddrPortFrom(via, apiPort)), nil
}
