//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rhizome-dev/rhizome/test/firmware"
	"github.com/rhizome-dev/rhizome/test/lab"
)

// bootTime is how long all the machines together may take.
const bootTime = 10 * time.Minute

// measureBoots boots many machines at once, simulated ones that fetch what real
// ones do, beside the time that raw TCP takes for the same bytes.
func (b *pxeBench) measureBoots(ctx context.Context) error {
	progress("%d machines: each gets a host of its own", b.machines)
	hosts := make([]*lab.Namespace, b.machines)
	for i := range hosts {
		var err error
		if hosts[i], err = b.lab.Network.Attach(fmt.Sprintf("machine%d", i), netip.Prefix{}, netip.Addr{}); err != nil {
			return err
		}
	}
	service := subject{ours, func(ctx context.Context) (*daemon, error) { return b.startOurs(ctx, "boots") }}
	d, err := service.start(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = d.stop() }()
	if err := d.waitUntil(ctx, func(ctx context.Context) error {
		_, err := b.get(ctx, fmt.Sprintf("/boot/%s/ipxe", macOf(0)))
		return err
	}); err != nil {
		return err
	}
	idle, err := usageOf(d.cmd.Process.Pid)
	if err != nil {
		return err
	}
	took, bytes, err := bootAll(ctx, hosts)
	if err != nil {
		return fmt.Errorf("%w; the server said:\n%s", err, d.log.String())
	}
	after, err := usageOf(d.cmd.Process.Pid)
	if err != nil {
		return err
	}
	floor := float64(bytes) / b.floor
	// A rate, so that more is better as in every row.
	machines := float64(b.machines)
	b.table.rows = append(b.table.rows, row{fmt.Sprintf("%d machines at once: boots/s", b.machines), machines / took.Seconds(), "raw TCP, same bytes", machines / floor})
	b.table.note(fmt.Sprintf("%d machines at once, until all have their initrd", b.machines), fmt.Sprintf("%.2f s", took.Seconds()))
	b.table.note(fmt.Sprintf("  the same %.2f GB by raw TCP", float64(bytes)/1e9), fmt.Sprintf("%.2f s", floor))
	b.table.note("  processor time of the PXE service meanwhile", fmt.Sprintf("%.2f s", (after.processor-idle.processor).Seconds()))
	b.table.note("  memory of the PXE service, 1 000 machines declared: before", fmt.Sprintf("%.1f MiB", float64(idle.peak)/(1<<20)))
	b.table.note("  at its highest", fmt.Sprintf("%.1f MiB", float64(after.peak)/(1<<20)))
	return nil
}

// bootAll boots a machine on each host and says how long it took until the last was
// done, and how many bytes of files they fetched.
func bootAll(ctx context.Context, hosts []*lab.Namespace) (time.Duration, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	var bytes, done atomic.Int64
	errs := make([]error, len(hosts))
	var machines sync.WaitGroup
	begin := time.Now()
	for i, host := range hosts {
		machines.Go(func() {
			machine := firmware.Machine{MAC: macOf(i), UUID: [16]byte{1, 14: byte(i >> 8), 15: byte(i)}, Kind: firmware.UEFI}
			outcome, err := machine.Boot(ctx, host, "eth0")
			switch {
			case err != nil:
				errs[i] = fmt.Errorf("machine %s: %w", machine.MAC, err)
			case outcome.Kernel.Size != kernelSize || len(outcome.Initrds) != 1 || outcome.Initrds[0].Size != initrdSize:
				errs[i] = fmt.Errorf("machine %s has not the kernel and the initrd: %+v", machine.MAC, outcome)
			default:
				bytes.Add(loaderSize + kernelSize + initrdSize)
			}
			if n := done.Add(1); n%25 == 0 {
				progress("%d machines have booted, %.1f s", n, time.Since(begin).Seconds())
			}
		})
	}
	machines.Wait()
	return time.Since(begin), bytes.Load(), errors.Join(errs...)
}
