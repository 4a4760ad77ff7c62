//go:build linux

// Command container becomes the container that a file describes; see package
// container. It is a test tool.
package main

import (
	"fmt"
	"os"

	"github.com/rhizome-dev/rhizome/test/machine/container"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: container SPEC")
		os.Exit(2)
	}
	spec, err := container.Read(os.Args[1])
	if err == nil {
		err = container.Exec(spec)
	}
	fmt.Fprintln(os.Stderr, "container:", err)
	os.Exit(128)
}
