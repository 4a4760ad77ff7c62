//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// usage is what a process has taken so far.
type usage struct {
	resident  int64         // memory, in bytes
	peak      int64         // resident memory at its highest, in bytes
	processor time.Duration // of all threads, in the kernel too
}

// usageOf reads proc(5). The process must be alive.
func usageOf(pid int) (usage, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return usage{}, err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	return parseUsage(string(status), string(stat))
}

// ticks a second of the times in /proc (USER_HZ), the same on all of Go's Linux.
const ticks = 100

func parseUsage(status, stat string) (usage, error) {
	var u usage
	for line := range strings.Lines(status) {
		name, rest, _ := strings.Cut(line, ":")
		into := map[string]*int64{"VmRSS": &u.resident, "VmHWM": &u.peak}[name]
		if into == nil {
			continue
		}
		kilobytes, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		if err != nil {
			return u, fmt.Errorf("cannot read the line %q of /proc/PID/status: %w", line, err)
		}
		*into = kilobytes << 10
	}
	// The program's name is in parentheses and may hold anything. After it, utime and
	// stime are the fields 11 and 12, the first being number 0.
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 || u.peak == 0 {
		return u, errors.New("cannot read /proc/PID/stat or /proc/PID/status: a field is missing")
	}
	for _, field := range fields[11:13] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return u, fmt.Errorf("cannot read /proc/PID/stat: %w", err)
		}
		u.processor += time.Duration(n) * (time.Second / ticks)
	}
	return u, nil
}
