//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/rhizome-dev/rhizome/test/bmc"
	"github.com/rhizome-dev/rhizome/test/gitserver"
	"github.com/rhizome-dev/rhizome/test/lab"
)

// keepCommand owns the lab: machines, router and network live and die with its
// process. `lab up` starts it in the background.
func keepCommand() *cobra.Command {
	var o keepOptions
	cmd := &cobra.Command{
		Use:    "keep",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := labDir()
			if err != nil {
				return err
			}
			return keep(cmd.Context(), dir, o)
		},
	}
	cmd.Flags().StringVar(&o.firmware, "firmware", string(lab.UEFI), "")
	cmd.Flags().IntVar(&o.machines, "machines", 1, "")
	cmd.Flags().IntVar(&o.servers, "servers", 1, "")
	cmd.Flags().StringArrayVar(&o.serve, "serve", nil, "")
	return cmd
}

type keepOptions struct {
	firmware string // of the first machine
	machines int
	servers  int      // the first ones; zero: one
	serve    []string // paths of files that the lab's internet has
}

// arguments are the options as flags.
func (o keepOptions) arguments() []string {
	args := []string{"--firmware=" + o.firmware, fmt.Sprintf("--machines=%d", o.machines), fmt.Sprintf("--servers=%d", o.servers)}
	for _, path := range o.serve {
		args = append(args, "--serve="+path)
	}
	return args
}

// machine is how the machine with this number, from 1, is built: servers, then
// workers; every second one of those that are grown has a BIOS.
func (o keepOptions) machine(number int) (config lab.MachineConfig, role string) {
	config, role = lab.MachineConfig{Name: fmt.Sprintf("node%d", number), Firmware: lab.UEFI, Memory: 2048, CPUs: 1}, "Worker"
	if number%2 == 1 {
		config.Firmware = lab.BIOS
	}
	if number <= max(o.servers, 1) {
		// A control plane, and what other servers run when they are away.
		config.Memory, config.CPUs, role = 3072, 2, "ControlPlane"
	}
	if number == 1 {
		// The operator and Argo CD too: with 4 GB the programs' own pages are read from
		// the disk again and again, and the API server answers after minutes.
		config.Firmware, config.Memory = lab.Firmware(o.firmware), 6144
	}
	return config, role
}

func keep(ctx context.Context, dir string, o keepOptions) (err error) {
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	l, err := lab.Start(ctx, lab.Options{Dir: filepath.Join(dir, machinesDir), Logger: logger})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	self, err := identify(os.Getpid())
	if err != nil {
		return err
	}
	address := l.Network.Gateway
	for range 9 { // the tenth of the network
		address = address.Next()
	}
	s := state{
		Keeper: self, Namespace: l.Network.Path(),
		LAN: l.Network.LAN.String(), Gateway: l.Network.Gateway.String(),
		Served: map[string]string{},
	}
	machines := map[string]wipeable{}
	board := bmc.New("lab", rand.Text())
	for number := range o.machines {
		config, role := o.machine(number + 1)
		m, err := l.Machine(config)
		if err != nil {
			return err
		}
		s.Machines = append(s.Machines, machineState{
			Name: m.Config.Name, Role: role, MAC: m.Config.MAC.String(), Address: address.String(), Firmware: string(m.Config.Firmware),
			Serial: m.SerialLog(), Disk: m.Config.Disks[0].Serial,
		})
		address = address.Next()
		machines[m.Config.Name] = m
		board.Add(m.Config.Name, m)
	}
	if s.Board, err = serveBoard(ctx, l.Network, board); err != nil {
		return err
	}
	if err := serveControl(ctx, filepath.Join(dir, controlSocket), control(machines, board.Resets)); err != nil {
		return err
	}
	internet, err := l.Serve()
	if err != nil {
		return err
	}
	for _, path := range o.serve {
		if s.Served[path], err = internet.Add(path); err != nil {
			return err
		}
	}
	// The work tree's own repository: what is committed is what is served. It is read
	// only, as nothing allows pushing.
	tree, err := gitserver.NewBackend(filepath.Join(dir, repositoryDir), os.Stderr)
	if err != nil {
		return err
	}
	served := func(w http.ResponseWriter, r *http.Request) {
		r.URL.Path = "/.git" + r.URL.Path
		tree.ServeHTTP(w, r)
	}
	s.Repository = internet.AddSite(repositoryURL, http.HandlerFunc(served))
	s.Charts = internet.AddSite(chartsDir, http.FileServer(http.Dir(filepath.Join(dir, chartsDir))))
	if err := writeState(filepath.Join(dir, stateFile), s); err != nil {
		return err
	}
	logger.Info("the lab is up", "dir", dir)
	<-ctx.Done()
	logger.Info("the lab ends")
	return nil
}

func writeState(path string, s state) error {
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// startKeeper starts the lab in the background and waits until it is up.
func startKeeper(ctx context.Context, dir string, o keepOptions) (state, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return state{}, err
	}
	log, err := os.OpenFile(filepath.Join(dir, keeperLog), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return state{}, err
	}
	defer log.Close()
	keeper := exec.Command("/proc/self/exe", append([]string{"keep"}, o.arguments()...)...)
	keeper.Stdout, keeper.Stderr = log, log
	// Out of the terminal's reach: Ctrl-C ends the seeding, not the machines.
	keeper.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := keeper.Start(); err != nil {
		return state{}, fmt.Errorf("cannot start the lab: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- keeper.Wait() }()
	for {
		if _, s, err := readState(); err == nil {
			return s, nil
		}
		select {
		case err := <-ended:
			said, _ := os.ReadFile(log.Name())
			return state{}, fmt.Errorf("the lab does not start: %w: %s", err, strings.TrimSpace(string(said)))
		case <-ctx.Done():
			_ = keeper.Process.Signal(syscall.SIGTERM)
			return state{}, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
