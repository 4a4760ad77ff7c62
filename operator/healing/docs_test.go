package healing

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// Whoever reads a refusal looks it up: the rules stand in healing.md under their
// numbers, and healing-refusals.md says of every reason of the condition Repair what to
// do.
func TestTheDocsNameEveryRule(t *testing.T) {
	concepts, err := os.ReadFile("../../docs/concepts/healing.md")
	if err != nil {
		t.Fatal(err)
	}
	refusals, err := os.ReadFile("../../docs/how-to/healing-refusals.md")
	if err != nil {
		t.Fatal(err)
	}
	reasons := []string{"NoStep", string(v1alpha1.ResultTimedOut), string(v1alpha1.ResultFailed)}
	for _, r := range append(law, rule{number: 8, name: "NoStep"}) {
		reasons = append(reasons, r.name)
		if row := regexp.MustCompile(fmt.Sprintf("(?m)^\\| %d \\|.*`%s`", r.number, r.name)); !row.Match(concepts) {
			t.Errorf("healing.md does not name %s under rule %d", r.name, r.number)
		}
	}
	rows := ""
	for line := range strings.Lines(string(refusals)) {
		if first, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " | "); ok && strings.HasPrefix(line, "| ") {
			rows += first + "\n"
		}
	}
	for _, reason := range reasons {
		if !strings.Contains(rows, "`"+reason+"`") {
			t.Errorf("healing-refusals.md does not say what to do about %s", reason)
		}
	}
}
