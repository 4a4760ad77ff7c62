package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// restartSignal is SIGRTMIN+5 of the C library, by which systemd as PID 1 starts
// reboot.target (systemd(1), section "Signals"): services are stopped in order.
const restartSignal = syscall.Signal(34 + 5)

// askAgain is how often a machine that waits for its installation asks for it.
const askAgain = 5 * time.Second

// RebootCommand is the command `reboot`.
func RebootCommand() *cobra.Command {
	var when []string
	cmd := &cobra.Command{
		Use:   "reboot",
		Short: "Restart the machine",
		Long: `Restart the machine in order, by a signal to systemd. The operator runs it in a
pod that sees the host's processes, on a machine that is to be installed anew.

With --when it waits until a PXE service would install the machine: a server that
has left the cluster runs no k3s any more that could start a pod then, and
containers outlive k3s.`,
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(when) > 0 {
				w := waiter{client: &http.Client{Timeout: askAgain, Transport: &http.Transport{Proxy: nil, DisableKeepAlives: true}},
					every: askAgain, logger: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))}
				if err := w.wait(cmd.Context(), when); err != nil {
					return err
				}
			}
			if err := restart(os.ReadFile, syscall.Sync, syscall.Kill); err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), "the machine restarts")
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&when, "when", nil, "`URL` of the machine's iPXE script: wait until it starts a kernel; of several one is enough")
	return cmd
}

// waiter asks PXE services what a machine would boot.
type waiter struct {
	client *http.Client
	every  time.Duration
	logger *slog.Logger
}

// wait returns when one of the scripts starts a kernel. A service that does not
// answer says nothing.
func (w waiter) wait(ctx context.Context, scripts []string) error {
	w.logger.Info("waiting until the machine may be installed", "scripts", scripts)
	for {
		for _, script := range scripts {
			switch installs, err := w.ask(ctx, script); {
			case err != nil:
				w.logger.Debug("no answer", "script", script, "error", err)
			case installs:
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return errors.New("the machine is not restarted: it was told to wait no more")
		case <-time.After(w.every):
		}
	}
}

// mostScript bounds what is read of a script.
const mostScript = 64 << 10

func (w waiter) ask(ctx context.Context, script string) (bool, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, script, nil)
	if err != nil {
		return false, err
	}
	answer, err := w.client.Do(request)
	if err != nil {
		return false, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, mostScript))
	if err != nil {
		return false, err
	}
	if answer.StatusCode != http.StatusOK {
		return false, errors.New(answer.Status)
	}
	return StartsKernel(text), nil
}

// StartsKernel says whether an iPXE script of the PXE service starts a kernel:
// every installation does, and nothing else.
func StartsKernel(script []byte) bool {
	if !bytes.HasPrefix(script, []byte("#!ipxe\n")) {
		return false
	}
	for line := range strings.Lines(string(script)) {
		if strings.HasPrefix(line, "kernel ") {
			return true
		}
	}
	return false
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
