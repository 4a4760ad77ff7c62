// Package boot does what the first process of a machine must do: mount the
// kernel's file systems, watch over a child, set the clock, reboot.
package boot

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Mount mounts the kernel's own file systems at their usual places. What is
// mounted already stays.
func Mount() error {
	var errs []error
	for _, m := range []struct {
		kind, at string
		flags    uintptr
	}{
		{"proc", "/proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"sysfs", "/sys", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
		{"devtmpfs", "/dev", unix.MS_NOSUID},
		{"tmpfs", "/run", unix.MS_NOSUID | unix.MS_NODEV},
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			errs = append(errs, err)
			continue
		}
		err := unix.Mount(m.kind, m.at, m.kind, m.flags, "")
		if err != nil && !errors.Is(err, unix.EBUSY) {
			errs = append(errs, fmt.Errorf("cannot mount %s: %w", m.at, err))
		}
	}
	return errors.Join(errs...)
}
