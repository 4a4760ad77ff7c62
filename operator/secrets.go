package operator

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/power"
)

// The credentials of board management controllers, and of webhooks, have the names
// that Nodes give them.
//
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get,namespace=release

// drivers make the way to a Node's power, with credentials from the namespace. They
// are read anew each time: none stays in memory.
func drivers(live client.Reader, namespace string) func(*v1alpha1.Node) (power.Driver, error) {
	secrets := func(ctx context.Context, name string) (map[string][]byte, error) {
		var s corev1.Secret
		if err := live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &s); err != nil {
			return nil, fmt.Errorf("cannot read the Secret %s/%s: %w", namespace, name, err)
		}
		return s.Data, nil
	}
	return func(n *v1alpha1.Node) (power.Driver, error) { return power.For(n, power.Options{Secrets: secrets}) }
}
