package agent

import (
	"context"
	"io"
	"log"
	"net"
	"strconv"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// balancer passes connections on to the first server that takes them. It is
// what k3s' agents have on 127.0.0.1:6444, so that the loss of the server
// that they joined through does not take them down.
type balancer struct {
	mu      sync.Mutex
	servers []string // host:port, in the order in which they are tried
}

// startBalancer returns the URL by which the node reaches the API.
func (a *Agent) startBalancer(ctx context.Context) (string, error) {
	first, err := host(a.ServerURL)
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(a.Config.LBPort)))
	if err != nil {
		return "", err
	}
	b := &balancer{servers: []string{first}}
	go func() {
		<-ctx.Done()
		l.Close()
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go b.pass(c)
		}
	}()
	go a.learnServers(ctx, b)
	return "https://" + l.Addr().String(), nil
}

func (b *balancer) pass(c net.Conn) {
	defer c.Close()
	b.mu.Lock()
	servers := append([]string(nil), b.servers...)
	b.mu.Unlock()
	for i, s := range servers {
		up, err := net.DialTimeout("tcp", s, 5*time.Second)
		if err != nil {
			continue
		}
		if i > 0 {
			b.prefer(s)
		}
		defer up.Close()
		go func() {
			_, _ = io.Copy(up, c)
			up.Close()
		}()
		_, _ = io.Copy(c, up)
		return
	}
}

func (b *balancer) prefer(server string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := []string{server}
	for _, s := range b.servers {
		if s != server {
			out = append(out, s)
		}
	}
	b.servers = out
}

// learnServers keeps the list as the endpoints of the Service `kubernetes`.
func (a *Agent) learnServers(ctx context.Context, b *balancer) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(10 * time.Second):
		}
		if a.kube == nil {
			continue
		}
		slices, err := a.kube.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=kubernetes"})
		if err != nil {
			continue
		}
		var found []string
		for _, s := range slices.Items {
			for _, p := range s.Ports {
				for _, e := range s.Endpoints {
					for _, ip := range e.Addresses {
						if p.Port != nil {
							found = append(found, net.JoinHostPort(ip, strconv.Itoa(int(*p.Port))))
						}
					}
				}
			}
		}
		b.learn(found)
	}
}

// learn adds the servers found and drops the others, the one in use staying
// first. An empty answer is no reason to forget any.
func (b *balancer) learn(found []string) {
	if len(found) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	is := map[string]bool{}
	for _, s := range found {
		is[s] = true
	}
	var out []string
	have := map[string]bool{}
	for _, s := range append(append([]string(nil), b.servers...), found...) {
		if is[s] && !have[s] {
			have[s] = true
			out = append(out, s)
		}
	}
	if len(out) != len(b.servers) {
		log.Printf("servers: %v", out)
	}
	b.servers = out
}
