//go:build linux

package main

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestTheSearchFindsTheHighestRate(t *testing.T) {
	for _, c := range []struct{ first, limit float64 }{
		{1000, 1000}, {1000, 999}, {1000, 100000}, {1000, 3}, {1000, 12345}, {1, 1},
	} {
		tries := 0
		got, err := highest(c.first, 1.05, func(rate float64) (bool, error) {
			tries++
			return rate <= c.limit, nil
		})
		if err != nil || got > c.limit || got < c.limit/1.05 || tries > 30 {
			t.Errorf("from %v: %v (%v) in %d tries, want %v", c.first, got, err, tries, c.limit)
		}
	}
	got, err := highest(1000, 1.05, func(float64) (bool, error) { return false, nil })
	if got != 0 || err != nil {
		t.Errorf("no rate is good: %v, %v", got, err)
	}
}

const perfdhcpReport = `***Rate statistics***
Rate: 66 4-way exchanges/second, expected rate: 100

***Statistics for: DISCOVER-OFFER***
sent packets: 200
received packets: 199
drops: 1

***Statistics for: REQUEST-ACK***
sent packets: 199
received packets: 190
drops: 9
`

func TestReportsOfPerfdhcpAreRead(t *testing.T) {
	r, err := parsePerfdhcp(perfdhcpReport, 2)
	if err != nil || r.rate != 95 || math.Abs(r.dropped-100*9.0/199) > 1e-9 {
		t.Errorf("got %+v, %v", r, err)
	}
	for _, report := range []string{"", perfdhcpReport[:200], strings.ReplaceAll(perfdhcpReport, "190", "x")} {
		if _, err := parsePerfdhcp(report, 2); err == nil {
			t.Errorf("read without an error: %s", report)
		}
	}
}

const wrkReport = `Running 2s test @ http://10.77.0.3:7480/x
  1 threads and 4 connections
  47 requests in 2.02s, 2.96GB read
Requests/sec:     23.27
Transfer/sec:      1.47GB
`

func TestReportsOfWrkAreRead(t *testing.T) {
	for _, c := range []struct {
		report          string
		requests, bytes float64
	}{
		{wrkReport, 23.27, 1.47 * (1 << 30)},
		{strings.Replace(wrkReport, "1.47GB", "100.00B", 1), 23.27, 100},
		{strings.Replace(wrkReport, "1.47GB", "2.00KB", 1), 23.27, 2048},
	} {
		got, err := parseWrk(c.report)
		if err != nil || got.requests != c.requests || math.Abs(got.bytes-c.bytes) > 1 {
			t.Errorf("%s: got %+v, %v", c.report, got, err)
		}
	}
	for _, report := range []string{
		"", wrkReport + "  Non-2xx or 3xx responses: 5\n", wrkReport + "  Socket errors: connect 0, read 0, write 0, timeout 3\n",
	} {
		if _, err := parseWrk(report); err == nil {
			t.Errorf("taken for good: %s", report)
		}
	}
}

func TestWhatAProcessUsedIsRead(t *testing.T) {
	const status = "Name:\tbench\nVmPeak:\t  999 kB\nVmHWM:\t   2048 kB\nVmRSS:\t 5 kB\n"
	// utime and stime are the fields 14 and 15.
	const stat = "12 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 30 20 20 0 1"
	u, err := parseUsage(status, stat)
	if err != nil || u.peak != 2<<20 || u.resident != 5<<10 || u.processor != 2*time.Second {
		t.Errorf("got %+v, %v", u, err)
	}
	if _, err := parseUsage("", stat); err == nil {
		t.Error("no VmHWM and no error")
	}
	if _, err := parseUsage(status, "12 (x) S 1"); err == nil {
		t.Error("no times and no error")
	}
}

func TestTheAPIServersCountsAreRead(t *testing.T) {
	const text = `# TYPE apiserver_request_total counter
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="nodes",scope="cluster",subresource="status",verb="PATCH",version="v1"} 3
apiserver_request_total{code="409",component="apiserver",dry_run="",group="",resource="nodes",scope="cluster",subresource="status",verb="PATCH",version="v1"} 2
apiserver_request_total{code="200",component="apiserver",dry_run="",group="coordination.k8s.io",resource="leases",scope="resource",subresource="",verb="PUT",version="v1"} 1e+06
apiserver_request_total{code="200",component="",dry_run="",group="",resource="",scope="",subresource="/metrics",verb="GET",version=""} 7
apiserver_request_total_other{verb="GET"} 1
`
	got, err := parseRequests(text)
	if want := "1000000 PUT leases, 5 PATCH nodes/status"; err != nil || got.String() != want || got.total() != 1000005 {
		t.Errorf("got %s (%v), want %s", got, err, want)
	}
	for _, bad := range []string{"", strings.Replace(text, "} 3", "} three", 1)} {
		if _, err := parseRequests(bad); err == nil {
			t.Errorf("read without an error: %s", bad)
		}
	}
}

func TestLapsOfRepairsAreRead(t *testing.T) {
	const text = `BenchmarkFromAFailureToReady-2   3   90000000 ns/op   10.00 configured/seen   2.500 hung/ready   11.20 hung/seen   4.000 wiped/in-vain
`
	failures, found, err := parseLaps(text)
	if err != nil || strings.Join(failures, " ") != "hung wiped" || found["hung"]["ready"] != 2.5 || found["wiped"]["in-vain"] != 4 || found["configured"]["seen"] != 10 {
		t.Errorf("got %v, %v, %v", failures, found, err)
	}
	for _, bad := range []string{"", strings.ReplaceAll(text, "configured/seen", "configured"), strings.Replace(text, "2.500", "none", 1)} {
		if _, _, err := parseLaps(bad); err == nil {
			t.Errorf("read without an error: %s", bad)
		}
	}
}

func TestBenchmarksOfGoAreRead(t *testing.T) {
	const text = `goos: linux
BenchmarkAPushUntilArgoCDHasSyncedIt/webhook-2         	       5	         3.500 longest-s	         1.250 median-s
BenchmarkAPushUntilArgoCDHasSyncedIt/polling-2         	       5	        31.00 longest-s	        16.40 median-s
PASS
`
	got, err := parseBenchmark(text)
	if err != nil || got["webhook"]["median-s"] != 1.25 || got["polling"]["longest-s"] != 31 {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", strings.Replace(text, "polling", "other", 1), strings.Replace(text, "16.40", "none", 1), strings.Replace(text, "16.40", "0", 1)} {
		if _, err := parseBenchmark(bad); err == nil {
			t.Errorf("read without an error: %s", bad)
		}
	}
}
