package host

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// privileges reads this thread's effective capabilities: root in a container may
// have none.
func privileges() Privileges {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return Privileges{}
	}
	has := func(c int) bool { return data[c/32].Effective&(1<<(c%32)) != 0 }
	return Privileges{LowPorts: has(unix.CAP_NET_BIND_SERVICE), RawSockets: has(unix.CAP_NET_RAW)}
}

// DefaultRoute finds the IPv4 default route with the lowest metric; false when
// there is none.
func DefaultRoute() (Route, bool) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return Route{}, false
	}
	lines, err := fs.NetRoute()
	if err != nil {
		return Route{}, false
	}
	var best *procfs.NetRouteLine
	for i := range lines {
		l := &lines[i]
		if l.Destination == 0 && l.Mask == 0 && l.Flags&unix.RTF_UP != 0 && l.Flags&unix.RTF_GATEWAY != 0 && (best == nil || l.Metric < best.Metric) {
			best = l
		}
	}
	if best == nil {
		return Route{}, false
	}
	// The kernel prints the address as a number in its own byte order.
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], best.Gateway)
	return Route{Interface: best.Iface, Gateway: netip.AddrFrom4(b)}, true
}

// portUser names the program that has a port, as far as /proc shows it to us.
func portUser(protocol string, port uint16) string {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return ""
	}
	inodes := map[string]bool{}
	note := func(local, inode uint64) {
		if local == uint64(port) && inode != 0 {
			inodes[fmt.Sprintf("socket:[%d]", inode)] = true
		}
	}
	const listening = 0x0a // TCP_LISTEN
	switch protocol {
	case "UDP":
		four, _ := fs.NetUDP()
		six, _ := fs.NetUDP6()
		for _, l := range append(four, six...) {
			note(l.LocalPort, l.Inode)
		}
	case "TCP":
		four, _ := fs.NetTCP()
		six, _ := fs.NetTCP6()
		for _, l := range append(four, six...) {
			if l.St == listening {
				note(l.LocalPort, l.Inode)
			}
		}
	}
	procs, err := fs.AllProcs()
	if err != nil || len(inodes) == 0 {
		return ""
	}
	for _, p := range procs {
		targets, err := p.FileDescriptorTargets()
		if err != nil {
			continue // gone, or another user's
		}
		for _, t := range targets {
			if inodes[t] {
				name, err := p.Comm()
				if err != nil {
					name = "a program"
				}
				return fmt.Sprintf("%s (pid %d)", name, p.PID)
			}
		}
	}
	return ""
}
