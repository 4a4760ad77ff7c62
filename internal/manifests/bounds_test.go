package manifests

import (
	"strings"
	"testing"

	"github.com/rhizome-dev/rhizome/internal/inventory"
)

// Inputs that make a careless reader run for ever or out of memory.
func TestHostileInputsAreBounded(t *testing.T) {
	const head = "apiVersion: rhizome.dev/v1alpha1\nkind: Node\nmetadata: {name: x}\n"
	laughs := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'j'; c++ {
		laughs += string(c) + ": &" + string(c) + " [" + strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 9), ",") + "]\n"
	}
	for name, content := range map[string]string{
		"aliases of aliases": head + laughs,
		"nested lists":       head + "spec: " + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000),
		"nested objects":     head + "spec: " + strings.Repeat("{a: ", 5_000) + strings.Repeat("}", 5_000),
		"a long value":       strings.Replace(soundNode, "ControlPlane", strings.Repeat("x", 4<<20), 1),
		"a long line":        head + "spec: " + strings.Repeat("x", 4<<20),
	} {
		t.Run(name, func(t *testing.T) {
			r := Parse("a.yaml", []byte(content))
			if !inventory.HasErrors(r.Findings) {
				t.Error("it is taken for sound")
			}
			for _, f := range r.Findings {
				if len(f.String()) > 2000 {
					t.Errorf("a finding of %d bytes", len(f.String()))
				}
			}
		})
	}
}
