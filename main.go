// Command rhizome is the cluster's binary: it runs the operator and the PXE pods.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/rhizome-dev/rhizome/internal/host"
	"github.com/rhizome-dev/rhizome/operator"
	"github.com/rhizome-dev/rhizome/operator/boot"
)

// version is set by the linker.
var version = "unknown"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "rhizome:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "rhizome",
		Short:         "Turns blank machines into a Kubernetes cluster that grows and heals itself",
		Long:          "rhizome is the binary that runs inside the cluster. To found a cluster, run bootstrapper instead.",
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(operator.Command(), boot.Command(), host.AdoptCommand(), host.BarCommand(), host.RebootCommand(), host.SnapshotCommand(), host.EtcdMembersCommand())
	return root
}
