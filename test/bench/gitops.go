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
)

// benchPush is the benchmark of test/gitops, which has Argo CD, Gitea and the operator
// at hand, and says there what it measures.
const benchPush = "BenchmarkAPushUntilArgoCDHasSyncedIt"

// benchGitOps measures how long a push takes to be synced, beside Argo CD's polling
// alone.
func benchGitOps(ctx context.Context, args []string) error {
	set := flag.NewFlagSet("gitops", flag.ContinueOnError)
	pushes := set.Int("pushes", 5, "of each kind that are measured")
	if err := flags(set, args); err != nil {
		return err
	}
	if *pushes < 1 {
		return fmt.Errorf("-pushes %d: want one at least", *pushes)
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	progress("measuring %d pushes to Gitea with the operator, and as many without it", *pushes)
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^"+benchPush+"$", "-benchtime", strconv.Itoa(*pushes)+"x", "-timeout", "1h", "./test/gitops")
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("the benchmark (run this in the repository's root): %w\n%s", err, out.String())
	}
	found, err := parseBenchmark(out.String())
	if err != nil {
		return err
	}
	var t table
	for _, what := range []string{"median-s", "longest-s"} {
		name := "push until synced, " + strings.TrimSuffix(what, "-s") + " (s)"
		t.note(name+", told by webhook", figure(found["webhook"][what]))
		t.note(name+", Argo CD's polling alone", figure(found["polling"][what]))
		t.note("  ratio", fmt.Sprintf("%.2f", found["webhook"][what]/found["polling"][what]))
	}
	t.note("Argo CD polls every", "30 s here; by default every 180 s, and up to 60 s more by chance: its share is six times as long and more")
	t.note("load of this machine at the begin", string(load[:len(load)-1]))
	return t.print(os.Stdout)
}

// parseBenchmark reads what `go test -bench` prints: by the last part of a benchmark's
// name, its figures by unit.
func parseBenchmark(text string) (map[string]figures, error) {
	found := map[string]figures{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || !strings.HasPrefix(fields[0], benchPush+"/") {
			continue
		}
		name := strings.TrimPrefix(fields[0], benchPush+"/")
		// The number of processors, unless it is one.
		if i := strings.LastIndex(name, "-"); i >= 0 {
			name = name[:i]
		}
		found[name] = figures{}
		for i := 2; i+1 < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return nil, fmt.Errorf("cannot read %q: %w", lines.Text(), err)
			}
			found[name][fields[i+1]] = value
		}
	}
	for _, name := range []string{"webhook", "polling"} {
		for _, what := range []string{"median-s", "longest-s"} {
			if found[name][what] <= 0 {
				return nil, fmt.Errorf("the benchmark says no %s of %s:\n%s", what, name, text)
			}
		}
	}
	return found, nil
}
