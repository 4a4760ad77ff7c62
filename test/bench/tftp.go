//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pin/tftp/v3"

	"github.com/rhizome-dev/rhizome/test/lab"
)

// tftpClients that fetch at once, in the second of two measurements.
const tftpClients = 32

// measureTFTP has clients fetch a loader over and over, first one, then many. Each
// is a host of its own, as a machine is.
func (b *pxeBench) measureTFTP(ctx context.Context) error {
	hosts := make([]*lab.Namespace, tftpClients)
	for i := range hosts {
		var err error
		address := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, 1, byte(i)}), b.lan.Bits())
		if hosts[i], err = b.lab.Network.Attach(fmt.Sprintf("tftp%d", i), address, netip.Addr{}); err != nil {
			return err
		}
	}
	subjects := []subject{
		{ours, func(ctx context.Context) (*daemon, error) { return b.startOurs(ctx, "tftp") }},
		{"dnsmasq", b.startDnsmasq},
		{"tftpd-hpa", b.startTftpd},
	}
	ready := func(context.Context) error { return fetchLoader(hosts[0]) }
	many := fmt.Sprintf(" %d clients: ", tftpClients)
	found, err := b.measureEach(ctx, subjects, ready, func(ctx context.Context, _ string) (figures, error) {
		f := figures{}
		for _, m := range []struct {
			what  string
			hosts []*lab.Namespace
		}{{" 1 client: ", hosts[:1]}, {many, hosts}} {
			rate, err := b.fetchAll(ctx, m.hosts)
			if err != nil {
				return nil, err
			}
			f[m.what+"files/s (1 MiB)"] = rate
			f[m.what+"MB/s"] = rate * loaderSize / 1e6
		}
		return f, nil
	})
	if err != nil {
		return err
	}
	b.table.compare("TFTP,", subjects, found)
	return nil
}

// fetchAll is how many files a second the hosts fetch together.
func (b *pxeBench) fetchAll(ctx context.Context, hosts []*lab.Namespace) (float64, error) {
	var files atomic.Int64
	errs := make([]error, len(hosts))
	begin := time.Now()
	end := begin.Add(b.duration)
	var clients sync.WaitGroup
	for i, host := range hosts {
		clients.Go(func() {
			for ctx.Err() == nil && time.Now().Before(end) && errs[i] == nil {
				if errs[i] = fetchLoader(host); errs[i] == nil {
					files.Add(1)
				}
			}
		})
	}
	clients.Wait()
	// The last files end after the time is up, and count.
	return float64(files.Load()) / time.Since(begin).Seconds(), errors.Join(append(errs, ctx.Err())...)
}

func fetchLoader(host *lab.Namespace) error {
	var transfer io.WriterTo
	// The library opens its socket in Receive.
	err := host.Do(func() error {
		client, err := tftp.NewClient(netip.AddrPortFrom(serverAddress, 69).String())
		if err != nil {
			return err
		}
		client.SetBlockSize(1468)
		client.SetTimeout(2 * time.Second)
		transfer, err = client.Receive("snponly.efi", "octet")
		return err
	})
	if err != nil {
		return err
	}
	n, err := transfer.WriteTo(io.Discard)
	if err == nil && n != loaderSize {
		err = fmt.Errorf("the TFTP server sent %d bytes of %d", n, loaderSize)
	}
	return err
}
