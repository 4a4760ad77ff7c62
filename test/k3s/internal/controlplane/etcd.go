package controlplane

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/rhizome-dev/rhizome/test/k3s/internal/join"
	"github.com/rhizome-dev/rhizome/test/k3s/internal/pki"
	"github.com/rhizome-dev/rhizome/test/k3s/internal/process"
)

// etcd is this server's member, and the membership as it sees it.
type etcd struct {
	s   *Server
	dir string
}

// tombstone marks the data of a member that was removed from its cluster.
const tombstone = "tombstone"

func newEtcd(s *Server) *etcd {
	return &etcd{s: s, dir: filepath.Join(s.dir, "db", "etcd")}
}

// hasData says whether this server already is a member. The data of a removed
// member is put away, as k3s does, so that the server may join anew.
func (e *etcd) hasData() (bool, error) {
	if _, err := os.Stat(filepath.Join(e.dir, tombstone)); err == nil {
		old := fmt.Sprintf("%s-old-%d", e.dir, time.Now().Unix())
		log.Printf("this member was removed from its cluster: its data goes to %s", old)
		if err := os.Rename(e.dir, old); err != nil {
			return false, err
		}
	}
	_, err := os.Stat(filepath.Join(e.dir, "member", "wal"))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// name is k3s' member name: the node's and eight random digits, kept with the
// data.
func (e *etcd) name() (string, error) {
	path := filepath.Join(e.dir, "name")
	b, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}
	random := make([]byte, 4)
	if _, err := rand.Read(random); err != nil {
		return "", err
	}
	name := e.s.NodeName + "-" + hex.EncodeToString(random)
	if err := os.MkdirAll(e.dir, 0o700); err != nil {
		return "", err
	}
	return name, os.WriteFile(path, []byte(name), 0o600)
}

// start runs the member: a new cluster's first, one more of seed's cluster, or
// the one that is on disk. It returns when etcd answers.
func (e *etcd) start(ctx context.Context, seed *join.Client) error {
	name, err := e.name()
	if err != nil {
		return err
	}
	founded, err := e.hasData()
	if err != nil {
		return err
	}
	peer := "https://" + net.JoinHostPort(e.s.NodeIP, "2380")
	cluster, state := name+"="+peer, "new"
	if seed != nil && !founded {
		err := retry(ctx, "etcd to admit this server", func() error {
			reply, err := seed.Member(ctx, join.MemberRequest{Name: name, PeerURL: peer})
			cluster = reply.InitialCluster
			return err
		})
		if err != nil {
			return fmt.Errorf("cannot become an etcd member: %w", err)
		}
		state = "existing"
	}
	urls := func(port string) string {
		out := "https://127.0.0.1:" + port
		if e.s.NodeIP != "127.0.0.1" {
			out += ",https://" + net.JoinHostPort(e.s.NodeIP, port)
		}
		return out
	}
	metrics := "http://127.0.0.1:2381"
	if e.s.Config.EtcdMetrics && e.s.NodeIP != "127.0.0.1" {
		metrics += ",http://" + net.JoinHostPort(e.s.NodeIP, "2381")
	}
	a := newArgs(
		"name", name,
		"data-dir", e.dir,
		"advertise-client-urls", "https://"+net.JoinHostPort(e.s.NodeIP, "2379"),
		"initial-advertise-peer-urls", peer,
		"initial-cluster", cluster,
		"initial-cluster-state", state,
		"listen-client-urls", urls("2379"),
		"listen-peer-urls", urls("2380"),
		"listen-metrics-urls", metrics,
		"client-cert-auth", "true",
		"trusted-ca-file", e.s.file(pki.EtcdServerCA+".crt"),
		"cert-file", e.s.file("etcd/server-client.crt"),
		"key-file", e.s.file("etcd/server-client.key"),
		"peer-client-cert-auth", "true",
		"peer-trusted-ca-file", e.s.file(pki.EtcdPeerCA+".crt"),
		"peer-cert-file", e.s.file("etcd/peer-server-client.crt"),
		"peer-key-file", e.s.file("etcd/peer-server-client.key"),
		"heartbeat-interval", "500",
		"election-timeout", "5000",
		"snapshot-count", "10000",
		"log-level", "warn",
	)
	e.s.Children.Start(process.Child{Name: "etcd", Path: process.Self, Args: a.list(e.s.Config.EtcdArgs), Vital: true, Grace: 15 * time.Second, Line: e.noticeRemoval})
	if state == "existing" {
		err := retry(ctx, "etcd to make this learner a voter", func() error {
			_, err := seed.Member(ctx, join.MemberRequest{Name: name, Promote: true})
			return err
		})
		if err != nil {
			return err
		}
	}
	return retry(ctx, "etcd", func() error {
		c, err := e.client()
		if err != nil {
			return err
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		_, err = c.Get(ctx, "health")
		return err
	})
}

// noticeRemoval marks the data when etcd says that the cluster has removed
// this member, whoever asked for that.
func (e *etcd) noticeRemoval(line string) {
	if !strings.Contains(line, "the member has been permanently removed from the cluster") {
		return
	}
	if err := os.WriteFile(filepath.Join(e.dir, tombstone), nil, 0o600); err != nil {
		log.Printf("etcd: %v", err)
	}
}

func (e *etcd) client() (*clientv3.Client, error) {
	cert, err := tls.LoadX509KeyPair(e.s.file("etcd/client.crt"), e.s.file("etcd/client.key"))
	if err != nil {
		return nil, err
	}
	return clientv3.New(clientv3.Config{
		Endpoints:   []string{"https://127.0.0.1:2379"},
		DialTimeout: 10 * time.Second,
		TLS: &tls.Config{
			MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert},
			RootCAs: pool(e.s.authority[pki.EtcdServerCA]),
		},
	})
}

// Add admits a server as a learner. A member of the same node that has not
// been removed blocks it, as in k3s.
func (e *etcd) Add(ctx context.Context, name, peerURL string) (string, error) {
	c, err := e.client()
	if err != nil {
		return "", err
	}
	defer c.Close()
	list, err := c.MemberList(ctx)
	if err != nil {
		return "", err
	}
	var cluster []string
	known := false
	for _, m := range list.Members {
		if m.Name != "" && m.Name != name && nodeOf(m.Name) == nodeOf(name) {
			return "", fmt.Errorf("%w: duplicate node name found, please use a unique name for this node: etcd still has the member %s", errDuplicate, m.Name)
		}
		if len(m.PeerURLs) > 0 && m.PeerURLs[0] == peerURL && (m.Name == "" || m.Name == name) {
			known = true
			continue
		}
		for _, u := range m.PeerURLs {
			cluster = append(cluster, m.Name+"="+u)
		}
	}
	if !known {
		if _, err := c.MemberAddAsLearner(ctx, []string{peerURL}); err != nil {
			return "", fmt.Errorf("etcd does not add %s: %w", name, err)
		}
	}
	return strings.Join(append(cluster, name+"="+peerURL), ","), nil
}

var errDuplicate = join.Denied("duplicate node name")

// nodeOf takes the node's name out of a member's.
func nodeOf(member string) string {
	i := strings.LastIndexByte(member, '-')
	if i < 0 {
		return member
	}
	return member[:i]
}

// Promote makes the learner of that name a voter. It fails until the learner
// has caught up.
func (e *etcd) Promote(ctx context.Context, name string) error {
	c, err := e.client()
	if err != nil {
		return err
	}
	defer c.Close()
	list, err := c.MemberList(ctx)
	if err != nil {
		return err
	}
	for _, m := range list.Members {
		if m.Name != name {
			continue
		}
		if !m.IsLearner {
			return nil
		}
		_, err := c.MemberPromote(ctx, m.ID)
		if errors.Is(err, rpctypes.ErrMemberNotLearner) {
			return nil
		}
		return err
	}
	return fmt.Errorf("etcd has no started member %s", name)
}
