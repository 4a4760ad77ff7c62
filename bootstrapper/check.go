package main

import "github.com/spf13/cobra"

func newCheckCommand() *cobra.Command {
	return &cobra.Command{Use: "check DIR", Short: "Check a directory of manifests and this machine", Args: oneDirectory}
}
