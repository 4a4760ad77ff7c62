//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rhizome-dev/rhizome/test/lab/repository"
)

// state is what the keeper of a running lab tells the other commands.
type state struct {
	// Keeper is the process that owns the lab.
	Keeper processID `json:"keeper"`
	// Namespace is the file by which the laptop's network is entered.
	Namespace string         `json:"namespace"`
	LAN       string         `json:"lan"`
	Gateway   string         `json:"gateway"`
	Machines  []machineState `json:"machines"`
	// Served are the URLs on the lab's network of the files that were asked for, by
	// their paths on the host.
	Served map[string]string `json:"served"`
	// Repository and Charts are the URLs on the lab's network of the git repository
	// that the cluster follows, and of the repository of Argo CD's chart.
	Repository string `json:"repository"`
	Charts     string `json:"charts"`
	// Board is the virtual board management controller of all machines.
	Board boardState `json:"board"`
}

// boardState is how a board is reached on the lab's network. Each machine is a system
// of its name.
type boardState struct {
	Endpoint    string `json:"endpoint"`
	Fingerprint string `json:"fingerprint"`
	Username    string `json:"username"`
	Password    string `json:"password"`
}

type machineState struct {
	Name     string `json:"name"`
	MAC      string `json:"mac"`
	Address  string `json:"address"` // which it will have
	Role     string `json:"role"`
	Firmware string `json:"firmware"`
	Serial   string `json:"serialLog"`
	Disk     string `json:"diskSerial"`
}

// processID names a process for good: numbers are used again, start times are not.
type processID struct {
	PID   int    `json:"pid"`
	Start string `json:"start"` // in clock ticks since the host's boot
}

// Files and directories below the lab's directory.
const (
	stateFile     = "lab.json"
	keeperLog     = "lab.log"
	controlSocket = "control.sock"
	machinesDir   = "m"                 // short: QEMU's sockets are in it
	repositoryDir = "repository"        // a git repository
	manifestsDir  = "bootstrap/cluster" // in it
	repositoryURL = "lab.git"
	chartsDir     = "charts"
	seedDir       = "seed"
	mediaDir      = "media"
	kubeconfig    = "kubeconfig"
)

// labDir is the place of the one lab that a user has up.
func labDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "rhizome", "lab", "up"), nil
}

var errNoLab = errors.New("no lab is up; `lab up` starts one")

// readState returns the state of the running lab, or errNoLab.
func readState() (dir string, s state, err error) {
	dir, err = labDir()
	if err != nil {
		return "", state{}, err
	}
	raw, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, os.ErrNotExist) {
		return dir, state{}, errNoLab
	}
	if err != nil {
		return dir, state{}, err
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return dir, state{}, fmt.Errorf("%s: %w; `lab down` cleans up", filepath.Join(dir, stateFile), err)
	}
	if !s.Keeper.alive() {
		return dir, s, errNoLab
	}
	return dir, s, nil
}

func identify(pid int) (processID, error) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return processID{}, err
	}
	start, err := startTime(stat)
	return processID{PID: pid, Start: start}, err
}

// startTime is field 22 of proc(5)'s stat. Field 2, the program's name, is in
// parentheses and may hold anything. A process that has ended and only waits for
// its parent to take note (field 3 is Z) is an error.
func startTime(stat []byte) (string, error) {
	end := bytes.LastIndexByte(stat, ')')
	fields := strings.Fields(string(stat[end+1:]))
	if end < 0 || len(fields) < 20 {
		return "", fmt.Errorf("not a process's stat: %q", stat)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return "", fmt.Errorf("the process has ended: %q", stat)
	}
	return fields[19], nil
}

func (p processID) alive() bool {
	now, err := identify(p.PID)
	return err == nil && now == p
}

// processesIn are the processes whose network namespace is the given file's.
func processesIn(namespace string) ([]processID, error) {
	want, err := os.Readlink(namespace)
	if err != nil {
		return nil, err
	}
	entries, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var found []processID
	for _, entry := range entries {
		if ns, err := os.Readlink(filepath.Join(entry, "ns", "net")); err != nil || ns != want {
			continue // a process of another network, or one that has just ended
		}
		pid, err := strconv.Atoi(filepath.Base(entry))
		if err != nil {
			continue
		}
		if id, err := identify(pid); err == nil {
			found = append(found, id)
		}
	}
	return found, nil
}

// seeded is the machine that the bootstrapper turns into a cluster; the others are
// committed to git once it is one.
func (s state) seeded() machineState { return s.Machines[0] }

// servers are where the API servers listen, the first machine's first.
func (s state) servers() []string {
	var all []string
	for _, m := range s.Machines {
		if m.Role != "Worker" {
			all = append(all, net.JoinHostPort(m.Address, "6443"))
		}
	}
	return all
}

func (m machineState) node() repository.Node {
	return repository.Node{Name: m.Name, Role: m.Role, MAC: m.MAC, Address: m.Address, Serial: m.Disk}
}

// writeRepository declares the cluster and its first machine in dir.
func (s state) writeRepository(dir string, options repository.Options) (err error) {
	if options.LAN, err = netip.ParsePrefix(s.LAN); err != nil {
		return err
	}
	if options.Gateway, err = netip.ParseAddr(s.Gateway); err != nil {
		return err
	}
	if s.Served != nil {
		options.URL = func(path string) string { return s.Served[path] }
	}
	if options.GitOps != nil {
		options.GitOps.URL, options.GitOps.Charts = s.Repository, s.Charts
	}
	return repository.Write(dir, options, s.seeded().node())
}
