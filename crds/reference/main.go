// Command reference writes the reference of the API, docs/reference/api.md, out of
// the generated definitions and the comments of the types. `go generate` runs it in
// the directory crds.
package main

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/rhizome-dev/rhizome/crds"
)

const target = "../docs/reference/api.md"

func main() {
	text, err := reference("v1alpha1")
	if err == nil {
		err = os.WriteFile(target, []byte(text), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

const preface = `# The API

<!-- Generated from crds/v1alpha1 by ` + "`make generate`" + `. -->

The group is ` + "`rhizome.dev`" + `, the version ` + "`v1alpha1`" + `; all kinds are cluster-scoped. What a rule
refuses is refused when it is applied, with the field and the message given here.
Rules between objects are [checks](checks.md): ` + "`bootstrapper check`" + ` finds them before
anything starts, and the operator as the condition ` + "`Valid`" + ` of the Cluster.

`

// reference is the whole text. types is the directory of the types' source.
func reference(types string) (string, error) {
	definitions, err := crds.Definitions()
	if err != nil {
		return "", err
	}
	order := []string{"Cluster", "OperatingSystem", "Node", "GitOps"}
	slices.SortFunc(definitions, func(a, b *apiextensionsv1.CustomResourceDefinition) int {
		return cmp.Compare(slices.Index(order, a.Spec.Names.Kind), slices.Index(order, b.Spec.Names.Kind))
	})
	var b strings.Builder
	b.WriteString(preface)
	for _, crd := range definitions {
		kind(&b, crd)
	}
	if err := constants(&b, types); err != nil {
		return "", err
	}
	return b.String(), nil
}

func kind(b *strings.Builder, crd *apiextensionsv1.CustomResourceDefinition) {
	names := crd.Spec.Names
	root := crd.Spec.Versions[0].Schema.OpenAPIV3Schema
	fmt.Fprintf(b, "## %s\n\n%s\n\n", names.Kind, oneLine(root.Description))
	get := names.Plural + "." + crd.Spec.Group
	if len(names.ShortNames) > 0 {
		get = names.ShortNames[0]
	}
	fmt.Fprintf(b, "`kubectl get %s` shows: ", get)
	var columns []string
	for _, c := range crd.Spec.Versions[0].AdditionalPrinterColumns {
		columns = append(columns, c.Name)
	}
	fmt.Fprintf(b, "%s.\n\n", strings.Join(columns, ", "))
	for _, rule := range root.XValidations {
		fmt.Fprintf(b, "Rule: %s.\n\n", rule.Message)
	}
	for _, part := range []string{"spec", "status"} {
		schema := root.Properties[part]
		var fields, rules []string
		describe(&schema, part, false, &fields, &rules)
		fmt.Fprintf(b, "### %s: %s\n\n| Field | Type | Default | |\n|---|---|---|---|\n", names.Kind, part)
		for _, line := range fields {
			b.WriteString(line)
		}
		b.WriteString("\n")
		if len(rules) > 0 {
			b.WriteString("Rules:\n\n")
			for _, line := range rules {
				b.WriteString(line)
			}
			b.WriteString("\n")
		}
	}
}

// describe adds a line for each field below a schema, and one for each rule.
func describe(s *apiextensionsv1.JSONSchemaProps, path string, required bool, fields, rules *[]string) {
	if strings.Contains(path, ".") {
		text := oneLine(s.Description)
		if required {
			text = "**Required.** " + text
		}
		*fields = append(*fields, fmt.Sprintf("| `%s` | %s | %s | %s |\n", path, kindOf(s), defaultOf(s), strings.ReplaceAll(text, "|", `\|`)))
	}
	for _, rule := range s.XValidations {
		*rules = append(*rules, fmt.Sprintf("- `%s` %s\n", path+rule.FieldPath, rule.Message))
	}
	if strings.HasSuffix(path, ".conditions") {
		return // Kubernetes' own
	}
	names := make([]string, 0, len(s.Properties))
	for name := range s.Properties {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { // what is required goes first
		return cmp.Or(compare(slices.Contains(s.Required, b), slices.Contains(s.Required, a)), cmp.Compare(a, b))
	})
	for _, name := range names {
		inner := s.Properties[name]
		describe(&inner, path+"."+name, slices.Contains(s.Required, name), fields, rules)
	}
	switch {
	case s.Items != nil && s.Items.Schema != nil:
		within(s.Items.Schema, path+"[]", fields, rules)
	case s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil:
		within(s.AdditionalProperties.Schema, path+"[*]", fields, rules)
	}
}

// within describes the entries of a list or map, without a line of their own.
func within(s *apiextensionsv1.JSONSchemaProps, path string, fields, rules *[]string) {
	var lines []string
	describe(s, path, false, &lines, rules)
	if len(lines) > 0 {
		*fields = append(*fields, lines[1:]...)
	}
}

func compare(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func kindOf(s *apiextensionsv1.JSONSchemaProps) string {
	switch {
	case s.XIntOrString:
		return "quantity"
	case len(s.Enum) > 0:
		return enumOf(s)
	case s.Items != nil && s.Items.Schema != nil:
		return "list of " + kindOf(s.Items.Schema)
	case s.AdditionalProperties != nil:
		return "map"
	case s.Format == "date-time":
		return "time"
	case s.Minimum != nil && s.Maximum != nil:
		return fmt.Sprintf("%s, %g to %g", s.Type, *s.Minimum, *s.Maximum)
	case s.MaxLength != nil:
		return fmt.Sprintf("%s, at most %d", s.Type, *s.MaxLength)
	}
	return s.Type
}

func enumOf(s *apiextensionsv1.JSONSchemaProps) string {
	var values []string
	for _, v := range s.Enum {
		values = append(values, "`"+strings.Trim(string(v.Raw), `"`)+"`")
	}
	return strings.Join(values, ", ")
}

func defaultOf(s *apiextensionsv1.JSONSchemaProps) string {
	if s.Default == nil || string(s.Default.Raw) == "{}" {
		return ""
	}
	text := string(s.Default.Raw)
	if plain, err := strconv.Unquote(text); err == nil {
		text = plain
	}
	return "`" + text + "`"
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// constants adds the condition types and reasons, with what their comments say.
func constants(b *strings.Builder, dir string) error {
	b.WriteString("## Conditions\n\nTypes and reasons are stable: scripts may match on them.\n\n| Of | | Value | |\n|---|---|---|---|\n")
	for _, file := range []string{"shared", "cluster", "node"} {
		parsed, err := parser.ParseFile(token.NewFileSet(), dir+"/"+file+".go", nil, parser.ParseComments)
		if err != nil {
			return fmt.Errorf("cannot read the types: %w", err)
		}
		of := map[string]string{"shared": "all", "cluster": "Cluster", "node": "Node"}[file]
		for _, declaration := range parsed.Decls {
			group, ok := declaration.(*ast.GenDecl)
			if !ok || group.Tok != token.CONST {
				continue
			}
			for _, spec := range group.Specs {
				constant(b, of, spec.(*ast.ValueSpec))
			}
		}
	}
	return nil
}

func constant(b *strings.Builder, of string, spec *ast.ValueSpec) {
	name := spec.Names[0].Name
	var what string
	switch {
	case strings.HasPrefix(name, "Condition"):
		what = "condition"
	case strings.HasPrefix(name, "Reason"):
		what = "reason"
	default:
		return
	}
	value, ok := spec.Values[0].(*ast.BasicLit)
	if !ok {
		return
	}
	text := oneLine(spec.Doc.Text())
	text = strings.TrimPrefix(strings.TrimPrefix(text, name+": "), name+" ")
	fmt.Fprintf(b, "| %s | %s | `%s` | %s |\n", of, what, strings.Trim(value.Value, `"`), text)
}
