//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"text/tabwriter"
)

// benchHeal is the benchmark of test/fleet, which has a cluster of simulated machines at
// hand.
const benchHeal = "BenchmarkFromAFailureToReady"

// The phases of a repair, in their order, and what they are.
var healingPhases = []struct{ name, what string }{
	{"seen", "failure until not Ready"},
	{"written", "until the step is written down"},
	{"done", "until it is done"},
	{"booted", "until the firmware runs"},
	{"in-vain", "woken in vain, until it is to be installed"},
	{"ready", "until Ready"},
}

// benchHealing measures the time from a failure to Ready by phase, beside the waits
// that are configured.
func benchHealing(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("healing", flag.ContinueOnError)
	rounds := set.Int("rounds", 3, "how often each failure is measured")
	if err := flags(set, args); err != nil {
		return err
	}
	if *rounds < 1 {
		return fmt.Errorf("-rounds %d: want one at least", *rounds)
	}
	progress("measuring %d rounds of failures on a cluster of thirteen simulated machines", *rounds)
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^"+benchHeal+"$", "-benchtime", "1x", "-timeout", "12h", "./test/fleet")
	// One cluster for all rounds: more iterations would grow it anew.
	cmd.Env = append(os.Environ(), "RHIZOME_BENCH_ROUNDS="+strconv.Itoa(*rounds))
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the benchmark (run this in the repository's root): %w\n%s", err, out.String())
	}
	failures, found, err := parseLaps(out.String())
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "\nseconds, mean\tconfigured wait")
	for _, f := range failures {
		fmt.Fprintf(t, "\t%s", strings.ReplaceAll(f, "-", " "))
	}
	sums := map[string]float64{}
	for _, p := range healingPhases {
		fmt.Fprintf(t, "\n%s\t%s", p.what, seconds(found["configured"], p.name))
		for _, f := range failures {
			fmt.Fprintf(t, "\t%s", seconds(found[f], p.name))
			sums[f] += found[f][p.name]
		}
	}
	fmt.Fprintf(t, "\nfailure until Ready\t")
	for _, f := range failures {
		fmt.Fprintf(t, "\t%.1f", sums[f])
	}
	fmt.Fprintln(t)
	return t.Flush()
}

func seconds(of figures, phase string) string {
	value, ok := of[phase]
	if !ok {
		return "-"
	}
	return fmt.Sprintf("%.1f", value)
}

// parseLaps reads what the benchmark prints: pairs of a value and FAILURE/PHASE.
func parseLaps(text string) (failures []string, found map[string]figures, err error) {
	found = map[string]figures{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || !strings.HasPrefix(fields[0], benchHeal) {
			continue
		}
		for i := 2; i+1 < len(fields); i += 2 {
			name, phase, lap := strings.Cut(fields[i+1], "/")
			if !lap || fields[i+1] == "ns/op" {
				continue
			}
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return nil, nil, fmt.Errorf("cannot read %q: %w", lines.Text(), err)
			}
			if found[name] == nil {
				found[name] = figures{}
				if name != "configured" {
					failures = append(failures, name)
				}
			}
			found[name][phase] = value
		}
	}
	if len(failures) == 0 || found["configured"] == nil {
		return nil, nil, fmt.Errorf("the benchmark says no times:\n%s", text)
	}
	return failures, found, nil
}
