package main

import "github.com/spf13/cobra"

func newInitCommand() *cobra.Command {
	return &cobra.Command{Use: "init DIR", Short: "Write a commented example repository", Args: oneDirectory}
}
