// Package status writes the status of a resource by server-side apply: one field
// manager a controller, and only what that controller knows.
package status

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// Conditions returns the wanted conditions as they are to be written: with the
// generation that they speak of, and with the time of their last transition,
// which is kept from the current ones while their status stays the same.
func Conditions(current, wanted []metav1.Condition, generation int64, now time.Time) []metav1.Condition {
	all := make([]metav1.Condition, 0, len(wanted))
	for _, want := range wanted {
		want.ObservedGeneration = generation
		want.LastTransitionTime = metav1.NewTime(now).Rfc3339Copy()
		if old := meta.FindStatusCondition(current, want.Type); old != nil && old.Status == want.Status {
			want.LastTransitionTime = old.LastTransitionTime
		}
		all = append(all, want)
	}
	return all
}

// Apply writes what one controller knows of the status of an object. owned holds
// only the fields that this manager speaks of; a field that it owned and that is
// not in owned any more is taken away. Fields and conditions of other managers
// stay.
//
// current is the object as it was read. If it has changed since, nothing is
// written and the error is a conflict (apierrors.IsConflict): the verdict may rest
// on what is so no more, or another object has the name by now.
func Apply(ctx context.Context, c client.Client, current client.Object, owned any, manager string) error {
	gvk, err := apiutil.GVKForObject(current, c.Scheme())
	if err != nil {
		return fmt.Errorf("cannot tell the kind of %s: %w", current.GetName(), err)
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(owned)
	if err != nil {
		return fmt.Errorf("cannot encode the status of %s %s: %w", gvk.Kind, current.GetName(), err)
	}
	u := &unstructured.Unstructured{Object: map[string]any{"status": content}}
	u.SetGroupVersionKind(gvk)
	u.SetName(current.GetName())
	u.SetNamespace(current.GetNamespace())
	u.SetResourceVersion(current.GetResourceVersion())
	if err := c.Status().Patch(ctx, u, client.Apply, client.FieldOwner(manager), client.ForceOwnership); err != nil {
		return fmt.Errorf("cannot write the status of %s %s: %w", gvk.Kind, current.GetName(), err)
	}
	return nil
}

// Same says whether two conditions lists hold the same conditions of the types
// in wanted.
func Same(current, wanted []metav1.Condition) bool {
	for _, want := range wanted {
		have := meta.FindStatusCondition(current, want.Type)
		if have == nil || !equality.Semantic.DeepEqual(*have, want) {
			return false
		}
	}
	return true
}
