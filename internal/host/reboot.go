package host

import (
	"bytes"
	"fmt"
	"os"
	"syscall"

	"github.com/spf13/cobra"
)

// restartSignal is SIGRTMIN+5 of the C library, by which systemd as PID 1 starts
// reboot.target (systemd(1), section "Signals"): services are stopped in order.
const restartSignal = syscall.Signal(34 + 5)

// RebootCommand is the command `reboot`.
func RebootCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "reboot",
		Short: "Restart the machine",
		Long: `Restart the machine in order, by a signal to systemd. The operator runs it in a
pod that sees the host's processes, on a machine that is to be installed anew.`,
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := restart(os.ReadFile, syscall.Sync, syscall.Kill); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "the machine restarts")
			return nil
		},
	}
}

// restart tells PID 1 to restart the machine, if it is systemd: to another program
// the signal may mean anything, and in a pod that does not see the host's processes
// PID 1 is this one.
func restart(read func(string) ([]byte, error), sync func(), kill func(int, syscall.Signal) error) error {
	name, err := read("/proc/1/comm")
	if err != nil {
		return fmt.Errorf("cannot restart the machine: %w", err)
	}
	if comm := bytes.TrimSpace(name); !bytes.Equal(comm, []byte("systemd")) {
		return fmt.Errorf("cannot restart the machine: its first process is %q, not systemd; restart it by hand", comm)
	}
	sync()
	if err := kill(1, restartSignal); err != nil {
		return fmt.Errorf("cannot restart the machine: the signal to systemd: %w", err)
	}
	return nil
}
