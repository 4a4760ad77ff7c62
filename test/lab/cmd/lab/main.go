//go:build linux

// Command lab does Rhizome's main job on virtual machines, as its user would:
// blank machines, a network with a home router, `bootstrapper seed`.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/rhizome-dev/rhizome/test/lab"
)

func main() {
	root := &cobra.Command{
		Use:           "lab",
		Short:         "Grow a cluster from blank virtual machines on a private network",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(upCommand(), statusCommand(), downCommand(), healCommand(), healInsideCommand(), execCommand(), kubectlCommand(), imageCommand(), keepCommand(), insideCommand(), awaitCommand())

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root.ExecuteContext(ctx)
	stop()
	var ended *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &ended) && ended.ExitCode() > 0:
		// The program that ran in the lab has said what was wrong.
		os.Exit(ended.ExitCode())
	default:
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func imageCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "image",
		Short: "Build the operating system image, unless it is there, and print its path",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			image, err := lab.BuildImage(cmd.Context(), os.Stderr)
			if err != nil {
				return err
			}
			fmt.Println(image.Path)
			return nil
		},
	}
}
