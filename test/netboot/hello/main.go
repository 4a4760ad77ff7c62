//go:build linux

// Command hello is the init of a test's initial ramdisk: it writes its kernel
// command line to the console and powers the machine off.
package main

import (
	"fmt"
	"os"
	"syscall"
)

func main() {
	_ = os.Mkdir("/proc", 0o755)
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		fmt.Println("HELLO cannot mount /proc:", err)
	}
	line, err := os.ReadFile("/proc/cmdline")
	fmt.Printf("\nHELLO %s %v\n", line, err)
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
}
