package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/rhizome-dev/rhizome/bootstrapper/declare"
	"github.com/rhizome-dev/rhizome/bootstrapper/install"
	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/manifests"
)

// discoveredTimeout bounds the questions to the API server.
const discoveredTimeout = 30 * time.Second

func newDiscoveredCommand() *cobra.Command {
	var kubeconfig string
	cmd := &cobra.Command{
		Use:   "discovered [DIR]",
		Short: "Print a Node manifest for each machine that asked to boot and is not declared",
		Long: `Prints a Node manifest, ready to be committed, for each machine that the cluster
has seen ask for a network boot and that nobody declared: a name made of its MAC,
the role Worker, and the next free address. Comments say what was seen of the
machine and what to check.

With DIR, the Nodes in the manifests below it count as declared as well, so that
what is not committed yet gets no second name or address.

Nothing is changed, in the cluster or in DIR. Machines are seen while PXE pods run:
always, with spec.pxe.pods: Always on the Cluster.`,
		Example: `  bootstrapper discovered homelab > homelab/bootstrap/cluster/nodes/new.yaml
  bootstrapper check --host=false homelab`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{fmt.Errorf("%s wants one directory, or none: %s", cmd.CommandPath(), cmd.UseLine())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), discoveredTimeout)
			defer cancel()
			client, err := connect(kubeconfig)
			if err != nil {
				return err
			}
			inv, err := client.Declared(ctx)
			if err != nil {
				return err
			}
			inForce(&inv)
			if len(args) == 1 {
				if err := addDeclared(&inv, args[0]); err != nil {
					return err
				}
			}
			return printDiscovered(cmd.OutOrStdout(), cmd.ErrOrStderr(), inv)
		},
	}
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "`file` that says how the cluster is reached (default: KUBECONFIG, or ~/.kube/config)")
	return cmd
}

// connect makes a client the way kubectl does.
func connect(kubeconfig string) (*install.Client, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	const fix = "name the kubeconfig that seed wrote with --kubeconfig"
	config, err := rules.Load()
	if err != nil {
		return nil, fmt.Errorf("cannot read the kubeconfig: %w; %s", err, fix)
	}
	if len(config.Clusters) == 0 {
		return nil, errors.New("there is no kubeconfig: " + fix)
	}
	if err := clientcmd.ResolveLocalPaths(config); err != nil {
		return nil, fmt.Errorf("cannot read the kubeconfig: %w", err)
	}
	content, err := clientcmd.Write(*config)
	if err != nil {
		return nil, fmt.Errorf("cannot read the kubeconfig: %w", err)
	}
	return install.NewClient(content)
}

// inForce leaves the Cluster that the operator goes by: the oldest.
func inForce(inv *inventory.Inventory) {
	slices.SortFunc(inv.Clusters, func(a, b v1alpha1.Cluster) int {
		if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
			return c
		}
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	if len(inv.Clusters) > 1 {
		inv.Clusters = inv.Clusters[:1]
	}
}

// addDeclared adds the Nodes of a directory that the cluster has not.
func addDeclared(inv *inventory.Inventory, dir string) error {
	read, _, err := manifests.ReadDir(dir)
	if err != nil {
		return usageError{err}
	}
	for _, n := range read.Nodes {
		if _, there := inv.Node(n.Name); !there {
			inv.Nodes = append(inv.Nodes, n)
		}
	}
	return nil
}

// printDiscovered writes the manifests, and beside them what a person should know.
func printDiscovered(out, beside io.Writer, inv inventory.Inventory) error {
	text, count, err := declare.Manifests(inv)
	if err != nil {
		return err
	}
	if count == 0 {
		fmt.Fprintln(beside, "no machine that is not declared has asked to boot from the network")
		if cluster, err := inv.Cluster(); err == nil && cluster.Spec.PXE.Pods != v1alpha1.PXEAlways {
			fmt.Fprintf(beside, "spec.pxe.pods of Cluster/%s is %s: machines are seen only while PXE pods run for another; Always sees them at any time\n",
				cluster.Name, v1alpha1.PXEWhenNeeded)
		}
		return nil
	}
	if _, err := out.Write(text); err != nil {
		return fmt.Errorf("cannot write the manifests: %w", err)
	}
	return nil
}
