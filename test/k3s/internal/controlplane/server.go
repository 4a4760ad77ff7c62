// Package controlplane is what `k3s server` is beside a node: the authorities,
// etcd, the API server and its controllers, and the front on port 6443.
package controlplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/rhizome-dev/rhizome/test/k3s/internal/config"
	"github.com/rhizome-dev/rhizome/test/k3s/internal/front"
	"github.com/rhizome-dev/rhizome/test/k3s/internal/join"
	"github.com/rhizome-dev/rhizome/test/k3s/internal/pki"
	"github.com/rhizome-dev/rhizome/test/k3s/internal/process"
	"github.com/rhizome-dev/rhizome/test/k3s/internal/token"
)

// loopback is the API server's own address: the front has the port on all
// others.
const loopback = "127.0.0.2"

// Server is one `k3s server`.
type Server struct {
	Config   *config.Config
	NodeName string
	NodeIP   string
	Children *process.Group

	dir, tls   string
	serverPass string
	agentPass  string
	authority  map[string]*pki.Authority
	kube       kubernetes.Interface
	dynamic    dynamic.Interface
	rest       *rest.Config
	etcd       *etcd
	caHash     string
	encryption string // file, empty without secrets-encryption
}

// Start brings the control plane up and returns when its API is healthy. The
// front and the controllers run until ctx ends.
func (s *Server) Start(ctx context.Context) error {
	s.dir = filepath.Join(s.Config.DataDir, "server")
	s.tls = filepath.Join(s.dir, "tls")
	if err := os.MkdirAll(filepath.Join(s.tls, "etcd"), 0o700); err != nil {
		return err
	}
	s.etcd = newEtcd(s)
	founded, err := s.etcd.hasData()
	if err != nil {
		return err
	}
	var seed *join.Client
	switch {
	case founded && (s.Config.ServerURL != "" || s.Config.ClusterInit):
		log.Print("etcd data is on disk: cluster-init and server are ignored")
	case !founded && s.Config.ServerURL != "":
		if seed, err = s.fetchAuthorities(ctx); err != nil {
			return err
		}
	}
	if err := s.openAuthorities(); err != nil {
		return err
	}
	if err := s.settleTokens(); err != nil {
		return err
	}
	if s.Config.EncryptSecrets {
		if s.encryption, err = s.encryptionConfig(); err != nil {
			return err
		}
	}
	if err := s.issue(); err != nil {
		return err
	}
	if err := s.connect(); err != nil {
		return err
	}
	if err := s.serveFront(ctx); err != nil {
		return err
	}
	if err := s.etcd.start(ctx, seed); err != nil {
		return err
	}
	s.startAPIServer()
	if err := s.waitForAPI(ctx); err != nil {
		return err
	}
	if err := retry(ctx, "leases", func() error { return s.dropOwnLeases(ctx) }); err != nil {
		return err
	}
	s.startControllers()
	go s.deployManifests(ctx)
	go s.watchMembership(ctx)
	return nil
}

// AgentToken is what this server's own node joins with.
func (s *Server) AgentToken() string {
	return token.Format(s.caHash, token.Server, s.serverPass)
}

// fetchAuthorities makes this machine a further server of an existing
// cluster: the files that all servers share come from the one named.
func (s *Server) fetchAuthorities(ctx context.Context) (*join.Client, error) {
	var client *join.Client
	var reply join.ServerReply
	err := retry(ctx, "join "+s.Config.ServerURL, func() (err error) {
		if client, err = join.Dial(ctx, s.Config.ServerURL, s.Config.Token, token.Server); err != nil {
			return err
		}
		reply, err = client.Server(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot join as a server: %w", err)
	}
	for name, want := range reply.Critical {
		if got := s.Config.Critical[name]; got != want {
			return nil, fmt.Errorf("critical configuration mismatched: %s is %q here and %q on %s", name, got, want, s.Config.ServerURL)
		}
	}
	for name, b := range reply.Files {
		path := filepath.Join(s.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			return nil, err
		}
	}
	return client, nil
}

func (s *Server) openAuthorities() error {
	if err := pki.Ensure(s.tls); err != nil {
		return err
	}
	s.authority = map[string]*pki.Authority{}
	for _, name := range pki.Authorities {
		a, err := pki.Open(s.tls, name)
		if err != nil {
			return err
		}
		s.authority[name] = a
	}
	var err error
	s.caHash, err = token.HashCA(s.authority[pki.ServerCA].Bundle)
	return err
}

// issue makes every leaf anew at every start: addresses may have changed, and
// the authorities are what identity rests on.
func (s *Server) issue() error {
	names := []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + s.Config.ClusterDomain, "localhost", s.NodeName}
	ips := []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP(loopback), net.ParseIP("::1"), net.ParseIP(s.NodeIP), firstAddress(s.Config.ServiceCIDR[0])}
	for _, san := range append(append([]string{}, s.Config.TLSSANs...), s.Config.AdvertiseAddress) {
		if ip := net.ParseIP(san); ip != nil {
			ips = append(ips, ip)
		} else if san != "" {
			names = append(names, san)
		}
	}
	etcdIPs := []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP("::1"), net.ParseIP(s.NodeIP)}
	masters := []string{"system:masters"}
	for _, leaf := range []struct {
		by, file string
		subject  pki.Subject
	}{
		{pki.ServerCA, "serving-kube-apiserver", pki.Subject{Name: "kube-apiserver", Server: true, DNS: names, IPs: ips}},
		{pki.ClientCA, "client-admin", pki.Subject{Name: "system:admin", Groups: masters, Client: true}},
		{pki.ClientCA, "client-supervisor", pki.Subject{Name: "system:k3s-supervisor", Groups: masters, Client: true}},
		{pki.ClientCA, "client-kube-apiserver", pki.Subject{Name: "system:apiserver", Groups: masters, Client: true}},
		{pki.ClientCA, "client-controller", pki.Subject{Name: "system:kube-controller-manager", Client: true}},
		{pki.ClientCA, "client-scheduler", pki.Subject{Name: "system:kube-scheduler", Client: true}},
		{pki.RequestHeaderCA, "client-auth-proxy", pki.Subject{Name: "system:auth-proxy", Client: true}},
		{pki.EtcdServerCA, "etcd/client", pki.Subject{Name: "etcd-client", Client: true}},
		{pki.EtcdServerCA, "etcd/server-client", pki.Subject{Name: "etcd-server", Server: true, Client: true, DNS: []string{"localhost", s.NodeName}, IPs: etcdIPs}},
		{pki.EtcdPeerCA, "etcd/peer-server-client", pki.Subject{Name: "etcd-peer", Server: true, Client: true, DNS: []string{"localhost", s.NodeName}, IPs: etcdIPs}},
	} {
		if err := s.authority[leaf.by].Issue(s.file(leaf.file), leaf.subject); err != nil {
			return err
		}
	}
	// The controller manager signs with one certificate, not with a chain.
	for _, name := range []string{pki.ServerCA, pki.ClientCA} {
		b := s.authority[name].Single()
		if err := os.WriteFile(s.file(name+".nochain.crt"), b, 0o600); err != nil {
			return err
		}
	}
	bundle := s.authority[pki.ServerCA].Bundle
	direct := "https://" + net.JoinHostPort(loopback, s.port())
	for file, pair := range map[string]string{"admin": "client-admin", "supervisor": "client-supervisor", "controller": "client-controller", "scheduler": "client-scheduler"} {
		if err := pki.WriteKubeconfig(s.kubeconfig(file), 0o600, direct, bundle, s.file(pair)); err != nil {
			return err
		}
	}
	host := "127.0.0.1"
	if a := s.Config.BindAddress; a != "" && a != "0.0.0.0" && a != "::" {
		host = a
	}
	return pki.WriteKubeconfig(s.Config.Kubeconfig, s.Config.KubeconfigMode,
		"https://"+net.JoinHostPort(host, s.port()), bundle, s.file("client-admin"))
}

func (s *Server) connect() error {
	rc, err := clientcmd.BuildConfigFromFlags("", s.kubeconfig("supervisor"))
	if err != nil {
		return err
	}
	rc.QPS, rc.Burst, rc.Timeout = 50, 100, 60*time.Second
	s.rest = rc
	if s.kube, err = kubernetes.NewForConfig(rc); err != nil {
		return err
	}
	s.dynamic, err = dynamic.NewForConfig(rc)
	return err
}

func (s *Server) serveFront(ctx context.Context) error {
	serving, err := tls.LoadX509KeyPair(s.file("serving-kube-apiserver.crt"), s.file("serving-kube-apiserver.key"))
	if err != nil {
		return err
	}
	proxy, err := tls.LoadX509KeyPair(s.file("client-auth-proxy.crt"), s.file("client-auth-proxy.key"))
	if err != nil {
		return err
	}
	further, err := s.forFurtherServers()
	if err != nil {
		return err
	}
	done, err := front.Serve(ctx, front.Config{
		Address:     net.JoinHostPort(s.Config.BindAddress, s.port()),
		Certificate: serving,
		ClientCAs:   pool(s.authority[pki.ClientCA]),
		Bundle:      s.authority[pki.ServerCA].Bundle,
		Upstream:    "https://" + net.JoinHostPort(loopback, s.port()),
		UpstreamCA:  pool(s.authority[pki.ServerCA]),
		Proxy:       proxy,
		Private: &join.Handler{
			ServerPassword: s.serverPass, AgentPassword: s.agentPass,
			ServerCA: s.authority[pki.ServerCA], ClientCA: s.authority[pki.ClientCA],
			Node: join.NodeReply{
				ClusterCIDR: s.Config.ClusterCIDR[0], ClusterDNS: s.Config.ClusterDNS,
				ClusterDomain: s.Config.ClusterDomain, FlannelBackend: s.Config.FlannelBackend,
				DisableProxy: s.Config.DisableProxy,
			},
			Further: further, Kube: s.kube, Members: s.etcd,
		},
	})
	if err != nil {
		return fmt.Errorf("cannot serve the API: %w", err)
	}
	go func() {
		if err := <-done; err != nil {
			s.Children.Fail(fmt.Errorf("front: %w", err))
		}
	}()
	return nil
}

func (s *Server) forFurtherServers() (join.ServerReply, error) {
	out := join.ServerReply{Files: map[string][]byte{}, Critical: s.Config.Critical, AgentPassword: s.agentPass}
	names := []string{encryptionFile}
	for _, f := range pki.Files() {
		names = append(names, filepath.Join("tls", f))
	}
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(s.dir, name))
		if errors.Is(err, os.ErrNotExist) && name == encryptionFile {
			continue
		}
		if err != nil {
			return out, err
		}
		out.Files[name] = b
	}
	return out, nil
}

func (s *Server) waitForAPI(ctx context.Context) error {
	return retry(ctx, "API server", func() error {
		_, err := s.kube.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
}

func (s *Server) file(name string) string { return filepath.Join(s.tls, name) }
func (s *Server) port() string            { return strconv.Itoa(s.Config.HTTPSPort) }
func (s *Server) kubeconfig(name string) string {
	return filepath.Join(s.dir, "cred", name+".kubeconfig")
}

func pool(a *pki.Authority) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range a.Chain {
		p.AddCert(c)
	}
	return p
}

// retry calls do until it succeeds, ctx ends, or the other side said that
// asking again is useless. It logs what it waits for, twice a minute.
func retry(ctx context.Context, what string, do func() error) error {
	var logged time.Time
	for {
		err := do()
		if err == nil || errors.Is(err, join.ErrRefused) {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if time.Since(logged) > 30*time.Second {
			logged = time.Now()
			log.Printf("waiting for: %s: %.200v", what, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}
