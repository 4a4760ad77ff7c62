//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/rhizome-dev/rhizome/test/lab"
	"github.com/rhizome-dev/rhizome/test/lab/repository"
)

const (
	mac     = "52:54:00:00:00:21"
	address = "10.77.0.10"
	name    = "node1"
)

// benchSeed measures a seed, phase by phase, beside the floor of the same work: the
// image unpacked to a raw disk by zstd and dd, and the installed disk booted until
// its node is Ready.
func benchSeed(ctx context.Context) error {
	bootstrapper, err := filepath.Abs("dist/bootstrapper")
	if err != nil {
		return err
	}
	size, start, err := program(ctx, bootstrapper)
	if err != nil {
		return fmt.Errorf("%w; run `make build` first", err)
	}
	dir, err := os.MkdirTemp("", "rhizome-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := lab.Start(ctx, lab.Options{})
	if err != nil {
		return err
	}
	defer func() {
		l.Close()
		os.RemoveAll(l.Dir)
	}()
	image, err := lab.BuildImage(ctx, os.Stderr)
	if err != nil {
		return err
	}
	phases, machine, err := seed(ctx, l, dir, bootstrapper, image)
	if err != nil {
		return err
	}
	raw, err := rawWrite(ctx, image, filepath.Join(dir, "floor.raw"))
	if err != nil {
		return err
	}
	booted, err := bootInstalled(ctx, machine, filepath.Join(dir, "kubeconfig"))
	if err != nil {
		return err
	}

	out := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintf(out, "\nphase\tseconds\n")
	var total, work float64
	for _, p := range phases {
		fmt.Fprintf(out, "%s\t%.1f\n", p.name, p.seconds)
		total += p.seconds
		if slices.Contains([]string{"install", "join"}, p.name) {
			work += p.seconds
		}
	}
	fmt.Fprintf(out, "all\t%.1f\n\nfloor\tseconds\n", total)
	fmt.Fprintf(out, "image unpacked to a raw disk (zstd | dd, by the host)\t%.1f\n", raw.Seconds())
	fmt.Fprintf(out, "installed disk, power-on to node Ready\t%.1f\n\nratio\t\n", booted.Seconds())
	floor := raw.Seconds() + booted.Seconds()
	fmt.Fprintf(out, "install and join / floor\t%.2f\n", work/floor)
	fmt.Fprintf(out, "whole seed / floor\t%.2f\n\nbootstrapper\t\n", total/floor)
	fmt.Fprintf(out, "size in MiB\t%.1f\nstart (--version) in ms, median of 9\t%.0f\n", float64(size)/(1<<20), float64(start.Microseconds())/1000)
	return out.Flush()
}

// program is the size of the bootstrapper and how long it takes to start.
func program(ctx context.Context, path string) (int64, time.Duration, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	times := make([]time.Duration, 9)
	for i := range times {
		begin := time.Now()
		if err := exec.CommandContext(ctx, path, "--version").Run(); err != nil {
			return 0, 0, fmt.Errorf("%s --version: %w", path, err)
		}
		times[i] = time.Since(begin)
	}
	slices.Sort(times)
	return info.Size(), times[len(times)/2], nil
}

type phase struct {
	name    string
	seconds float64
}

// seed runs a whole seed on a blank UEFI machine.
func seed(ctx context.Context, l *lab.Lab, dir, bootstrapper string, image lab.OSImage) ([]phase, *lab.Machine, error) {
	hardware, err := net.ParseMAC(mac)
	if err != nil {
		return nil, nil, err
	}
	machine, err := l.Machine(lab.MachineConfig{Name: name, MAC: hardware})
	if err != nil {
		return nil, nil, err
	}
	release, err := repository.StandIn(ctx, "test/k3s/build.sh")
	if err != nil {
		return nil, nil, err
	}
	manifests := filepath.Join(dir, "manifests")
	err = repository.Write(manifests, repository.Options{LAN: l.Network.LAN, Gateway: l.Network.Gateway, Release: release, Image: image},
		repository.Node{Name: name, MAC: mac, Address: address})
	if err != nil {
		return nil, nil, err
	}
	cmd := l.Network.Command(ctx, bootstrapper, "seed", "-o", "json",
		"--state="+filepath.Join(dir, "state"), "--cache="+filepath.Join(dir, "cache"),
		"--kubeconfig="+filepath.Join(dir, "kubeconfig"), "--operator-image=dist/rhizome-operator.oci.tar", manifests)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	phases, err := follow(out)
	return phases, machine, errors.Join(err, cmd.Wait())
}

// follow reads the events of a seed and says what it does.
func follow(out io.Reader) ([]phase, error) {
	var phases []phase
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var event struct {
			Phase, Event, Message string
			Elapsed               float64
		}
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			return nil, fmt.Errorf("the seed said %q: %w", lines.Text(), err)
		}
		switch event.Event {
		case "done", "skipped", "failed":
			fmt.Fprintf(os.Stderr, "%s: %s (%.1fs) %s\n", event.Phase, event.Event, event.Elapsed, event.Message)
			phases = append(phases, phase{event.Phase, event.Elapsed})
		}
	}
	return phases, nil
}

// rawWrite is the floor of an installation: the image unpacked to a raw disk.
func rawWrite(ctx context.Context, image lab.OSImage, disk string) (time.Duration, error) {
	defer os.Remove(disk)
	begin := time.Now()
	cmd := exec.CommandContext(ctx, "sh", "-c", `zstd -dcq "$1" | dd of="$2" bs=1M iflag=fullblock conv=fsync status=none`, "sh", image.Path, disk)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("cannot unpack the image: %w", err)
	}
	return time.Since(begin), nil
}

// bootInstalled is the floor of a join: the installed disk, from power-on until
// the kubelet says again that the node is Ready. It is booted in a lab of its own, by a
// machine that is the same but never asks the network.
func bootInstalled(ctx context.Context, installed *lab.Machine, kubeconfig string) (time.Duration, error) {
	if err := installed.Shutdown(ctx); err != nil {
		return 0, err
	}
	if err := installed.WaitForPowerOff(ctx); err != nil {
		return 0, err
	}
	l, err := lab.Start(ctx, lab.Options{})
	if err != nil {
		return 0, err
	}
	defer func() {
		l.Close()
		os.RemoveAll(l.Dir)
	}()
	config := installed.Config
	config.BootOrder = lab.DiskOnly
	config.Disks = []lab.Disk{{Path: installed.DiskPath(0)}}
	machine, err := l.Machine(config)
	if err != nil {
		return 0, err
	}
	rest, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return 0, err
	}
	rest.Dial, rest.Timeout = l.Network.DialContext, 10*time.Second
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	if err := machine.PowerOn(ctx); err != nil {
		return 0, err
	}
	for {
		node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err == nil && readySince(node, begin) {
			return time.Since(begin), nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// readySince says whether the kubelet has said after begin that the node is Ready.
func readySince(node *corev1.Node, begin time.Time) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue && c.LastHeartbeatTime.After(begin)
		}
	}
	return false
}
