package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/component-base/version"

	"github.com/rhizome-dev/rhizome/test/k3s/internal/agent"
	"github.com/rhizome-dev/rhizome/test/k3s/internal/config"
	"github.com/rhizome-dev/rhizome/test/k3s/internal/controlplane"
	"github.com/rhizome-dev/rhizome/test/k3s/internal/process"
)

// runNode is `k3s server` and `k3s agent`: it runs until a signal ends it or a
// vital part fails, and tells systemd when the node is up.
func runNode(isServer bool, args []string) error {
	log.SetFlags(log.LstdFlags | log.LUTC)
	log.SetPrefix("k3s: ")
	log.Printf("k3s %s+standin: a stand-in for tests, not k3s", version.Get().GitVersion)
	conf, err := config.Load(isServer, args, os.Getenv)
	if err != nil {
		return err
	}
	if len(conf.Inert) > 0 {
		log.Printf("accepted, without effect in the stand-in: %s", strings.Join(conf.Inert, ", "))
	}
	name, ip, err := identity(conf)
	if err != nil {
		return err
	}
	// Secrets must not pass on to the children's environment.
	for _, secret := range []string{"K3S_TOKEN", "K3S_AGENT_TOKEN"} {
		if err := os.Unsetenv(secret); err != nil {
			return err
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	children := &process.Group{Log: os.Stderr}
	up := make(chan error, 1)
	go func() { up <- start(ctx, conf, name, ip, children) }()

	for {
		select {
		case err = <-up:
			if err == nil {
				log.Printf("node %s is up", name)
				if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
					log.Printf("cannot tell systemd: %v", err)
				}
				continue
			}
		case err = <-children.Failed():
		case <-ctx.Done():
			err = nil
		}
		break
	}
	if err != nil {
		log.Printf("ending: %v", err)
	}
	stop()
	children.Stop()
	return err
}

func start(ctx context.Context, conf *config.Config, name, ip string, children *process.Group) error {
	node := agent.Agent{Config: conf, NodeName: name, NodeIP: ip, Children: children, ServerURL: conf.ServerURL, Token: conf.Token}
	if conf.Server {
		s := &controlplane.Server{Config: conf, NodeName: name, NodeIP: ip, Children: children}
		if err := s.Start(ctx); err != nil {
			return err
		}
		if conf.DisableAgent {
			return nil
		}
		node.ServerURL = "https://" + net.JoinHostPort("127.0.0.1", strconv.Itoa(conf.HTTPSPort))
		node.Token = s.AgentToken()
	}
	return node.Start(ctx)
}

// identity is the node's name and address: as told, or the host's name and
// the address by which it reaches others.
func identity(conf *config.Config) (name, ip string, err error) {
	name = conf.NodeName
	if name == "" {
		if name, err = os.Hostname(); err != nil {
			return "", "", err
		}
	}
	name = strings.ToLower(name)
	if len(conf.NodeIP) > 0 {
		return name, conf.NodeIP[0], nil
	}
	found, err := utilnet.ChooseHostInterface()
	if err != nil {
		return "", "", fmt.Errorf("node-ip: not given, and no address found by the default route: %w", err)
	}
	return name, found.String(), nil
}
