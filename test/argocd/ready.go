//go:build linux

package argocd

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// GroupVersion is that of Applications and ApplicationSets.
var GroupVersion = schema.GroupVersion{Group: "argoproj.io", Version: "v1alpha1"}

// application is what Lacks reads of an Application. It is written here once
// more, apart from the operator's own reading of it, so that no mistake of that
// hides in the tests.
type application struct {
	Metadata  metav1.ObjectMeta
	Operation json.RawMessage // one that is asked for and has not begun
	Spec      struct{ Source map[string]any }
	Status    struct {
		ReconciledAt metav1.Time
		Sync         struct {
			Status, Revision string
			ComparedTo       struct{ Source map[string]any }
		}
		Health         struct{ Status string }
		Resources      []json.RawMessage
		Conditions     []struct{ Type, Message string }
		OperationState *struct {
			Phase, Message string
			FinishedAt     *metav1.Time
		}
	}
}

// Lacks says what an Application, as it is, lacks to be Ready at the revision:
// Synced and Healthy, from the source and the commit that are wanted, with at
// least one resource, without an error, and seen so since the last operation
// ended. An empty revision is any. Nothing: it is Ready.
func Lacks(object *unstructured.Unstructured, revision string) (lacks []string) {
	var a application
	content, err := object.MarshalJSON()
	if err == nil {
		err = json.Unmarshal(content, &a)
	}
	if err != nil {
		return []string{err.Error()}
	}
	say := func(format string, args ...any) { lacks = append(lacks, fmt.Sprintf(format, args...)) }
	s := a.Status
	if a.Metadata.DeletionTimestamp != nil {
		say("it is being deleted")
	}
	if a.Operation != nil {
		say("an operation waits")
	}
	if o := s.OperationState; o != nil {
		switch {
		case o.FinishedAt == nil:
			say("an operation is %s: %s", o.Phase, o.Message)
		case s.ReconciledAt.Time.Before(o.FinishedAt.Time):
			say("it was not looked at since its last operation")
		}
	}
	if !reflect.DeepEqual(a.Spec.Source, s.Sync.ComparedTo.Source) {
		say("it was compared to %v, not to %v", s.Sync.ComparedTo.Source, a.Spec.Source)
	}
	if revision != "" && s.Sync.Revision != revision {
		say("it is at commit %q", s.Sync.Revision)
	}
	if s.Sync.Status != "Synced" {
		say("sync is %q", s.Sync.Status)
	}
	if s.Health.Status != "Healthy" {
		say("health is %q", s.Health.Status)
	}
	if len(s.Resources) == 0 {
		say("it has no resource")
	}
	for _, c := range s.Conditions {
		if strings.HasSuffix(c.Type, "Error") {
			say("%s: %s", c.Type, c.Message)
		}
	}
	return lacks
}

// Applications are all in Argo CD's namespace, by name.
func (a *Argo) Applications(ctx context.Context) (map[string]*unstructured.Unstructured, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(GroupVersion.WithKind("ApplicationList"))
	if err := a.Client.List(ctx, list, client.InNamespace(a.Namespace)); err != nil {
		return nil, err
	}
	out := map[string]*unstructured.Unstructured{}
	for i := range list.Items {
		out[list.Items[i].GetName()] = &list.Items[i]
	}
	return out, nil
}

// patience bounds waiting for what never comes. No test measures time with it.
const patience = 3 * time.Minute

// Await waits until the Applications are Ready at the revision (see Lacks).
func (a *Argo) Await(t testing.TB, revision string, names ...string) {
	t.Helper()
	a.Until(t, "Applications "+strings.Join(names, ", "), func(ctx context.Context) (lacks []string) {
		all, err := a.Applications(ctx)
		if err != nil {
			return []string{err.Error()}
		}
		for _, name := range names {
			if all[name] == nil {
				lacks = append(lacks, name+": there is none")
				continue
			}
			for _, l := range Lacks(all[name], revision) {
				lacks = append(lacks, name+": "+l)
			}
		}
		return lacks
	})
}

// Until asks for what lacks until nothing does, and fails the test when that
// does not come, or one of Argo CD's programs ends.
func (a *Argo) Until(t testing.TB, what string, lacks func(context.Context) []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		missing := lacks(ctx)
		if len(missing) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: still lacking:\n  %s", what, strings.Join(missing, "\n  "))
		case <-a.ApplicationController().Done():
			t.Fatalf("%s: the application controller has ended", what)
		case <-a.ApplicationSetController().Done():
			t.Fatalf("%s: the ApplicationSet controller has ended", what)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Refresh has Argo CD look at a source now instead of at its next poll: the
// Application's, or the generators' of an ApplicationSet.
func (a *Argo) Refresh(ctx context.Context, kind, name string) error {
	key, value := "argocd.argoproj.io/refresh", "normal"
	if kind == "ApplicationSet" {
		key, value = "argocd.argoproj.io/application-set-refresh", "true"
	}
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(GroupVersion.WithKind(kind))
	o.SetNamespace(a.Namespace)
	o.SetName(name)
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, key, value)
	return a.Client.Patch(ctx, o, client.RawPatch("application/merge-patch+json", []byte(patch)))
}
