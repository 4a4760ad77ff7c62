package chart_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// words are the string literals of the code that counts, and metrics the names of
// the families that it declares.
func words(t *testing.T) (metrics, literals map[string]bool) {
	t.Helper()
	metrics, literals = map[string]bool{}, map[string]bool{}
	for _, dir := range []string{"../operator", "../pxe", "../internal/provision", "../crds/v1alpha1"} {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.BasicLit:
					text := literal(n)
					literals[text] = true
					if strings.HasPrefix(text, "rhizome_") && text != "rhizome_" {
						metrics[text] = true
					}
				case *ast.CallExpr:
					// The PXE pods' families get their prefix where they are made.
					if f, ok := n.Fun.(*ast.Ident); ok && slices.Contains([]string{"counters", "counter", "gauge"}, f.Name) && len(n.Args) > 1 {
						metrics["rhizome_"+literal(n.Args[0])] = true
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(metrics) < 10 {
		t.Fatalf("only %d metrics were found in the code: this test looks in the wrong place", len(metrics))
	}
	return metrics, literals
}

func literal(n ast.Expr) string {
	if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
		if text, err := strconv.Unquote(l.Value); err == nil {
			return text
		}
	}
	return ""
}

// expressions are those of the dashboard and of the alert rules, as the chart makes
// them.
func expressions(t *testing.T) []string {
	t.Helper()
	all := objects(t, `{dashboards: {enabled: true}, alerts: {enabled: true, labels: {release: prometheus}}}`)
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	text, _, _ := unstructured.NestedString(one(t, all, "ConfigMap").Object, "data", "rhizome.json")
	if err := json.Unmarshal([]byte(text), &dashboard); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range dashboard.Panels {
		if len(p.Targets) == 0 {
			t.Errorf("the panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			out = append(out, target.Expr)
		}
	}
	rules, err := yaml.Marshal(one(t, all, "PrometheusRule").Object["spec"])
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr         string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.UnmarshalStrict(rules, &struct {
		Groups any `json:"groups"`
	}{}); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(rules, &spec); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, g := range spec.Groups {
		for _, r := range g.Rules {
			if r.Alert == "" || seen[r.Alert] || r.Labels["severity"] == "" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("the alert %+v is incomplete, or its name is taken", r)
			}
			seen[r.Alert] = true
			out = append(out, r.Expr)
		}
	}
	if len(out) < 20 {
		t.Fatalf("only %d expressions were found", len(out))
	}
	return out
}

var (
	metricName = regexp.MustCompile(`\brhizome_[a-z_]+`)
	// label=~"a|b", which names values of the code.
	matcher = regexp.MustCompile(`\b(controller|phase|rule|result)=~?"([^"]+)"`)
)

// A dashboard that names a metric, a phase or a rule that the code does not know
// shows nothing, and an alert never fires: nobody would notice.
func TestDashboardAndAlertsNameWhatTheCodeDeclares(t *testing.T) {
	metrics, literals := words(t)
	for _, e := range expressions(t) {
		names := metricName.FindAllString(e, -1)
		if len(names) == 0 && !strings.Contains(e, "controller_runtime_reconcile_errors_total") {
			t.Errorf("the expression names no metric: %s", e)
		}
		for _, name := range names {
			family := name
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				family = strings.TrimSuffix(family, suffix)
			}
			if !metrics[name] && !metrics[family] {
				t.Errorf("the code declares no %s: %s", name, e)
			}
		}
		for _, m := range matcher.FindAllStringSubmatch(e, -1) {
			for value := range strings.SplitSeq(m[2], "|") {
				if !literals[value] {
					t.Errorf("the code knows no %s %q: %s", m[1], value, e)
				}
			}
		}
	}
}

func TestEveryMetricIsOnTheDashboardOrInAnAlert(t *testing.T) {
	metrics, _ := words(t)
	all := strings.Join(expressions(t), "\n")
	for name := range metrics {
		if !regexp.MustCompile(`\b` + name + `(_bucket)?\b`).MatchString(all) {
			t.Errorf("nobody looks at %s", name)
		}
	}
}

// Whether a family moves is tested where it is counted: here, that none was forgotten
// there.
func TestEveryMetricIsInATestOfItsOwn(t *testing.T) {
	metrics, _ := words(t)
	var tests strings.Builder
	err := filepath.WalkDir("../operator", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		tests.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range metrics {
		// The PXE pods' tests leave the prefix out, as the code does.
		if !regexp.MustCompile(`"(rhizome_)?` + strings.TrimPrefix(name, "rhizome_") + `\b`).MatchString(tests.String()) {
			t.Errorf("no test says whether %s moves", name)
		}
	}
}

func TestMonitoringIsOffUnlessItIsAskedFor(t *testing.T) {
	all := objects(t, `{}`)
	for _, kind := range []string{"ConfigMap", "PrometheusRule", "PodMonitor", "ServiceMonitor"} {
		if has(all, kind) {
			t.Errorf("there is a %s", kind)
		}
	}
	all = objects(t, `{alerts: {enabled: true, labels: {release: prometheus}}, metrics: {enabled: false, port: 8443}}`)
	if has(all, "ServiceMonitor") || has(all, "ConfigMap") {
		t.Error("what is off is looked at")
	}
	if got := one(t, all, "PodMonitor"); got.GetNamespace() != "rhizome-pxe" || got.GetLabels()["release"] != "prometheus" {
		t.Errorf("the PodMonitor is %s with %v", key(got), got.GetLabels())
	}
}
