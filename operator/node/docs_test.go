package node_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strings"
	"testing"
)

// Whoever is held by a rule looks it up: growth.md and remove-a-node.md name each.
func TestTheDocsNameEveryRule(t *testing.T) {
	for page, files := range map[string][]string{
		"../../docs/concepts/growth.md":      {"admission.go", "repairing.go"},
		"../../docs/how-to/remove-a-node.md": {"removal.go"},
	} {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			rules := reasonsIn(t, file)
			if len(rules) == 0 {
				t.Errorf("%s names no rule: this test looks in the wrong place", file)
			}
			for rule := range rules {
				if !strings.Contains(string(text), "`"+rule+"`") {
					t.Errorf("%s does not say what lifts %s of %s", page, rule, file)
				}
			}
		}
	}
}

// reasonsIn are the reasons that the functions of a file return; the constants of
// package v1alpha1 are named after their values.
func reasonsIn(t *testing.T, name string) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		r, ok := n.(*ast.ReturnStmt)
		if !ok || len(r.Results) < 3 {
			return true
		}
		if s, ok := r.Results[0].(*ast.SelectorExpr); ok {
			if reason, ok := strings.CutPrefix(s.Sel.Name, "Reason"); ok {
				reasons[reason] = true
			}
		}
		return true
	})
	return reasons
}
