//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/rhizome-dev/rhizome/test/kube"
	"github.com/rhizome-dev/rhizome/test/lab"
)

// scaleCommand makes this program the part of the bench that runs on a host of the
// lab, as a cluster's member does, with an API server on its loopback.
const scaleCommand = "scale-inside"

// scaleConfig is what that part is told on its standard input, as JSON.
type scaleConfig struct {
	Dir      string // temporary
	Program  string // our binary
	Machines int
	Window   time.Duration // of each count of requests
}

// benchScale measures the operator and a PXE pod with many members at rest, on a
// real API server: their memory, and the requests that they make. No kubelets run,
// so that what is counted is ours.
func benchScale(ctx context.Context, args []string) (err error) {
	config := scaleConfig{}
	set := flag.NewFlagSet("scale", flag.ContinueOnError)
	set.IntVar(&config.Machines, "machines", declaredMachines, "that are declared and are members, at most 1000")
	set.DurationVar(&config.Window, "window", time.Minute, "in which requests are counted")
	if err := flags(set, args); err != nil {
		return err
	}
	if config.Machines < 1 || config.Machines > declaredMachines {
		return fmt.Errorf("-machines %d: want 1 to %d", config.Machines, declaredMachines)
	}
	if config.Dir, err = os.MkdirTemp("", "rhizome-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(config.Dir)) }()
	config.Program = filepath.Join(config.Dir, "rhizome")
	progress("building rhizome")
	build := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-o", config.Program, ".")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("cannot build rhizome (run this in the repository's root): %w", err)
	}
	l, err := lab.Start(ctx, lab.Options{LAN: benchLAN, NoDHCP: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close(), os.RemoveAll(l.Dir)) }()
	host, err := l.Network.Attach("server", netip.PrefixFrom(serverAddress, benchLAN.Bits()), gateway)
	if err != nil {
		return err
	}
	text, err := json.Marshal(config)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := host.Command(ctx, self, scaleCommand)
	// It ends its servers in order when it is told to.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(text), os.Stdout, os.Stderr
	return cmd.Run()
}

// runScale is the part that runs on the host.
func runScale(ctx context.Context) (err error) {
	var config scaleConfig
	if err := json.NewDecoder(os.Stdin).Decode(&config); err != nil {
		return fmt.Errorf("cannot read the config: %w", err)
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return err
	}
	progress("starting an API server")
	admin, closeAPI, err := kube.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAPI()) }()
	admin.QPS, admin.Burst = 1000, 1000
	m, err := newMembers(ctx, admin, config)
	if err != nil {
		return err
	}
	progress("making %d members", config.Machines)
	if err := m.make(ctx); err != nil {
		return err
	}
	alone, err := m.count(ctx, "the API server alone")
	if err != nil {
		return err
	}

	operator, err := m.start(ctx, "operator", operatorAccount, "--metrics-address=0", "--health-address=0", "--namespace="+operatorAccount.Namespace)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, operator.stop()) }()
	pod, err := m.start(ctx, "pxe", podAccount, "--metrics-address=0", "--health-address=0",
		"--node-name="+m.name(0), "--pod-name="+podName, "--boot-files="+m.bootFiles, "--media-dir="+m.cache)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pod.stop()) }()
	begin := time.Now()
	if err := m.awaitReady(ctx, operator, pod); err != nil {
		return err
	}
	ready := time.Since(begin)
	before, err := m.count(ctx, "with operator and PXE pod, right after the start")
	if err != nil {
		return err
	}
	rest, err := m.count(ctx, "with operator and PXE pod, at rest")
	if err != nil {
		return err
	}

	var t table
	t.note(fmt.Sprintf("%d members: known as Ready after", config.Machines), fmt.Sprintf("%.1f s", ready.Seconds()))
	for _, d := range []*daemon{operator, pod} {
		u, err := usageOf(d.cmd.Process.Pid)
		if err != nil {
			return errors.Join(err, errors.New(d.log.String()))
		}
		t.note(d.name+": resident memory", fmt.Sprintf("%.0f MiB (at its highest %.0f MiB)", float64(u.resident)/(1<<20), float64(u.peak)/(1<<20)))
		t.note("  processor time so far", fmt.Sprintf("%.1f s", u.processor.Seconds()))
	}
	perSecond := func(r requests) string {
		return fmt.Sprintf("%.2f (%s)", float64(r.total())/config.Window.Seconds(), r)
	}
	t.note("API requests/s, the API server alone", perSecond(alone))
	t.note("API requests/s, the minute after the start", perSecond(before))
	t.note("API requests/s, at rest", perSecond(rest))
	t.note("  of which ours", fmt.Sprintf("%.2f", float64(rest.total()-alone.total())/config.Window.Seconds()))
	t.note("load of this machine at the begin", string(load[:len(load)-1]))
	return t.print(os.Stdout)
}
