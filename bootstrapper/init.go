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
	var cidr, gateway, image, sha256 string
	var nodes []string
	cmd := &cobra.Command{
		Use:   "init DIR",
		Short: "Write a commented example repository",
		Long: `Write a commented example repository into DIR, which may exist. No file is ever
overwritten: if one is there already, nothing is written.

What no flag says is taken from this machine's default route (the network and
the router) or left to be filled in (MAC addresses, the image's digest).`,
		Example: `  bootstrapper init homelab
  bootstrapper init homelab --cidr 192.168.1.0/24 --gateway 192.168.1.1 \
    --node name=alpha,mac=52:54:00:12:34:56,address=192.168.1.10 \
    --node name=beta,mac=52:54:00:12:34:57,arch=arm64`,
		Args: oneDirectory,
		RunE: func(cmd *cobra.Command, args []string) error {
			o := repository.Options{Image: image, SHA256: sha256}
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
			fmt.Fprintf(out, "Next: bootstrapper check --host=false %s says what is left to fill in; README.md says the rest.\n", args[0])
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&cidr, "cidr", "", "the `network` of the machines, such as 192.168.1.0/24 (default: that of this machine's default route)")
	f.StringVar(&gateway, "gateway", "", "the router's `address` (default: that of this machine's default route)")
	f.StringArrayVar(&nodes, "node", nil, "a machine, as name=,mac=,address=,role=,arch=; may be given again. All but the name may be left out; the first is ControlPlane, the others Workers")
	f.StringVar(&image, "image", "", "`URL` of the raw disk image (default: Debian 12)")
	f.StringVar(&sha256, "image-sha256", "", "the image's SHA-256 `digest`")
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
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(part, "=")
		if !ok || value == "" {
			return n, fmt.Errorf("%q is not of the form key=value", part)
		}
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
