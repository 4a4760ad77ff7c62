// Package join is what k3s' servers and nodes say to each other below
// /v1-k3s/: a node shows a token and gets its certificates; a server shows the
// server token and gets the authorities. k3s does not document the messages,
// so these are the stand-in's own.
package join

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	certutil "k8s.io/client-go/util/cert"

	"github.com/rhizome-dev/rhizome/test/k3s/internal/token"
)

// The paths of the requests.
const (
	NodePath   = "/v1-k3s/standin/node"
	ServerPath = "/v1-k3s/standin/server"
	MemberPath = "/v1-k3s/standin/member"
)

// NodeRequest asks for a node's certificates. The requests are PEM; keys stay
// with the node.
type NodeRequest struct {
	Name       string
	Password   string // of /etc/rancher/node/password
	IPs        []string
	Kubelet    []byte // client, system:node:<name>
	Serving    []byte // the kubelet's server
	KubeProxy  []byte // client, system:kube-proxy
	Controller []byte // client, system:k3s-controller
}

// NodeReply is what a node needs to run its kubelet and kube-proxy.
type NodeReply struct {
	ServerCA, ClientCA                      []byte
	Kubelet, Serving, KubeProxy, Controller []byte
	ClusterCIDR                             string
	ClusterDNS                              []string
	ClusterDomain                           string
	FlannelBackend                          string
	DisableProxy                            bool
}

// ServerReply is what a server needs to become a further one.
type ServerReply struct {
	Files    map[string][]byte // of <data-dir>/server/tls and cred
	Critical map[string]string
	// Agent is the password of the agent token, when there is one.
	AgentPassword string
}

// MemberRequest asks to add an etcd member; Promote asks to make an added
// learner a voter.
type MemberRequest struct {
	Name    string
	PeerURL string
	Promote bool
}

// MemberReply is etcd's --initial-cluster for the new member.
type MemberReply struct {
	InitialCluster string
}

// ErrRefused is returned for an answer that waiting will not change: the
// credentials, the node password or a setting is wrong.
var ErrRefused = errors.New("refused by the server")

// Client speaks to one server, authenticated by a token.
type Client struct {
	URL    string
	Bundle []byte // the server's CA, as served

	token    token.Token
	fallback token.Kind
	http     *http.Client
}

// Dial fetches the server's CA and holds it against the token's hash before
// any credential is sent. fallback is the user name of a bare password.
func Dial(ctx context.Context, url, tok string, fallback token.Kind) (*Client, error) {
	t, err := token.Parse(tok)
	if err != nil {
		return nil, err
	}
	// The CA cannot be verified before it is known: the token's hash is what
	// verifies it.
	unverified := httpClient(&tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true})
	defer unverified.CloseIdleConnections()
	bundle, err := get(ctx, unverified, url+"/cacerts")
	if err != nil {
		return nil, fmt.Errorf("cannot fetch the CA of %s: %w", url, err)
	}
	if err := t.CheckCA(bundle); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", url, ErrRefused, err)
	}
	roots, err := certutil.NewPoolFromBytes(bundle)
	if err != nil {
		return nil, fmt.Errorf("%s/cacerts: %w", url, err)
	}
	return &Client{
		URL: url, Bundle: bundle, token: t, fallback: fallback,
		http: httpClient(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}),
	}, nil
}

func httpClient(conf *tls.Config) *http.Client {
	return &http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{TLSClientConfig: conf}}
}

// Node asks for a node's certificates.
func (c *Client) Node(ctx context.Context, r NodeRequest) (NodeReply, error) {
	var out NodeReply
	return out, c.post(ctx, NodePath, r, &out)
}

// Server asks for the authorities.
func (c *Client) Server(ctx context.Context) (ServerReply, error) {
	var out ServerReply
	return out, c.post(ctx, ServerPath, struct{}{}, &out)
}

// Member adds an etcd member as a learner, or promotes it.
func (c *Client) Member(ctx context.Context, r MemberRequest) (MemberReply, error) {
	var out MemberReply
	return out, c.post(ctx, MemberPath, r, &out)
}

func (c *Client) post(ctx context.Context, path string, in, out any) error {
	b, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if c.token.Kind == token.Bootstrap {
		req.Header.Set("Authorization", "Bearer "+c.token.Password)
	} else {
		kind := c.token.Kind
		if kind == "" {
			kind = c.fallback
		}
		req.SetBasicAuth(string(kind), c.token.Password)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<22))
	if err != nil {
		return err
	}
	switch {
	case res.StatusCode == http.StatusOK:
		return json.Unmarshal(answer, out)
	case res.StatusCode < 500:
		return fmt.Errorf("%s: %w: %s", c.URL, ErrRefused, bytes.TrimSpace(answer))
	}
	return fmt.Errorf("%s: %s: %s", c.URL, res.Status, bytes.TrimSpace(answer))
}

func get(ctx context.Context, c *http.Client, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = errors.New(res.Status)
	}
	return b, err
}
