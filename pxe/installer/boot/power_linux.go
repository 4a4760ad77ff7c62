package boot

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Reboot restarts the machine. It returns only when that fails.
func Reboot() error {
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
		return fmt.Errorf("cannot reboot: %w", err)
	}
	return nil
}

// Kexec starts the kernel that was loaded. It returns only when that fails, as when
// there is none.
func Kexec() error {
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_KEXEC); err != nil {
		return fmt.Errorf("cannot start the loaded kernel: %w", err)
	}
	return nil
}
