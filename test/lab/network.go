//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// DefaultLAN is the lab's network unless Options name another.
var DefaultLAN = netip.MustParsePrefix("10.77.0.0/24")

// BridgeName is the laptop's network interface on the LAN. All the other hosts
// hang off it.
const BridgeName = "br0"

// Network is the lab's LAN as seen from the laptop: a namespace with a bridge,
// to which machines (by taps) and further hosts (by veth pairs) are attached.
type Network struct {
	*Namespace

	// LAN is the network, with its host bits zero.
	LAN netip.Prefix
	// Gateway is the router's address, the first of the LAN.
	Gateway netip.Addr
	// Laptop is the address of the bridge, the second of the LAN: where the
	// bootstrapper runs.
	Laptop netip.Addr

	bridge *netlink.Bridge

	mu    sync.Mutex
	hosts []*Namespace
	taps  int
}

func newNetwork(lan netip.Prefix) (network *Network, err error) {
	if !lan.Addr().Is4() || lan.Bits() > 26 {
		return nil, fmt.Errorf("the lab's LAN %s is not an IPv4 network of at least 64 addresses", lan)
	}
	ns, err := newNamespace()
	if err != nil {
		return nil, err
	}
	lan = lan.Masked()
	gateway := lan.Addr().Next()
	n := &Network{Namespace: ns, LAN: lan, Gateway: gateway, Laptop: gateway.Next()}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
		}
	}()

	if err := ns.loopbackUp(); err != nil {
		return nil, err
	}
	snooping := false
	n.bridge = &netlink.Bridge{
		LinkAttrs: netlink.LinkAttrs{
			Name: BridgeName,
			// A bridge without an address of its own takes the lowest of its ports',
			// so it would change whenever a machine is plugged in.
			HardwareAddr: net.HardwareAddr{0x02, 0, 0, 0, 0, 0x02},
		},
		MulticastSnooping: &snooping,
	}
	return n, ns.withNetlink(func(h *netlink.Handle) error {
		if err := h.LinkAdd(n.bridge); err != nil {
			return fmt.Errorf("cannot make the lab's bridge: %w", err)
		}
		return configureLink(h, BridgeName, netip.PrefixFrom(n.Laptop, lan.Bits()), gateway)
	})
}

// Close lets go of the namespaces of all hosts.
func (n *Network) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, host := range n.hosts {
		errs = append(errs, host.Close())
	}
	n.hosts = nil
	return errors.Join(append(errs, n.Namespace.Close())...)
}

// Attach adds a host of its own to the LAN: a namespace with the interface eth0.
// The zero prefix leaves it without an address; a gateway that is the zero Addr
// leaves it without a default route.
func (n *Network) Attach(name string, address netip.Prefix, gateway netip.Addr) (*Namespace, error) {
	host, err := newNamespace()
	if err != nil {
		return nil, err
	}
	if err := host.loopbackUp(); err != nil {
		return nil, errors.Join(err, host.Close())
	}
	if err := n.attach(host, name, "eth0", address, gateway); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot attach %s to the lab's network: %w", name, err), host.Close())
	}
	n.mu.Lock()
	n.hosts = append(n.hosts, host)
	n.mu.Unlock()
	return host, nil
}

// Join adds a host of another network to this LAN too, by the further interface
// iface. It passes on packets between the two from then on.
func (n *Network) Join(host *Namespace, name, iface string, address netip.Prefix) error {
	if err := n.attach(host, name, iface, address, netip.Addr{}); err != nil {
		return fmt.Errorf("cannot join %s to the lab's network: %w", name, err)
	}
	return host.setSysctl("ipv4/ip_forward", "1")
}

func (n *Network) attach(host *Namespace, name, iface string, address netip.Prefix, gateway netip.Addr) error {
	err := n.withNetlink(func(h *netlink.Handle) error {
		pair := &netlink.Veth{
			LinkAttrs:     netlink.LinkAttrs{Name: name},
			PeerName:      iface,
			PeerNamespace: netlink.NsFd(host.file.Fd()),
		}
		if err := h.LinkAdd(pair); err != nil {
			return err
		}
		return n.plugIn(h, name)
	})
	if err != nil {
		return err
	}
	return host.withNetlink(func(h *netlink.Handle) error {
		return configureLink(h, iface, address, gateway)
	})
}

// addTap makes a tap on the bridge and returns its name. It takes frames from
// the moment that a machine opens it.
func (n *Network) addTap() (string, error) {
	n.mu.Lock()
	name := fmt.Sprintf("tap%d", n.taps)
	n.taps++
	n.mu.Unlock()
	// The ioctl that makes a tap acts on the thread's namespace, not on the
	// netlink handle's.
	err := n.Do(func() error {
		tap := &netlink.Tuntap{
			LinkAttrs: netlink.LinkAttrs{Name: name},
			Mode:      netlink.TUNTAP_MODE_TAP,
			Flags:     netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR,
		}
		return netlink.LinkAdd(tap)
	})
	if err != nil {
		return "", fmt.Errorf("cannot make the tap %s (is /dev/net/tun there?): %w", name, err)
	}
	return name, n.withNetlink(func(h *netlink.Handle) error { return n.plugIn(h, name) })
}

// forget makes the bridge unlearn which machine is behind the tap. It does so by
// itself when the machine's program has closed the tap, but up to a second later, as
// the kernel hands on such news; until then a frame to the machine's address reaches
// nobody, not even the card that is on standby.
func (n *Network) forget(tap string) error {
	return n.withNetlink(func(h *netlink.Handle) error {
		link, err := h.LinkByName(tap)
		if err != nil {
			return err
		}
		return errors.Join(h.LinkSetDown(link), h.LinkSetUp(link))
	})
}

func (n *Network) plugIn(h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	if err := h.LinkSetMaster(link, n.bridge); err != nil {
		return fmt.Errorf("cannot plug %s into the lab's bridge: %w", name, err)
	}
	return h.LinkSetUp(link)
}

func (n *Namespace) loopbackUp() error {
	return n.withNetlink(func(h *netlink.Handle) error {
		return configureLink(h, "lo", netip.Prefix{}, netip.Addr{})
	})
}

// setSysctl writes a value under /proc/sys/net, which shows the namespace of
// the thread that opens it.
func (n *Namespace) setSysctl(name, value string) error {
	return n.Do(func() error {
		return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0)
	})
}

func (n *Namespace) withNetlink(fn func(*netlink.Handle) error) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(n.file.Fd()))
	if err != nil {
		return fmt.Errorf("cannot reach the lab's network by netlink: %w", err)
	}
	defer h.Close()
	return fn(h)
}

func configureLink(h *netlink.Handle, name string, address netip.Prefix, gateway netip.Addr) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("no interface %s: %w", name, err)
	}
	if address.IsValid() {
		addr := &netlink.Addr{IPNet: &net.IPNet{
			IP:   address.Addr().AsSlice(),
			Mask: net.CIDRMask(address.Bits(), address.Addr().BitLen()),
		}}
		if err := h.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("cannot give %s the address %s: %w", name, address, err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("cannot bring %s up: %w", name, err)
	}
	if gateway.IsValid() {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway.AsSlice()}
		if err := h.RouteAdd(route); err != nil {
			return fmt.Errorf("cannot route by %s from %s: %w", gateway, name, err)
		}
	}
	return nil
}
