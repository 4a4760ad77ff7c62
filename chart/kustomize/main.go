// Command kustomize renders the chart with its default values for the
// kustomization at the top of the repository: into kustomize/operator.yaml, seen
// from the chart's directory, where `go generate` runs it.
package main

import (
	"fmt"
	"os"

	"github.com/rhizome-dev/rhizome/chart"
)

func main() {
	// The names that the bootstrapper installs the chart by.
	text, err := chart.Render("rhizome", "rhizome-system", nil)
	if err == nil {
		text = "# Generated from the chart with its default values by `make generate`.\n" + text
		err = os.WriteFile("kustomize/operator.yaml", []byte(text), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kustomize:", err)
		os.Exit(1)
	}
}
