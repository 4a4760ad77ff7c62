package network

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// Down sets every interface down. It comes before the kernel is left: a packet that
// arrives while Linux 6.1 takes its devices back for kexec can have the driver of a
// virtio card spin for ever in its answer.
func Down() error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("cannot list the interfaces: %w", err)
	}
	var failed error
	for _, link := range links {
		if err := netlink.LinkSetDown(link); err != nil {
			failed = errors.Join(failed, fmt.Errorf("cannot set the interface %s down: %w", link.Attrs().Name, err))
		}
	}
	return failed
}
