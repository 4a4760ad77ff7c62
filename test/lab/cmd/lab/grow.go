//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/test/lab/repository"
)

// grow commits the lab's other machines to git and waits until they are members.
// The bootstrapper has ended: what happens now, the cluster does.
func grow(ctx context.Context, dir string, s state, patience time.Duration) error {
	tree := filepath.Join(dir, repositoryDir)
	if err := commit(ctx, tree, "The cluster and its first machine"); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	await := []string{self, "await-inside", "--patience=" + patience.String()}
	for _, m := range s.Machines[1:] {
		if err := repository.WriteNode(filepath.Join(tree, manifestsDir), m.node()); err != nil {
			return err
		}
		fmt.Printf("Declared %s (%s, %s firmware) in %s/nodes\n", m.Name, m.Role, m.Firmware, manifestsDir)
		await = append(await, m.Name)
	}
	if err := commit(ctx, tree, "More machines"); err != nil {
		return err
	}
	fmt.Printf("Committed to %s: the cluster adds them by itself.\n\n", tree)
	return runInside(dir, s, await...)
}

// awaitCommand watches Nodes until all are Ready, on the lab's network.
func awaitCommand() *cobra.Command {
	var patience time.Duration
	cmd := &cobra.Command{
		Use:    "await-inside NODE...",
		Hidden: true,
		RunE: func(cmd *cobra.Command, names []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), patience)
			defer cancel()
			return awaitMembers(ctx, names)
		},
	}
	cmd.Flags().DurationVar(&patience, "patience", time.Hour, "")
	return cmd
}

func awaitMembers(ctx context.Context, names []string) error {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	nodes := client.Resource(v1alpha1.GroupVersion.WithResource("nodes"))
	waiting, said, began := map[string]bool{}, map[string]string{}, time.Now()
	for _, name := range names {
		waiting[name] = true
	}
	for len(waiting) > 0 {
		for _, name := range slices.Sorted(maps.Keys(waiting)) {
			node, err := nodes.Get(ctx, name, metav1.GetOptions{})
			line, ready := "not applied yet", false
			if err == nil {
				line, ready = describe(node)
			}
			if line != said[name] {
				said[name] = line
				fmt.Printf("%8s  %-8s %s\n", time.Since(began).Round(time.Second), name, line)
			}
			if ready {
				delete(waiting, name)
			}
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("no members yet: %v; `lab kubectl get rnodes`, `lab kubectl describe rnode NAME` and `lab status` say more",
					slices.Sorted(maps.Keys(waiting)))
			}
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return nil
}

// describe is a Node in a line: its phase and what it is doing.
func describe(node *unstructured.Unstructured) (line string, ready bool) {
	phase, _, _ := unstructured.NestedString(node.Object, "status", "phase")
	conditions, _, _ := unstructured.NestedSlice(node.Object, "status", "conditions")
	for _, entry := range conditions {
		if c, ok := entry.(map[string]any); ok && c["type"] == v1alpha1.ConditionReady {
			return fmt.Sprintf("%-10s %v", phase, c["message"]), c["status"] == "True"
		}
	}
	return phase, false
}
