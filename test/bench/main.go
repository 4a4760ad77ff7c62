//go:build linux

// Command bench measures this repository's programs beside the floor of the same
// work on the same machine and beside others' programs for the same work. It
// prints figures and ratios and judges nothing; run it on a machine that does
// nothing else, as root.
//
//	bench          everything
//	bench seed     a seed, phase by phase, beside the floor of the same work
//	bench pxe      DHCP, TFTP and HTTP beside other servers; many machines at once
//	bench scale    the operator and a PXE pod with many members at rest
//	bench healing  the time from a failure to Ready, phase by phase
//	bench gitops   a push to Gitea until it is synced, beside Argo CD's polling
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// A bench is one subcommand.
type bench struct {
	name string
	run  func(ctx context.Context, args []string) error
}

var benches = []bench{
	{"seed", func(ctx context.Context, _ []string) error { return benchSeed(ctx) }},
	{"pxe", benchPXE},
	{"scale", benchScale},
	{"healing", benchHealing},
	{"gitops", benchGitOps},
}

func main() {
	// A reader of our output that goes away must not end us before we have cleared up.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		for _, b := range benches {
			if err := b.run(ctx, nil); err != nil {
				return fmt.Errorf("%s: %w", b.name, err)
			}
		}
		return nil
	}
	switch args[0] {
	case serviceCommand:
		return runService(ctx)
	case scaleCommand:
		return runScale(ctx)
	}
	for _, b := range benches {
		if b.name == args[0] {
			return b.run(ctx, args[1:])
		}
	}
	return fmt.Errorf("there is no bench %q: bench [seed | pxe | scale | healing | gitops] [flags]", args[0])
}

// flags reads the arguments of a subcommand, which are flags only.
func flags(set *flag.FlagSet, args []string) error {
	if err := set.Parse(args); err != nil {
		return err
	}
	if set.NArg() > 0 {
		return fmt.Errorf("%s takes flags only, not %q", set.Name(), set.Arg(0))
	}
	return nil
}

// progress says on standard error what is being done.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}
