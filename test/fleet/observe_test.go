//go:build linux

package fleet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/test/chaos"
)

// observer sees a cluster from outside, by the API's own watches and by etcd's own
// client, and tells the checker. Nothing of ours is asked.
type observer struct {
	w       *world
	checker *chaos.Checker
	// down says whether a fault befell a server that is not over.
	down func(server string) bool

	mu     sync.Mutex
	voters []string // by the machines' names, as etcd listed them last
	leader string
	nodes  map[string]*v1alpha1.Node
	cores  map[string]*corev1.Node
	acted  map[string]time.Time
}

// observe begins to see, until the test ends.
func observe(w *world, checker *chaos.Checker, down func(string) bool) *observer {
	w.t.Helper()
	o := &observer{w: w, checker: checker, down: down, acted: map[string]time.Time{}}
	watching, err := client.NewWithWatch(w.rest, client.Options{Scheme: w.api.Scheme()})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	var running sync.WaitGroup
	running.Go(func() { o.follow(ctx, watching, &v1alpha1.Node{}, &v1alpha1.NodeList{}, o.shown) })
	running.Go(func() { o.follow(ctx, watching, &corev1.Node{}, &corev1.NodeList{}, o.ready) })
	running.Go(func() { o.askEtcd(ctx) })
	w.t.Cleanup(func() { cancel(); running.Wait() })
	return o
}

// follow tells of every state of all objects of a kind, as the API server's history
// has them.
func (o *observer) follow(ctx context.Context, from client.WithWatch, kind client.Object, list client.ObjectList, tell func([]any)) {
	var store cache.Store
	event := func(any) {
		if store != nil {
			tell(store.List())
		}
	}
	fresh := func() client.ObjectList { return list.DeepCopyObject().(client.ObjectList) }
	store, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: &cache.ListWatch{
			ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
				all := fresh()
				return all, from.List(ctx, all, &client.ListOptions{Raw: &options})
			},
			WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
				return from.Watch(ctx, fresh(), &client.ListOptions{Raw: &options})
			},
		},
		ObjectType: kind,
		Handler:    cache.ResourceEventHandlerFuncs{AddFunc: event, UpdateFunc: func(_, n any) { event(n) }, DeleteFunc: event},
	})
	controller.RunWithContext(ctx)
}

// shown takes all Nodes, as they were at one moment.
func (o *observer) shown(all []any) {
	at := time.Now()
	nodes := map[string]*v1alpha1.Node{}
	var machines []chaos.Machine
	for _, one := range all {
		n := one.(*v1alpha1.Node)
		nodes[n.Name] = n
		machines = append(machines, machineOf(n))
	}
	o.mu.Lock()
	o.nodes = nodes
	voters := slices.Clone(o.voters)
	var restarted []string
	for _, m := range machines {
		if m.Repair == string(v1alpha1.RepairReboot) && !m.Acted.IsZero() && !m.Acted.Equal(o.acted[m.Name]) {
			restarted = append(restarted, m.Name)
		}
		o.acted[m.Name] = m.Acted
	}
	o.mu.Unlock()
	o.checker.Shown(at, machines)
	for _, name := range restarted {
		o.checker.Harmed(at, name, "is restarted", voters)
	}
}

// machineOf is what a Node's status shows.
func machineOf(n *v1alpha1.Node) chaos.Machine {
	m := chaos.Machine{Name: n.Name, Removing: meta.IsStatusConditionTrue(n.Status.Conditions, v1alpha1.ConditionRemoval)}
	if r := n.Status.Repair; r != nil {
		m.Repair, m.Off = string(r.Action), r.Off != nil
		if r.Intended != nil {
			m.Intended = r.Intended.Time
		}
		if r.Acted != nil {
			m.Acted = r.Acted.Time
		}
	}
	if c := n.Status.Claim; c != nil {
		switch c.State {
		case "Open", "Consumed", "Installed":
			m.Installing = true
		case "Exchanged":
			m.Installing = n.Status.Phase == v1alpha1.PhaseJoining
		}
	}
	return m
}

func (o *observer) ready(all []any) {
	cores, ready := map[string]*corev1.Node{}, map[string]bool{}
	for _, one := range all {
		n := one.(*corev1.Node)
		cores[n.Name], ready[n.Name] = n, isReady(n)
	}
	o.mu.Lock()
	o.cores = cores
	o.mu.Unlock()
	o.checker.Ready(time.Now(), ready)
}

// seen are the Node and the core Node of a machine, as they were seen last; nil: they
// were not.
func (o *observer) seen(name string) (*v1alpha1.Node, *corev1.Node) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.nodes[name], o.cores[name]
}

// etcd is what was seen of it last.
func (o *observer) etcd() (voters []string, leader string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.voters), o.leader
}

// etcdPatience is how long nobody may answer: elections under load take a while, and
// a server that comes or goes restarts k3s on others' sockets.
const etcdPatience = 30 * time.Second

// askEtcd asks for the members by a read that needs a quorum, of any server.
func (o *observer) askEtcd(ctx context.Context) {
	availability := chaos.Availability{Patience: etcdPatience}
	for ctx.Err() == nil {
		answered := false
		inOrder := 0
		for _, name := range o.w.names(v1alpha1.ControlPlane) {
			if o.down(name) {
				continue
			}
			inOrder++
			if answered {
				continue
			}
			voters, leader, err := o.askMember(ctx, name)
			if err == nil {
				answered = true
				o.tookMembers(voters, leader)
			}
		}
		voters, _ := o.etcd()
		if said := availability.Asked(time.Now(), answered, len(voters) > 0 && inOrder > len(voters)/2); said != "" && ctx.Err() == nil {
			o.w.t.Error(said)
		}
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
	}
}

// tookMembers holds who is gone against who may go.
func (o *observer) tookMembers(voters []string, leader string) {
	o.mu.Lock()
	before := o.voters
	o.voters, o.leader = voters, leader
	o.mu.Unlock()
	for _, v := range before {
		if !slices.Contains(voters, v) {
			o.w.logf("test: %s has left etcd, whose voters are %v", v, voters)
			o.checker.Harmed(time.Now(), v, "is taken out of etcd", before)
		}
	}
}

// askMember lists the voters by the member of etcd on a server, with the certificates
// that k3s keeps there.
func (o *observer) askMember(ctx context.Context, name string) (voters []string, leader string, err error) {
	m := o.w.machines[name]
	dir := filepath.Join(m.Root(), k3s.ServerTLSDir, "etcd")
	certificate, err := tls.LoadX509KeyPair(filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key"))
	if err != nil {
		return nil, "", err
	}
	authority, err := os.ReadFile(filepath.Join(dir, "server-ca.crt"))
	if err != nil {
		return nil, "", err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	const endpoint = "https://127.0.0.1:2379"
	c, err := clientv3.New(clientv3.Config{
		Endpoints: []string{endpoint}, DialTimeout: 3 * time.Second, Logger: zap.NewNop(),
		TLS: &tls.Config{Certificates: []tls.Certificate{certificate}, RootCAs: roots, MinVersion: tls.VersionTLS12},
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return m.Host.DialContext(ctx, "tcp", "127.0.0.1:2379")
		})},
	})
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
	defer cancel()
	list, err := c.MemberList(ctx) // linearizable
	if err != nil {
		return nil, "", err
	}
	status, err := c.Status(ctx, endpoint)
	if err != nil {
		return nil, "", err
	}
	for _, member := range list.Members {
		of := o.machineBy(member.Name, member.PeerURLs)
		if of == "" {
			return nil, "", fmt.Errorf("etcd lists a member that is no machine's: %q", member.Name)
		}
		if !member.IsLearner {
			voters = append(voters, of)
		}
		if member.ID == status.Leader {
			leader = of
		}
	}
	if len(voters) == 0 {
		return nil, "", errors.New("etcd lists no voter")
	}
	slices.Sort(voters)
	return voters, leader, nil
}

// machineBy is the machine of a member, by its name or, before it has one, by its
// address.
func (o *observer) machineBy(member string, peers []string) string {
	for _, name := range o.w.names(v1alpha1.ControlPlane) {
		address := o.w.machines[name].Address.Addr().String()
		if strings.HasPrefix(member, name+"-") || slices.ContainsFunc(peers, func(p string) bool { return strings.Contains(p, "//"+address+":") }) {
			return name
		}
	}
	return ""
}
