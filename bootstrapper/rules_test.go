package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rhizome-dev/rhizome/bootstrapper/host"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/manifests"
)

// The reference of the rules is written from the rules themselves.
func TestTheReferenceOfTheChecksIsNotStale(t *testing.T) {
	var b strings.Builder
	b.WriteString(`# What is checked

` + "`bootstrapper check DIR`" + ` and ` + "`bootstrapper seed DIR`" + ` check the manifests, the rules between
them, and the machine that they run on. Each finding is one line, with its rule's
name in ` + "`-o json`" + `:

    file:line: severity: object: field: what is wrong; what to do

An error stops a seed, a warning does not. The exit code is 0 without an error, 1
with one, 2 if the command line is wrong.

This page is generated from the rules: ` + "`go test ./bootstrapper -update`" + `.
`)
	section := func(title, text string, rules []inventory.Rule) {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| rule | severity | what must be so | why |\n|---|---|---|---|\n", title, text)
		for _, r := range rules {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.Name, r.Severity, r.Says, r.Why)
		}
	}
	section("Manifests", "Every document of the group `rhizome.dev` in the `*.yaml` and `*.yml` files below the directory. Hidden files, linked directories and documents of other groups are passed over. The schema and its rules are judged by the API server's own code, so what it finds is what would be refused; rules that compare with what was before (immutable fields) are left to it.", manifests.Rules())
	section("Between objects", "Rules that no schema can state. The operator judges them too and reports them as conditions.", inventory.Rules())
	section("This machine", "The machine that the bootstrapper runs on (`--host=false` leaves them out). The DHCP and boot servers are asked only if the process may use raw sockets.", host.Rules())
	golden(t, "../docs/reference/checks.md", b.String())

	seen := map[string]bool{}
	for _, rules := range [][]inventory.Rule{manifests.Rules(), inventory.Rules(), host.Rules()} {
		for _, r := range rules {
			if r.Name == "" || r.Severity == "" || r.Says == "" || r.Why == "" || seen[r.Name] {
				t.Errorf("the rule %+v is incomplete or its name is taken", r)
			}
			seen[r.Name] = true
		}
	}
}
