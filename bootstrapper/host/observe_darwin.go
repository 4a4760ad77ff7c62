package host

import (
	"net"
	"net/netip"
	"os"

	"golang.org/x/net/route"
	"golang.org/x/sys/unix"
)

// privileges: macOS knows only root here.
func privileges() Privileges {
	root := os.Geteuid() == 0
	return Privileges{LowPorts: root, RawSockets: root}
}

// DefaultRoute finds the first IPv4 default route; false when there is none.
func DefaultRoute() (Route, bool) {
	table, err := route.FetchRIB(unix.AF_INET, route.RIBTypeRoute, 0)
	if err != nil {
		return Route{}, false
	}
	messages, err := route.ParseRIB(route.RIBTypeRoute, table)
	if err != nil {
		return Route{}, false
	}
	for _, m := range messages {
		r, ok := m.(*route.RouteMessage)
		if !ok || r.Flags&unix.RTF_UP == 0 || r.Flags&unix.RTF_GATEWAY == 0 || len(r.Addrs) <= unix.RTAX_GATEWAY {
			continue
		}
		to, ok := r.Addrs[unix.RTAX_DST].(*route.Inet4Addr)
		if !ok || to.IP != [4]byte{} {
			continue
		}
		gateway, ok := r.Addrs[unix.RTAX_GATEWAY].(*route.Inet4Addr)
		if !ok {
			continue
		}
		i, err := net.InterfaceByIndex(r.Index)
		if err != nil {
			continue
		}
		return Route{Interface: i.Name, Gateway: netip.AddrFrom4(gateway.IP)}, true
	}
	return Route{}, false
}

// portUser: macOS shows it only to lsof, which the finding names.
func portUser(string, uint16) string { return "" }
