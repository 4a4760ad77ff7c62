//go:build linux

package machine

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"

	"github.com/rhizome-dev/rhizome/internal/k3s"
)

// cloudConfig is what cloud-init would read of the user data.
type cloudConfig struct {
	WriteFiles []struct {
		Path, Permissions, Encoding, Content string
	} `json:"write_files"`
}

// system is the installed system: cloud-init, the join and k3s. It returns when
// the system restarts, is turned off, or loses power.
func (m *Machine) system(power context.Context) error {
	ctx, end := context.WithCancelCause(power)
	defer end(nil)
	if err := m.cloudInit(); err != nil {
		return fmt.Errorf("cloud-init: %w", err)
	}
	err := m.withAddress(m.Address, func() error {
		for ctx.Err() == nil {
			if _, err := os.Stat(m.path("/var/lib/rhizome/joined")); err == nil {
				break // the unit's ConditionPathExists
			}
			join := m.Host.Command(ctx, "sh", m.path("/usr/local/sbin/rhizome-join"))
			join.Env = append(os.Environ(), "RHIZOME_ROOT="+m.Root())
			out, err := join.CombinedOutput()
			m.Log("%s: rhizome-join: %s(%v)", m.Name, out, err)
			if err == nil {
				break
			}
			sleep(ctx, time.Second)
		}
		return m.k3s(ctx, end)
	})
	if power.Err() != nil {
		return nil
	}
	if cause := context.Cause(ctx); errors.Is(cause, errReboot) || errors.Is(cause, errPowerOff) {
		m.Log("%s: %v", m.Name, cause)
		return cause
	}
	return err
}

// path is where a path of the installed system lies.
func (m *Machine) path(path string) string { return filepath.Join(m.Root(), path) }

// withAddress runs fn while the machine has an address.
func (m *Machine) withAddress(address netip.Prefix, fn func() error) error {
	change := func(do func(netlink.Link, *netlink.Addr) error) error {
		return m.Host.Do(func() error {
			link, err := netlink.LinkByName(ifname)
			if err != nil {
				return err
			}
			return do(link, &netlink.Addr{IPNet: &net.IPNet{IP: address.Addr().AsSlice(), Mask: net.CIDRMask(address.Bits(), 32)}})
		})
	}
	if err := change(netlink.AddrAdd); err != nil {
		return err
	}
	return errors.Join(fn(), change(netlink.AddrDel))
}

func (m *Machine) cloudInit() error {
	if _, err := os.Stat(m.path("booted")); err == nil {
		return nil // once an instance
	}
	data, err := os.ReadFile(filepath.Join(m.disk(), "user-data"))
	if err != nil {
		return err
	}
	var config cloudConfig
	if err := yaml.Unmarshal(data, &config); err != nil {
		return err
	}
	if len(config.WriteFiles) == 0 {
		return errors.New("the user data writes no files")
	}
	for _, f := range config.WriteFiles {
		content := []byte(f.Content)
		switch f.Encoding {
		case "":
		case "b64", "base64":
			if content, err = base64.StdEncoding.DecodeString(f.Content); err != nil {
				return fmt.Errorf("%s: %w", f.Path, err)
			}
		default:
			return fmt.Errorf("%s: encoding %q", f.Path, f.Encoding)
		}
		mode, err := strconv.ParseUint(f.Permissions, 8, 32)
		if err != nil {
			return fmt.Errorf("%s: permissions %q", f.Path, f.Permissions)
		}
		if err := os.MkdirAll(filepath.Dir(m.path(f.Path)), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(m.path(f.Path), content, os.FileMode(mode)); err != nil {
			return err
		}
	}
	return os.WriteFile(m.path("booted"), nil, 0o600)
}

// enabled tells whether systemd would start a unit.
func (m *Machine) enabled(unit string) bool {
	_, err := os.Lstat(m.path("/etc/systemd/system/multi-user.target.wants/" + unit))
	return err == nil
}

// k3s does what the unit that is enabled says, until the system ends:
// Restart=always, RestartSec=5s, and nothing without a config
// (ConditionPathExists). Containers outlive a restart (KillMode=process).
func (m *Machine) k3s(ctx context.Context, end context.CancelCauseFunc) error {
	services, err := m.serveServices(ctx)
	if err != nil {
		return err
	}
	node := &node{Machine: m, services: services, system: ctx, end: end, bootID: randomID(), isServer: m.enabled(k3s.ServerUnitName)}
	defer node.stopped()
	for ; ctx.Err() == nil; sleep(ctx, 5*time.Second) {
		if _, err := os.Stat(m.path(k3s.ConfigPath)); err != nil || !node.isServer && !m.enabled(k3s.AgentUnitName) {
			m.Log("%s: k3s is not started: its unit is not enabled, or it has no config", m.Name)
			<-ctx.Done()
			return nil
		}
		if !node.isServer {
			node.run(ctx)
			return nil
		}
		running, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { defer close(done); node.run(running) }()
		err := m.server(ctx)
		stop()
		<-done
		if ctx.Err() == nil {
			m.Log("%s: k3s ended and is started again: %v", m.Name, err)
		}
	}
	return nil
}

func (m *Machine) server(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(m.logs(), "k3s.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := append([]string{"server", "--disable-agent", "--config", m.path(k3s.ConfigPath),
		"--data-dir", m.path(k3s.DataDir), "--write-kubeconfig", m.path(k3s.KubeconfigPath)}, m.ServerArgs...)
	server := m.Host.Command(ctx, m.path(k3s.BinaryPath), args...)
	server.Stdout, server.Stderr = log, log
	return powerless(server)
}

// powerless runs a program that dies with the machine's power: its own children
// do the same with it.
func powerless(cmd *exec.Cmd) error {
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	return cmd.Run()
}
