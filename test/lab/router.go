//go:build linux

package lab

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Router is the foreign DHCP server of the lab: what a home router is to
// Rhizome. It hands out addresses, a default route and a DNS server, knows
// nothing of network boot, and is not ours (dnsmasq).
type Router struct {
	// First and Last bound the addresses that it hands out.
	First, Last netip.Addr

	leases string
	host   *Namespace
}

// Lease is an address that the router has given away.
type Lease struct {
	Expires time.Time // zero: never
	MAC     net.HardwareAddr
	Address netip.Addr
	Name    string // empty if the client gave none
}

// startRouter attaches the gateway to the network and, if dhcp is true, hands
// out the addresses from the hundredth to the hundred and fiftieth (a small
// LAN: its second quarter).
func startRouter(ctx context.Context, lab *Lab, dhcp bool) (*Router, error) {
	network := lab.Network
	host, err := network.Attach("router", netip.PrefixFrom(network.Gateway, network.LAN.Bits()), netip.Addr{})
	if err != nil {
		return nil, err
	}
	// There is nothing behind the router. With forwarding on it says so
	// ("network unreachable") in place of swallowing what is sent there.
	if err := host.setSysctl("ipv4/ip_forward", "1"); err != nil {
		return nil, fmt.Errorf("cannot make the lab's router forward: %w", err)
	}

	first, last := leaseRange(network.LAN)
	r := &Router{First: first, Last: last, leases: filepath.Join(lab.Dir, "router.leases"), host: host}
	args := []string{
		"--conf-file=/dev/null", "--keep-in-foreground", "--log-facility=-", "--pid-file=",
		// A change of user or group would undo the promise to die with the lab
		// (prctl(2), PR_SET_PDEATHSIG).
		"--user=root", "--group=root",
		"--interface=eth0", "--bind-interfaces",
		"--no-resolv", "--no-hosts", "--log-queries",
	}
	if dhcp {
		args = append(args,
			fmt.Sprintf("--dhcp-range=%s,%s,%s,1h", first, last, net.IP(net.CIDRMask(network.LAN.Bits(), 32))),
			fmt.Sprintf("--dhcp-option=option:router,%s", network.Gateway),
			fmt.Sprintf("--dhcp-option=option:dns-server,%s", network.Gateway),
			"--dhcp-leasefile="+r.leases, "--dhcp-authoritative", "--no-ping", "--log-dhcp",
		)
	}
	dnsmasq, err := lab.run("router", filepath.Join(lab.Dir, "router.log"), host, "dnsmasq", args...)
	if err != nil {
		return nil, err
	}
	return r, dnsmasq.waitForPort(ctx, host, netip.AddrPortFrom(network.Gateway, 53))
}

// leaseRange keeps clear of the first addresses (gateway, laptop, declared
// nodes) and of the last /27 (load balancer pool).
func leaseRange(lan netip.Prefix) (first, last netip.Addr) {
	start, count := 100, 51
	if lan.Bits() > 24 {
		size := 1 << (32 - lan.Bits())
		start, count = size/4, size/4
	}
	return nth(lan, start), nth(lan, start+count-1)
}

// nth is the address with the given number in the network, the network's own
// address being number 0.
func nth(lan netip.Prefix, number int) netip.Addr {
	b := lan.Masked().Addr().As4()
	v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	v += uint32(number)
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

// Leases are the addresses given away so far.
func (r *Router) Leases() ([]Lease, error) {
	file, err := os.Open(r.leases)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return parseLeases(file)
}

// parseLeases reads dnsmasq's lease file: one lease a line, as seconds since
// 1970, MAC, address, host name or *, client identifier or *.
func parseLeases(r io.Reader) ([]Lease, error) {
	var leases []Lease
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[0] == "duid" {
			continue
		}
		seconds, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("lease %q: expiry: %w", lines.Text(), err)
		}
		mac, err := net.ParseMAC(fields[1])
		if err != nil {
			return nil, fmt.Errorf("lease %q: MAC: %w", lines.Text(), err)
		}
		address, err := netip.ParseAddr(fields[2])
		if err != nil {
			return nil, fmt.Errorf("lease %q: address: %w", lines.Text(), err)
		}
		lease := Lease{MAC: mac, Address: address}
		if seconds != 0 {
			lease.Expires = time.Unix(seconds, 0)
		}
		if fields[3] != "*" {
			lease.Name = fields[3]
		}
		leases = append(leases, lease)
	}
	return leases, lines.Err()
}
