package host

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Member is a member of etcd, as etcd itself lists it.
type Member struct {
	// Name is k3s' for it: that of the Node, a hyphen and eight hexadecimal digits. A
	// member that was added and has not started yet has none.
	Name string `json:"name,omitempty"`
	// Addresses are those at which its peers reach it.
	Addresses []string `json:"addresses,omitempty"`
	// Learner: it does not vote yet.
	Learner bool `json:"learner,omitempty"`

	id uint64
}

// Is says whether the member is that of a Node: by its name or, while it has none,
// by its address.
func (m Member) Is(node, address string) bool {
	if m.Name == "" {
		return slices.Contains(m.Addresses, address)
	}
	at := strings.LastIndexByte(m.Name, '-')
	return at > 0 && m.Name[:at] == node
}

// Where a server keeps the certificates of etcd's clients, and where etcd answers
// them. (k3s, pkg/etcd)
const (
	etcdTLS      = "/var/lib/rancher/k3s/server/tls/etcd"
	etcdEndpoint = "https://127.0.0.1:2379"
)

// EtcdMembersCommand is the command `etcd-members`.
func EtcdMembersCommand() *cobra.Command {
	var dir, endpoint, node, address, out string
	var patience time.Duration
	cmd := &cobra.Command{
		Use:   "etcd-members",
		Short: "List the members of etcd, and remove one",
		Long: `List the members of etcd as JSON, as this server's own member knows them after it
has asked the others. With --remove the member of that Node is removed first, if
there is one. The operator runs it in a pod on a server that stays, since a deleted
core Node does not prove that its member is gone.`,
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), patience)
			defer cancel()
			client, err := dialEtcd(dir, endpoint)
			if err != nil {
				return err
			}
			defer func() { _ = client.Close() }() // nothing is lost by it
			members, err := leave(ctx, client, node, address)
			if err != nil {
				return err
			}
			text, err := json.Marshal(members)
			if err != nil {
				return fmt.Errorf("cannot write the members down: %w", err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), string(text))
			if out == "" {
				return nil
			}
			if err := os.WriteFile(out, text, 0o644); err != nil {
				return fmt.Errorf("cannot write the members down: %w", err)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "tls", etcdTLS, "`directory` with client.crt, client.key and server-ca.crt")
	f.StringVar(&endpoint, "endpoint", etcdEndpoint, "`URL` of this server's member")
	f.StringVar(&node, "remove", "", "`name` of a Node whose member is removed")
	f.StringVar(&address, "address", "", "`address` of that Node: its member may have no name yet")
	f.StringVar(&out, "out", "", "`file` that the list is written to, too")
	f.DurationVar(&patience, "timeout", 30*time.Second, "how long etcd may take")
	return cmd
}

// dialEtcd is a client of the member at an endpoint, with the certificates that a
// server keeps for it.
func dialEtcd(dir, endpoint string) (*clientv3.Client, error) {
	certificate, err := tls.LoadX509KeyPair(filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key"))
	if err != nil {
		return nil, fmt.Errorf("cannot read the certificate of etcd's clients: %w; this is no k3s server with etcd", err)
	}
	authority, err := os.ReadFile(filepath.Join(dir, "server-ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("cannot read the authority of etcd's servers: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("cannot use the authority of etcd's servers: there is no certificate in %s", filepath.Join(dir, "server-ca.crt"))
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{endpoint}, DialTimeout: 10 * time.Second,
		TLS: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}, RootCAs: roots},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot reach etcd at %s: %w", endpoint, err)
	}
	return client, nil
}

// leave removes the member of a Node, if one is named and has one, and lists who is
// left. The list is linearizable: it comes from a majority or not at all.
// (etcd, clientv3.Cluster)
func leave(ctx context.Context, etcd clientv3.Cluster, node, address string) ([]Member, error) {
	members, err := list(ctx, etcd)
	if err != nil || node == "" {
		return members, err
	}
	theirs := slices.DeleteFunc(slices.Clone(members), func(m Member) bool { return !m.Is(node, address) })
	switch {
	case len(theirs) == 0:
		return members, nil
	case len(theirs) > 1:
		return nil, fmt.Errorf("more than one member of etcd is that of %s: remove the wrong one by hand", node)
	case len(members) == 1:
		return nil, errors.New("it is the only member of etcd")
	}
	if _, err := etcd.MemberRemove(ctx, theirs[0].id); err != nil {
		return nil, fmt.Errorf("cannot remove the member %s of etcd: %w", theirs[0].Name, err)
	}
	return list(ctx, etcd)
}

func list(ctx context.Context, etcd clientv3.Cluster) ([]Member, error) {
	answer, err := etcd.MemberList(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot list the members of etcd: %w", err)
	}
	var out []Member
	for _, m := range answer.Members {
		one := Member{Name: m.Name, Learner: m.IsLearner, id: m.ID}
		for _, text := range m.PeerURLs {
			if u, err := url.Parse(text); err == nil {
				one.Addresses = append(one.Addresses, u.Hostname())
			}
		}
		out = append(out, one)
	}
	return out, nil
}
