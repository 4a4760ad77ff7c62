package install

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/rhizome-dev/rhizome/internal/inventory"
)

// Declared is what the cluster's API holds of our kinds, with its status.
func (c *Client) Declared(ctx context.Context) (inventory.Inventory, error) {
	var inv inventory.Inventory
	var err error
	if inv.Clusters, err = list(ctx, c, "Cluster", inv.Clusters); err != nil {
		return inventory.Inventory{}, err
	}
	if inv.OperatingSystems, err = list(ctx, c, "OperatingSystem", inv.OperatingSystems); err != nil {
		return inventory.Inventory{}, err
	}
	inv.Nodes, err = list(ctx, c, "Node", inv.Nodes)
	return inv, err
}

func list[T any](ctx context.Context, c *Client, kind string, into []T) ([]T, error) {
	found, err := c.dynamic.Resource(resourceOf(kind)).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("cannot list the %ss: %w", kind, err)
	}
	for i := range found.Items {
		var one T
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(found.Items[i].Object, &one); err != nil {
			return nil, fmt.Errorf("cannot read %s/%s: %w", kind, found.Items[i].GetName(), err)
		}
		into = append(into, one)
	}
	return into, nil
}
