package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"github.com/rhizome-dev/rhizome/bootstrapper/host"
	"github.com/rhizome-dev/rhizome/bootstrapper/repository"
	"github.com/rhizome-dev/rhizome/pxe"
)

func newInitCommand() *cobra.Command {
	var cidr, gateway string
	var o repository.Options
	var nodes []string
	cmd := &cobra.Command{
		Use:   "init DIR",
		Short: "Write a commented example repository",
		Long: `Write a commented example repository into DIR, which may exist. No file is ever
overwritten: if one is there already, nothing is written.

What no flag says is taken from this machine's default route (the network and
the router) or left to be filled in (MAC addresses, the image's digest).

With --repository the cluster follows that git repository from the beginning:
push what was written there before the seed. Without it the cluster follows none,
until you say so in bootstrap/cluster/gitops.yaml.`,
		Example: `  bootstrapper init homelab
  bootstrapper init homelab --cidr 192.168.1.0/24 --gateway 192.168.1.1 \
    --repository https://github.com/you/homelab.git \
    --node name=alpha,mac=52:54:00:12:34:56,address=192.168.1.10 \
    --node name=beta,mac=52:54:00:12:34:57,arch=arm64`,
		Args: oneDirectory,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := fromFlags(&o, cidr, gateway, nodes); err != nil {
				return usageError{err}
			}
			if err := fromMachine(&o); err != nil {
				return usageError{err}
			}
			files, err := repository.Files(o)
			if err != nil {
				return usageError{err}
			}
			if err := repository.Write(args[0], files); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "Wrote %d files to %s (network %s, router %s).\n", len(files), args[0], o.CIDR, o.Gateway)
			if o.Repository == "" {
				fmt.Fprintln(out, "The cluster follows no git repository yet: bootstrap/cluster/gitops.yaml says how it will.")
			} else {
				fmt.Fprintf(out, "The cluster will follow %s: commit, and push it there.\n", o.Repository)
			}
			fmt.Fprintf(out, "Next: bootstrapper check --host=false %s says what is left to fill in; README.md says the rest.\n", args[0])
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&cidr, "cidr", "", "the `network` of the machines, such as 192.168.1.0/24 (default: that of this machine's default route)")
	f.StringVar(&gateway, "gateway", "", "the router's `address` (default: that of this machine's default route)")
	f.StringArrayVar(&nodes, "node", nil, "a `machine`, as name=,mac=,address=,role=,arch=; may be given again. All but the name may be left out; the first is ControlPlane, the others Workers")
	f.StringVar(&o.Repository, "repository", "", "`URL` of the git repository that this will be pushed to and the cluster follows")
	f.StringVar(&o.Branch, "branch", "", "the `branch` that the cluster follows (default: main)")
	f.StringVar(&o.RepositorySecret, "repository-secret", "", "`name` of the Secret in the namespace rhizome-system with which a private repository is read")
	f.StringVar(&o.HomeURL, "home-url", "", "`URL` of the cluster's own Gitea as it is seen from within (default: that of platform/gitea)")
	f.StringVar(&o.Image, "image", "", "`URL` of the raw disk image (default: Debian 12)")
	f.StringVar(&o.SHA256, "image-sha256", "", "the image's SHA-256 `digest`")
	return cmd
}

// fromFlags takes what the flags say.
func fromFlags(o *repository.Options, cidr, gateway string, nodes []string) error {
	var err error
	if cidr != "" {
		if o.CIDR, err = netip.ParsePrefix(cidr); err != nil || !o.CIDR.Addr().Is4() || o.CIDR != o.CIDR.Masked() {
			return fmt.Errorf("--cidr %s: want an IPv4 network with no host bits set, such as 192.168.1.0/24", cidr)
		}
	}
	if gateway != "" {
		if o.Gateway, err = netip.ParseAddr(gateway); err != nil || !o.Gateway.Is4() {
			return fmt.Errorf("--gateway %s: want an IPv4 address, such as 192.168.1.1", gateway)
		}
	}
	for _, text := range nodes {
		n, err := parseNode(text)
		if err != nil {
			return fmt.Errorf("--node %s: %w", text, err)
		}
		o.Nodes = append(o.Nodes, n)
	}
	return nil
}

func parseNode(text string) (repository.Node, error) {
	var n repository.Node
	given := map[string]bool{}
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(part, "=")
		if !ok || value == "" {
			return n, fmt.Errorf("%q is not of the form key=value", part)
		}
		if given[key] {
			return n, fmt.Errorf("%s is given twice", key)
		}
		given[key] = true
		switch key {
		case "name":
			n.Name = value
		case "mac":
			mac, err := pxe.ParseMAC(value)
			if err != nil {
				return n, err
			}
			n.MAC = string(mac)
		case "address":
			a, err := netip.ParseAddr(value)
			if err != nil || !a.Is4() {
				return n, fmt.Errorf("%q is not an IPv4 address", value)
			}
			n.Address = a
		case "role":
			n.Role = value
		case "arch":
			n.Architecture = value
		default:
			return n, fmt.Errorf("unknown key %q: want name, mac, address, role or arch", key)
		}
	}
	if n.Name == "" {
		return n, errors.New("has no name: add name=...")
	}
	return n, nil
}

// fromMachine takes from this machine what the flags left open.
func fromMachine(o *repository.Options) error {
	interfaces, err := host.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range interfaces {
		for _, p := range i.Addresses {
			o.Taken = append(o.Taken, p.Addr())
		}
	}
	if o.CIDR.IsValid() && o.Gateway.IsValid() {
		return nil
	}
	route, ok := host.DefaultRoute()
	if !ok {
		return errors.New("this machine has no default route to take the network from: say --cidr and --gateway")
	}
	if !o.Gateway.IsValid() {
		o.Gateway = route.Gateway
	}
	if o.CIDR.IsValid() {
		return nil
	}
	for _, i := range interfaces {
		for _, p := range i.Addresses {
			if i.Name == route.Interface && p.Contains(o.Gateway) {
				o.CIDR = p.Masked()
				return nil
			}
		}
	}
	return fmt.Errorf("no address of %s stands in the network of the router %s: say --cidr", route.Interface, o.Gateway)
}
