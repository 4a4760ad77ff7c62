package install

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"

	"github.com/rhizome-dev/rhizome/crds"
	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
)

// Applied counts what an apply did.
type Applied struct{ Created, Changed, Unchanged int }

// String is the count for people.
func (a Applied) String() string {
	return fmt.Sprintf("%d created, %d changed, %d as they were", a.Created, a.Changed, a.Unchanged)
}

func (a *Applied) add(b Applied) {
	a.Created, a.Changed, a.Unchanged = a.Created+b.Created, a.Changed+b.Changed, a.Unchanged+b.Unchanged
}

// ConflictError says that a field that was to be set belongs to somebody else,
// who set it differently.
type ConflictError struct {
	Object string
	Err    error
}

// Error implements error.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s is managed by somebody else by now, who wants it otherwise: %v", e.Object, e.Err)
}

// Unwrap gives the API server's words.
func (e *ConflictError) Unwrap() error { return e.Err }

// pollEvery is how often the API server is asked whether something is so.
const pollEvery = 500 * time.Millisecond

// Definitions applies the custom resource definitions and waits until the API
// server serves them.
func (c *Client) Definitions(ctx context.Context) (Applied, error) {
	var sum Applied
	objects, err := crds.Objects()
	if err != nil {
		return sum, err
	}
	resource := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	for _, object := range objects {
		// The generator writes an empty status, which is not ours to say.
		unstructured.RemoveNestedField(object.Object, "status")
		one, err := c.apply(ctx, resource, object)
		if err != nil {
			return sum, err
		}
		sum.add(one)
	}
	for _, object := range objects {
		err := wait.PollUntilContextCancel(ctx, pollEvery, true, func(ctx context.Context) (bool, error) {
			live, err := c.dynamic.Resource(resource).Get(ctx, object.GetName(), metav1.GetOptions{})
			return err == nil && conditionOf(live, "Established").Status == metav1.ConditionTrue, nil
		})
		if err != nil {
			return sum, fmt.Errorf("the API server does not serve %s: %w", object.GetName(), err)
		}
	}
	if sum.Created+sum.Changed > 0 {
		c.mapper.Reset()
	}
	return sum, nil
}

// Manifests applies the objects of an inventory. Nothing is taken from another
// field manager: a conflict is a *ConflictError.
func (c *Client) Manifests(ctx context.Context, inv inventory.Inventory) (Applied, error) {
	var sum Applied
	objects, err := objectsOf(inv)
	if err != nil {
		return sum, err
	}
	for _, object := range objects {
		one, err := c.apply(ctx, resourceOf(object.GetKind()), object)
		if err != nil {
			return sum, err
		}
		sum.add(one)
	}
	return sum, nil
}

// resourceOf is the API's path for one of our kinds.
func resourceOf(kind string) schema.GroupVersionResource {
	plural := map[string]string{"Cluster": "clusters", "OperatingSystem": "operatingsystems", "Node": "nodes", "GitOps": "gitops"}
	return v1alpha1.GroupVersion.WithResource(plural[kind])
}

// objectsOf are the objects of an inventory as they are applied, those first that
// others refer to.
func objectsOf(inv inventory.Inventory) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	var failed error
	add := func(kind string, object any) {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("cannot convert a %s: %w", kind, err))
			return
		}
		u := &unstructured.Unstructured{Object: content}
		u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
		unstructured.RemoveNestedField(u.Object, "status")
		unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
		out = append(out, u)
	}
	for i := range inv.OperatingSystems {
		add("OperatingSystem", &inv.OperatingSystems[i])
	}
	for i := range inv.Clusters {
		add("Cluster", &inv.Clusters[i])
	}
	for i := range inv.Nodes {
		add("Node", &inv.Nodes[i])
	}
	for i := range inv.GitOps {
		add("GitOps", &inv.GitOps[i])
	}
	return out, failed
}

// apply applies one object (server-side apply) and says whether that changed
// anything.
func (c *Client) apply(ctx context.Context, resource schema.GroupVersionResource, object *unstructured.Unstructured) (Applied, error) {
	name := object.GetKind() + "/" + object.GetName()
	var client dynamic.ResourceInterface = c.dynamic.Resource(resource)
	if namespace := object.GetNamespace(); namespace != "" {
		client = c.dynamic.Resource(resource).Namespace(namespace)
	}
	before, err := client.Get(ctx, object.GetName(), metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		before = nil
	case err != nil:
		return Applied{}, fmt.Errorf("cannot read %s: %w", name, err)
	}
	after, err := client.Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: FieldManager})
	switch {
	case apierrors.IsConflict(err):
		return Applied{}, &ConflictError{Object: name, Err: err}
	case err != nil:
		return Applied{}, fmt.Errorf("cannot apply %s: %w", name, err)
	case before == nil:
		return Applied{Created: 1}, nil
	case before.GetResourceVersion() != after.GetResourceVersion():
		return Applied{Changed: 1}, nil
	}
	return Applied{Unchanged: 1}, nil
}

// conditionOf is an object's condition of a type; the zero value when it has
// none.
func conditionOf(object *unstructured.Unstructured, kind string) metav1.Condition {
	list, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, entry := range list {
		fields, ok := entry.(map[string]any)
		if !ok || fields["type"] != kind {
			continue
		}
		text := func(key string) string { s, _ := fields[key].(string); return s }
		generation, _ := fields["observedGeneration"].(int64)
		return metav1.Condition{Type: kind, Status: metav1.ConditionStatus(text("status")),
			Reason: text("reason"), Message: text("message"), ObservedGeneration: generation}
	}
	return metav1.Condition{}
}
