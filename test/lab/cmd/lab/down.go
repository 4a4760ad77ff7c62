//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func downCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Stop the lab and remove all of it: machines, disks, network, state, kubeconfig",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, s, err := readState()
			running := err == nil
			if running {
				if err := stop(cmd.Context(), s); err != nil {
					return err
				}
			}
			if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
				fmt.Println("No lab is up.")
				return nil
			}
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			if running {
				fmt.Println("The lab is gone.")
			} else {
				fmt.Println("Removed what a lab had left that was not shut down.")
			}
			return nil
		},
	}
}

// stop ends the keeper, which ends the rest. Whatever else runs in the lab's
// network (a shell, say) is killed after it; it is looked up before, while the
// namespace is certainly the lab's.
func stop(ctx context.Context, s state) error {
	guests, err := processesIn(s.Namespace)
	if err != nil && s.Keeper.alive() {
		return fmt.Errorf("cannot see what runs in the lab: %w", err)
	}
	if err := end(ctx, s.Keeper, syscall.SIGTERM, 20*time.Second); err != nil {
		return err
	}
	var errs []error
	for _, guest := range guests {
		errs = append(errs, end(ctx, guest, syscall.SIGKILL, 0))
	}
	return errors.Join(errs...)
}

// end signals a process and waits for its end, with force after the patience.
func end(ctx context.Context, p processID, signal syscall.Signal, patience time.Duration) error {
	if !p.alive() {
		return nil
	}
	if err := syscall.Kill(p.PID, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("cannot end process %d: %w", p.PID, err)
	}
	force := time.After(patience)
	for p.alive() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-force:
			if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("cannot kill process %d: %w", p.PID, err)
			}
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}
