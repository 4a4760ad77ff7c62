package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/rhizome-dev/rhizome/bootstrapper/host"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/manifests"
	"github.com/rhizome-dev/rhizome/pxe/server"
)

func newCheckCommand() *cobra.Command {
	q := host.Question{Files: true}
	var format string
	var withHost bool
	cmd := &cobra.Command{
		Use:   "check DIR",
		Short: "Check a directory of manifests and this machine",
		Long: `Check the manifests below DIR as the API server would, the rules between them,
and whether this machine can seed the cluster. Each finding is one line:

  file:line: severity: object: field: what is wrong; what to do

Nothing is changed. The exit code is 0 if there is no error (there may be
warnings), 1 if there is, and 2 if the command line is wrong.`,
		Args: oneDirectory,
		RunE: func(cmd *cobra.Command, args []string) error {
			if format != "text" && format != "json" {
				return usageError{fmt.Errorf("--output %s: want text or json", format)}
			}
			if err := checkPorts(q.HTTPPort, q.HTTPSPort); err != nil {
				return usageError{err}
			}
			r, err := manifests.Check(args[0])
			if err != nil {
				return usageError{err}
			}
			q.Inventory = r.Inventory
			if withHost {
				facts, err := host.Observe(cmd.Context(), q)
				if err != nil {
					return err
				}
				r.Findings = append(r.Findings, host.Judge(q, facts)...)
			}
			if err := show(cmd.OutOrStdout(), format, r); err != nil {
				return err
			}
			if inventory.HasErrors(r.Findings) {
				return exitError(exitFailed)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&withHost, "host", true, "check this machine too: its network, ports, privileges, and the files that the manifests name on it")
	f.StringVar(&q.Interface, "interface", "", "the `name` of the network interface to seed from (default: the one that stands in the cluster's network)")
	f.Uint16Var(&q.HTTPPort, "http-port", server.DefaultHTTPPort, "the PXE service's HTTP `port`")
	f.Uint16Var(&q.HTTPSPort, "https-port", server.DefaultHTTPSPort, "the PXE service's HTTPS `port`")
	f.StringVarP(&format, "output", "o", "text", "`format` of the findings: text or json")
	return cmd
}

// checkPorts refuses what the PXE service cannot listen on.
func checkPorts(http, https uint16) error {
	switch {
	case http == 0 || https == 0:
		return errors.New("--http-port, --https-port: want a port from 1 to 65535")
	case http == https:
		return fmt.Errorf("--http-port and --https-port are both %d: want two ports", http)
	}
	return nil
}

// summary is the outcome as JSON.
type summary struct {
	Findings []inventory.Finding `json:"findings"`
	Errors   int                 `json:"errors"`
	Warnings int                 `json:"warnings"`
	Objects  int                 `json:"objects"` // of our group
	Skipped  int                 `json:"skipped"` // documents of other groups
	Files    int                 `json:"files"`
}

func show(w io.Writer, format string, r manifests.Result) error {
	s := summary{Findings: r.Findings, Objects: r.Objects, Skipped: r.Skipped, Files: r.Files}
	for _, f := range r.Findings {
		if f.Severity == inventory.Error {
			s.Errors++
		} else {
			s.Warnings++
		}
	}
	if format == "json" {
		if s.Findings == nil {
			s.Findings = []inventory.Finding{}
		}
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(s)
	}
	paint := painter(w)
	for _, f := range s.Findings {
		severity := paint(red, "error: ")
		if f.Severity == inventory.Warning {
			severity = paint(yellow, "warning: ")
		}
		fmt.Fprintln(w, f.Location()+severity+f.Text())
	}
	outcome := paint(green, "sound")
	if s.Errors > 0 {
		outcome = paint(red, "not sound")
	}
	_, err := fmt.Fprintf(w, "%s: %s, %s in %s of %s (%s of other kinds)\n", outcome,
		count(s.Errors, "error"), count(s.Warnings, "warning"), count(s.Objects, "object"), count(s.Files, "file"), count(s.Skipped, "document"))
	return err
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// ANSI colours.
const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	plain  = "\x1b[0m"
)

// painter colours text on a terminal, unless NO_COLOR is set (no-color.org).
func painter(w io.Writer) func(colour, text string) string {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return func(_, text string) string { return text }
	}
	return func(colour, text string) string { return colour + text + plain }
}
