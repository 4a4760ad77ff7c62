package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// routeProtocol marks the routes that are ours to remove (rtnetlink(7): the
// numbers above 4 are free for administrators' programs).
const routeProtocol netlink.RouteProtocol = 75

// keepNetwork is the stand-in for flannel: a bridge on each node, and a plain
// route to every other node's pods. It needs all nodes on one link.
func (a *Agent) keepNetwork(ctx context.Context) {
	wrote := ""
	for {
		if err := a.network(ctx, &wrote); err != nil && ctx.Err() == nil {
			log.Printf("pod network: %v", err)
		}
		wait := 10 * time.Second
		if wrote == "" {
			wait = time.Second
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (a *Agent) network(ctx context.Context, wrote *string) error {
	nodes, err := a.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	var errs []error
	want := map[string]net.IP{}
	for i := range nodes.Items {
		n := &nodes.Items[i]
		if n.Spec.PodCIDR == "" {
			continue
		}
		if n.Name != a.NodeName {
			if ip := internalIP(n); ip != nil {
				want[n.Spec.PodCIDR] = ip
			}
			continue
		}
		if n.Spec.PodCIDR != *wrote {
			if err := a.writeCNI(n.Spec.PodCIDR); err != nil {
				errs = append(errs, err)
			} else {
				*wrote = n.Spec.PodCIDR
			}
		}
	}
	return errors.Join(append(errs, setRoutes(want))...)
}

func internalIP(n *corev1.Node) net.IP {
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return net.ParseIP(a.Address)
		}
	}
	return nil
}

// setRoutes makes the kernel's routes of our protocol those wanted.
func setRoutes(want map[string]net.IP) error {
	have, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Protocol: routeProtocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return fmt.Errorf("cannot list routes: %w", err)
	}
	var errs []error
	for _, r := range have {
		if r.Dst == nil {
			continue
		}
		if gw, ok := want[r.Dst.String()]; ok && gw.Equal(r.Gw) {
			delete(want, r.Dst.String())
			continue
		}
		errs = append(errs, netlink.RouteDel(&r))
	}
	for cidr, gw := range want {
		_, dst, err := net.ParseCIDR(cidr)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if err := netlink.RouteReplace(&netlink.Route{Dst: dst, Gw: gw, Protocol: routeProtocol}); err != nil {
			errs = append(errs, fmt.Errorf("route to %s via %s: %w", cidr, gw, err))
		}
	}
	return errors.Join(errs...)
}

// writeCNI writes the network configuration that containerd gives to pods.
func (a *Agent) writeCNI(cidr string) error {
	if err := forwarding(); err != nil {
		return err
	}
	type object = map[string]any
	b, err := json.MarshalIndent(object{
		"cniVersion": "0.4.0",
		"name":       "cbr0",
		"plugins": []object{
			{
				"type": "bridge", "bridge": "cni0", "isGateway": true, "isDefaultGateway": true,
				"forceAddress": true, "ipMasq": true, "hairpinMode": true,
				"ipam": object{"type": "host-local", "ranges": [][]object{{{"subnet": cidr}}}},
			},
			{"type": "portmap", "capabilities": object{"portMappings": true}},
		},
	}, "", "  ")
	if err != nil {
		return err
	}
	path := a.path("etc/cni/net.d/10-standin.conflist")
	if err := os.WriteFile(path+".new", b, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func forwarding() error {
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1\n"), 0o644)
}
