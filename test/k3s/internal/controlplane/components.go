package controlplane

import (
	"context"
	"net"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/test/k3s/internal/pki"
	"github.com/rhizome-dev/rhizome/test/k3s/internal/process"
)

// args keeps flags by name, so that kube-…-arg can replace one.
type args struct {
	order  []string
	values map[string]string
}

func newArgs(pairs ...string) *args {
	a := &args{values: map[string]string{}}
	for i := 0; i < len(pairs); i += 2 {
		a.set(pairs[i], pairs[i+1])
	}
	return a
}

func (a *args) set(name, value string) {
	if _, ok := a.values[name]; !ok {
		a.order = append(a.order, name)
	}
	a.values[name] = value
}

// list writes the flags, after the user's "name=value" replaced or extended
// them.
func (a *args) list(extra []string) []string {
	for _, e := range extra {
		name, value, found := strings.Cut(strings.TrimLeft(e, "-"), "=")
		if !found {
			value = "true"
		}
		a.set(name, value)
	}
	out := make([]string, 0, len(a.order))
	for _, name := range a.order {
		out = append(out, "--"+name+"="+a.values[name])
	}
	return out
}

func (s *Server) startAPIServer() {
	issuer := "https://kubernetes.default.svc." + s.Config.ClusterDomain
	advertise := s.NodeIP
	if s.Config.AdvertiseAddress != "" {
		advertise = s.Config.AdvertiseAddress
	}
	a := newArgs(
		"advertise-address", advertise,
		"bind-address", loopback,
		"secure-port", s.port(),
		"permit-port-sharing", "true",
		"allow-privileged", "true",
		"anonymous-auth", "false",
		"api-audiences", issuer+",k3s",
		"authorization-mode", "Node,RBAC",
		"client-ca-file", s.file(pki.ClientCA+".crt"),
		"enable-admission-plugins", "NodeRestriction",
		"enable-bootstrap-token-auth", "true",
		"etcd-servers", "https://127.0.0.1:2379",
		"etcd-cafile", s.file(pki.EtcdServerCA+".crt"),
		"etcd-certfile", s.file("etcd/client.crt"),
		"etcd-keyfile", s.file("etcd/client.key"),
		"kubelet-certificate-authority", s.file(pki.ServerCA+".crt"),
		"kubelet-client-certificate", s.file("client-kube-apiserver.crt"),
		"kubelet-client-key", s.file("client-kube-apiserver.key"),
		"kubelet-preferred-address-types", "InternalIP,ExternalIP,Hostname",
		"profiling", "false",
		"proxy-client-cert-file", s.file("client-auth-proxy.crt"),
		"proxy-client-key-file", s.file("client-auth-proxy.key"),
		"requestheader-allowed-names", "system:auth-proxy",
		"requestheader-client-ca-file", s.file(pki.RequestHeaderCA+".crt"),
		"requestheader-extra-headers-prefix", "X-Remote-Extra-",
		"requestheader-group-headers", "X-Remote-Group",
		"requestheader-username-headers", "X-Remote-User",
		"service-account-issuer", issuer,
		"service-account-key-file", s.file(pki.ServiceKey),
		"service-account-signing-key-file", s.file(pki.ServiceKey),
		"service-cluster-ip-range", strings.Join(s.Config.ServiceCIDR, ","),
		"service-node-port-range", s.Config.NodePortRange,
		"tls-cert-file", s.file("serving-kube-apiserver.crt"),
		"tls-private-key-file", s.file("serving-kube-apiserver.key"),
		// An emulated processor is slow to answer its own probes.
		"etcd-healthcheck-timeout", "20s",
		"etcd-readycheck-timeout", "20s",
		"request-timeout", "3m",
	)
	if s.encryption != "" {
		a.set("encryption-provider-config", s.encryption)
	}
	s.Children.Start(process.Child{Name: "kube-apiserver", Path: process.Self, Args: a.list(s.Config.APIServerArgs)})
}

func (s *Server) startControllers() {
	config := s.kubeconfig("controller")
	a := newArgs(
		"kubeconfig", config,
		"authentication-kubeconfig", config,
		"authorization-kubeconfig", config,
		"allocate-node-cidrs", "true",
		"bind-address", "127.0.0.1",
		"cluster-cidr", strings.Join(s.Config.ClusterCIDR, ","),
		"cluster-signing-kube-apiserver-client-cert-file", s.file(pki.ClientCA+".nochain.crt"),
		"cluster-signing-kube-apiserver-client-key-file", s.file(pki.ClientCA+".key"),
		"cluster-signing-kubelet-client-cert-file", s.file(pki.ClientCA+".nochain.crt"),
		"cluster-signing-kubelet-client-key-file", s.file(pki.ClientCA+".key"),
		"cluster-signing-kubelet-serving-cert-file", s.file(pki.ServerCA+".nochain.crt"),
		"cluster-signing-kubelet-serving-key-file", s.file(pki.ServerCA+".key"),
		"cluster-signing-legacy-unknown-cert-file", s.file(pki.ServerCA+".nochain.crt"),
		"cluster-signing-legacy-unknown-key-file", s.file(pki.ServerCA+".key"),
		"configure-cloud-routes", "false",
		"controllers", "*,tokencleaner",
		"profiling", "false",
		"root-ca-file", s.file(pki.ServerCA+".crt"),
		"secure-port", "10257",
		"service-account-private-key-file", s.file(pki.ServiceKey),
		"service-cluster-ip-range", strings.Join(s.Config.ServiceCIDR, ","),
		"use-service-account-credentials", "true",
		"leader-elect-lease-duration", "150s",
		"leader-elect-renew-deadline", "120s",
		"leader-elect-retry-period", "5s",
		// As for the leases: an API server on an emulated processor that starts pods
		// takes a minute for a kubelet's sign of life.
		"node-monitor-grace-period", "150s",
	)
	s.Children.Start(process.Child{Name: "kube-controller-manager", Path: process.Self, Args: a.list(s.Config.ControllerArgs)})
	if s.Config.DisableSched {
		return
	}
	config = s.kubeconfig("scheduler")
	a = newArgs(
		"kubeconfig", config,
		"authentication-kubeconfig", config,
		"authorization-kubeconfig", config,
		"bind-address", "127.0.0.1",
		"profiling", "false",
		"secure-port", "10259",
		"leader-elect-lease-duration", "150s",
		"leader-elect-renew-deadline", "120s",
		"leader-elect-retry-period", "5s",
	)
	s.Children.Start(process.Child{Name: "kube-scheduler", Path: process.Self, Args: a.list(s.Config.SchedulerArgs)})
}

// dropOwnLeases ends the leadership of this server's former controllers, which
// are certainly dead: their leases last long, for machines that are slow. With
// other servers in the cluster the lease may be theirs and is left alone.
func (s *Server) dropOwnLeases(ctx context.Context) error {
	c, err := s.etcd.client()
	if err != nil {
		return err
	}
	defer c.Close()
	list, err := c.MemberList(ctx)
	if err != nil || len(list.Members) > 1 {
		return err
	}
	for _, name := range []string{"kube-controller-manager", "kube-scheduler"} {
		err := s.kube.CoordinationV1().Leases("kube-system").Delete(ctx, name, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// firstAddress is the service address of the API server.
func firstAddress(cidr string) net.IP {
	ip, _, err := net.ParseCIDR(cidr)
	if err != nil {
		return nil
	}
	if v4 := ip.To4(); v4 != nil {
		ip = v4
	}
	ip = append(net.IP(nil), ip...)
	ip[len(ip)-1]++
	return ip
}
