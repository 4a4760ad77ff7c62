// Command installer is the first process of Rhizome's in-memory installer: it
// streams a disk image to the machine's disk and reboots into it.
//
// As process 1 it watches over a child, which does the work: whatever happens to
// the child, the machine says so and reboots. As /sbin/modprobe it loads the
// modules that the kernel itself asks for.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	switch {
	case filepath.Base(os.Args[0]) == "modprobe":
		os.Exit(modprobe(os.Args[1:]))
	case os.Getpid() == 1:
		supervise()
	case len(os.Args) == 2 && os.Args[1] == "install":
		os.Exit(work())
	case len(os.Args) == 2 && os.Args[1] == "crashed":
		os.Exit(reportCrash())
	}
	fmt.Fprintln(os.Stderr, "installer: this program wipes disks. It is the init of Rhizome's installer initramfs and runs nowhere else.")
	os.Exit(2)
}
