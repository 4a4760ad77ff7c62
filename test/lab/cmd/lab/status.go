//go:build linux

package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rhizome-dev/rhizome/test/lab"
)

func statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the lab's machines, router and cluster",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, s, err := readState()
			if errors.Is(err, errNoLab) {
				if exists(dir) {
					fmt.Println("No lab is up. One that was not shut down has left files: `lab down` removes them.")
				} else {
					fmt.Println("No lab is up.")
				}
				return nil
			}
			if err != nil {
				return err
			}
			fmt.Printf("Lab on %s, process %d, files in %s\n\n", s.LAN, s.Keeper.PID, dir)
			for _, m := range s.Machines {
				state := lab.MachineStatus(cmd.Context(), filepath.Dir(m.Serial))
				fmt.Printf("machine %s  %s  %s  %s  %s\n  serial console %s; its last lines:\n", m.Name, state, m.Firmware, m.MAC, m.Address, m.Serial)
				for line := range strings.Lines(lab.Tail(m.Serial, 5)) {
					fmt.Printf("    %s\n", strings.TrimRight(line, "\n"))
				}
			}
			if !exists(filepath.Join(dir, kubeconfig)) {
				fmt.Println("\nNo cluster yet: there is no kubeconfig.")
				return nil
			}
			fmt.Println()
			if err := kubectl(dir, s, "get", "nodes,pods", "--all-namespaces", "--request-timeout=10s"); err != nil {
				return err
			}
			fmt.Println()
			return kubectl(dir, s, "get", "clusters.rhizome.dev,gitops.rhizome.dev,nodes.rhizome.dev", "--request-timeout=10s")
		},
	}
}
