//go:build linux

package machine

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// serviceAddress is that of the Service `kubernetes`: the first of k3s' default
// service network.
const serviceAddress = "10.43.0.1"

// services is a fake of kube-proxy, and of the balancer of k3s' agents: it passes
// connections to the Service `kubernetes` on to the first server that takes them.
type services struct {
	m *Machine

	mu      sync.Mutex
	servers []string            // host:port, in the order in which they are tried
	open    map[net.Conn]string // to, or for, which server
	failing map[string]bool
}

// serveServices listens until ctx ends.
func (m *Machine) serveServices(ctx context.Context) (*services, error) {
	s := &services{m: m, open: map[net.Conn]string{}, failing: map[string]bool{}}
	err := m.Host.Do(func() error {
		link, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.AddrReplace(link, &netlink.Addr{IPNet: &net.IPNet{IP: net.ParseIP(serviceAddress), Mask: net.CIDRMask(32, 32)}})
	})
	if err != nil {
		return nil, fmt.Errorf("cannot give the machine the address of the Service kubernetes: %w", err)
	}
	listener, err := m.Host.Listen("tcp4", serviceAddress+":443")
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() {
		_ = listener.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		for conn := range s.open {
			_ = conn.Close()
		}
	})
	if kept, err := os.ReadFile(s.file()); err == nil {
		_ = json.Unmarshal(kept, &s.servers) // a torn file is as good as none
	}
	go s.check(ctx)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			m.whileFrozen(ctx)
			go s.pass(ctx, conn)
		}
	}()
	return s, nil
}

// file is where k3s' agents keep the servers that they know.
func (s *services) file() string {
	return s.m.path("/var/lib/rancher/k3s/agent/etc/k3s-agent-load-balancer.json")
}

func (s *services) pass(ctx context.Context, down net.Conn) {
	defer down.Close()
	s.mu.Lock()
	servers := slices.Clone(s.servers)
	slices.SortStableFunc(servers, func(a, b string) int { return order(s.failing[a]) - order(s.failing[b]) })
	s.mu.Unlock()
	for _, server := range servers {
		dialing, cancel := context.WithTimeout(ctx, 3*time.Second)
		up, err := s.m.Host.DialContext(dialing, "tcp", server)
		cancel()
		if err != nil {
			continue
		}
		s.keep(server, up, down)
		go func() {
			_, _ = io.Copy(up, down)
			_ = up.Close()
		}()
		_, _ = io.Copy(down, up)
		s.forget(up, down)
		return
	}
}

// order puts what fails last.
func order(fails bool) int {
	if fails {
		return 1
	}
	return 0
}

// How often servers are asked whether they are there, and how long they may take.
const (
	checkInterval = 2 * time.Second
	checkPatience = 3 * time.Second
)

// check asks every server for /ping now and then. One that does not answer is tried
// last, and what is connected to it is cut off, as by the balancer of k3s' agents: a
// server that hangs, or is cut off itself, would keep its connections for minutes.
func (s *services) check(ctx context.Context) {
	transport := &http.Transport{DialContext: s.m.Host.DialContext, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: checkPatience}
	for ; ctx.Err() == nil; sleep(ctx, checkInterval) {
		s.m.whileFrozen(ctx)
		s.mu.Lock()
		servers := slices.Clone(s.servers)
		s.mu.Unlock()
		var asked sync.WaitGroup
		for _, server := range servers {
			asked.Go(func() {
				answer, err := client.Get("https://" + server + "/ping")
				if err == nil {
					_, err = io.Copy(io.Discard, answer.Body)
					_ = answer.Body.Close()
				}
				if ctx.Err() == nil {
					s.found(server, err != nil)
				}
			})
		}
		asked.Wait()
	}
}

// found takes in whether a server fails.
func (s *services) found(server string, fails bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing[server] = fails
	if !fails || !slices.ContainsFunc(s.servers, func(o string) bool { return !s.failing[o] }) {
		return
	}
	for conn, of := range s.open {
		if of == server {
			_ = conn.Close()
		}
	}
}

func (s *services) keep(server string, conns ...net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range conns {
		s.open[c] = server
	}
}

func (s *services) forget(conns ...net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range conns {
		delete(s.open, c)
		_ = c.Close()
	}
}

// begin makes a server known. A server's own comes first; a worker's, which it
// joined by, only when it knows no better.
func (s *services) begin(server string, own bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if own || len(s.servers) == 0 {
		s.servers = append([]string{server}, slices.DeleteFunc(s.servers, func(o string) bool { return o == server })...)
	}
}

// learn follows the endpoints of the Service. own is never dropped.
func (s *services) learn(ctx context.Context, client kubernetes.Interface, own string) error {
	found, err := client.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).List(ctx,
		metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=kubernetes"})
	if err != nil {
		return err
	}
	var all []string
	for _, slice := range found.Items {
		for _, port := range slice.Ports {
			for _, endpoint := range slice.Endpoints {
				for _, ip := range endpoint.Addresses {
					if port.Port != nil {
						all = append(all, net.JoinHostPort(ip, strconv.Itoa(int(*port.Port))))
					}
				}
			}
		}
	}
	if len(all) == 0 {
		return errors.New("the Service kubernetes has no endpoints")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var next []string
	for _, server := range append(slices.Clone(s.servers), all...) {
		if !slices.Contains(next, server) && (server == own || slices.Contains(all, server)) {
			next = append(next, server)
		}
	}
	if slices.Equal(next, s.servers) {
		return nil
	}
	s.servers = next
	content, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.file()), 0o755); err != nil {
		return err
	}
	return os.WriteFile(s.file(), content, 0o600)
}
