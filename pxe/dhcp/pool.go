package dhcp

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/rhizome-dev/rhizome/pxe"
)

// maxPool is the largest pool, in addresses: a look for a free one stays short.
const maxPool = 4096

const (
	// offerTime is how long an address is kept for a client that was offered it and
	// did not take it yet.
	offerTime = time.Minute
	// poolLease is how long a lease of the pool lasts unless the pool says otherwise:
	// short, since what is remembered of it goes with the process.
	poolLease = 10 * time.Minute
)

// PoolConfig says which addresses are handed out to machines that nobody declared,
// and what they are told of the network. They are told nothing to boot.
type PoolConfig struct {
	// Range is the addresses, 4096 at most. Those that are the network's own, its
	// broadcast address, the gateway's or ours are left out.
	Range netip.Prefix
	// Network is the machines' network, of which Range is a part.
	Network     netip.Prefix
	Gateway     netip.Addr
	Nameservers []netip.Addr
	// Duration of a lease; zero: ten minutes.
	Duration time.Duration
	// Taken says that an address is somebody's by declaration and is never handed
	// out; nil: none is. It is called with the pool locked, and answers from memory.
	Taken func(netip.Addr) bool
}

// Pool hands out addresses to machines that nobody declared.
//
// A machine's address follows from its MAC, so that servers that know nothing of
// each other offer the same one, and so does one that was started anew. Where two
// MACs fall on one address, the later takes the next that is free: that is
// remembered, for the time of the lease, by whoever sees the client's broadcast
// REQUEST, whichever server it names. What was forgotten in a restart is found by
// the clients, who look whether an address is in use before they take it and
// decline it if so (RFC 2131 §3.1.5).
//
// Its memory is bounded by its number of addresses. It may be used from many
// goroutines at once.
type Pool struct {
	config PoolConfig
	size   int

	mu   sync.Mutex
	held map[netip.Addr]hold
	of   map[pxe.MAC]netip.Addr
}

// hold is an address that is not free until a time. mac is empty for one that was
// declined.
type hold struct {
	mac   pxe.MAC
	until time.Time
}

// NewPool makes an empty pool.
func NewPool(c PoolConfig) (*Pool, error) {
	switch {
	case !c.Range.Addr().Is4() || !c.Network.Addr().Is4() || c.Range.Bits() < 0 || c.Network.Bits() < 0:
		return nil, errors.New("the pool of a DHCP server is a part of an IPv4 network")
	case c.Range.Bits() < c.Network.Bits() || !c.Network.Contains(c.Range.Addr()):
		return nil, fmt.Errorf("the pool %s is no part of the network %s", c.Range, c.Network)
	case c.Range.Addr().BitLen()-c.Range.Bits() > 12:
		return nil, fmt.Errorf("the pool %s has more than %d addresses", c.Range, maxPool)
	}
	c.Range, c.Network = c.Range.Masked(), c.Network.Masked()
	if c.Duration <= 0 {
		c.Duration = poolLease
	}
	return &Pool{
		config: c, size: 1 << (32 - c.Range.Bits()),
		held: map[netip.Addr]hold{}, of: map[pxe.MAC]netip.Addr{},
	}, nil
}

// Lease is what a machine is handed out that sent the packet to the server with the
// address ours: nil if that is for another server, asks for no lease, or there is
// no free address. It remembers what was offered, taken and given back.
func (p *Pool) Lease(packet *dhcpv4.DHCPv4, ours netip.Addr, now time.Time) *pxe.Lease {
	mac := MachineOf(packet).MAC
	if subnet := subnetOf(packet, ours); mac == "" || !p.config.Network.Contains(subnet) {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	wanted, has := addrOf(packet.RequestedIPAddress()), addrOf(packet.ClientIPAddr)
	var address netip.Addr
	switch packet.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		if address = p.choose(mac, wanted, ours, now); !address.IsValid() {
			return nil
		}
		p.keep(mac, address, now, offerTime)
	case dhcpv4.MessageTypeRequest:
		if !wanted.IsValid() {
			wanted = has
		}
		mine := p.may(mac, wanted, ours, now)
		if mine {
			p.keep(mac, wanted, now, p.config.Duration)
		}
		if server := addrOf(packet.ServerIdentifier()); server.IsValid() && server != ours {
			return nil // the offer of another server that shares the pool
		}
		if address = wanted; !mine {
			if address = p.choose(mac, netip.Addr{}, ours, now); !address.IsValid() {
				return nil
			}
		}
	case dhcpv4.MessageTypeInform:
		address = p.config.Network.Addr().Next() // is not told
	case dhcpv4.MessageTypeDecline:
		if p.may(mac, wanted, ours, now) {
			p.drop(mac)
			p.held[wanted] = hold{until: now.Add(p.config.Duration)}
		}
		return nil
	case dhcpv4.MessageTypeRelease:
		if p.of[mac] == has {
			p.drop(mac)
		}
		return nil
	default:
		return nil
	}
	return &pxe.Lease{
		Address: netip.PrefixFrom(address, p.config.Network.Bits()), Gateway: p.config.Gateway,
		Nameservers: p.config.Nameservers, Duration: p.config.Duration,
	}
}

// choose is the address for a machine: the one that it has, the one that it asks
// for, or the first free one from where its MAC falls.
func (p *Pool) choose(mac pxe.MAC, wanted, ours netip.Addr, now time.Time) netip.Addr {
	if old, ok := p.of[mac]; ok && p.may(mac, old, ours, now) {
		return old
	}
	if p.may(mac, wanted, ours, now) {
		return wanted
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(mac)) // a hash takes everything
	first := int(h.Sum32() % uint32(p.size))
	base := p.config.Range.Addr().As4()
	for i := range p.size {
		n := (first + i) % p.size
		a := netip.AddrFrom4([4]byte{base[0], base[1], base[2] + byte(n>>8), base[3] + byte(n)})
		if p.may(mac, a, ours, now) {
			return a
		}
	}
	return netip.Addr{}
}

// may says whether the machine may have the address.
func (p *Pool) may(mac pxe.MAC, a, ours netip.Addr, now time.Time) bool {
	switch {
	case !a.IsValid() || !p.config.Range.Contains(a):
		return false
	case a == ours || a == p.config.Gateway || a == p.config.Network.Addr() || a == broadcastOf(p.config.Network):
		return false
	case p.config.Taken != nil && p.config.Taken(a):
		return false
	}
	h, ok := p.held[a]
	return !ok || h.mac == mac || !now.Before(h.until)
}

// keep notes that the machine has the address, at least so long.
func (p *Pool) keep(mac pxe.MAC, a netip.Addr, now time.Time, long time.Duration) {
	until := now.Add(long)
	if old, ok := p.held[a]; ok && old.mac == mac && old.until.After(until) {
		return
	}
	if before, ok := p.held[a]; ok && before.mac != mac {
		p.drop(before.mac)
	}
	if p.of[mac] != a {
		p.drop(mac)
	}
	p.held[a], p.of[mac] = hold{mac, until}, a
}

// drop forgets what the machine has.
func (p *Pool) drop(mac pxe.MAC) {
	if a, ok := p.of[mac]; ok {
		delete(p.held, a)
		delete(p.of, mac)
	}
}

// broadcastOf is the last address of a network.
func broadcastOf(network netip.Prefix) netip.Addr {
	b := network.Addr().As4()
	host := ^uint32(0) >> network.Bits()
	for i := range b {
		b[i] |= byte(host >> (24 - 8*i))
	}
	return netip.AddrFrom4(b)
}
