package crds_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

type fields map[string]any

// bad is a good object with something changed that a rule refuses, and what the
// API server must say: which field, and what about it.
type bad struct {
	name    string
	of      string // the good object
	set     fields
	field   string
	message string
	// update: the good object is there already, and it is changed.
	update bool
	// more: other rules may be broken by the same value, and say so too.
	more bool
}

var refused = slices.Concat(clusterRefused, operatingSystemRefused, nodeRefused, gitOpsRefused)

func TestTheAPIServerAcceptsGoodObjects(t *testing.T) {
	c := api(t)
	for name := range good {
		t.Run(name, func(t *testing.T) {
			if err := c.Create(t.Context(), object(t, name), client.DryRunAll); err != nil {
				t.Error(err)
			}
		})
	}
	for _, tc := range accepted {
		t.Run(tc.name, func(t *testing.T) {
			u := change(t, object(t, tc.of), tc.set)
			if err := c.Create(t.Context(), u, client.DryRunAll); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTheAPIServerRefusesBadObjectsAndNamesTheField(t *testing.T) {
	c := api(t)
	for _, tc := range refused {
		t.Run(tc.name, func(t *testing.T) {
			causes := try(t, c, tc)
			said := slices.ContainsFunc(causes, func(c metav1.StatusCause) bool {
				return c.Field == tc.field && strings.HasSuffix(c.Message, ": "+tc.message)
			})
			if !said || (len(causes) > 1 && !tc.more) {
				t.Errorf("the API server answered %s\nwant only %s: %s", list(causes), tc.field, tc.message)
			}
		})
	}
}

// TestEveryRuleIsBroken counts: each rule of the generated definitions, wherever
// in a spec it stands, is broken by at least one bad object above.
func TestEveryRuleIsBroken(t *testing.T) {
	broken := map[string]bool{}
	for _, tc := range refused {
		broken[object(t, tc.of).GetKind()+" "+anyIndex(tc.field)+": "+tc.message] = true
	}
	rules := 0
	for _, kind := range schemas(t) {
		walk(kind.spec, "", func(path string, s *schema) {
			for _, rule := range s.XValidations {
				rules++
				field := path + rule.FieldPath
				if field == "" {
					field = "<nil>" // the API server's word for the whole object
				}
				key := kind.name + " " + field + ": " + rule.Message
				if rule.Message == "" {
					t.Errorf("%s %s: rule %q has no message", kind.name, path, rule.Rule)
				} else if !broken[key] {
					t.Errorf("no bad object breaks this rule:\n%s", key)
				}
			}
		})
	}
	if rules < 80 {
		t.Errorf("found only %d rules in the generated definitions: is the walk complete?", rules)
	}
	t.Logf("%d rules", rules)
}

// try creates or updates what the case says, without persisting it, and returns
// the causes of the API server's refusal.
func try(t *testing.T, c client.Client, tc bad) []metav1.StatusCause {
	t.Helper()
	u := object(t, tc.of)
	if tc.update {
		// A name of its own, so that cases do not meet.
		u.SetName(fmt.Sprintf("u%x", hash(tc.name)))
		if err := c.Create(t.Context(), u); err != nil {
			t.Fatalf("the good object: %v", err)
		}
		t.Cleanup(func() {
			if err := c.Delete(context.WithoutCancel(t.Context()), u); err != nil {
				t.Error(err)
			}
		})
		return causes(t, c.Update(t.Context(), change(t, u.DeepCopy(), tc.set), client.DryRunAll))
	}
	return causes(t, c.Create(t.Context(), change(t, u, tc.set), client.DryRunAll))
}

func causes(t *testing.T, err error) []metav1.StatusCause {
	t.Helper()
	var status *apierrors.StatusError
	if err == nil {
		t.Fatal("the API server accepted the bad object")
	}
	if !errors.As(err, &status) || !apierrors.IsInvalid(err) {
		t.Fatalf("the API server answered %v, want Invalid", err)
	}
	var all []metav1.StatusCause
	for _, cause := range status.Status().Details.Causes {
		// Said beside a real cause, when rules could not be run because of it.
		if !strings.Contains(cause.Message, "some validation rules were not checked") {
			all = append(all, cause)
		}
	}
	return all
}

func change(t *testing.T, u *unstructured.Unstructured, changes fields) *unstructured.Unstructured {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(changes)) {
		if err := set(u, path, changes[path]); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

func list(causes []metav1.StatusCause) string {
	var b strings.Builder
	for _, c := range causes {
		fmt.Fprintf(&b, "\n\t%s: %s", c.Field, c.Message)
	}
	return b.String()
}

var (
	index = regexp.MustCompile(`\[[0-9]+\]`)
	key   = regexp.MustCompile(`\[[^\]]+\]`)
)

// anyIndex writes a path as the schema's walk does.
func anyIndex(path string) string {
	return key.ReplaceAllString(index.ReplaceAllString(path, "[]"), "[*]")
}

func hash(s string) uint32 {
	var h uint32 = 2166136261
	for _, b := range []byte(s) {
		h = (h ^ uint32(b)) * 16777619
	}
	return h
}
