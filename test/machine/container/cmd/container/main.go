//go:build linux

// Command container becomes the container that a file describes; see package
// container. It is a test tool.
package main

import (
	"fmt"
	"os"
	"os/exec"

	"github.com/rhizome-dev/rhizome/test/machine/container"
)

// inner marks the process that becomes the container below the fake of systemd.
const inner = "inner"

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: container SPEC")
		os.Exit(2)
	}
	fmt.Fprintln(os.Stderr, "container:", run(os.Args[1], len(os.Args) > 2 && os.Args[2] == inner))
	os.Exit(128)
}

// run becomes the container, or ends with its exit code; it returns only an error.
func run(file string, isInner bool) error {
	spec, err := container.Read(file)
	if err != nil {
		return err
	}
	if !spec.HostPID || isInner {
		return container.Exec(spec)
	}
	self := exec.Command("/proc/self/exe", file, inner)
	self.Stdout, self.Stderr = os.Stdout, os.Stderr
	code, err := container.Init(self)
	if err == nil {
		os.Exit(code)
	}
	return err
}
