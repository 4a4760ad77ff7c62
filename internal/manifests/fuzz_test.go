package manifests

import (
	"strings"
	"testing"

	"github.com/rhizome-dev/rhizome/internal/inventory"
)

// FuzzParse proves that no file content makes Parse panic, that each finding
// stands on a line of the file, and that what is found to be sound really is an
// object with a name.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		soundCluster, soundNode, soundSystem, soundCluster + "---\n" + soundNode,
		strings.Replace(soundNode, "role:", "role: [x]\n  disk: {minSize: 1Gi}\n  taints: [{key: a, effect: NoSchedule}]\n  x:", 1),
		"apiVersion: rhizome.dev/v1alpha1\nkind: Node\nmetadata: &a {name: x, labels: {<<: *a}}\nspec: [*a, *a]\n",
		"--- {apiVersion: rhizome.dev/v1alpha1, kind: GitOps, metadata: {name: x}, spec: {seed: {url: 'https://x/y'}}}\n...\n",
		"apiVersion: v1\nkind: List\nitems: [{apiVersion: rhizome.dev/v1alpha1}]\n",
		"? [apiVersion]\n: rhizome.dev/v1\n", "!!binary rhizome.dev", "\xef\xbb\xbf---\r\nkind: Node # rhizome.dev\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(check)
}

func check(t *testing.T, content []byte) {
	if len(content) > 64<<10 {
		t.Skip("long inputs only cost time: the size of a file is bounded by the walk")
	}
	r := Parse("fuzz.yaml", content)
	// Of these each ends a line (YAML 1.1, section 4.1.4), CR LF but one.
	total := 1
	for _, end := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029"} {
		total += strings.Count(string(content), end)
	}
	for _, found := range r.Findings {
		if found.Line < 1 || found.Line > total+1 {
			t.Errorf("line %d of %d: %s", found.Line, total, found)
		}
		if found.Severity == "" || found.Message == "" || found.Fix == "" {
			t.Errorf("incomplete: %+v", found)
		}
		if strings.ContainsAny(found.String(), "\n\x1b") {
			t.Errorf("more than a line of text: %q", found.String())
		}
	}
	if !inventory.HasErrors(r.Findings) {
		for _, n := range r.Inventory.Nodes {
			if n.Name == "" || n.Spec.MAC == "" || n.Spec.Address == "" {
				t.Errorf("a Node that lacks the required is sound: %+v", n)
			}
		}
	}
	inventory.Check(r.Inventory)
}
