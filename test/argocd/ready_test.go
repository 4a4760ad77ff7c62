//go:build linux

package argocd

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// ready is an Application that lacks nothing at commit c1.
const ready = `
metadata: {name: a}
spec:
  source: {repoURL: http://git/lab.git, path: apps/a, targetRevision: main}
status:
  reconciledAt: "2026-01-01T00:00:10Z"
  sync:
    status: Synced
    revision: c1
    comparedTo:
      source: {repoURL: http://git/lab.git, path: apps/a, targetRevision: main}
  health: {status: Healthy}
  resources: [{kind: ConfigMap, name: a}]
  conditions: [{type: SharedResourceWarning, message: a warning is no error}]
  operationState: {phase: Succeeded, finishedAt: "2026-01-01T00:00:10Z"}
`

func TestReadyIsStrict(t *testing.T) {
	for _, c := range []struct {
		reason, from, to string
		lacks            string // empty: Ready
	}{
		{reason: "as it should be"},
		{"another commit", "revision: c1", "revision: c2", `at commit "c2"`},
		{"compared to the source that it had before", "comparedTo:\n      source: {repoURL: http://git", "comparedTo:\n      source: {repoURL: http://hub", "was compared to"},
		{"out of sync", "status: Synced", "status: OutOfSync", "sync is"},
		{"nothing could be loaded, which reads Healthy", "resources: [{kind: ConfigMap, name: a}]", "resources: []", "no resource"},
		{"not healthy", "Healthy", "Progressing", "health is"},
		{"an error", "SharedResourceWarning", "ComparisonError", "ComparisonError: a warning"},
		{"an operation that runs", `, finishedAt: "2026-01-01T00:00:10Z"`, "", "an operation is Succeeded"},
		{"an operation that waits", "spec:", "operation: {sync: {}}\nspec:", "an operation waits"},
		{"not looked at since the last operation", `finishedAt: "2026-01-01T00:00:10Z"`, `finishedAt: "2026-01-01T00:00:11Z"`, "not looked at"},
		{"never looked at", `reconciledAt: "2026-01-01T00:00:10Z"`, "", "not looked at"},
		{"being deleted", "{name: a}", `{name: a, deletionTimestamp: "2026-01-01T00:00:10Z"}`, "being deleted"},
	} {
		t.Run(c.reason, func(t *testing.T) {
			if c.from != "" && strings.Count(ready, c.from) != 1 {
				t.Fatalf("%q is there %d times", c.from, strings.Count(ready, c.from))
			}
			o := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte("apiVersion: argoproj.io/v1alpha1\nkind: Application\n"+strings.Replace(ready, c.from, c.to, 1)), &o.Object); err != nil {
				t.Fatal(err)
			}
			got := Lacks(o, "c1")
			if c.lacks == "" && len(got) > 0 {
				t.Errorf("it lacks %q", got)
			}
			if c.lacks != "" && (len(got) != 1 || !strings.Contains(got[0], c.lacks)) {
				t.Errorf("it lacks %q, want only what says %q", got, c.lacks)
			}
		})
	}
}
