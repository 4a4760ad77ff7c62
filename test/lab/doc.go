// Package lab is a bed of blank machines with real firmware on a private
// network, in which the whole of Rhizome runs as it would in a home: QEMU
// machines that boot from the network, a foreign router that keeps DHCP, and
// standby network cards that listen for Wake-on-LAN.
//
// Everything that a lab starts lives in network namespaces that have no name
// and is killed by the kernel when the owning process dies, so that nothing is
// left behind but files. No packet leaves the machine. A lab needs root.
package lab
