//go:build linux

package main

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/kubectl/pkg/cmd"

	"github.com/rhizome-dev/rhizome/test/lab"
)

func execCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "exec -- COMMAND [ARGUMENT...]",
		Short:              "Run a command on the lab's network, with KUBECONFIG set",
		Example:            "  lab exec -- curl -k https://10.77.0.10:6443/version\n  lab exec -- bash",
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && args[0] == "--" {
				args = args[1:]
			}
			if len(args) == 0 || args[0] == "--help" || args[0] == "-h" {
				return cmd.Help()
			}
			dir, s, err := readState()
			if err != nil {
				return err
			}
			return runInside(dir, s, args...)
		},
	}
}

func kubectlCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "kubectl [ARGUMENT...]",
		Short:              "Run kubectl (built in) against the lab's cluster",
		Example:            "  lab kubectl get nodes,pods -A",
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			dir, s, err := readState()
			if err != nil {
				return err
			}
			return kubectl(dir, s, args...)
		},
	}
}

func kubectl(dir string, s state, args ...string) error {
	if !exists(filepath.Join(dir, kubeconfig)) {
		return errors.New("there is no cluster yet: the seed has not written its kubeconfig; `lab status` shows the machine's console")
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return runInside(dir, s, append([]string{self, "kubectl-inside"}, args...)...)
}

// insideCommand is kubectl itself, run by kubectlCommand on the lab's network.
func insideCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "kubectl-inside",
		Hidden:             true,
		DisableFlagParsing: true,
		RunE: func(c *cobra.Command, args []string) error {
			_, s, err := readState()
			if err != nil {
				return err
			}
			// kubectl takes its arguments, and the way to itself, from os.Args.
			os.Args = []string{"kubectl"}
			if other := another(c.Context(), s.servers()); other != "" {
				os.Args = append(os.Args, "--server=https://"+other)
			}
			os.Args = append(os.Args, args...)
			return cmd.NewDefaultKubectlCommand().Execute()
		},
	}
}

// another is the first server that takes a connection in place of the first, which the
// kubeconfig names; empty: that one does, or none.
func another(ctx context.Context, servers []string) string {
	if len(servers) < 2 {
		return ""
	}
	conn, err := dialAny(ctx, "tcp", servers)
	if err != nil {
		return ""
	}
	defer conn.Close()
	if at := conn.RemoteAddr().String(); at != servers[0] {
		return at
	}
	return ""
}

// dialAny connects to the first of some addresses that takes a connection.
func dialAny(ctx context.Context, network string, addresses []string) (net.Conn, error) {
	var errs []error
	for _, a := range addresses {
		trying, cancel := context.WithTimeout(ctx, 5*time.Second)
		conn, err := (&net.Dialer{}).DialContext(trying, network, a)
		cancel()
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// runInside runs a program on the lab's network with this terminal, and waits.
func runInside(dir string, s state, args ...string) error {
	program := lab.CommandIn(context.Background(), s.Namespace, args[0], args[1:]...)
	program.Stdin, program.Stdout, program.Stderr = os.Stdin, os.Stdout, os.Stderr
	program.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(dir, kubeconfig),
		// Another lab had the same address, and other resources.
		"KUBECACHEDIR="+filepath.Join(dir, "kubectl"))
	// The terminal sends its signals to the program too; what it makes of them is
	// its own affair, and we wait for its word.
	program.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	return waitThroughSignals(program)
}

func waitThroughSignals(program *exec.Cmd) error {
	swallowed := make(chan os.Signal, 1)
	signal.Notify(swallowed, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(swallowed)
	if err := program.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- program.Wait() }()
	for {
		select {
		case err := <-ended:
			return err
		case received := <-swallowed:
			// Ctrl-C has reached it through the terminal already; the others come to
			// this process alone.
			if received != os.Interrupt {
				_ = program.Process.Signal(received)
			}
		}
	}
}
