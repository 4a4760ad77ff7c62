package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rhizome-dev/rhizome/bootstrapper/progress"
	"github.com/rhizome-dev/rhizome/bootstrapper/seed"
	"github.com/rhizome-dev/rhizome/pxe/server"
)

// exitInterrupted is what shells give a program that Ctrl-C ended.
const exitInterrupted = 130

func newSeedCommand() *cobra.Command {
	var o seed.Options
	var output string
	var timeouts map[string]string
	var verbose bool
	cmd := &cobra.Command{
		Use:   "seed DIR",
		Short: "Turn the first machine of DIR into a one-node cluster that runs the operator",
		Long: `Boots one blank machine from the network, installs it, makes it a one-node
cluster, and installs the operator and the manifests of DIR. DHCP and TFTP have low
ports, so it wants root (sudo).

It may be interrupted at any point: the same command goes on where it stopped,
and changes nothing on a cluster that is finished. It refuses to found a cluster
when anything answers where the cluster would.

The exit code is 0 when the cluster stands, 1 if a phase failed (what to do is said
below it), 2 if the command line is wrong, and 130 after Ctrl-C.`,
		Example: `  sudo bootstrapper seed homelab --kubeconfig homelab.kubeconfig
  sudo bootstrapper seed homelab --no-wake --timeout wake=2h
  sudo bootstrapper seed homelab --operator-image dist/rhizome-operator.oci.tar`,
		Args: oneDirectory,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Dir = args[0]
			if err := checkPorts(o.HTTPPort, o.HTTPSPort); err != nil {
				return usageError{err}
			}
			var err error
			if o.Timeouts, err = parseTimeouts(timeouts); err != nil {
				return usageError{err}
			}
			format, err := formatOf(output, cmd.OutOrStdout())
			if err != nil {
				return usageError{err}
			}
			o.Display = progress.New(cmd.OutOrStdout(), format, time.Now)
			o.Logger = slog.New(slog.DiscardHandler)
			if verbose {
				o.Logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelDebug}))
			}
			// Libraries that know no other logger are not to write into the display.
			slog.SetDefault(o.Logger)
			err = seed.Run(cmd.Context(), o)
			o.Display.Close()
			var failure *seed.Failure
			switch {
			case errors.As(err, &failure) && failure.Interrupted:
				return exitError(exitInterrupted)
			case errors.As(err, &failure):
				return exitError(exitFailed)
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Kubeconfig, "kubeconfig", "", "`file` to write the kubeconfig to (default: kubeconfig in the state directory)")
	flags.StringVar(&o.State, "state", "", "`directory` of the cluster's secrets and claims (default: $XDG_STATE_HOME/rhizome/CLUSTER, or below ~/.local/state)")
	flags.StringVar(&o.Cache, "cache", "", "`directory` of downloaded media (default: rhizome/media in the user's cache directory)")
	flags.StringVar(&o.Interface, "interface", "", "`name` of the network interface to boot machines on (default: the one in the cluster's network)")
	flags.StringVar(&o.BootFiles, "boot-files", "", "`directory` of boot loaders and installers (default: boot beside this program, or /usr/share/rhizome/boot)")
	flags.StringVar(&o.OperatorImage, "operator-image", "", "the operator's `image`: a reference, or an OCI archive, which travels with the installation (default: the chart's)")
	flags.StringVar(&o.Values, "values", "", "`file` of Helm values for the operator's chart; --operator-image goes before its image")
	flags.StringVar(&o.Node, "node", "", "`name` of the first node (default: the first control-plane node by name)")
	flags.Uint16Var(&o.HTTPPort, "http-port", server.DefaultHTTPPort, "`port` of plain HTTP")
	flags.Uint16Var(&o.HTTPSPort, "https-port", server.DefaultHTTPSPort, "`port` of HTTPS")
	flags.StringToStringVar(&timeouts, "timeout", nil, "time `limits` by phase, such as boot=1h,install=5h ("+strings.Join(seed.Phases(), ", ")+")")
	flags.BoolVar(&o.NoWake, "no-wake", false, "send no magic packets: a person turns the machine on")
	flags.BoolVar(&o.Retry, "retry", false, "permit another installation of a machine that failed too often, or never came back from one")
	flags.StringVarP(&output, "output", "o", "", "`format` of the progress: plain, terminal or json (default: terminal on a terminal, otherwise plain)")
	flags.BoolVarP(&verbose, "verbose", "v", false, "say on standard error what is for debugging")
	flags.Lookup("timeout").DefValue = "" // each phase has its own
	return cmd
}

// parseTimeouts reads durations by phase.
func parseTimeouts(given map[string]string) (map[string]time.Duration, error) {
	out := map[string]time.Duration{}
	for phase, text := range given {
		if !slices.Contains(seed.Phases(), phase) {
			return nil, fmt.Errorf("--timeout: there is no phase %q: want %s", phase, strings.Join(seed.Phases(), ", "))
		}
		limit, err := time.ParseDuration(text)
		if err != nil || limit <= 0 {
			return nil, fmt.Errorf("--timeout: %s=%s: want a positive duration such as 90s or 2h", phase, text)
		}
		out[phase] = limit
	}
	return out, nil
}

// formatOf chooses how progress is shown.
func formatOf(given string, out io.Writer) (progress.Format, error) {
	switch format := progress.Format(given); format {
	case progress.Plain, progress.Terminal, progress.JSON:
		return format, nil
	case "":
		if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
			return progress.Terminal, nil
		}
		return progress.Plain, nil
	}
	return "", fmt.Errorf("--output: %q is not known: want plain, terminal or json", given)
}
