package crds_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/rhizome-dev/rhizome/crds"
)

type schema = apiextensionsv1.JSONSchemaProps

type kind struct {
	name string
	spec *schema // the root, with spec but without status and metadata
}

func schemas(t *testing.T) []kind {
	t.Helper()
	definitions, err := crds.Definitions()
	if err != nil {
		t.Fatal(err)
	}
	var kinds []kind
	for _, crd := range definitions {
		root := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.DeepCopy()
		for _, not := range []string{"apiVersion", "kind", "metadata", "status"} {
			delete(root.Properties, not)
		}
		kinds = append(kinds, kind{name: crd.Spec.Names.Kind, spec: root})
	}
	if len(kinds) != 4 {
		t.Fatalf("found %d kinds, want 4", len(kinds))
	}
	return kinds
}

// walk visits every schema with its path, in which [] is any index of a list.
func walk(s *schema, path string, visit func(path string, s *schema)) {
	visit(path, s)
	for _, name := range slices.Sorted(mapKeys(s.Properties)) {
		inner := s.Properties[name]
		walk(&inner, strings.TrimPrefix(path+"."+name, "."), visit)
	}
	if s.Items != nil && s.Items.Schema != nil {
		walk(s.Items.Schema, path+"[]", visit)
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		walk(s.AdditionalProperties.Schema, path+"[*]", visit)
	}
}

func mapKeys(m map[string]schema) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// TestTheAPIServerRefusesWhatTheSchemaRefuses breaks, for each field, what the
// schema says of it without CEL: enumerations, lengths, counts, bounds, required
// fields and lists whose entries must differ. The bad values are derived from the
// schema; that each is refused, with the field named, is the API server's word.
func TestTheAPIServerRefusesWhatTheSchemaRefuses(t *testing.T) {
	c := api(t)
	for _, kind := range schemas(t) {
		n := 0
		walk(kind.spec, "", func(path string, s *schema) {
			for _, v := range violations(path, s) {
				n++
				t.Run(kind.name+" "+v.field+" "+v.says, func(t *testing.T) {
					u := base(t, kind.name, &v)
					value := v.value
					if v.repeat != nil {
						current, _ := get(u, v.set)
						value = v.repeat(current)
					}
					if err := set(u, v.set, value); err != nil {
						t.Fatal(err)
					}
					causes := causes(t, c.Create(t.Context(), u, client.DryRunAll))
					for _, cause := range causes {
						if strings.HasPrefix(plain(cause.Field), plain(v.field)) && strings.Contains(cause.Message, v.says) {
							return
						}
					}
					t.Errorf("the API server answered %s\nwant among them %s: %s", list(causes), v.field, v.says)
				})
			}
		})
		if n < 5 {
			t.Errorf("%s: found only %d rules: is the walk complete?", kind.name, n)
		}
	}
}

// goodStatus sets every field of a Node's status that has a rule, but for the
// conditions, whose rules are Kubernetes' own.
const goodStatus = `
phase: Ready
boot:
  stage: Kernel
  message: vmlinuz
  firmware: UEFI
  architecture: amd64
  uuid: 4c4c4544-0051-3510-8052-b4c04f4e3132
  stages: [{stage: Kernel, at: "2026-01-02T03:04:05Z", message: vmlinuz}]
honoured: {reinstall: "2026-01-02"}
installed: {at: "2026-01-02T03:04:05Z", operatingSystem: debian}
claim: {state: Open, opened: "2026-01-02T03:04:05Z", expires: "2026-01-02T03:34:05Z", message: why}
nodeRef: {name: alpha, uid: 9e6a8f3c}
repair:
  action: PowerCycle
  try: 1
  rule: Silent
  reason: its kubelet says nothing
  sickSince: "2026-01-02T03:04:05Z"
  intended: "2026-01-02T03:14:05Z"
  acted: "2026-01-02T03:14:25Z"
  message: it was turned off and on
  reinstall: "1"
  snapshot: a snapshot
  off: {by: Board, at: "2026-01-02T03:14:15Z"}
  quarantined: "2026-01-02T03:44:05Z"
  cleared: "2026-01-02T04:04:05Z"
  honoured: {retry: "1"}
repairs:
- {at: "2026-01-02T03:04:05Z", ended: "2026-01-02T03:14:05Z", action: Reboot, rule: NotReady, result: TimedOut, message: why, disk: /dev/sda}
reach: [{from: beta, at: "2026-01-02T03:04:05Z", answer: Nothing, message: no route to host}]
`

// TestTheAPIServerRefusesBadStatus: what controllers write is held to its schema
// too.
func TestTheAPIServerRefusesBadStatus(t *testing.T) {
	c := api(t)
	definitions, err := crds.Definitions()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(definitions, func(d *apiextensionsv1.CustomResourceDefinition) bool { return d.Spec.Names.Kind == "Node" })
	root := definitions[i].Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["status"]
	delete(root.Properties, "conditions")

	u := object(t, "node")
	u.SetName("status")
	if err := c.Create(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Delete(context.WithoutCancel(t.Context()), u); err != nil {
			t.Error(err)
		}
	})
	var status map[string]any
	if err := yaml.Unmarshal([]byte(goodStatus), &status); err != nil {
		t.Fatal(err)
	}
	u.Object["status"] = status
	if err := c.Status().Update(t.Context(), u.DeepCopy(), client.DryRunAll); err != nil {
		t.Fatalf("the good status: %v", err)
	}
	n := 0
	walk(&root, "status", func(path string, s *schema) {
		for _, v := range violations(path, s) {
			n++
			at := strings.ReplaceAll(v.set, "[]", "[0]")
			if v.repeat != nil {
				current, ok := get(u, at)
				if !ok {
					t.Fatalf("the good status lacks %s", at)
				}
				v.value = v.repeat(current)
			}
			changed := u.DeepCopy()
			if err := set(changed, at, v.value); err != nil {
				t.Fatal(err)
			}
			field := plain(strings.ReplaceAll(v.field, "[]", "[0]"))
			causes := causes(t, c.Status().Update(t.Context(), changed, client.DryRunAll))
			if !slices.ContainsFunc(causes, func(c metav1.StatusCause) bool {
				return strings.HasPrefix(plain(c.Field), field) && strings.Contains(c.Message, v.says)
			}) {
				t.Errorf("the API server answered %s\nwant among them %s: %s", list(causes), v.field, v.says)
			}
		}
	})
	if n < 10 {
		t.Errorf("found only %d rules: is the walk complete?", n)
	}
}

// violation is one way to break a schema: a value at a path, and what the API
// server says of which field.
type violation struct {
	set    string
	value  any
	repeat func(current any) any // makes the value out of the good one
	field  string
	says   string
}

func violations(path string, s *schema) []violation {
	var all []violation
	add := func(value any, says string) {
		all = append(all, violation{set: path, value: value, field: path, says: says})
	}
	repeat := func(says string, f func(current any) any) {
		all = append(all, violation{set: path, repeat: f, field: path, says: says})
	}
	if len(s.Enum) > 0 {
		add("Bogus", "Unsupported value")
	}
	if s.Pattern != "" {
		add("?", "should match")
	}
	if s.MaxLength != nil {
		add(strings.Repeat("a", int(*s.MaxLength)+1), fmt.Sprintf("may not be more than %d bytes", *s.MaxLength))
	}
	if s.MinLength != nil {
		add("", "should be at least")
	}
	if s.Maximum != nil {
		add(int64(math.Round(*s.Maximum))+1, "should be less than or equal")
	}
	if s.Minimum != nil {
		add(int64(math.Round(*s.Minimum))-1, "should be greater than or equal")
	}
	if s.MaxItems != nil {
		repeat(fmt.Sprintf("must have at most %d items", *s.MaxItems), func(current any) any {
			first := current.([]any)[0]
			return slices.Repeat([]any{first}, int(*s.MaxItems)+1)
		})
	}
	if s.MinItems != nil {
		add([]any{}, "should have at least")
	}
	if s.MaxProperties != nil {
		many := map[string]any{}
		for i := range int(*s.MaxProperties) + 1 {
			many[fmt.Sprintf("k%d", i)] = "v"
		}
		add(many, fmt.Sprintf("must have at most %d items", *s.MaxProperties))
	}
	if s.MinProperties != nil {
		add(map[string]any{}, "should have at least")
	}
	if s.XListType != nil && *s.XListType != "atomic" {
		repeat("Duplicate value", func(current any) any {
			entries := current.([]any)
			return append(slices.Clone(entries), entries[0])
		})
	}
	for _, name := range s.Required {
		inner := strings.TrimPrefix(path+"."+name, ".")
		all = append(all, violation{set: inner, value: remove{}, field: inner, says: "Required value"})
	}
	return all
}

// base is the good object of a kind that has the field, and fills in the indexes
// with which it has it.
func base(t *testing.T, kind string, v *violation) *unstructured.Unstructured {
	t.Helper()
	for _, first := range []string{"[0]", "[1]"} {
		concrete := func(path string) string {
			path = strings.Replace(path, "[]", first, 1)
			path = strings.ReplaceAll(path, "[]", "[0]")
			return strings.ReplaceAll(path, "[*]", "[quiet]") // a label that the good Node has
		}
		for _, name := range slices.Sorted(goodNames) {
			u := object(t, name)
			if u.GetKind() != kind {
				continue
			}
			if _, ok := get(u, concrete(v.field)); ok {
				v.set, v.field = concrete(v.set), concrete(v.field)
				return u
			}
		}
	}
	t.Fatalf("no good %s sets %s: every field must be set in one", kind, v.field)
	return nil
}

// plain writes a path without brackets: the API server writes the key of a map in
// more than one way.
func plain(path string) string {
	return strings.NewReplacer("[", ".", "]", "").Replace(path)
}

func goodNames(yield func(string) bool) {
	for name := range good {
		if !yield(name) {
			return
		}
	}
}

func TestDefinitionsAndObjectsAreTheSame(t *testing.T) {
	definitions, err := crds.Definitions()
	if err != nil {
		t.Fatal(err)
	}
	objects, err := crds.Objects()
	if err != nil {
		t.Fatal(err)
	}
	if len(objects) != len(definitions) {
		t.Fatalf("%d objects, %d definitions", len(objects), len(definitions))
	}
	for i := range objects {
		if objects[i].GetName() != definitions[i].Name {
			t.Errorf("object %d is %s, definition is %s", i, objects[i].GetName(), definitions[i].Name)
		}
		if _, has := objects[i].Object["status"]; has {
			t.Errorf("%s has a status of its own", objects[i].GetName())
		}
	}
}
