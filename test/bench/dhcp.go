//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

const (
	// maxDropped is the share of exchanges, in percent, that may stay without an
	// answer at a rate that counts as sustained.
	maxDropped = 1.0
	// precision at which the search for the highest rate ends.
	precision = 1.06
	// firstRate of the search, in exchanges a second.
	firstRate = 2000
)

// Options 60 and 93 as EDK2 sends them, for perfdhcp: the clients want to boot from
// the network, and every server tells them what.
var networkBoot = []string{"-o", "60,505845436c69656e743a417263683a30303030373a554e44493a303033303136", "-o", "93,0007"}

// measureDHCP finds the highest rate of 4-way exchanges (DISCOVER, OFFER, REQUEST,
// ACK) that the servers sustain. perfdhcp speaks as a relay does.
func (b *pxeBench) measureDHCP(ctx context.Context) error {
	subjects := []subject{
		{ours, func(ctx context.Context) (*daemon, error) { return b.startOurs(ctx, "dhcp") }},
		{"dnsmasq", b.startDnsmasq},
		{"kea-dhcp4", b.startKea},
	}
	ready := func(ctx context.Context) error {
		_, err := b.exchange(ctx, 10, time.Second)
		return err
	}
	found, err := b.measureEach(ctx, subjects, ready, func(ctx context.Context, name string) (figures, error) {
		rate, err := b.highestRate(ctx, name)
		return figures{"exchanges/s": rate}, err
	})
	if err != nil {
		return err
	}
	b.table.compare("DHCP, 4-way, network boot: ", subjects, found)
	return nil
}

func (b *pxeBench) highestRate(ctx context.Context, name string) (float64, error) {
	var best float64
	_, err := highest(firstRate, precision, func(rate float64) (bool, error) {
		// One more try, since a machine with other work drops packets by itself.
		for range 2 {
			r, err := b.exchange(ctx, rate, b.duration)
			if err != nil {
				return false, err
			}
			progress("DHCP, %s: asked for %.0f/s, had %.0f/s, %.2f %% dropped", name, rate, r.rate, r.dropped)
			if r.dropped < maxDropped && r.rate >= 0.95*rate {
				best = max(best, r.rate)
				return true, nil
			}
		}
		return false, nil
	})
	return best, err
}

// highest finds the highest rate at which try is true, up to the precision, a
// factor: by doubling or halving from the first, then by geometric means. Zero:
// there is none above 1.
func highest(first, precision float64, try func(rate float64) (bool, error)) (float64, error) {
	var low, high float64 // the highest good and the lowest bad rate; zero: not known
	for rate := first; rate >= 1; {
		good, err := try(rate)
		if err != nil {
			return 0, err
		}
		if good {
			low = rate
		} else {
			high = rate
		}
		switch {
		case high == 0:
			rate = 2 * low
		case low == 0:
			rate = high / 2
		case high/low <= precision:
			return low, nil
		default:
			rate = math.Sqrt(low * high)
		}
	}
	return 0, nil
}

// exchanged is what perfdhcp says of a run.
type exchanged struct {
	rate    float64 // exchanges a second
	dropped float64 // in percent, the worse of OFFERs and ACKs
}

// exchange runs perfdhcp for a time, at a rate in exchanges a second.
func (b *pxeBench) exchange(ctx context.Context, rate float64, duration time.Duration) (exchanged, error) {
	ctx, cancel := context.WithTimeout(ctx, duration+15*time.Second)
	defer cancel()
	seconds := max(1, int(duration.Seconds()))
	args := append([]string{
		"-4", "-l", "eth0", "-b", "mac=" + macOf(0).String(), "-R", strconv.Itoa(declaredMachines),
		"-r", strconv.Itoa(int(math.Round(rate))), "-p", strconv.Itoa(seconds),
		"-W", "500000", // microseconds in which the last answers may come
	}, networkBoot...)
	cmd, err := b.peers.command(ctx, b.client, "perfdhcp", append(args, serverAddress.String())...)
	if err != nil {
		return exchanged{}, err
	}
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 {
		err = nil // some exchanges were not completed
	}
	if err != nil {
		return exchanged{}, fmt.Errorf("perfdhcp: %w: %s", err, out)
	}
	r, err := parsePerfdhcp(string(out), seconds)
	if err == nil && r.rate == 0 {
		err = errors.New("no DHCP exchange was completed")
	}
	return r, err
}

var perfdhcpCount = regexp.MustCompile(`(?m)^(sent|received) packets: ([0-9]+)$`)

// parsePerfdhcp reads perfdhcp's report: what was sent and received of DISCOVERs and
// OFFERs, then of REQUESTs and ACKs. Its own rate counts the wait at the end too.
func parsePerfdhcp(report string, seconds int) (exchanged, error) {
	var r exchanged
	found := perfdhcpCount.FindAllStringSubmatch(report, -1)
	if len(found) != 4 {
		return r, fmt.Errorf("cannot read perfdhcp's report:\n%s", report)
	}
	var counts [4]float64
	for i := range counts {
		var err error
		if counts[i], err = strconv.ParseFloat(found[i][2], 64); err != nil {
			return r, fmt.Errorf("cannot read perfdhcp's report: %w", err)
		}
	}
	for pair := counts[:]; len(pair) > 0; pair = pair[2:] {
		if sent, received := pair[0], pair[1]; sent > 0 {
			r.dropped = max(r.dropped, 100*(sent-received)/sent)
		}
	}
	r.rate = counts[3] / float64(seconds)
	return r, nil
}
